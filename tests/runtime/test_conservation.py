"""Every scrape adds up, whatever the daemon does meanwhile: what came in is what became of it and what is held back."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from models.detector import Detector
from streamer.connectors.kafka import OffsetReset, RecordBatch
from streamer.core.outcome import Outcome
from streamer.errors import DeliveryFailed
from streamer.runtime import connection
from streamer.runtime.daemon import Daemon
from streamer.runtime.publishing import Publisher
from tests import tiny
from tests.messages import batch
from tests.runtime.test_daemon import Broker, broker

__all__ = ["broker"]  # a fixture

GAINED = ("consumed", "unpacked", "taken_over")
SPENT = ("windowed", "duplicate", "late", "dropped", "dead_lettered", "rejected", "replayed", "ignored", "handed_over")


def reading(stream: str, minute: float) -> dict[str, Any]:
    moment = datetime.fromtimestamp(tiny.START_NS / 1e9, UTC) + timedelta(minutes=minute)
    return {"stream": stream, "timestamp": moment.isoformat(), "heat": 20.0, "current": 5.0}


def encoded(some: Any) -> bytes:
    return json.dumps(some).encode()


class Backlog(Broker):
    """Brings records of every fate, one poll after another."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.polls: Iterator[Sequence[RecordBatch]] = iter(())
        self.callbacks: dict[str, Any] = {}
        self.at_end: Callable[[], object] = lambda: None

    def connect_consumer(self, config: object, **callbacks: Any) -> Broker:
        self.callbacks = callbacks
        return self

    def send(self, *arguments: Any, **message: Any) -> None:
        """Nobody looks at what is published."""

    def committed(self, partitions: Sequence[int]) -> dict[int, Any]:
        return {}

    def bounds(self, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        return dict.fromkeys(partitions, (0, 10**9))

    def poll(self, timeout_s: float) -> list[Any]:
        self.clock.now_s += 0.1
        polled = next(self.polls, None)
        if polled is None:
            self.at_end()
            return []
        return list(polled)


def backlog(polls: int, size: int = 40) -> Iterator[list[RecordBatch]]:
    """In each poll readings in order, twice, too late, of nobody, and not readings at all."""
    offset = 0
    for number in range(polls):
        values: list[bytes] = []
        for n in range(size):
            minute = number * size + n
            values.append(encoded(reading(f"press {n % 4}", minute)))
            if n % 5 == 0:
                values.append(values[-1])  # duplicate
            if n % 7 == 0:
                values.append(encoded(reading("press 1", minute - 500)))  # late
            if n % 9 == 0:
                values.append(b"not a reading")
        yield [batch(values, first=offset)]
        offset += len(values)


class Scraper:
    """Scrapes without pause, and keeps those scrapes that do not add up."""

    def __init__(self, address: str) -> None:
        self.address, self.scrapes, self.wrong, self.moving = address, 0, list[dict[str, float]](), set[float]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Scraper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()

    def look(self) -> dict[str, float]:
        found = scrape(self.address)
        self.scrapes += 1
        self.moving.add(found["consumed"])
        if found["gained"] != found["spent"]:
            self.wrong.append(found)
        return found


def scrape(address: str) -> dict[str, float]:
    with urllib.request.urlopen(address + "/metrics", timeout=10) as answer:
        text = answer.read().decode()
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    found = {name: totals[f"streamer_records_{name}_total"] for name in GAINED + SPENT}
    found["corrected"] = totals["streamer_readings_corrected_total"]
    found["held"] = totals["streamer_records_held"]
    found["gained"] = sum(found[name] for name in GAINED)
    found["spent"] = sum(found[name] for name in (*SPENT, "corrected", "held"))
    return found


@pytest.fixture
def source(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Backlog:
    made = Backlog(broker.clock)
    monkeypatch.setattr(connection, "connect_consumer", made.connect_consumer)
    monkeypatch.setattr(connection, "connect_producer", lambda config, limits: made)
    return made


def daemon_of(source: Backlog, **sections: Any) -> tuple[Daemon, threading.Event]:
    state = {"directory": None, "replay_records": 100}
    given: dict[str, Any] = {"time": {"lateness": 600.0}, "state": state, **sections}
    one = Daemon(tiny.settings(http={"port": 0}, **given), registry=CollectorRegistry(), clock=source.clock)
    stop = threading.Event()
    source.at_end = stop.set
    return one, stop


def work_through(one: Daemon, stop: threading.Event, source: Backlog, polls: Iterator[Any]) -> Scraper:
    """Run until the backlog is done, scraped all the while."""
    scraper: list[Scraper] = []

    def begin() -> Iterator[Any]:
        source.callbacks["on_assigned"]([0])
        scraper.append(Scraper(one.address))
        with scraper[0]:
            yield from polls
        scraper[0].look()

    source.polls = begin()
    one.run(stop)
    return scraper[0]


def test_every_scrape_during_a_backlog_adds_up(source: Backlog) -> None:
    one, stop = daemon_of(source)

    scraper = work_through(one, stop, source, backlog(150))

    assert scraper.wrong == [], f"{len(scraper.wrong)} of {scraper.scrapes} scrapes"
    assert len(scraper.moving) > 5, "all scrapes saw the same moment: nothing was tested"


def test_it_adds_up_while_partitions_come_and_go_and_logs_are_reset(source: Backlog) -> None:
    one, stop = daemon_of(source)

    def polls() -> Iterator[Any]:
        for number, polled in enumerate(backlog(90)):
            if number % 10 == 4:
                source.callbacks["on_revoked"]([0])
                source.callbacks["on_assigned"]([0])
            if number % 10 == 8:
                source.callbacks["on_offset_reset"](OffsetReset(0, 5, 0, lost=0))
            yield polled

    scraper = work_through(one, stop, source, polls())

    assert scraper.wrong == [], f"{len(scraper.wrong)} of {scraper.scrapes} scrapes"
    assert len(scraper.moving) > 5


def test_it_adds_up_when_streams_expire_with_readings_held_back(source: Backlog) -> None:
    one, stop = daemon_of(source, records={"stream_ttl": "15m"})
    last: list[dict[str, float]] = []

    def polls() -> Iterator[Any]:
        minutes = [(name, minute) for minute in range(30) for name in ("gone", "here")]
        minutes += [("here", minute) for minute in range(200, 220)]
        for offset, (name, minute) in enumerate(minutes):
            taken_ns = tiny.START_NS + minute * tiny.MINUTE_NS
            yield [batch([encoded(reading(name, minute))], first=offset, now_ns=taken_ns)]
        last.append(scrape(one.address))

    scraper = work_through(one, stop, source, polls())

    assert scraper.wrong == []
    assert last[0]["dropped"] > 0


def test_it_adds_up_after_a_turn_that_failed_half_way(
    source: Backlog, tiny_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, stop = daemon_of(source)
    seen: list[dict[str, float]] = []

    def fails(self: Any, outcome: Outcome, **_: Any) -> None:
        raise RuntimeError("half way")

    def polls() -> Iterator[Any]:
        for number, polled in enumerate(backlog(5)):
            if number == 4:
                monkeypatch.setattr("streamer.runtime.publishing.Publisher.publish", fails)
                seen.append(scrape(one.address))
            yield polled

    def begin() -> Iterator[Any]:
        source.callbacks["on_assigned"]([0])
        yield from polls()

    source.polls = begin()
    monkeypatch.setattr(source, "close", lambda: seen.append(scrape(one.address)))
    with pytest.raises(RuntimeError, match="half way"):
        one.run(stop)

    before, *after = seen
    assert before["gained"] == before["spent"] > 0
    assert after
    assert all(found["gained"] == found["spent"] for found in after)


def test_it_adds_up_and_goes_on_after_the_broker_gave_up_half_way(
    source: Backlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, stop = daemon_of(source)
    seen: list[dict[str, float]] = []
    real = Publisher.publish

    def fails(self: Any, outcome: Outcome, **_: Any) -> None:
        Publisher.publish = real  # type: ignore[method-assign]
        raise DeliveryFailed("half way")

    def polls() -> Iterator[Any]:
        source.callbacks["on_assigned"]([0])
        for number, polled in enumerate(backlog(8)):
            if number == 4:
                monkeypatch.setattr(Publisher, "publish", fails)
            if number == 5:
                source.callbacks["on_assigned"]([0])  # of the new connection
            yield polled
            seen.append(scrape(one.address))

    source.polls = polls()
    one.run(stop)

    assert all(found["gained"] == found["spent"] for found in seen)
    assert seen[-1]["consumed"] > seen[4]["consumed"] > 0, "the counters go on"
