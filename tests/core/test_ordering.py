"""Event time: which readings are admitted, against a walk that takes one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.keyed_state import KeyedState
from streamer.core.ordering import Ordering
from streamer.core.resets import Resets
from tests.tiny import readings, split

ARRIVALS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), max_size=60)


def walk(arrivals: list[tuple[int, int]], max_gap: int | None) -> tuple[list[int], list[bool], int, int]:
    """Rows admitted, resets, duplicates and late readings: the definition, row by row."""
    newest: dict[int, int] = {}
    rows: list[int] = []
    fresh: list[bool] = []
    duplicates = late = 0
    for row, (code, at) in enumerate(arrivals):
        last = newest.get(code)
        if last is not None and at == last:
            duplicates += 1
        elif last is not None and at < last:
            late += 1
        else:
            rows.append(row)
            fresh.append(last is not None and max_gap is not None and at - last > max_gap)
            newest[code] = at
    return rows, fresh, duplicates, late


@given(ARRIVALS, st.none() | st.integers(1, 10), st.lists(st.integers(1, 59), max_size=5))
def test_any_split_into_batches_admits_what_a_plain_walk_admits(
    arrivals: list[tuple[int, int]], max_gap: int | None, cuts: list[int]
) -> None:
    whole = readings([code for code, _ in arrivals], [at for _, at in arrivals])
    ordering = Ordering(KeyedState(), Resets(max_gap))

    admitted = [ordering.admit(part) for part in split(whole, cuts)] if arrivals else []

    rows, fresh, duplicates, late = walk(arrivals, max_gap)
    assert [row for one in admitted for row in one.readings.offset.tolist()] == rows
    assert [f for one in admitted for f in one.fresh.tolist()] == fresh
    assert sum(one.duplicates for one in admitted) == duplicates
    assert sum(one.late for one in admitted) == late


def test_an_empty_batch_is_no_news() -> None:
    admitted = Ordering(KeyedState(), Resets(5)).admit(readings([], []))

    assert (len(admitted.readings), len(admitted.fresh), admitted.duplicates, admitted.late) == (0, 0, 0, 0)


def test_a_gap_longer_than_allowed_resets_the_window() -> None:
    ordering = Ordering(KeyedState(), Resets(3))

    admitted = ordering.admit(readings([0] * 5, [0, 3, 7, 8, 100]))

    # 0 . . 3 . . . 7 8 ............. 100
    # |--3--|---4---|     ---92---     |
    assert admitted.fresh.tolist() == [False, False, True, False, True]


def test_a_late_reading_does_not_hide_a_gap() -> None:
    ordering = Ordering(KeyedState(), Resets(3))

    admitted = ordering.admit(readings([0] * 4, [10, 2, 5, 14]))

    # 10 (2 and 5 come late) 14: the step is 4
    assert admitted.readings.time_ns.tolist() == [10, 14]
    assert admitted.fresh.tolist() == [False, True]
    assert admitted.late == 2


@pytest.mark.parametrize("far", [4_000_000_000_000_000_000, 7_258_118_399_999_999_999])
def test_real_nanoseconds_do_not_overflow(far: int) -> None:
    ordering = Ordering(KeyedState(), Resets(10**9))

    admitted = ordering.admit(readings([0, 0, 1], [0, far, far]))

    assert admitted.fresh.tolist() == [False, True, False]


def test_streams_do_not_see_each_others_clocks() -> None:
    ordering = Ordering(KeyedState())

    ordering.admit(readings([0], [1000]))

    assert ordering.admit(readings([7], [1])).readings.stream.tolist() == [7]


def test_another_process_goes_on_where_one_stopped() -> None:
    here, there = KeyedState(["a", "b"]), KeyedState(["c", "b", "a"])
    one, other = Ordering(here), Ordering(there)
    one.admit(readings([0, 1], [50, 60]))

    there.restore(here.export(np.array([0, 1])))

    admitted = other.admit(readings([1, 2, 1], [60, 51, 61]))
    assert admitted.readings.offset.tolist() == [1, 2]
    assert admitted.duplicates == 1
