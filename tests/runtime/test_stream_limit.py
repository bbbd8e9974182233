"""`records.max_streams` is about new names: those known go on, also over a restart and after another replica failed."""

from __future__ import annotations

import json
import logging
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.connectors.kafka import Commit, RecordBatch
from streamer.runtime import connection
from tests import tiny
from tests.messages import batch
from tests.runtime.test_conservation import Backlog, daemon_of, encoded, reading
from tests.runtime.test_daemon import broker

__all__ = ["broker"]  # a fixture

LIMIT = 3
KNOWN, NEW = ("a", "b", "c"), ("d", "e", "f", "g")
WAVES = {name: tiny.wave(200, seed=number) for number, name in enumerate((*KNOWN, *NEW))}


class Topic(Backlog):
    """Keeps commits and what is published over several lives of a daemon."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.commits: dict[int, Commit] = {}
        self.scores: dict[tuple[str, int], float] = {}
        self.alerts: list[dict[str, Any]] = []
        self.dead_letters = 0

    def send(self, topic: str, **message: Any) -> None:
        if topic == "scores":
            some = json.loads(message["value"])
            at = zip(some["stream"], some["time_ns"], strict=True)
            self.scores |= dict(zip(at, some["score"], strict=True))
        elif topic.endswith("dlq"):
            self.dead_letters += 1
        else:
            self.alerts.append(json.loads(message["value"]))

    def committed(self, partitions: Sequence[int]) -> dict[int, Any]:
        return {each: self.commits[each] for each in partitions if each in self.commits}

    def commit(self, offsets: Mapping[int, Any]) -> None:
        self.commits |= offsets


class Site:
    """A group of one replica after another that reads one topic."""

    def __init__(self, directory: Path, topic: Topic, **records: Any) -> None:
        self.topic, self.metrics, self.ready, self._ends = topic, dict[str, float](), set[int](), dict[int, int]()
        self._sections: dict[str, Any] = {
            "kafka": {"scores_topic": "scores"},
            "records": {"max_streams": LIMIT, **records},
            "time": {},
            "alerting": {"silent_after": 5.0},
            "state": {"directory": directory},
        }

    def read(self, *polls: Sequence[RecordBatch], partitions: Sequence[int] = (0,)) -> None:
        """One life of a daemon that reads this, stops and commits."""
        one, stop = daemon_of(self.topic, **self._sections)

        def all_of_it() -> Iterator[Any]:
            self.topic.callbacks["on_assigned"](partitions)
            for number, polled in enumerate(polls):
                yield polled
                if number == 0:  # proofs of readiness have had a turn
                    self.topic.clock.now_s += 2.0
            with urllib.request.urlopen(one.address + "/readyz", timeout=10) as answer:
                self.ready.add(answer.status)
            registry = one.metrics.registry
            self.metrics = {
                sample.name: sample.value
                for family in registry.collect()
                for sample in family.samples
                if sample.labels in ({}, {"reason": "stream_limit"})
            }

        self.topic.polls = all_of_it()
        one.run(stop)

    def minutes(self, names: Sequence[str], minutes: range, partition: int = 0) -> list[RecordBatch]:
        """A reading a minute of each stream, as one poll brings them."""
        values, first = list[bytes](), self._ends.get(partition, 0)
        for minute in minutes:
            for name in names:
                heat, current = WAVES[name][minute % 200].tolist()
                values.append(encoded(reading(name, minute) | {"heat": heat, "current": current}))
        self._ends[partition] = first + len(values)
        taken_ns = tiny.START_NS + minutes[-1] * tiny.MINUTE_NS
        return [batch(values, first=first, partition=partition, now_ns=taken_ns)]


NewSite = Callable[..., Site]


@pytest.fixture
def new_site(broker: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> NewSite:
    """Makes a site; its topic is the one that daemons read from then on."""

    def make(name: str = "site", **records: Any) -> Site:
        topic = Topic(broker.clock)
        monkeypatch.setattr(connection, "connect_consumer", topic.connect_consumer)
        monkeypatch.setattr(connection, "connect_producer", lambda config, limits: topic)
        return Site(tmp_path / name, topic, **records)

    return make


def of(scores: Mapping[tuple[str, int], float], names: Sequence[str]) -> dict[tuple[str, int], float]:
    return {at: score for at, score in scores.items() if at[0] in names}


def test_names_beyond_the_limit_are_refused_and_told_and_known_ones_score_as_if_they_were_not_there(
    new_site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    alone = new_site("alone")
    alone.read(*(alone.minutes(KNOWN, range(at, at + 10)) for at in range(0, 100, 10)))
    site = new_site()
    caplog.clear()
    caplog.set_level(logging.WARNING, "streamer.runtime.refusals")

    site.read(
        site.minutes(KNOWN, range(10)), *(site.minutes((*KNOWN, *NEW), range(at, at + 10)) for at in range(10, 60, 10))
    )
    before = site.metrics
    site.read(*(site.minutes((*NEW, *KNOWN), range(at, at + 10)) for at in range(60, 100, 10)))

    assert len(site.topic.scores) == len(alone.topic.scores) > 200
    assert of(site.topic.scores, KNOWN) == alone.topic.scores, "the same over a restart, with and without others"
    assert before["streamer_records_rejected_total"] == 50 * len(NEW)
    assert site.metrics["streamer_records_rejected_total"] == 40 * len(NEW), "after the restart too"
    assert site.ready == {200}, "known streams are scored"
    assert site.topic.dead_letters == 0
    assert not [alert for alert in site.topic.alerts if alert["kind"] == "silence"]
    told = [each.getMessage() for each in caplog.records if each.name == "streamer.runtime.refusals"]
    assert len(told) == 2, "once in each life, which lasts less than a minute"
    assert "records.max_streams 3 are known already" in told[0]


def test_names_that_were_refused_and_stop_are_not_silent(new_site: NewSite) -> None:
    site = new_site()

    site.read(site.minutes(KNOWN, range(30)), site.minutes((*KNOWN, *NEW), range(30, 60)))
    site.read(site.minutes(("a", "b"), range(60, 120)))

    assert site.metrics["streamer_records_rejected_total"] == 0
    silent = [alert["stream"] for alert in site.topic.alerts if alert["kind"] == "silence"]
    assert silent == ["c"], "which was known"


@pytest.mark.parametrize("restarts", [False, True])
def test_when_known_names_expire_new_ones_take_their_room(new_site: NewSite, restarts: bool) -> None:
    site = new_site(stream_ttl="1h")
    polls = [
        site.minutes(KNOWN, range(30)),
        *(site.minutes(("a", *NEW[:2]), range(at, at + 10)) for at in range(30, 130, 10)),
    ]

    for some in [polls[:4], polls[4:]] if restarts else [polls]:
        site.read(*some)

    assert site.metrics["streamer_streams_expired_total"] == 2
    assert set(NEW[:2]) <= {name for name, _ in site.topic.scores}


@pytest.mark.parametrize("restarts", [False, True])
def test_when_all_names_are_replaced_at_once_the_old_ones_expire_and_the_new_ones_are_taken(
    new_site: NewSite, restarts: bool
) -> None:
    site = new_site(stream_ttl="1h")
    polls = [
        site.minutes(KNOWN, range(30)),
        *(site.minutes(NEW[:3], range(at, at + 10)) for at in range(30, 150, 10)),
    ]

    for some in [polls[:4], polls[4:]] if restarts else [polls]:
        site.read(*some)

    assert site.metrics["streamer_streams_expired_total"] == 3
    assert set(NEW[:3]) <= {name for name, _ in site.topic.scores}
    assert site.metrics["streamer_records_rejected_total"] > 0, "until then"


def test_a_replica_that_takes_over_as_many_streams_again_scores_all_of_them_and_takes_no_new_ones(
    new_site: NewSite,
) -> None:
    names = (("a", "b", "c"), ("d", "e", "f"))

    def both(site: Site, minutes: range) -> list[RecordBatch]:
        return [*site.minutes(names[0], minutes, 0), *site.minutes(names[1], minutes, 1)]

    undisturbed = new_site("undisturbed", max_streams=100)
    undisturbed.read(*(both(undisturbed, range(at, at + 10)) for at in range(0, 100, 10)), partitions=(0, 1))
    site = new_site()
    for partition in (0, 1):  # each replica has one partition, and as many streams as it may
        site.read(
            *(site.minutes(names[partition], range(at, at + 10), partition) for at in range(0, 50, 10)),
            partitions=(partition,),
        )

    site.read(
        *([*both(site, range(at, at + 10)), *site.minutes(("g",), range(at, at + 10))] for at in range(50, 100, 10)),
        partitions=(0, 1),
    )

    assert site.topic.scores == undisturbed.topic.scores
    assert site.metrics["streamer_records_rejected_total"] == 50
    site.read(both(site, range(100, 110)), partitions=(0, 1))
    assert site.metrics["streamer_records_rejected_total"] == 0, "nor are they refused after a restart"


def test_readings_that_are_refused_do_not_expire_streams_when_their_time_is_not_vouched_for(new_site: NewSite) -> None:
    site = new_site(stream_ttl="1h")
    known = site.minutes(KNOWN, range(30))
    (ahead,) = site.minutes(NEW, range(30, 150))
    unknown = np.zeros_like(ahead.timestamps_ms)

    site.read(known, [RecordBatch(ahead.topic, 0, ahead.offsets, unknown, ahead.keys, ahead.values, ahead.headers)])

    assert site.metrics["streamer_records_rejected_total"] == 120 * len(NEW)
    assert site.metrics["streamer_streams_expired_total"] == 0
