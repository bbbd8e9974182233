"""One installation under fault: topics, a configuration for each replica, a feed, and what came out in the end.

Not inside: what is done to replicas (`rounds`), what must have come out (`expected`).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from tests.brokers import Broker, unique
from tests.faults.expected import Key, Record, Rules
from tests.faults.failpoints import Failpoint
from tests.faults.lives import Life
from tests.faults.load import FEATURES, INTERVAL_MS, LENGTH, PATCH, Load

AHEAD = 600  # records that are sent beyond what the group has committed, at most
SLICE_S = 0.05


@dataclass(frozen=True)
class Setup:
    """How the daemons of a round are configured."""

    name: str
    replicas: int = 1
    store: str = "local"  # local, shared (a folder that all replicas reach), topic or file (the same by URL)
    client: str = "kafka-python"  # or confluent, or mixed
    stride: int = 1
    partitions: int = 2
    fill: bool = False  # missing values are filled, gaps reset windows
    silence: bool = False
    rate: int = 700  # records a second
    streams: int = 24

    def rules(self, topic: str) -> Rules:
        """The same, for the independent program."""
        max_gap_ns = round(self.max_gap_s * 1e9) if self.max_gap_s else None
        return Rules(topic, FEATURES, LENGTH, self.stride, max_gap_ns, self.fill, resolve_after=12)

    @property
    def max_gap_s(self) -> float | None:
        return 2.5 * INTERVAL_MS / 1000 if self.fill else None

    def load(self, seed: int) -> Load:
        gaps, missing = (0.004, 0.05) if self.fill else (0.0, 0.0)
        return Load(self.streams, seed, gaps=gaps, missing=missing, silences=0.005 if self.silence else 0.0)


class Site:
    """Topics and files of one round."""

    def __init__(self, setup: Setup, broker: Broker, directory: Path, bundles: Path, seed: int) -> None:
        self.setup, self.broker, self.directory, self.bundles = setup, broker, directory, bundles
        directory.mkdir(parents=True)
        self.topic = unique("faults")
        self.group = f"{self.topic}-group"
        self.alerts_topic, self.scores_topic = f"{self.topic}-alerts", f"{self.topic}-scores"
        broker.create_topic(self.topic, setup.partitions)
        for name in (self.alerts_topic, self.scores_topic, f"{self.topic}.dlq"):
            broker.create_topic(name)
        self.feed = Feed(self, setup.load(seed))
        self._started = 0

    def start(self, slot: int, failpoint: Failpoint | None = None, **sections: Mapping[str, Any]) -> Life:
        """A replica; its slot has a directory of its own, as a machine has."""
        self._started += 1
        file = self.directory / f"replica-{slot}.yaml"
        file.write_text(yaml.safe_dump(self._sections(slot, sections)))
        return Life(file, self.directory / f"life-{self._started:04d}-{slot}.log", failpoint)

    def _sections(self, slot: int, changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        setup = self.setup
        client = setup.client if setup.client != "mixed" else ("kafka-python", "confluent")[slot % 2]
        state: dict[str, Any] = {"directory": str(self.directory / f"state-{slot}"), "checkpoint_s": 0.2}
        state["replay_records"] = 0  # a partition that begins without its state shows
        if setup.store == "topic":
            state["store"] = "topic"
        elif setup.store == "shared":
            state["directory"] = str(self.directory / "shared")
        elif setup.store == "file":
            state["store"] = f"file://{self.directory}/shared"
        elif setup.store == "local" and setup.replicas > 1:
            raise ValueError("state on a machine of its own is exact for one replica only")
        sections: dict[str, Any] = {
            "kafka": {
                "bootstrap_servers": self.broker.bootstrap_servers,
                "topic": self.topic,
                "group": self.group,
                "alerts_topic": self.alerts_topic,
                "scores_topic": self.scores_topic,
                "client": client,
                "session_timeout_ms": self.broker.min_session_ms,
                "request_timeout_ms": 10_000,
                "delivery_timeout_s": 10.0,
                "probe_timeout_s": 5.0,
                "max_poll_records": 200,  # several polls and checkpoints a life
            },
            "records": {
                "features": list(FEATURES),
                "timestamp_unit": "ms",
                "missing": "fill" if setup.fill else "refuse",
            },
            "window": {"length": LENGTH, "patch": PATCH, "stride": setup.stride, "max_gap_s": setup.max_gap_s},
            "model": {"directory": str(self.bundles), "poll_s": 0.2, "hidden": 12, "latent": 4},
            "alerting": {"silent_after": 5.0 if setup.silence else None, "resolve_after": 12},
            "state": state,
            "http": {"port": 0},
        }
        for name, section in changes.items():
            sections[name] = sections.get(name, {}) | dict(section)
        return sections

    def logs(self) -> list[str]:
        """What every life has logged."""
        return [path.read_text(errors="replace") for path in sorted(self.directory.glob("life-*.log"))]

    # What is on the broker.

    def committed(self) -> dict[int, int]:
        """The group's offsets; empty when the broker does not answer."""
        with Onlooker(self.broker, self.group) as consumer:
            return committed(consumer, self.topic, self.setup.partitions)

    def ends(self) -> dict[int, int]:
        with Onlooker(self.broker) as consumer:
            return {
                p: consumer.get_watermark_offsets(TopicPartition(self.topic, p), timeout=10)[1]
                for p in range(self.setup.partitions)
            }

    def records(self) -> list[Record]:
        """The input topic, by partition and offset."""
        return read(self.broker, self.topic)

    def alerts(self, topic: str | None = None) -> dict[str, list[dict[str, Any]]]:
        """Alerts as told, by id, as often as they were told."""
        alerts: dict[str, list[dict[str, Any]]] = {}
        for record in read(self.broker, topic or self.alerts_topic):
            alert = json.loads(record.value or b"")
            alerts.setdefault(alert["alert_id"], []).append(alert)
        return alerts

    def scores(self) -> dict[Key, set[tuple[float, str]]]:
        """Every score published of a reading, with the version of the bundle."""
        scores: dict[Key, set[tuple[float, str]]] = {}
        for record in read(self.broker, self.scores_topic):
            columns = json.loads(record.value or b"")
            version = columns["model_version"]
            for stream, at, score in zip(columns["stream"], columns["time_ns"], columns["score"], strict=True):
                scores.setdefault((stream, at), set()).add((score, version))
        return scores


class Feed:
    """Sends the load from a thread at the rate of the set-up, at most so many records ahead of the group."""

    def __init__(self, site: Site, load: Load) -> None:
        self._site, self._load = site, load
        self.sent = 0
        self.failure: BaseException | None = None
        self.committed: dict[int, int] = {}  # as last seen
        self._stop, self._paused = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> Feed:
        self._thread.start()
        return self

    @property
    def done(self) -> int:
        """Records the group has committed."""
        return sum(self.committed.values())

    def beyond(self, before: Mapping[int, int], by: int = 1) -> bool:
        """Whether every partition was committed further than then, by so many records."""
        now = self.committed
        return bool(now) and all(offset >= before.get(partition, 0) + by for partition, offset in now.items())

    def finish(self, calm_steps: int = 40) -> None:
        """Send nothing new but an end in which all that is open resolves."""
        self._paused.set()
        producer = self._producer()
        for _ in range(calm_steps):
            self._send(producer, calm=True)
        if left := producer.flush(60):
            raise RuntimeError(f"{left} records of the input are not acknowledged")

    def close(self) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        try:
            producer = self._producer()
            with Onlooker(self._site.broker, self._site.group) as consumer:
                due = 0.0
                while not self._stop.is_set():
                    self._look(consumer)
                    if not self._paused.is_set() and self.sent - self.done < AHEAD:
                        due += self._site.setup.rate * SLICE_S
                        while due > 0:
                            due -= self._send(producer, calm=False)
                    producer.poll(0)
                    self._stop.wait(SLICE_S)
            producer.flush(30)
        except BaseException as error:
            self.failure = error

    def _look(self, consumer: Consumer) -> None:
        found = committed(consumer, self._site.topic, self._site.setup.partitions)
        if sum(found.values()) > self.done:
            self.committed = found

    def _send(self, producer: Producer, *, calm: bool) -> int:
        messages = self._load.step(calm=calm)
        for key, value in messages:
            while True:
                try:
                    producer.produce(self._site.topic, key=key, value=value)
                    break
                except BufferError:
                    producer.poll(0.1)
        self.sent += len(messages)
        return len(messages)

    def _producer(self) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self._site.broker.bootstrap_servers,
                "enable.idempotence": True,
                "linger.ms": 5,
                "log_level": 2,
                "message.timeout.ms": 120_000,
            }
        )


class Onlooker:
    """A consumer outside of any group's life: reads, and asks what a group has committed."""

    def __init__(self, broker: Broker, group: str = "onlooker") -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": broker.bootstrap_servers,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
                "log_level": 2,
            }
        )

    def __enter__(self) -> Consumer:
        return self._consumer

    def __exit__(self, *_: object) -> None:
        self._consumer.close()


def committed(consumer: Consumer, topic: str, partitions: int) -> dict[int, int]:
    """Offsets of the consumer's group, 0 where there is none; empty when the broker does not answer."""
    wanted = [TopicPartition(topic, number) for number in range(partitions)]
    try:
        return {each.partition: max(0, each.offset) for each in consumer.committed(wanted, timeout=5)}
    except KafkaException:
        return {}


def read(broker: Broker, topic: str) -> list[Record]:
    """All records a topic holds now, by partition and offset."""
    records: list[Record] = []
    with Onlooker(broker) as consumer:
        partitions = list(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        for number in sorted(partitions):
            part = TopicPartition(topic, number, 0)
            end = consumer.get_watermark_offsets(part, timeout=10)[1]
            consumer.assign([part])
            next_offset, deadline_s = 0, time.monotonic() + 60
            while next_offset < end:
                if time.monotonic() > deadline_s:
                    raise RuntimeError(f"{topic}[{number}] could not be read beyond {next_offset} of {end}")
                for message in consumer.consume(5000, 0.2):
                    if message.error() is None:
                        next_offset = int(message.offset() or 0) + 1
                        records.append(Record(number, next_offset - 1, message.value()))
    return records
