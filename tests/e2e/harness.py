"""What the end-to-end tests share: daemons to start and stop, topics to fill and read, the expected answer.

The expected answer of every test is a backtest of the readings that were sent, for the
topic they were sent to: scores by (stream, event time), alerts by id. Waiting is always
for a condition, with a deadline. Not inside: brokers (`tests/brokers.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata
from prometheus_client.parser import text_string_to_metric_families

from models.store.registry import Registry
from streamer import config
from streamer.config import Settings
from streamer.connectors.files import DataSet
from streamer.connectors.kafka import connect_producer
from streamer.errors import DeliveryFailed
from streamer.offline import backtest
from streamer.offline.machines import FEATURES
from streamer.offline.replay import encode, replay, send
from streamer.runtime.daemon import Daemon
from streamer.runtime.state.keeper import open_keeper
from streamer.runtime.state.pointer import read_note
from tests import alert_schema
from tests.brokers import Broker, ends_with_us, unique

T = TypeVar("T")
PATIENCE_S = 90.0
SESSION_MS = 5_000  # a busy machine can keep a heartbeat back for more than a second
STOP_S = 20.0  # what a container is given to stop

Scores = dict[tuple[str, int], float]  # by stream and event time in ns


def wait_until(condition: Callable[[], T], what: str, *, within_s: float = PATIENCE_S, every_s: float = 0.05) -> T:
    """The first true value of `condition`; fails when it does not come in time."""
    deadline_s, pause = time.monotonic() + within_s, threading.Event()
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"waited {within_s:g} s for: {what}"
        pause.wait(every_s)
    return found


class Site:
    """One installation: a directory with configuration, bundles and state, and topics of its own on a broker."""

    def __init__(self, broker: Broker, directory: Path, bundles: Path, **sections: Mapping[str, Any]) -> None:
        self.broker, self.directory = broker, directory
        self.environment: dict[str, str] = {}  # for settings that do not belong in a file
        self.running: list[_Running] = []
        directory.mkdir(parents=True, exist_ok=True)
        topic = unique("readings")
        self.sections: dict[str, dict[str, Any]] = {
            "kafka": {
                "bootstrap_servers": broker.bootstrap_servers,
                "topic": topic,
                "group": f"{topic}-group",
                "alerts_topic": f"{topic}-alerts",
                "scores_topic": f"{topic}-scores",
                "session_timeout_ms": max(SESSION_MS, broker.min_session_ms),
                "request_timeout_ms": 10_000,
                "delivery_timeout_s": 10.0,
                "probe_timeout_s": 5.0,
            },
            "records": {"features": list(FEATURES)},
            "window": {"length": 32, "patch": 8},
            "model": {"directory": str(bundles), "poll_s": 0.2} | MODEL,
            "alerting": {},
            "state": {"directory": "state", "checkpoint_s": 0.3},
            "http": {"port": 0},
        }
        for name, changes in sections.items():
            self.sections.setdefault(name, {}).update(changes)
        self.file = directory / "streamer.yaml"
        self.save()

    def save(self) -> None:
        self.file.write_text(yaml.safe_dump(self.sections))

    def copy(self, name: str, **sections: Mapping[str, Any]) -> Site:
        """Another installation of the same topics and group, with a directory of its own."""
        other = Site(self.broker, self.directory.parent / name, Path(self.sections["model"]["directory"]))
        for section, values in self.sections.items():
            other.sections[section] = {**values, **sections.get(section, {})}
        other.save()
        return other

    @property
    def settings(self) -> Settings:
        return config.load(self.file, self.environment)

    def create_topics(self, partitions: int = 1) -> Site:
        kafka = self.settings.kafka
        self.broker.create_topic(kafka.topic, partitions)
        for name in (kafka.alerts_topic, kafka.dlq_topic, kafka.scores_topic):
            if name is not None:
                self.broker.create_topic(name)
        return self

    def send(self, data: DataSet) -> None:
        """Send readings and see them acknowledged."""
        producer = connect_producer(self.settings.kafka)
        try:
            replay(data, self.settings, producer)
        finally:
            producer.close()

    @contextlib.contextmanager
    def feeding(self, data: DataSet, *, limit: int | None = None) -> Iterator[Feed]:
        """Send readings from a thread at the pace at which they are consumed; on leaving, all are sent."""
        feed = Feed(self, data, len(data) if limit is None else limit)
        try:
            yield feed
        finally:
            feed.finish()

    # What is on the broker.

    def read(self, topic: str | None) -> list[Any]:
        """All records a topic holds now."""
        assert topic is not None
        with contextlib.closing(self._consumer()) as consumer:
            parts = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
            ends = {part: end for part, end in consumer.end_offsets(parts).items() if end}
            records: list[Any] = []
            if ends:
                consumer.assign(list(ends))
                consumer.seek_to_beginning()

            def all_read() -> bool:
                for found in consumer.poll(timeout_ms=100).values() if ends else ():
                    records.extend(found)
                return all(consumer.position(part) >= end for part, end in ends.items())

            wait_until(all_read, f"the records of {topic}", every_s=0)
        return records

    def alerts(self) -> list[dict[str, Any]]:
        """All alerts sent; each must be what docs/alert.schema.json says."""
        return [alert_schema.check(json.loads(record.value)) for record in self.read(self.settings.kafka.alerts_topic)]

    def scores(self) -> Scores:
        """Scores as first published on the scores topic; one reading published twice must have got one score."""
        scores: Scores = {}
        for record in self.read(self.settings.kafka.scores_topic):
            columns = json.loads(record.value)
            if columns.get("corrected"):
                continue  # late readings have put these right
            for stream, at, score in zip(columns["stream"], columns["time_ns"], columns["score"], strict=True):
                assert abs(scores.setdefault((stream, at), score) - score) < 1e-5
        return scores

    def dead_letters(self) -> list[Any]:
        return self.read(self.settings.kafka.dlq_topic)

    def ends(self) -> dict[int, int]:
        """Where the input topic ends, by partition; empty ones are left out."""
        topic = self.settings.kafka.topic
        with contextlib.closing(self._consumer()) as consumer:
            parts = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
            return {part.partition: end for part, end in consumer.end_offsets(parts).items() if end}

    def committed(self) -> dict[int, int]:
        """The group's offsets; those at 0, of empty partitions, are left out as in `ends`."""
        kafka = self.settings.kafka
        with contextlib.closing(self._consumer(group_id=kafka.group)) as consumer:
            found = {
                part: consumer.committed(TopicPartition(kafka.topic, part))
                for part in consumer.partitions_for_topic(kafka.topic) or ()
            }
        return {part: offset for part, offset in found.items() if offset}

    def snapshots(self) -> dict[int, int]:
        """Offset of the snapshot that the group's commit names, of each partition."""
        keeper = open_keeper(self.settings)
        assert keeper is not None
        found = {part: self.states(part) for part in self.ends()}
        return {part: keeper.read(part, names[0]).offset for part, names in found.items() if names}

    def states(self, partition: int = 0) -> tuple[str, ...]:
        """Names of the snapshots that the group's commit names, newest first."""
        kafka = self.settings.kafka
        with contextlib.closing(self._consumer(group_id=kafka.group)) as consumer:
            found = consumer.committed(TopicPartition(kafka.topic, partition), metadata=True)
        return () if found is None else read_note(found.metadata.rstrip("\0")).states  # as the clients do

    @contextlib.contextmanager
    def watching_commits(self) -> Iterator[Callable[[], int]]:
        """Inside, a function that says how many records the group has committed; 0 when the broker does not answer."""
        kafka = self.settings.kafka
        with contextlib.closing(self._consumer(group_id=kafka.group)) as consumer:
            parts = [TopicPartition(kafka.topic, part) for part in consumer.partitions_for_topic(kafka.topic) or ()]

            def committed() -> int:
                try:
                    return sum(consumer.committed(part, timeout_ms=2000) or 0 for part in parts)
                except KafkaError:
                    return 0

            yield committed

    def wait_until_done(self, *, within_s: float = PATIENCE_S) -> None:
        """Every record of the input topic is processed, its alerts delivered, and committed."""
        ends = self.ends()
        kafka = self.settings.kafka
        with contextlib.closing(self._consumer(group_id=kafka.group)) as consumer:

            def done() -> bool:
                for daemon in self.running:
                    daemon.see_that_it_lives()
                return all(consumer.committed(TopicPartition(kafka.topic, p)) == end for p, end in ends.items())

            wait_until(done, f"commits up to {ends}", within_s=within_s, every_s=0.1)

    def commit(self, offsets: Mapping[int, int]) -> None:
        kafka = self.settings.kafka
        with contextlib.closing(self._consumer(group_id=kafka.group)) as consumer:
            consumer.commit(
                {TopicPartition(kafka.topic, p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()}
            )

    def _consumer(self, **options: Any) -> Any:
        return KafkaConsumer(
            bootstrap_servers=self.broker.bootstrap_servers,
            enable_auto_commit=False,
            fetch_max_wait_ms=50,
            max_partition_fetch_bytes=16_000_000,
            **options,
        )


class Feed:
    """A load that lasts as long as a test needs it, on any machine: it advances with what is consumed.

    A thread sends at most `AHEAD` readings more than the group has committed, and at most
    `limit` in all, which the test may raise.
    """

    AHEAD = 100

    def __init__(self, site: Site, data: DataSet, limit: int) -> None:
        self.limit = limit
        self.sent = 0
        self._site, self._data = site, data
        self._already_there = sum(site.ends().values())
        self._all_at_once = threading.Event()
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def hurry(self) -> None:
        """From here on wait for nothing, neither for commits nor for the limit."""
        self._all_at_once.set()

    def finish(self) -> None:
        """Send the rest; returns when every reading is acknowledged."""
        self.hurry()
        self._thread.join(2 * PATIENCE_S)
        assert not self._thread.is_alive(), "the readings are not sent"
        if self._failure:
            raise self._failure[0]

    def _run(self) -> None:
        settings, data = self._site.settings, self._data
        producer = connect_producer(settings.kafka)
        try:
            with self._site.watching_commits() as committed:
                while self.sent < len(data):
                    upto = len(data)
                    if not self._all_at_once.is_set():
                        upto = min(self.limit, committed() - self._already_there + self.AHEAD, len(data))
                    if upto > self.sent:
                        messages = encode(data.select(slice(self.sent, upto)), settings)
                        send(producer, settings.kafka.topic, messages, settings)
                        self.sent = upto
                        with contextlib.suppress(DeliveryFailed):  # the broker is away; what is queued is kept
                            producer.flush(0.5)
                    else:
                        self._all_at_once.wait(0.05)
            producer.flush(PATIENCE_S)
        except BaseException as error:
            self._failure.append(error)
        finally:
            producer.close()


@dataclass(frozen=True)
class Expected:
    """What a backtest of the same readings gives."""

    scores: Scores
    alerts: set[str]
    opened: int

    @classmethod
    def of(cls, site: Site, data: DataSet) -> Expected:
        settings = site.settings
        registry = Registry(settings.model.directory)
        detector, manifest = registry.load()
        result = backtest.run(settings, detector, str(manifest["version"]), data)
        scored = np.flatnonzero(~np.isnan(result.score))
        seen = result.data
        scores = {(seen.names[seen.stream[i]], int(seen.time_ns[i])): float(result.score[i]) for i in scored.tolist()}
        ids = [alert.alert_id for alert in result.alerts]
        assert len(set(ids)) == len(ids)
        return cls(scores, set(ids), sum(alert.event == "open" for alert in result.alerts))

    def hold(self, site: Site, *, each_once: bool = False) -> None:
        """The daemons of a site told exactly this: no alert missing, none too many, every score."""
        told = Counter(alert["alert_id"] for alert in site.alerts())
        assert set(told) == self.alerts
        assert not each_once or set(told.values()) == {1}, "alerts came twice though nothing crashed"
        scores = site.scores()
        assert scores.keys() == self.scores.keys()
        assert max(abs(scores[key] - score) for key, score in self.scores.items()) < 1e-5


class Scrape(dict[str, float]):
    """`/metrics` at one moment; keys as in the text format: `name` or `name{label="value"}`."""

    def total(self, name: str) -> float:
        """Sum over all label sets."""
        return sum(value for key, value in self.items() if key.partition("{")[0] == name)

    def accounted(self) -> float:
        """Records whose fate is known; equals `streamer_records_consumed_total`."""
        fates = ("windowed", "duplicate", "late", "dropped", "dead_lettered", "rejected", "replayed", "ignored")
        found = sum(self.total(f"streamer_records_{fate}_total") for fate in (*fates, "handed_over"))
        came = self.total("streamer_records_unpacked_total") + self.total("streamer_records_taken_over_total")
        return found + self.total("streamer_readings_corrected_total") + self.total("streamer_records_held") - came


class _Running:
    """A daemon seen from outside: its HTTP side."""

    address: str

    def see_that_it_lives(self) -> None:
        """Raises what it died of."""

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.address + path, timeout=10) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self) -> Scrape:
        scrape = Scrape()
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                scrape[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return scrape

    def ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def wait_until_ready(self, *, within_s: float = PATIENCE_S) -> None:
        wait_until(self.ready, "/readyz 200", within_s=within_s)

    def wait_until_not_ready(self, pattern: str, *, within_s: float = PATIENCE_S) -> str:
        """The reason `/readyz` gives with its 503, once it matches."""

        def reason() -> str | None:
            status, text = self.get("/readyz")
            return text if status == 503 and re.search(pattern, text) else None

        return str(wait_until(reason, f"/readyz 503 {pattern!r}; it says {self.get('/readyz')}", within_s=within_s))


class DaemonProcess(_Running):
    """`streamer run` as its users start it; a context manager that leaves nothing behind."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.log_file = site.directory / f"daemon-{unique('log')}.log"
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [*ends_with_us(), sys.executable, "-m", "streamer", "run", "--config", str(site.file)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"} | site.environment,
                start_new_session=True,
            )

    def see_that_it_lives(self) -> None:
        assert self.process.poll() is None, f"exit {self.process.returncode}: {self.log()[-3000:]}"

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def wait_until_serving(self) -> None:
        def address() -> str | None:
            found = re.search(r"metrics at (http://\S+)/metrics", self.log())
            self.see_that_it_lives()
            return found[1] if found else None

        self.address = str(wait_until(address, "the address in the log"))

    def terminate(self) -> float:
        """SIGTERM; returns how many seconds it took to leave, with exit code 0."""
        began = time.monotonic()
        self._forget()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(STOP_S) == 0, self.log()[-2000:]
        return time.monotonic() - began

    def kill(self) -> None:
        self._forget()
        self.process.kill()
        self.process.wait(10)

    def _forget(self) -> None:
        if self in self.site.running:
            self.site.running.remove(self)

    def __enter__(self) -> DaemonProcess:
        try:
            self.wait_until_serving()
        except BaseException:
            self.kill()
            raise
        self.site.running.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


class DaemonThread(_Running):
    """The daemon in a thread of this process: starts faster, and can be looked into."""

    def __init__(self, site: Site, clock: Callable[[], float] = time.time) -> None:
        self.site = site
        self.daemon = Daemon(site.settings, clock=clock)
        self.failure: list[BaseException] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="daemon", daemon=True)

    def _run(self) -> None:
        try:
            self.daemon.run(self._stop)
        except BaseException as error:
            self.failure.append(error)

    def see_that_it_lives(self) -> None:
        if self.failure:
            raise self.failure[0]

    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> float:
        """Ask it to stop; returns how many seconds it took."""
        began = time.monotonic()
        self._stop.set()
        self._thread.join(STOP_S)
        assert not self.alive(), f"the daemon did not stop within {STOP_S:g} s"
        return time.monotonic() - began

    def __enter__(self) -> DaemonThread:
        self._thread.start()
        wait_until(lambda: self.failure or self.daemon.address.startswith("http"), "the daemon's address")
        self.address = self.daemon.address
        self.site.running.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(STOP_S)
        self.site.running.remove(self)
        self.see_that_it_lives()


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended."""

    code: int
    out: str
    err: str
    seconds: float = field(compare=False)


def streamer(command: str, site: Site, *arguments: str | Path, timeout_s: float = 60.0) -> Ran:
    """Run one command of the command line on a site to its end."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "streamer", command, "--config", str(site.file), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=os.environ | site.environment,
    )
    return Ran(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


def partitions_of(sites: Sequence[_Running]) -> list[int]:
    """How many partitions each daemon says it has."""
    return [int(one.metrics()["streamer_partitions_assigned"]) for one in sites]


# Small enough to train in seconds; good enough to see the faults that `conftest.live` holds.
MODEL: dict[str, Any] = {"hidden": 16, "latent": 6, "epochs": 8, "steps_per_epoch": 60, "patience": 6}
