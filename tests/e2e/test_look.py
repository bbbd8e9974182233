"""From a topic that nobody has described to a model of it: `inspect`, `init`, `check`, `retrain`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from streamer.cli import main
from streamer.offline.look.sampling import Message
from tests.brokers import Broker, produce, unique
from tests.e2e.harness import DaemonThread, Site, wait_until
from tests.offline.look import topics

pytestmark = pytest.mark.usefixtures("keep_logging")

SAMPLES = {
    "wide": topics.sample(topics.machines(rows=300)),
    "long": topics.sample(topics.long_metrics(rows=300)),
    "trades": topics.sample(topics.trades(9000)),
    "odd": topics.odd(rows=300),
}


def send(broker: Broker, messages: Sequence[Message]) -> str:
    """A topic that holds the messages."""
    topic = unique("unknown")
    broker.create_topic(topic)
    write(broker, topic, messages)
    return topic


def write(broker: Broker, topic: str, messages: Sequence[Message]) -> None:
    """Send messages on."""
    produce(
        broker,
        topic,
        [{"value": one.value, "key": one.key, "headers": list(one.headers), "partition": 0} for one in messages],
    )


def streamer(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def at(broker: Broker, topic: str) -> Sequence[str]:
    return ["--topic", topic, "--bootstrap-servers", broker.bootstrap_servers]


def test_inspect_reads_a_topic_from_several_places_and_joins_no_group(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = send(broker, topics.sample(topics.machines(rows=1000)).messages)

    assert streamer("inspect", *at(broker, topic), "--messages", "600", "--json") == 0

    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["messages"] == {"looked_at": 600, "total": 3000}
    assert (told["first"], told["last"]) == ("2026-01-01T00:00:00Z", "2026-01-01T16:39:00Z")
    assert (told["kind"], told["streams"], told["interval_s"]) == ("sensor", 3, 60.0)


@pytest.mark.parametrize("name", SAMPLES)
def test_init_retrain_and_run_watch_a_topic_that_nobody_has_described(
    name: str, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SAMPLES[name]
    cut = 4 * len(whole.messages) // 5
    topic = send(broker, whole.messages[:cut])
    site = Site(broker, tmp_path, tmp_path / "bundles")
    site.environment = {"STREAMER_HTTP__PORT": "0"}
    for key, value in {"EPOCHS": "1", "STEPS_PER_EPOCH": "2", "HIDDEN": "4", "LATENT": "2"}.items():
        monkeypatch.setenv(f"STREAMER_MODEL__{key}", value)

    assert streamer("init", *at(broker, topic), "--out", site.file, "--yes") == 0
    assert streamer("retrain", "--config", site.file, "--from-kafka") == 0
    with DaemonThread(site) as daemon:
        write(broker, topic, whole.messages[cut:])
        wait_until(lambda: daemon.metrics()["streamer_windows_scored_total"] > 0, "a score")

    assert site.dead_letters() == []


def test_check_shows_decoded_readings_and_stops_at_a_wrong_mapping(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic, file = send(broker, topics.sample(topics.machines()).messages), tmp_path / "streamer.yaml"
    for name in (f"{topic}.dlq", f"{topic}.alerts"):
        broker.create_topic(name)
    assert streamer("init", *at(broker, topic), "--out", file) == 0
    capsys.readouterr()

    assert streamer("check", "--config", file) == 78  # no bundle yet
    right = capsys.readouterr().out
    file.write_text(file.read_text().replace("[temperature, vibration]", "[temperature, vibratoin]"))
    assert streamer("check", "--config", file) == 65
    wrong = capsys.readouterr().out
    assert streamer("retrain", "--config", file, "--from-kafka") == 65
    stopped = capsys.readouterr().err

    assert f"ok    0 of 450 messages of topic {topic} (0.0%) would be refused; 450 readings" in right
    assert "press-0  2026-01-01T00:00:00.000Z  temperature 4" in right
    assert f"FAIL  450 of 450 messages of topic {topic} (100.0%) would be refused" in wrong
    assert "did you mean 'vibration'?" in wrong
    assert "did you mean 'vibration'?" in stopped
    assert "holds no readings" not in stopped
