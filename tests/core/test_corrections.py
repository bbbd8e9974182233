"""Late readings of recent bars put scores right, and take back incidents that were none."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.detector import Detector
from streamer.core.event_time.options import Feature, TimeOptions
from streamer.core.events import ANOMALY, CORRECTED, OPEN, RESOLVE
from streamer.core.options import PipelineOptions
from streamer.core.outcome import Outcome
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from tests import tiny
from tests.tiny import FEATURES, LENGTH, MINUTE_NS, PATCH

SECOND_NS = 10**9
START_NS = 1_700_000_040 * SECOND_NS  # a whole minute
HEAT, CURRENT = Feature("heat", "sum", (0,)), Feature("current", "mean", (1,))
TIME = TimeOptions(fields=FEATURES, grid_ns=MINUTE_NS, features=(HEAT, CURRENT), correct=True)
# What a bar takes over from those before it: transforms, carried values, the last value of a field.
ODD = (Feature("heat", "last", (0,), transform="diff"), Feature("current", "spread", (0, 1)))
COUNTERS = (Feature("heat", "last", (0,), transform="rate"), Feature("current", "last", (1,)))
# Stream, seconds since the start, heat, current; a bar's heat is the sum of its two readings.
Sent = tuple[int, int, float, float]


def options(**changes: object) -> PipelineOptions:
    time = dataclasses.replace(TIME, **changes)  # type: ignore[arg-type]
    return PipelineOptions("t", FEATURES, LENGTH, PATCH, FEATURES, time, silent_after=None)


def sent(bars: int, *, streams: int = 1, seed: int = 7) -> list[Sent]:
    """Two readings of each stream in every minute, in order."""
    rows = []
    for code in range(streams):
        for bar, (heat, current) in enumerate(
            tiny.wave(bars, seed=seed + code, level=10.0 * code).astype(float).tolist()
        ):
            rows += [(code, 60 * bar + 10, heat / 2, current), (code, 60 * bar + 40, heat / 2, current)]
    return sorted(rows, key=lambda row: row[1])


def delayed(rows: list[Sent], late: Sequence[int], bars: int) -> list[Sent]:
    """The second readings of some bars of stream 0 come so many bars later."""
    held = {60 * bar + 40: 60 * (bar + bars) + 20 for bar in late}
    arrivals = [(held.get(row[1], row[1]) if row[0] == 0 else row[1], i, row) for i, row in enumerate(rows)]
    return [row for _, _, row in sorted(arrivals)]


def readings(rows: list[Sent]) -> Readings:
    n = len(rows)
    times = START_NS + np.array([row[1] for row in rows], np.int64) * SECOND_NS
    values = np.array([row[2:] for row in rows], np.float64)
    return Readings(np.array([row[0] for row in rows]), times, values, np.zeros(n, np.int64), np.arange(n))


def run(
    detector: Detector, rows: list[Sent], cuts: Sequence[int] = (), *, restart: bool = False, **changes: Any
) -> tuple[Outcome, Pipeline]:
    def make() -> Pipeline:
        pipeline = Pipeline(options(**changes), detector, "v")
        for name in tiny.STREAMS:
            pipeline.keys.add(name)
        return pipeline

    pipeline, parts = make(), list[Outcome]()
    for part in tiny.split(readings(rows), cuts):
        if restart and parts:
            state, pipeline = pipeline.export_partition(0), make()
            pipeline.restore(state)
        parts.append(pipeline.process(part))
    return Outcome.join(parts), pipeline


def scores(outcome: Outcome) -> dict[tuple[int, int], float]:
    """By stream and bar; a correction replaces what was there."""
    kept, again = outcome.readings, outcome.rescored
    found = dict(
        zip(zip(kept.stream.tolist(), kept.time_ns.tolist(), strict=True), outcome.scores.score.tolist(), strict=True)
    )
    return found | dict(
        zip(zip(again.stream.tolist(), again.time_ns.tolist(), strict=True), again.score.tolist(), strict=True)
    )


def test_a_late_reading_leaves_the_scores_as_if_it_had_come_in_time(tiny_detector: Detector) -> None:
    rows = sent(60)
    in_time, _ = run(tiny_detector, rows)

    late, _ = run(tiny_detector, delayed(rows, [40, 41, 42], 5))

    assert late.late == 0
    assert late.rescored.readings == 3
    wanted = scores(in_time)
    for key, score in scores(late).items():
        assert score == pytest.approx(wanted[key], rel=0.05, nan_ok=True)  # drift was followed meanwhile


def test_an_incident_that_late_readings_take_back_is_resolved_as_corrected(tiny_detector: Detector) -> None:
    rows = sent(60)

    found, pipeline = run(tiny_detector, delayed(rows, [40, 41, 42, 43], 6))
    without, _ = run(tiny_detector, delayed(rows, [40, 41, 42, 43], 6), correct=False)

    told = [(event.event, event.kind, event.why) for event in found.events]
    assert told[0] == (OPEN, ANOMALY, None)
    assert told[-1] == (RESOLVE, ANOMALY, CORRECTED)
    assert not pipeline.incidents.is_open.any()
    assert "late" in found.alerts[-1].summary or "correct" in found.alerts[-1].summary
    assert [event.why for event in without.events if event.event == RESOLVE] != [CORRECTED]
    # Told from the record that showed it.
    assert found.triggers[-1][1] == found.rescored.trigger[-1]


def test_an_incident_that_late_readings_do_not_explain_stays_open(tiny_detector: Detector) -> None:
    rows = [(c, t, heat + 6 * (t // 60 in range(38, 60)), current) for c, t, heat, current in sent(60)]

    found, pipeline = run(tiny_detector, delayed(rows, [42], 5))

    assert found.rescored.readings == 1
    assert pipeline.incidents.is_open.any()
    assert CORRECTED not in [event.why for event in found.events]


def test_settled_scores_that_were_told_are_told_again(tiny_detector: Detector) -> None:
    rows = sent(80)
    in_time, _ = run(tiny_detector, rows)

    late, _ = run(tiny_detector, delayed(rows, [50, 51, 52, 53], 14))

    told = ~np.isnan(late.rescored.settled)
    assert told.any()
    settled = {}
    for outcome in (in_time, late):
        times, values = outcome.readings.time_ns, outcome.scores.settled
        settled[outcome is late] = {int(at) - 16 * MINUTE_NS: v for at, v in zip(times, values, strict=True)}
    again = zip(late.rescored.time_ns[told].tolist(), late.rescored.settled[told].tolist(), strict=True)
    for at, value in (settled[True] | dict(again)).items():
        assert value == pytest.approx(settled[False][at], rel=0.05, nan_ok=True)


@pytest.mark.parametrize(("bars", "corrects"), [(15, True), (17, False)])
def test_a_reading_later_than_the_horizon_is_late_for_good(tiny_detector: Detector, bars: int, corrects: bool) -> None:
    found, _ = run(tiny_detector, delayed(sent(70), [45], bars))

    assert (found.late, found.rescored.readings) == ((0, 1) if corrects else (1, 0))


@pytest.mark.parametrize(("gap", "transform"), [("interpolate", "none"), ("carry", "rate")])
@pytest.mark.parametrize("more", [0, 13, 26])
def test_a_late_reading_inside_a_gap_longer_than_what_is_held_corrects_the_newest_windows(
    tiny_detector: Detector, gap: str, transform: str, more: int
) -> None:
    features = tuple(Feature(name, "last", (i,), transform=transform) for i, name in enumerate(FEATURES))
    changes: dict[str, Any] = {"features": features, "gap": gap, "gap_limit": 100}
    after = 40 + more + 90  # first bar after the gap
    bars = [*range(40 + more), *range(after, after + 3), after - 8, after + 3]
    rows = [(0, 60 * bar + 10, bar / 2 + (bar == after - 8), bar / 4) for bar in bars]

    found, _ = run(tiny_detector, rows, **changes)
    restarted, _ = run(tiny_detector, rows, [len(rows) - 2, len(rows) - 1], restart=True, **changes)

    assert (found.late, found.rescored.readings) == (0, 1)
    assert found.rescored.time_ns.min() >= START_NS + (after + 1 - 2 * 16) * MINUTE_NS  # settled 16 later
    for name in ("time_ns", "score", "settled", "trigger"):
        assert np.array_equal(getattr(found.rescored, name), getattr(restarted.rescored, name), equal_nan=True)


def test_many_late_readings_in_one_poll_correct_as_one_after_another(tiny_detector: Detector) -> None:
    rows = sent(60, streams=2)
    late = [(i % 2, 60 * (46 + i % 13) + 20 + i % 30, 0.1, 5.0) for i in range(90)]
    all_rows = [*rows, *late]

    whole, _ = run(tiny_detector, all_rows, [len(rows)])
    parts, _ = run(tiny_detector, all_rows, range(len(rows), len(all_rows)))

    assert whole.rescored.readings == parts.rescored.readings == 90
    for name in ("stream", "time_ns", "score", "settled", "trigger"):
        assert np.array_equal(getattr(whole.rescored, name), getattr(parts.rescored, name), equal_nan=True)
    assert [alert.alert_id for alert in whole.alerts] == [alert.alert_id for alert in parts.alerts]


def test_a_late_reading_of_a_bar_that_has_as_many_as_are_held_stays_late(tiny_detector: Detector) -> None:
    rows = sent(60)
    again = [(0, 60 * 50 + 41 + i, 1.0, 5.0) for i in range(5)]

    found, pipeline = run(tiny_detector, [*rows, *again], max_held=4)

    assert (found.late, found.rescored.readings) == (3, 2)
    assert pipeline.event_time.hindsight is not None
    assert pipeline.event_time.hindsight.count <= 4 * 16


def test_a_late_reading_that_is_there_already_corrects_nothing(tiny_detector: Detector) -> None:
    rows = sent(60)
    twice = readings([*rows[:90], rows[81], *rows[90:]])
    numbers = np.array([*range(1, 91), 82, *range(91, len(rows) + 1)])
    pipeline = Pipeline(options(), tiny_detector, "v")
    pipeline.keys.add("a")

    found = pipeline.process(dataclasses.replace(twice, sequence=numbers))

    assert found.late == 1
    assert found.rescored.readings == 0


def test_without_the_option_nothing_is_kept_and_scores_are_the_same(tiny_detector: Detector) -> None:
    rows = delayed(sent(60, streams=2), [40, 41], 5)

    off, pipeline = run(tiny_detector, rows, correct=False)
    on, _ = run(tiny_detector, rows)

    assert not any(key.startswith(("behind", "recent", "scores")) for key in pipeline.export_partition(0).columns)
    before = on.readings.time_ns < START_NS + 45 * MINUTE_NS
    assert np.array_equal(on.scores.score[before], off.scores.score[before], equal_nan=True)
    assert np.array_equal(
        on.scores.score[on.readings.stream == 1], off.scores.score[off.readings.stream == 1], equal_nan=True
    )


@st.composite
def arrivals(draw: st.DrawFn) -> list[Sent]:
    """Two streams; some readings come later, some far too late, some never; one stream may pause for long."""
    rows = sent(50, streams=2)
    pause, since = draw(st.sampled_from([0, 0, 7, 45, 90])), draw(st.integers(20, 48))
    rows = [(code, t + 60 * pause * (code == 0 and t >= 60 * since), *two) for code, t, *two in rows]  # type: ignore[misc]
    rows.sort(key=lambda row: row[1])
    for at in draw(st.lists(st.integers(0, 99), max_size=40)):
        del rows[at]
    delays = draw(st.lists(st.integers(0, 1200) | st.integers(0, 6000), min_size=0, max_size=12))
    where = draw(st.lists(st.integers(0, len(rows) - 1), min_size=len(delays), max_size=len(delays)))
    extra = dict(zip(where, delays, strict=True))
    return [row for _, _, row in sorted((row[1] + extra.get(i, 0), i, row) for i, row in enumerate(rows))]


@settings(max_examples=60, deadline=None)
@given(
    rows=arrivals(),
    cuts=st.lists(st.integers(1, 199), max_size=6),
    restart=st.booleans(),
    changes=st.fixed_dictionaries(
        {
            "features": st.sampled_from([TIME.features, ODD, COUNTERS]),
            "gap": st.sampled_from(["carry", "interpolate", "missing"]),
            "gap_limit": st.sampled_from([3, 100]),
        }
    ),
    lateness_s=st.sampled_from([0, 30]),
)
def test_no_cut_into_polls_and_no_restart_shows(
    tiny_detector: Detector,
    rows: list[Sent],
    cuts: list[int],
    restart: bool,
    changes: dict[str, Any],
    lateness_s: int,
) -> None:
    changes["lateness_ns"] = lateness_s * SECOND_NS
    whole, _ = run(tiny_detector, rows, **changes)
    parts, _ = run(tiny_detector, rows, cuts, restart=restart, **changes)

    assert np.array_equal(whole.readings.time_ns, parts.readings.time_ns)
    assert np.array_equal(whole.scores.score, parts.scores.score, equal_nan=True)
    assert np.array_equal(whole.scores.settled, parts.scores.settled, equal_nan=True)
    for name in ("stream", "time_ns", "score", "settled", "trigger"):
        assert np.array_equal(getattr(whole.rescored, name), getattr(parts.rescored, name), equal_nan=True)
    told = [sorted(zip(out.triggers, (alert.alert_id for alert in out.alerts), strict=True)) for out in (whole, parts)]
    assert told[0] == told[1]
    assert (whole.late, whole.rescored.readings) == (parts.late, parts.rescored.readings)
