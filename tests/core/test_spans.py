"""The anomalous part of an incident: what single readings show, not what windows remember."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from models.detector import Detector
from streamer.core.alerts import Alert, iso
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from streamer.core.spans import Part, anomalous_part
from tests import tiny

MINUTE_NS = tiny.MINUTE_NS
TIMES = np.arange(8) * MINUTE_NS


def looked(deviations: list[float], known: Part | None = None) -> tuple[int, int] | None:
    """First and last minute of the anomalous part that a look at one window gives."""
    part = anomalous_part(known, np.array(deviations, np.float32)[:, None], TIMES)
    return None if part is None else (part.begin_ns // MINUTE_NS, part.end_ns // MINUTE_NS)


def test_readings_outside_of_their_band_are_the_anomalous_part() -> None:
    assert looked([0.1, 0.2, 0.1, 5, 6, 5, 0.4, 0.2]) == (3, 5)
    assert looked([0.1, 0.2, 0.1, 0.9, 0.4, 0.9, 0.4, 0.2]) is None


def test_what_lies_next_to_a_spike_is_not_part_of_it_though_its_expected_value_is_wrong() -> None:
    assert looked([0.1, 1.5, 2, 10, 2, 1.5, 0.1, 0.1]) == (3, 3)


def test_an_earlier_slip_in_the_same_window_does_not_begin_it() -> None:
    assert looked([3, 0.1, 0.1, 0.1, 0.1, 5, 6, 5]) == (5, 7)


def test_a_missing_value_is_no_anomalous_reading() -> None:
    assert looked([np.nan, 0.1, 0.1, 5, np.nan, 5, 0.1, np.nan]) == (3, 5)


def test_later_looks_move_only_its_end() -> None:
    known = Part(-20 * MINUTE_NS, -5 * MINUTE_NS, MINUTE_NS, 8.0)

    assert looked([0.1, 5, 0.1, 0.1, 3, 0.1, 1.5, 0.1], known) == (-20, 4)
    assert looked([0.1] * 8, known) == (-20, -5)


SPIKE, ROWS = 40, 120  # first reading of the spike, rows


def readings(length: int, *, step_ns: int = MINUTE_NS) -> Readings:
    """One stream with a spike of so many readings."""
    values = tiny.wave(ROWS)
    values[SPIKE : SPIKE + length, 1] += 6.0
    n = np.arange(ROWS)
    zeros = np.zeros(ROWS, np.int64)
    return Readings(zeros, tiny.START_NS + n * step_ns, values, zeros, n)


def told(detector: Detector, some: Readings, cuts: tuple[int, ...] = (), *, restart: bool = False) -> list[Alert]:
    options = tiny.settings(alerting={"resolve_after": 8, "silent_after": None}).pipeline_options()
    pipeline = Pipeline(options, detector, tiny.VERSION)
    alerts: list[Alert] = []
    for begin, end in itertools.pairwise([0, *cuts, ROWS]):
        if begin and restart:
            state = pipeline.export_partition(0)
            pipeline = Pipeline(options, detector, tiny.VERSION)
            pipeline.restore(state)
        pipeline.keys.add("a")
        alerts += pipeline.process(some.take(np.arange(begin, end))).alerts
    return alerts


@pytest.mark.parametrize("length", [4, 9, 30])
def test_a_spike_of_so_many_minutes_is_told_as_such_though_the_incident_lasts_longer(
    tiny_detector: Detector, length: int
) -> None:
    first, *_, last = told(tiny_detector, readings(length))

    assert (first.event, last.event) == ("open", "resolve")
    assert last.span is not None
    assert last.span.begin == iso(tiny.START_NS + SPIKE * MINUTE_NS)
    assert last.span.length_s == length * 60
    assert f"the anomalous readings themselves span {length} min" in last.summary
    lasted = np.datetime64(last.time[:-1]) - np.datetime64(last.onset[:-1])
    assert lasted > np.timedelta64(length, "m")


def test_the_part_is_told_in_the_time_of_the_readings_however_far_apart_they_are(tiny_detector: Detector) -> None:
    last = told(tiny_detector, readings(4, step_ns=7 * MINUTE_NS))[-1]

    assert last.span is not None
    assert last.span.length_s == 4 * 7 * 60


def every(some: NDArray[np.int64] | range) -> tuple[int, ...]:
    return tuple(int(one) for one in some)


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("cuts", [(41,), (50, 57), every(range(1, ROWS))])
def test_alerts_are_the_same_whatever_the_batches_and_after_restarts(
    tiny_detector: Detector, cuts: tuple[int, ...], restart: bool
) -> None:
    some = readings(30)

    assert told(tiny_detector, some, cuts, restart=restart) == told(tiny_detector, some)


def test_a_stream_that_training_never_saw_is_told_as_such(tiny_detector: Detector) -> None:
    options = tiny.settings(alerting={"silent_after": None}).pipeline_options()
    known, new = (Pipeline(options, tiny_detector, tiny.VERSION) for _ in range(2))
    known.keys.add("a")
    new.keys.add("never seen")
    some = readings(30)
    some.values[SPIKE : SPIKE + 30, 1] += 30.0

    for pipeline, said in ((known, False), (new, True)):
        opened = pipeline.process(some).alerts[0]
        assert opened.in_training is not said
        assert ("; the stream was not in the training data" in opened.summary) is said
