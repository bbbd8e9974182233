"""The compose stack on a real Docker engine: up, data, an alert, a killed daemon, down.

Run by `make test-compose` and not otherwise. Nothing is left behind: the stack has
a project name, ports and volumes of its own. Grafana takes part where its image is
at hand; it is the one image whose absence does not fail the test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests import brokers
from tests.brokers import DockerKafka, config_for, consume, produce

T = TypeVar("T")
Say = Callable[[str], None]

ROOT = Path(__file__).parent.parent.parent
UP_TIMEOUT_S = 900.0  # the image is built and a model is trained
ALERT_TIMEOUT_S = 300.0  # from the fault that is asked for until Alertmanager has it
RECOVERY_TIMEOUT_S = 120.0

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1800)]


class Stack:
    """One `docker compose` project of this repository."""

    def __init__(self, env: dict[str, str], ports: dict[str, int], say: Say) -> None:
        self.env, self.ports, self.say = env, ports, say
        self.began_s = time.monotonic()
        self.phases: list[tuple[str, float]] = []

    def compose(self, *arguments: str, timeout_s: float = 120.0) -> str:
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(f"docker compose {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done.stdout

    def container(self, service: str) -> str:
        return self.compose("ps", "--all", "--quiet", service).strip()

    def inspect(self, service: str) -> dict[str, Any]:
        done = subprocess.run(
            ["docker", "inspect", self.container(service)], env=self.env, capture_output=True, text=True, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return found

    def get(self, service: str, path: str) -> Any:
        """The JSON answer of a published port, or None while there is none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[service]}{path}", timeout=5) as answer:
                return json.load(answer)
        except (OSError, urllib.error.URLError, ValueError):
            return None

    def query(self, expr: str) -> float | None:
        """The one value of a PromQL expression, or None."""
        answer = self.get("prometheus", "/api/v1/query?" + urllib.parse.urlencode({"query": expr}))
        if not answer or answer["status"] != "success" or not answer["data"]["result"]:
            return None
        return float(answer["data"]["result"][0]["value"][1])

    def phase(self, name: str) -> None:
        """Note how long it took since the last one, and say so at once."""
        at_s = time.monotonic() - self.began_s
        took_s = at_s - sum(seconds for _, seconds in self.phases)
        self.phases.append((name, took_s))
        self.say(f"{took_s:6.1f} s  {name}  ({at_s:.1f} s since up)")

    def wait_for(self, what: str, ask: Callable[[], T | None], timeout_s: float) -> T:
        """The first answer that is neither None nor False."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            answer = ask()
            if answer is not None and answer is not False:
                return answer
            if time.monotonic() > deadline_s:
                logs = self.compose("logs", "--no-color", "--tail", "40")
                raise AssertionError(f"{what}: not within {timeout_s:.0f} s\n{logs}")
            # Not a guess at how long something takes: the pause between two questions to another process.
            time.sleep(0.5)


@pytest.fixture(scope="module")
def say(request: pytest.FixtureRequest) -> Say:
    """Write a line to the terminal at once, past the capture of output: these are the seconds one wants to see."""
    plugins = request.config.pluginmanager
    reporter, capture = plugins.getplugin("terminalreporter"), plugins.getplugin("capturemanager")

    def write(text: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.write_line(f"compose: {text}")

    return write


@pytest.fixture(scope="module")
def engine() -> None:
    """A Docker engine, without which there is nothing to prove."""
    if shutil.which("docker") is None:
        reason = "docker is not on PATH"
    else:
        done = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=30, check=False)
        if done.returncode == 0:
            return
        reason = f"no Docker engine answers: {done.stderr.strip()[-300:]}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def stack(engine: None, say: Say) -> Iterator[Stack]:
    """The whole stack, healthy; taken down with its volumes whatever happens."""
    subprocess.run([ROOT / "deploy" / "make-secrets.sh"], check=True)
    names = ["streamer", "prometheus", "alertmanager", "grafana"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    env = {
        **os.environ,
        **{f"{name.upper()}_PORT": str(port) for name, port in ports.items()},
        "COMPOSE_PROJECT_NAME": f"streamer-test-{uuid.uuid4().hex[:8]}",
        "STREAMER_TAG": "test",
        "COMPOSE_PROGRESS": "plain",
    }
    stack = Stack(env, ports, say)
    try:
        stack.compose("build", timeout_s=UP_TIMEOUT_S)
        stack.phase("image built")
        stack.phases.clear()
        stack.began_s = time.monotonic()
        stack.compose("up", "--detach", "--wait", *services(stack), timeout_s=UP_TIMEOUT_S)
        stack.phase("up: history simulated, model trained, every service healthy")
        addresses = subprocess.run(
            [ROOT / "deploy" / "addresses.sh"], env=env, capture_output=True, text=True, check=True
        ).stdout
        for name in ("streamer", "prometheus", "alertmanager"):
            assert f"http://127.0.0.1:{ports[name]}" in addresses
        yield stack
    finally:
        stack.compose("down", "--volumes", "--remove-orphans", "--timeout", "30", timeout_s=180)
        left = subprocess.run(
            ["docker", "ps", "--all", "--quiet", "--filter", f"name={env['COMPOSE_PROJECT_NAME']}"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert left == ""
        stack.phase("down, nothing left")


# The tests below walk through the life of one stack, in this order.


def test_readings_reach_prometheus_as_scores(stack: Stack) -> None:
    stack.wait_for(
        "records consumed, in Prometheus",
        lambda: (stack.query("sum(streamer_records_consumed_total)") or 0) > 0,
        RECOVERY_TIMEOUT_S,
    )
    stack.phase("records consumed, seen in Prometheus")
    stack.wait_for(
        "a score of each of the six machines, in Prometheus",
        lambda: stack.query("count(max by (stream) (streamer_anomaly_score_ratio))") == 6,
        RECOVERY_TIMEOUT_S,
    )
    stack.phase("windows full, scores in Prometheus")

    assert (stack.query("sum(streamer_windows_scored_total)") or 0) > 0
    assert stack.query("sum(streamer_records_dead_lettered_total)") == 0


def test_every_rule_is_evaluated_without_error(stack: Stack) -> None:
    answer = stack.get("prometheus", "/api/v1/rules")

    rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]

    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []


def test_a_fault_that_is_asked_for_fires_in_alertmanager(stack: Stack) -> None:
    told = stack.compose("run", "--rm", "inject", "decoupled", "machine-3")
    stack.phase("fault asked for")
    wanted = urllib.parse.urlencode({"filter": ['alertname="StreamerAnomaly"', 'stream="machine-3"']}, doseq=True)

    alerts = stack.wait_for(
        "StreamerAnomaly of machine-3 in Alertmanager",
        lambda: stack.get("alertmanager", f"/api/v2/alerts?{wanted}") or None,
        ALERT_TIMEOUT_S,
    )
    stack.phase("its anomaly in Alertmanager")

    assert told == "fault decoupled in machine-3, from its next reading on, 60 readings long\n"
    labels, annotations = alerts[0]["labels"], alerts[0]["annotations"]
    stack.say(json.dumps({"labels": labels, "annotations": annotations}, indent=2))
    assert labels["severity"] in {"info", "warning", "critical"}
    assert annotations["dashboard_url"].endswith(f"var-stream={labels['stream']}")
    assert "%" in annotations["description"]  # the shares of the features


def test_the_alert_is_on_the_alerts_topic(stack: Stack) -> None:
    told = stack.compose(
        "exec", "-T", "kafka", "/opt/kafka/bin/kafka-console-consumer.sh", "--bootstrap-server", "localhost:9092",
        "--topic", "streamer.alerts", "--from-beginning", "--max-messages", "1", "--timeout-ms", "20000",
    )  # fmt: skip

    alert = json.loads(told.strip().splitlines()[0])

    assert alert["stream"].startswith("machine-")


def test_a_killed_daemon_goes_on_from_its_committed_offsets(stack: Stack) -> None:
    stack.wait_for("a commit", lambda: (stack.query("sum(streamer_commits_total)") or 0) > 0, RECOVERY_TIMEOUT_S)
    before = committed_offsets(stack)
    started_at = stack.inspect("streamer")["State"]["StartedAt"]

    # Told apart by what the old process says of itself: the kernel's stamps are off from the clock by up to a second.
    old_start = 'process_start_time_seconds{job="streamer"}'
    old_start_s = stack.wait_for(
        "the old process's start", lambda: stack.query(f"max({old_start})"), RECOVERY_TIMEOUT_S
    )
    subprocess.run(
        ["docker", "kill", "--signal", "KILL", stack.container("streamer")],
        check=True, env=stack.env, capture_output=True,
    )  # fmt: skip
    stack.compose("up", "--detach", "--no-deps", "--wait", "streamer", timeout_s=RECOVERY_TIMEOUT_S)
    stack.phase("daemon killed, started, ready")
    # Only what the new process has counted: its counters began at 0.
    new = f'and on (instance) process_start_time_seconds{{job="streamer"}} > {old_start_s + 1:.2f}'
    for name in ("records_consumed", "windows_scored", "commits"):
        counted = f"sum(streamer_{name}_total {new}) > 0"
        stack.wait_for(counted, partial(stack.query, counted), RECOVERY_TIMEOUT_S)
    stack.phase("daemon consumes, scores and commits again, seen in Prometheus")
    lag = f"sum(streamer_consumer_lag_records {new})"
    stack.wait_for("no lag", lambda: (left := stack.query(lag)) is not None and left < 30, RECOVERY_TIMEOUT_S)
    after = stack.wait_for(
        "offsets committed beyond those before the kill",
        lambda: now if sum((now := committed_offsets(stack)).values()) > sum(before.values()) else None,
        RECOVERY_TIMEOUT_S,
    )
    stack.phase("committed offsets beyond those before the kill, no lag")

    assert stack.inspect("streamer")["State"]["StartedAt"] != started_at
    assert all(after[partition] >= offset for partition, offset in before.items())
    # It went on where it stood, with its windows: neither from the beginning nor from the end of the topic ...
    log = stack.compose("logs", "--no-color", "--no-log-prefix", "streamer").rpartition("metrics at")[2]
    resumed = {int(p): int(offset) for p, offset in re.findall(r"partition (\d+): reading from offset (\d+)", log)}
    assert resumed.keys() == {0, 1, 2, 3}
    assert all(before[partition] <= resumed[partition] <= after[partition] for partition in before)
    # ... and every record has one outcome.
    assert stack.wait_for("the accounts to agree", lambda: accounts_agree(stack), RECOVERY_TIMEOUT_S)


def test_containers_run_with_no_more_rights_than_they_need(stack: Stack) -> None:
    for service in ("streamer", "simulator", "prometheus", "alertmanager", "kafka"):
        container = stack.inspect(service)
        host, config = container["HostConfig"], container["Config"]
        assert host["CapDrop"] == ["ALL"], service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
        assert host["ReadonlyRootfs"] is (service != "kafka"), service
        assert config["User"] not in ("", "0", "root"), service
        assert host["Memory"] > 0, service
        assert host["PidsLimit"] > 0, service
        published = [port for ports in (host["PortBindings"] or {}).values() for port in ports]
        assert {port["HostIp"] for port in published} <= {"127.0.0.1"}, service


def test_the_daemon_stops_within_its_grace(stack: Stack) -> None:
    stack.compose("stop", "streamer", timeout_s=60)
    stack.phase("daemon stopped")

    # Docker kills what outlasts stop_grace_period, and the exit code then is 137.
    state = stack.inspect("streamer")["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)


def test_the_brokers_of_the_test_suite_start_through_testcontainers(
    engine: None, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The stack's own image: one Kafka to fetch, not two.
    config_text = subprocess.run(
        ["docker", "compose", "config", "--format", "json"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    image = json.loads(config_text)["services"]["kafka"]["image"]
    monkeypatch.setattr(brokers, "DOCKER_IMAGE", image)

    began_s = time.monotonic()
    broker = DockerKafka().start()
    try:
        config = config_for(broker)
        broker.create_topic(config.topic)
        produce(broker, config.topic, [{"key": b"s", "value": b"1"}, {"key": b"s", "value": b"2"}])

        values = [record.value for record in consume(broker, config.topic, 2)]
    finally:
        broker.stop()

    took_s = time.monotonic() - began_s
    say(f"{took_s:6.1f} s  {image} through testcontainers, records there and back")
    assert values == [b"1", b"2"]


def services(stack: Stack) -> list[str]:
    """All services, but Grafana where its image is not there and cannot be had."""
    config = json.loads(stack.compose("config", "--format", "json"))
    image = config["services"]["grafana"]["image"]
    there = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0
    if not there:
        stack.say(f"{image} is not at hand, so Grafana stays away")
    return [name for name in config["services"] if there or name != "grafana"]


def committed_offsets(stack: Stack) -> dict[int, int]:
    """Partition to committed offset of the daemon's group, as the broker says."""
    table = stack.compose(
        "exec", "-T", "kafka", "/opt/kafka/bin/kafka-consumer-groups.sh", "--bootstrap-server", "localhost:9092",
        "--describe", "--group", "streamer", "--offsets",
    )  # fmt: skip
    rows = [line.split() for line in table.splitlines() if line.startswith("streamer ")]
    return {int(row[2]): int(row[3]) for row in rows if row[3].isdigit()}


def accounts_agree(stack: Stack) -> bool:
    outcomes = ("windowed", "duplicate", "late", "dead_lettered", "rejected", "replayed")
    told = " + ".join(f"sum(streamer_records_{name}_total)" for name in outcomes)
    return stack.query(f"sum(streamer_records_consumed_total) - ({told})") == 0


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
