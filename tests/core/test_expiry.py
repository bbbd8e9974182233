"""A stream without readings for its time to live is forgotten, whatever the batches."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.expiry import Expiry
from streamer.core.keyed_state import KeyedState

Arrivals = Sequence[tuple[int, int]]  # stream, time


def watch(ttl_ns: int | None = 100) -> Expiry:
    return Expiry(KeyedState("abcd"), ttl_ns)


def hear(expiry: Expiry, arrivals: Arrivals, first: int = 0) -> list[tuple[int, int]]:
    """Streams that expire, with the number of the arrival that showed it; batches are cut as the pipeline does."""
    if not arrivals:
        return []
    codes, times = (np.array(column, np.int64) for column in zip(*arrivals, strict=True))
    partitions = np.zeros(len(codes), np.int64)
    moves = np.ones(len(codes), bool)
    back = expiry.first_return(codes, times, partitions, moves)
    if back is not None:
        row, code = back
        before = hear(expiry, arrivals[:row], first)
        expiry._state.clear(np.array([code]))
        return before + hear(expiry, arrivals[row:], first + row)
    expiry._state.assign(codes, 0)
    expired = expiry.step(codes, times, partitions, moves)
    expiry._state.expire(expired.codes)
    return [(code, first + row) for code, row in zip(expired.codes.tolist(), expired.rows.tolist(), strict=True)]


def plain(arrivals: Arrivals, ttl_ns: int) -> list[tuple[int, int]]:
    """The same, one arrival at a time."""
    found, last, newest, clock = [], dict[int, int](), None, 0
    for number, (code, at) in enumerate(arrivals):
        newest = at if newest is None else newest
        clock += min(max(at - newest, 0), max(1, ttl_ns // 4))
        newest = max(newest, at)
        last[code] = clock
        for other in [other for other, seen in last.items() if clock - seen > ttl_ns]:
            found.append((other, number))
            del last[other]
    return found


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 40)), max_size=60),
    st.integers(1, 120),
    st.lists(st.integers(1, 59), max_size=6),
)
def test_expiry_does_not_depend_on_the_batches(steps: list[tuple[int, int]], ttl_ns: int, cuts: list[int]) -> None:
    times = np.cumsum([step for _, step in steps]).tolist()
    arrivals = [(code, at) for (code, _), at in zip(steps, times, strict=True)]
    edges = sorted({0, len(arrivals), *(cut for cut in cuts if cut < len(arrivals))})
    expiry = watch(ttl_ns)

    found = [one for a, b in itertools.pairwise(edges) for one in hear(expiry, arrivals[a:b], a)]

    assert sorted(found) == sorted(plain(arrivals, ttl_ns))


def test_after_a_pause_of_the_whole_partition_nothing_has_expired() -> None:
    expiry = watch(100)

    assert hear(expiry, [(0, 0), (1, 0)]) == []
    assert hear(expiry, [(0, 10_000), (1, 10_001)]) == []


def test_without_a_time_to_live_nothing_expires() -> None:
    assert hear(watch(None), [(0, 0), *((1, at) for at in range(0, 10_000, 10))]) == []


def test_a_restored_partition_goes_on_counting() -> None:
    one, other = watch(100), watch(100)
    hear(one, [(0, 0), *((1, at) for at in range(0, 90, 10))])

    other._state.restore(one._state.export(np.array([0, 1])))

    assert hear(other, [(1, 110)]) == [(0, 0)] == hear(one, [(1, 110)])


def test_a_time_to_live_that_is_switched_on_later_counts_from_the_last_reading() -> None:
    one, other = watch(None), watch(100)
    hear(one, [(0, 0), *((1, at) for at in range(0, 90, 10))])

    other._state.restore(one._state.export(np.array([0, 1])))

    assert hear(other, [(1, 110)]) == [(0, 0)]
