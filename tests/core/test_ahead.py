"""One reading from the future does not make the next ones of its stream late."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.detector import Detector
from streamer.core.ahead import Ahead
from streamer.core.keyed_state import KeyedState
from streamer.core.outcome import Outcome
from streamer.core.pipeline import Pipeline
from streamer.core.readings import AHEAD, NO_RECORD_TIME, Readings
from tests import tiny
from tests.tiny import MINUTE_NS, VERSION

IN_2100_NS = 4_102_444_800_000_000_000
WRONG = 60  # row of the reading whose time is wrong


def pipeline(detector: Detector, **sections: dict[str, Any]) -> Pipeline:
    alerting = {"open_after": 2, "open_within": 3, "resolve_after": 4, "silent_after": 8.0}
    made = Pipeline(tiny.settings(alerting=alerting, **sections).pipeline_options(), detector, VERSION)
    for name in ("a", "b", "c"):
        made.keys.add(name)
    return made


def good() -> Readings:
    """Two hours of three streams; the last is silent for half an hour."""
    whole = tiny.fleet({code: tiny.wave(120, seed=code) for code in range(3)})
    minute = (whole.time_ns - tiny.START_NS) // MINUTE_NS
    whole = whole.take(~((whole.stream == 2) & (minute >= 60) & (minute < 90)))
    return dataclasses.replace(whole, offset=np.arange(len(whole)))


def with_a_wrong_one(at_ns: int, kind: int) -> Readings:
    whole = good()
    extra = whole.take(np.array([WRONG]))
    ahead = np.array([kind], np.int8)
    wrong = dataclasses.replace(extra, time_ns=np.array([at_ns]), offset=np.array([9999]), ahead=ahead)
    return Readings.concatenate([whole.take(slice(WRONG)), wrong, whole.take(slice(WRONG, None))])


def told(outcome: Outcome) -> list[str]:
    return sorted(alert.alert_id for alert in outcome.alerts)


@pytest.mark.parametrize("sections", [{}, {"time": {"lateness": 120.0}}])
@pytest.mark.parametrize(
    ("at_ns", "kind"), [(IN_2100_NS, NO_RECORD_TIME), (tiny.START_NS + (20 + 59) * MINUTE_NS, AHEAD)]
)
def test_it_is_refused_and_everything_else_is_as_without_it(
    tiny_detector: Detector, at_ns: int, kind: int, sections: dict[str, Any]
) -> None:
    expected = pipeline(tiny_detector, **sections).process(good())

    outcome = pipeline(tiny_detector, **sections).process(with_a_wrong_one(at_ns, kind))

    assert outcome.future_at.tolist() == [[0, 9999]]
    assert outcome.late == expected.late == 0
    assert np.array_equal(outcome.scores.score, expected.scores.score, equal_nan=True)
    assert told(outcome) == told(expected)
    assert "silence" in {alert.kind for alert in outcome.alerts}


def refused(arrivals: Sequence[tuple[int, int, int]], cuts: Sequence[int] = ()) -> list[int]:
    """Numbers of the arrivals (stream, minute, kind) that are refused; limits are ten minutes."""
    ahead, newest, found = Ahead(KeyedState("abc"), 60 * MINUTE_NS), dict[int, int](), list[int]()
    edges = sorted({0, len(arrivals), *(cut for cut in cuts if cut < len(arrivals))})
    for begin, end in itertools.pairwise(edges):
        codes, minutes, kinds = (np.array(column, np.int64) for column in zip(*arrivals[begin:end], strict=True))
        some = tiny.readings(codes.tolist(), (minutes * MINUTE_NS).tolist())
        some = dataclasses.replace(some, ahead=kinds.astype(np.int8))
        known = np.array([newest.get(code, -(1 << 62)) for code in codes.tolist()])
        rows = ahead.refuse(some, known, np.full(len(some), 10 * MINUTE_NS)).tolist()
        found += [begin + row for row in rows]
        for row, (code, at) in enumerate(zip(codes.tolist(), some.time_ns.tolist(), strict=True)):
            if row not in rows:
                newest[code] = max(newest.get(code, at), at)
    return found


def test_a_clock_that_is_wrong_steadily_is_believed_from_the_eighth_reading_on() -> None:
    both = [pair for minute in range(20) for pair in ((0, minute, 0), (1, minute + 40, AHEAD))]

    assert refused(both) == [1, 3, 5, 7, 9, 11, 13]


def test_without_a_time_of_the_record_only_the_partition_is_believed() -> None:
    alone = [(0, 0, 2), *((0, 500 + minute, 2) for minute in range(20))]
    among = [pair for minute in range(20) for pair in ((0, minute, 2), (1, minute + 500, 2))]

    assert refused(alone) == list(range(1, 9))  # the partition had paused: eight readings in a row say so
    assert refused(among) == list(range(1, 40, 2))


def test_a_reading_that_its_record_vouches_for_is_never_refused() -> None:
    assert refused([(0, 0, 0), (0, 5000, 0), (1, 9000, 0), (0, 5001, 0)]) == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([0, 1, 2, 40, 41, 90, 91, 500]), st.integers(0, 2)), max_size=60
    ),
    st.lists(st.integers(1, 59), max_size=8),
)
def test_what_is_refused_does_not_depend_on_the_batches(steps: list[tuple[int, int, int]], cuts: list[int]) -> None:
    arrivals = [(code, number + jump, kind) for number, (code, jump, kind) in enumerate(steps)]

    assert not arrivals or refused(arrivals, cuts) == refused(arrivals)
