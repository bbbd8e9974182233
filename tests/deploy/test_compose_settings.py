"""What `.env.example` says can be changed about the compose stack is what can be."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()


def test_every_knob_of_the_stack_is_explained_with_its_default() -> None:
    knobs = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", COMPOSE))
    assert len(re.findall(r"\$\{", COMPOSE)) == len(re.findall(r"\$\{\w+:-", COMPOSE))  # each has a default

    text = (ROOT / ".env.example").read_text()

    assert dict(re.findall(r"^# ([A-Z_]+)=(.*)$", text, re.MULTILINE)) == knobs
    assert not [line for line in text.splitlines() if line and not line.startswith("#")]


def test_faults_are_asked_for_in_the_folder_that_the_simulator_watches() -> None:
    services = yaml.safe_load(COMPOSE)["services"]
    (requests,) = [each for each in services["simulator"]["command"] if each.startswith("--requests=")]
    folder = requests.partition("=")[2]

    assert services["inject"]["profiles"] == ["faults"]  # it does not start with the stack
    assert services["inject"]["entrypoint"][-2:] == ["--requests", folder]
    assert f"requests:{folder}" in services["simulator"]["volumes"]
    assert f"requests:{folder}" in services["inject"]["volumes"]
