# One command each; bare `make` lists them. Each sets up what it needs, once.
#   make demo PYTHON=python3.12     another interpreter (3.11 or newer)
#   make demo ARGS="--seconds 30"   arguments for the command behind the target

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
WORKERS ?= 2
# A whole file to a worker, so that what a file trains or starts is trained or started once.
PARALLEL = $(if $(findstring no:xdist,$(ARGS)),,-n $(WORKERS) --dist loadfile --no-loadscope-reorder)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-faults soak lint format chart bench up down test-compose lock clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## create .venv with everything pinned; instant if nothing has changed
	@$(PYTHON) tools/setup_env.py

demo: setup ## the whole product on simulated machines, about a minute and a half, no Docker
	@$(BIN)/streamer demo $(ARGS)

test: setup ## all tests except those of the compose stack, in two processes (WORKERS=4: in four)
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-faults: setup ## faults on a real broker, 1,000 kill -9, half an hour; needs KAFKA_HOME (ARGS="--quick": minutes)
	@$(BIN)/python -m tests.faults $(ARGS)

soak: setup ## an hour of load, a replica killed every two minutes; needs KAFKA_HOME (ARGS="--minutes 10 --rate 5000")
	@$(BIN)/python -m tests.faults.soak $(ARGS)

lint: setup ## ruff, mypy --strict and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup ## format the code with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

chart: setup ## copy rules and dashboards into the Helm chart
	@PYTHONPATH=. $(BIN)/python tools/chart_files.py

bench: setup ## performance ratios measured in one run
	@$(BIN)/python -m benchmarks $(ARGS)

up: ## the compose stack: Kafka, daemon, simulator, Prometheus, Alertmanager, Grafana
	@deploy/make-secrets.sh
	@test -e .env || cp .env.example .env
	docker compose up --build --detach --wait $(ARGS)
	@deploy/addresses.sh

down: ## stop the compose stack and remove its data
	docker compose down --volumes

test-compose: setup ## test the compose stack on a Docker engine
	@$(BIN)/python -m pytest -m compose --timeout 900 tests/compose $(ARGS)

lock: ## regenerate the lock files from pyproject.toml (UPGRADE=1: newest versions)
	@$(PYTHON) tools/lock.py $(if $(UPGRADE),--upgrade)

clean: ## remove .venv and all caches
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
