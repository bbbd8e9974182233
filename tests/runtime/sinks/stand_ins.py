"""Stand-ins for what a courier needs: an alerts topic in memory, a sink that does as it is told, time that passes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from prometheus_client import CollectorRegistry

from streamer.connectors.alert_sinks import DELIVERED, Answer, Incident, Sink
from streamer.connectors.kafka import Commit, Consumer, RecordBatch
from streamer.core.alerts import Alert
from streamer.core.routing import Route
from streamer.errors import BrokerError, CommitFailed
from streamer.observability.metrics import Metrics
from streamer.runtime.sinks.courier import Courier

BEGIN_S = 1_767_323_200.0


class Killed(BaseException):
    """kill -9: nothing is done any more."""


class Time(threading.Event):
    """A clock, and the order to stop that comes at a certain time; waiting makes time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s, self.until_s = BEGIN_S, float("inf")

    def __call__(self) -> float:
        return self.now_s

    def wait(self, timeout: float | None = None) -> bool:
        self.now_s += timeout or 0.0
        return self.is_set()

    def is_set(self) -> bool:
        return self.now_s >= self.until_s


class MemoryTopic:
    """An alerts topic, and what a group has committed."""

    def __init__(self, time: Time, partitions: int = 2) -> None:
        self.time = time
        self.log: dict[int, list[tuple[float, bytes]]] = {partition: [] for partition in range(partitions)}
        self.commits: dict[int, int] = {}
        self.members: list[Member] = []
        self.killed = False
        self.broken: Exception | None = None  # raised by whoever joins
        self.read_back: list[dict[int, int]] = []

    def write(self, alert: Alert | bytes, partition: int = 0) -> None:
        self.log[partition].append((self.time.now_s, alert if isinstance(alert, bytes) else alert.encode()))

    def batch(self, partition: int, first: int, end: int) -> RecordBatch:
        rows = self.log[partition][first:end]
        none: list[Any] = [None] * len(rows)
        return RecordBatch(
            "alerts",
            partition,
            np.arange(first, first + len(rows)),
            np.array([int(at * 1000) for at, _ in rows], np.int64),
            none,
            [value for _, value in rows],
            [() for _ in rows],
        )

    # AlertsTopic.

    def join(self, **callbacks: Any) -> Consumer:
        if self.broken is not None:
            raise self.broken
        self.members.append(Member(self, **callbacks))
        return cast(Consumer, self.members[-1])

    def since(self, time_s: float) -> Mapping[int, int] | None:
        return {p: sum(at < time_s for at, _ in rows) for p, rows in self.log.items()}

    def back(self, up_to: Mapping[int, int], since_s: float) -> Iterator[RecordBatch]:
        self.read_back.append(dict(up_to))
        first = self.since(since_s) or {}
        for partition, end in up_to.items():
            if first[partition] < end:
                yield self.batch(partition, first[partition], end)


class Member:
    """A consumer of that topic. It is given all partitions with its first poll, or those of `assign`."""

    def __init__(self, topic: MemoryTopic, *, on_assigned: Any, on_revoked: Any, on_offset_reset: Any) -> None:
        self._topic, self._on_assigned, self._on_revoked = topic, on_assigned, on_revoked
        self.positions: dict[int, int] = {}
        self.paused: set[int] = set()
        self.assign: list[int] | None = list(topic.log)

    def poll(self, timeout_s: float) -> list[RecordBatch]:
        if self.assign is not None:
            if self.positions:
                self._on_revoked(sorted(self.positions))
            wanted, self.assign = self.assign, None
            self.positions, self.paused = dict.fromkeys(wanted, -1), set()
            self._on_assigned(wanted)
        batches = []
        for partition in sorted(self.positions.keys() - self.paused):
            first = self.positions[partition]
            if len(self._topic.log[partition]) > first:
                batches.append(self._topic.batch(partition, first, first + 3))  # a poll brings few
                self.positions[partition] += len(batches[-1])
        if not batches:
            self._topic.time.now_s += max(timeout_s, 0.01)
        return batches

    def seek(self, partition: int, offset: int) -> None:
        self.positions[partition] = offset

    def committed(self, partitions: Sequence[int]) -> dict[int, Commit]:
        return {p: Commit(self._topic.commits[p]) for p in partitions if p in self._topic.commits}

    def bounds(self, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        return {p: (0, len(self._topic.log[p])) for p in partitions}

    def commit(self, commits: Mapping[int, Commit]) -> None:
        if self._topic.killed or set(commits) - set(self.positions):
            raise CommitFailed("not a member")
        self._topic.commits |= {p: commit.offset for p, commit in commits.items()}

    def lag(self) -> dict[int, int]:
        return {p: len(self._topic.log[p]) - at for p, at in self.positions.items()}

    def pause(self, partitions: Sequence[int]) -> None:
        self.paused |= set(partitions)

    def resume(self, partitions: Sequence[int]) -> None:
        self.paused -= set(partitions)

    def close(self) -> None:
        if not self._topic.killed and self.positions:
            self._on_revoked(sorted(self.positions))


class ListSink:
    """Keeps what it was told; `answer` decides what it says to an alert."""

    def __init__(self, *, resend_s: float | None = None, give_up_after_s: float | None = None) -> None:
        self.name, self.resend_s, self.give_up_after_s = "ops", resend_s, give_up_after_s
        self.answer: Callable[[Alert], Answer] = lambda alert: Answer(DELIVERED)
        self.told: list[Alert] = []
        self.attempts = 0
        self.resent: list[list[Incident]] = []

    def deliver(self, incident: Incident, now_s: float) -> Answer:
        self.attempts += 1
        answer = self.answer(incident.alert)
        if answer.outcome == DELIVERED:
            self.told.append(incident.alert)
        return answer

    def resend(self, incidents: Sequence[Incident], now_s: float) -> Answer:
        self.resent.append(list(incidents))
        return Answer(DELIVERED)

    def prove(self) -> str:
        return "it is there"


class Desk:
    """One process with one sink."""

    def __init__(self, topic: MemoryTopic, sink: Sink, route: Route | None = None, *, lookback_s: float = 3600) -> None:
        self.topic, self.sink, self.time = topic, sink, topic.time
        topic.killed = False
        self.registry = CollectorRegistry()
        self.courier = Courier(
            sink, route or Route(), topic, lookback_s=lookback_s, metrics=Metrics(self.registry), clock=self.time,
            stop=self.time, jitter=lambda: 1.0,
        )  # fmt: skip

    def work(self, seconds: float) -> None:
        """Run, and stop in an orderly way."""
        self.time.until_s = self.time.now_s + seconds
        self.courier.run()
        self.time.until_s = float("inf")

    def was_killed(self, within_s: float) -> bool:
        """Run until something raises `Killed`; nothing is committed after that."""
        try:
            self.work(within_s)
        except Killed:
            self.time.until_s = float("inf")
            return True
        return False

    def count(self, outcome: str) -> float:
        return self.figure("sink_deliveries_total", outcome=outcome)

    def figure(self, name: str, **labels: str) -> float:
        found = self.registry.get_sample_value(f"streamer_{name}", {"sink": self.sink.name} | labels)
        return 0.0 if found is None else found


BROKER_AWAY = BrokerError("no broker answers")
