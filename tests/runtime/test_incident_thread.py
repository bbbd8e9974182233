"""The store of incidents follows beside the loop: its faults are told, and are nobody else's."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from streamer.connectors.incident_store import IncidentStore, SqliteDatabase, Wanted, following
from streamer.errors import BrokerError
from streamer.observability.metrics import Metrics
from streamer.runtime import incident_thread
from streamer.runtime.incident_thread import IncidentThread, open_incident_thread
from streamer.runtime.status import Status
from tests import tiny
from tests.alert_logs import SEEN_MS, Log, a_life, an_alert

PATIENCE_S = 60.0


class Bench:
    """A thread with a log in place of the broker."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = Log()
        self.path = folder / "state" / "incidents.db"
        self.settings = tiny.settings(
            incidents={"store": "sqlite:incidents.db", "keep_for": "1d"}, state={"directory": str(self.path.parent)}
        )
        alerts = self.settings.kafka.alerts_topic
        self.log.write(alerts, *(alert.encode() for alert in a_life("press-1")), an_alert(minute=3).encode())
        self.log.write(self.settings.actions_topic)
        self.log.topics[self.settings.actions_topic] = {0: []}
        self.now_s = SEEN_MS / 1000
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.status = Status(self.metrics, lambda: 0.0)
        monkeypatch.setattr(incident_thread, "TURN_S", 0.01)
        monkeypatch.setattr(incident_thread, "MOST_WAIT_S", 0.02)
        monkeypatch.setattr(incident_thread, "ActionsTopic", lambda settings: Prepared())
        monkeypatch.setattr(following.Follower, "_dial", lambda _, name: self.log.connect(name))
        thread = open_incident_thread(self.settings, self.metrics, self.status, lambda: self.now_s)
        assert thread is not None
        self.thread: IncidentThread = thread

    def value(self, name: str) -> float:
        found = self.registry.get_sample_value(f"streamer_incident_store_{name}")
        assert found is not None
        return found

    def streams(self) -> list[str]:
        store = IncidentStore(SqliteDatabase(self.path, read_only=True))
        try:
            return [each.stream for each in store.page(Wanted(), 100).incidents]
        finally:
            store.close()

    def wait_for(self, condition: Callable[[], Any]) -> None:
        pause = threading.Event()
        for _ in range(int(PATIENCE_S / 0.02)):
            if condition():
                return
            pause.wait(0.02)
        pytest.fail(f"waited {PATIENCE_S:g} s; notes: {self.status.notes()}")


class Prepared:
    """A topic of actions that is there."""

    def prepare(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path, monkeypatch)
    yield made
    made.thread.close()


def test_without_a_store_there_is_no_thread(bench: Bench) -> None:
    assert open_incident_thread(tiny.settings(), bench.metrics, bench.status, lambda: 0.0) is None


def test_what_comes_is_in_the_store_a_moment_later(bench: Bench) -> None:
    bench.thread.start()
    bench.wait_for(lambda: bench.path.exists() and bench.value("lag_records") == 0)

    bench.log.write(bench.settings.kafka.alerts_topic, an_alert(stream="press-9").encode())

    bench.wait_for(lambda: "press-9" in bench.streams())
    assert bench.status.notes() == ()


def test_a_broker_that_is_away_is_told_without_being_less_ready_and_made_good_later(bench: Bench) -> None:
    bench.status.set_ready()
    bench.log.broken[bench.settings.kafka.alerts_topic] = BrokerError("no broker")
    bench.thread.start()
    bench.wait_for(bench.status.notes)

    assert bench.status.not_ready() is None
    assert "scoring goes on: no broker" in bench.status.notes()[0]
    bench.wait_for(lambda: bench.value("failures_total") > 1)
    assert math.isnan(bench.value("lag_records"))

    del bench.log.broken[bench.settings.kafka.alerts_topic]
    bench.wait_for(lambda: bench.value("lag_records") == 0)
    bench.wait_for(lambda: not bench.status.notes())
    assert len(bench.streams()) == 2


def test_a_file_that_cannot_be_made_is_tried_again(bench: Bench) -> None:
    bench.path.parent.parent.mkdir(exist_ok=True)
    bench.path.parent.write_text("a file where the folder should be")
    bench.thread.start()
    bench.wait_for(bench.status.notes)

    bench.path.parent.unlink()

    bench.wait_for(lambda: bench.value("lag_records") == 0)
    assert len(bench.streams()) == 2


def test_a_file_damaged_while_it_is_in_use_is_set_aside_and_rebuilt(bench: Bench) -> None:
    bench.thread.turn()
    bench.thread._let_go()
    bench.path.write_bytes(b"\xa5" * bench.path.stat().st_size)

    bench.thread.turn()

    assert len(bench.streams()) == 2
    assert len(list(bench.path.parent.glob("*.damaged-*"))) == 1


def test_a_fault_nobody_foresaw_does_not_end_the_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    turn, failures = IncidentThread.turn, [ZeroDivisionError("odd")]

    def odd(thread: IncidentThread) -> None:
        if failures:
            raise failures.pop()
        turn(thread)

    monkeypatch.setattr(IncidentThread, "turn", odd)
    bench.thread.start()

    bench.wait_for(lambda: bench.path.exists() and bench.value("lag_records") == 0)
    assert bench.value("failures_total") == 1


def test_what_is_too_old_is_removed(bench: Bench) -> None:
    bench.now_s += 2 * 86_400

    bench.thread.turn()

    assert bench.streams() == ["press-2"]  # it is open


def test_messages_that_are_no_alerts_are_counted(bench: Bench) -> None:
    bench.log.write(bench.settings.kafka.alerts_topic, b"{", b"}")

    bench.thread.turn()

    assert bench.value("refused_total") == 2
