"""The daemon's own part: what it clears up and says when it starts, and that it never looks dead while it waits."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from models.detector import Detector
from streamer.connectors import sinks
from streamer.connectors.kafka.probe import ProbeReport, ProbeStep, Proof
from streamer.errors import BrokerError, DeliveryFailed
from streamer.runtime import checkpoints, connection, daemon
from streamer.runtime.daemon import Daemon
from streamer.runtime.prover import Prover
from tests import tiny
from tests.tiny import VERSION


class Clock:
    """Time passes when someone waits."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Broker:
    """Stands where both clients and the probe are. Tests say what each call does meanwhile."""

    pending = 0
    broker_errors = offset_resets = 0

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.on_flush: Callable[[float], None] = lambda timeout_s: None
        self.on_poll: Callable[[], None] = lambda: None
        self.on_ask: Callable[[], None] = lambda: None
        self.on_probe: Callable[[], None] = lambda: None
        self.assigned: Callable[[Sequence[int]], None]

    def connect_consumer(self, config: object, **callbacks: Any) -> Broker:
        self.assigned = callbacks["on_assigned"]
        return self

    def probe(self, config: object, **_: object) -> ProbeReport:
        self.on_probe()
        return ProbeReport((ProbeStep("all", True, "granted"),))

    def flush(self, timeout_s: float) -> None:
        self.on_flush(timeout_s)

    def poll(self, timeout_s: float) -> list[Any]:
        self.clock.now_s += timeout_s
        self.on_poll()
        return []

    def committed(self, partitions: Sequence[int]) -> dict[int, Any]:
        self.on_ask()
        return {}

    def bounds(self, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        self.on_ask()
        return dict.fromkeys(partitions, (0, 0))

    def seek(self, partition: int, offset: int) -> None: ...

    def position(self, partition: int) -> int:
        return 0

    def commit(self, offsets: Mapping[int, int]) -> None: ...

    def lag(self) -> dict[int, int]:
        return {}

    def member_id(self) -> str | None:
        return "member"

    def partition_count(self, *, wait: bool = False) -> int:
        return 3

    def close(self) -> None: ...


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch, tiny_detector: Detector) -> Broker:
    """A daemon made now talks to this broker, scores with the tiny detector, and waits by its clock."""
    broker = Broker(Clock())
    monkeypatch.setattr(connection, "connect_consumer", broker.connect_consumer)
    monkeypatch.setattr(connection, "connect_producer", lambda config, limits: broker)
    monkeypatch.setattr(daemon, "probe", broker.probe)
    monkeypatch.setattr(daemon, "Prover", lambda config, clock: Prover(config, clock, lambda *_: Proof(member=True)))
    monkeypatch.setattr(daemon, "load_current", lambda models: (tiny_detector, VERSION))
    for module in (checkpoints, sinks):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=broker.clock))
    return broker


class Health:
    """Asks `/healthz`, and keeps every answer."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon, self.answers = daemon, set[str]()

    def ask(self) -> None:
        try:
            with urllib.request.urlopen(self.daemon.address + "/healthz", timeout=10) as answer:
                self.answers.add(answer.read().decode().strip())
        except urllib.error.HTTPError as error:
            self.answers.add(error.read().decode().strip())


def made(broker: Broker, **sections: Any) -> tuple[Daemon, Health, threading.Event]:
    one = Daemon(tiny.settings(http={"port": 0}, **sections), registry=CollectorRegistry(), clock=broker.clock)
    return one, Health(one), threading.Event()


def test_a_broker_that_is_away_longer_than_a_minute_is_waited_for_in_good_health(broker: Broker) -> None:
    one, health, stop = made(broker, kafka={"delivery_timeout_s": 300.0})
    began_s = broker.clock.now_s

    def nobody_answers(timeout_s: float) -> None:
        broker.clock.now_s += timeout_s
        health.ask()
        raise DeliveryFailed("no answer")

    broker.on_flush, broker.on_poll = nobody_answers, stop.set
    one.run(stop)

    assert broker.clock.now_s - began_s >= 300
    assert health.answers == {"ok"}


def test_partitions_restored_one_after_another_are_no_sign_of_a_hang(broker: Broker) -> None:
    """Each may take as long as two answers of the broker may; all together take longer than a minute."""
    one, health, stop = made(broker, kafka={"request_timeout_ms": 45_000})

    def slowly() -> None:
        broker.clock.now_s += 44
        health.ask()

    def assign() -> None:
        broker.assigned(range(3))
        stop.set()

    broker.on_ask, broker.on_poll = slowly, assign
    one.run(stop)

    assert health.answers == {"ok"}


def test_a_slow_probe_is_no_sign_of_a_hang(broker: Broker) -> None:
    one, health, stop = made(broker, kafka={"probe_timeout_s": 120.0})

    def slowly() -> None:
        broker.clock.now_s += 119
        health.ask()
        stop.set()

    broker.on_probe = slowly
    one.run(stop)

    assert health.answers == {"ok"}


def test_a_loop_that_hangs_is_not_healthy(broker: Broker) -> None:
    one, health, stop = made(broker)

    def hang() -> None:
        broker.clock.now_s += 61
        health.ask()
        stop.set()

    broker.on_poll = hang
    one.run(stop)

    (answer,) = health.answers
    assert "main loop" in answer


def test_after_the_broker_refuses_the_connection_is_reset(broker: Broker) -> None:
    one, _, stop = made(broker)
    why: list[str | None] = []

    def refuse() -> None:
        broker.on_poll = stop.set
        broker.on_probe = lambda: why.append(one.not_ready())
        raise BrokerError("not authorised")

    broker.on_poll = refuse
    one.run(stop)

    assert why == ["broker: not authorised"]
