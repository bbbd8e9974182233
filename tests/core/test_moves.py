"""Partitions are added to a topic: streams that come elsewhere are not silent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.detector import Detector
from streamer.core.outcome import Outcome
from streamer.core.partitioners import murmur2
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from tests import tiny
from tests.tiny import MINUTE_NS, VERSION

NAMES = [f"machine-{number}" for number in range(40)]
GROWN = 60  # minute from which on the topic has four partitions, no longer two
FAULT = range(50, 60)  # minutes in which streams are anomalous


def in_partition(name: str, count: int) -> int:
    return murmur2(name.encode()) % count


def fleet(minutes: int = 120, *, grown: int = GROWN, stopped: Sequence[str] = (), back_at: int = 10_000) -> Readings:
    """Every stream sends every minute; those that have `stopped` do so a while before partitions are added."""
    parts = []
    for code, name in enumerate(NAMES):
        values = tiny.wave(minutes, seed=code)
        values[FAULT, 1] += 8
        minute = np.arange(minutes)
        there = np.where(minute < grown, in_partition(name, 2), in_partition(name, 4))
        kept = (minute < GROWN - 2) | (minute >= back_at) if name in stopped else np.ones(minutes, bool)
        times = tiny.START_NS + minute * MINUTE_NS
        parts.append(tiny.readings([code] * minutes, times.tolist(), values, partitions=there.tolist()).take(kept))
    whole = Readings.concatenate(parts)
    whole = whole.take(np.argsort(whole.time_ns, kind="stable"))
    return dataclasses.replace(whole, offset=np.arange(len(whole)))


def of_partitions(whole: Readings, *partitions: int) -> Readings:
    return whole.take(np.isin(whole.partition, partitions))


def replica(detector: Detector, **sections: dict[str, Any]) -> Pipeline:
    alerting = {"open_after": 2, "open_within": 3, "resolve_after": 40, "silent_after": 8.0}
    made = Pipeline(tiny.settings(alerting=alerting, **sections).pipeline_options(), detector, VERSION)
    for name in NAMES:
        made.keys.add(name)
    return made


def run(made: Pipeline, whole: Readings, grown: Callable[[], object]) -> list[Outcome]:
    """Minute by minute; `grown` is called when partitions have been added."""
    minute = (whole.time_ns - tiny.START_NS) // MINUTE_NS
    outcomes = []
    for number in np.unique(minute).tolist():
        if number == GROWN:
            grown()
        outcomes.append(made.process(whole.take(minute == number)))
    return outcomes


def told(outcomes: Sequence[Outcome], kind: str) -> list[tuple[str, str, str | None]]:
    return [(a.event, a.stream, a.reason) for outcome in outcomes for a in outcome.alerts if a.kind == kind]


def gone_from(*partitions: int) -> list[str]:
    before = [name for name in NAMES if in_partition(name, 2) in partitions]
    return sorted(name for name in before if in_partition(name, 4) not in partitions)


def test_streams_that_come_to_other_partitions_are_not_silent_and_their_incidents_resolve(
    tiny_detector: Detector,
) -> None:
    made = replica(tiny_detector)
    made.spread([0, 1], 2)

    outcomes = run(made, of_partitions(fleet(), 0, 1), lambda: made.spread([0, 1], 4))

    moved = gone_from(0, 1)
    assert len(moved) > 10
    assert told(outcomes, "silence") == []
    ended = [stream for event, stream, reason in told(outcomes, "anomaly") if (event, reason) == ("resolve", "moved")]
    assert sorted(ended) == moved  # all of them were anomalous
    assert sum(outcome.moved for outcome in outcomes) == len(moved)
    assert sorted(made.keys.names[code] for code in made.keys.held().tolist()) == sorted(set(NAMES) - set(moved))
    assert made.incidents.open_count == 0


def test_producers_may_learn_of_the_partitions_later_than_the_daemon(tiny_detector: Detector) -> None:
    made = replica(tiny_detector)
    made.spread([0, 1], 2)

    outcomes = run(made, of_partitions(fleet(grown=GROWN + 5), 0, 1), lambda: made.spread([0, 1], 4))

    assert told(outcomes, "silence") == []
    assert sum(outcome.moved for outcome in outcomes) == len(gone_from(0, 1))


def test_of_streams_that_still_belong_to_the_partition_silence_is_told(tiny_detector: Detector) -> None:
    stays, moved = (next(n for n in NAMES if in_partition(n, 4) == p and in_partition(n, 2) == 0) for p in (0, 2))
    made = replica(tiny_detector)
    made.spread([0], 2)

    outcomes = run(made, of_partitions(fleet(stopped=[stays, moved]), 0), lambda: made.spread([0], 4))

    assert told(outcomes, "silence") == [("open", stays, None)]


def test_without_a_partitioner_that_explains_where_they_are_no_stream_is_silent_until_heard_again(
    tiny_detector: Detector,
) -> None:
    stopped, returns = "machine-3", "machine-4"
    whole = fleet(150, stopped=[stopped, returns], back_at=65)
    stop_again = (whole.stream == NAMES.index(returns)) & (whole.time_ns > tiny.START_NS + 90 * MINUTE_NS)
    forever = (whole.stream == NAMES.index(stopped)) & (whole.time_ns > tiny.START_NS + 60 * MINUTE_NS)
    whole = whole.take(~stop_again & ~forever)
    made = replica(tiny_detector)
    made.spread([0], 2)
    whole = dataclasses.replace(whole, partition=np.zeros_like(whole.partition))  # whatever their keys

    outcomes = run(made, whole, lambda: made.spread([0], 4))

    assert told(outcomes, "silence") == [("open", returns, None)]
    assert ("resolve", stopped, "moved") in told(outcomes, "anomaly")


def test_a_stream_heard_in_another_partition_of_the_replica_goes_on_there(tiny_detector: Detector) -> None:
    made, undisturbed = replica(tiny_detector), replica(tiny_detector)
    made.spread([0, 1], 2)

    outcomes = run(made, fleet(), lambda: made.spread([0, 1, 2, 3], 4))

    assert sum(outcome.moved for outcome in outcomes) == 0
    expected = run(undisturbed, fleet(), lambda: None)
    assert told(outcomes, "anomaly") == told(expected, "anomaly")
    assert told(outcomes, "silence") == told(expected, "silence") == []


def test_the_count_travels_with_the_partition(tiny_detector: Detector) -> None:
    first, second = replica(tiny_detector), replica(tiny_detector)
    first.spread([0, 1], 2)
    before = fleet(GROWN)
    first.process(of_partitions(before, 0, 1))

    second.restore(first.export_partition(0))
    doubtful = second.spread([0], 4)

    assert doubtful == len(gone_from(0))
    assert second.spread([0], 4) == 0  # told already


def test_in_a_partition_that_brings_nothing_any_more_what_is_open_resolves_when_it_is_idle(
    tiny_detector: Detector,
) -> None:
    made = replica(tiny_detector)
    made.spread([0, 1], 2)
    moved = {NAMES.index(name) for name in gone_from(0)}
    before = of_partitions(fleet(GROWN), 0)
    made.process(before.take(np.isin(before.stream, list(moved))))
    made.spread([0, 1], 4)
    assert made.waits(0)

    outcome = made.release(0, 999)

    assert {(a.event, a.reason) for a in outcome.alerts} == {("resolve", "moved")}
    assert sorted(a.stream for a in outcome.alerts) == sorted(NAMES[code] for code in moved)
    assert outcome.moved == len(moved)
    assert not made.waits(0)


@pytest.mark.parametrize(("known", "sections"), [(False, {}), (True, {"time": {"lateness": 120.0}})])
@settings(max_examples=6, deadline=None)
@given(cuts=st.lists(st.integers(1, 700), max_size=8), pause=st.integers(8, 25))
def test_it_does_not_depend_on_the_batches(
    tiny_detector: Detector, known: bool, sections: dict[str, Any], cuts: list[int], pause: int
) -> None:
    stopped = ["machine-5", "machine-8", "machine-1"]
    whole = of_partitions(fleet(90, stopped=stopped, back_at=GROWN + pause), 0, 1)
    if not known:
        whole = dataclasses.replace(whole, partition=np.zeros_like(whole.partition))  # whatever their keys
    at = int(np.searchsorted(whole.time_ns, tiny.START_NS + GROWN * MINUTE_NS))
    before, after = whole.take(slice(at)), whole.take(slice(at, None))
    found = []
    for parts in ([after], list(tiny.split(after, cuts))):
        made = replica(tiny_detector, **sections)
        made.process(before)
        made.spread([0, 1], 2)
        made.spread([0, 1], 4)
        outcomes = [made.process(part) for part in parts]
        names = [made.keys.names[code] for code in made.keys.held().tolist()]
        alerts = sorted((a.alert_id, a.stream, a.reason or "") for outcome in outcomes for a in outcome.alerts)
        found.append((alerts, sum(outcome.moved for outcome in outcomes), sorted(names)))

    assert found[0] == found[1]
    assert found[0][1] > 0
