"""Windows of the slab against windows cut from plain lists."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.core.keyed_state import KeyedState
from streamer.core.windows import Windower

Closed = list[tuple[int, list[list[float]]]]  # row that closed the window, and the window


def numbered(n: int, features: int = 1) -> NDArray[np.float32]:
    """Readings that all differ: row i holds i, i + 0.5 ..."""
    return (np.arange(n)[:, None] + np.arange(features) / 2).astype(np.float32)


def naive(codes: list[int], values: NDArray[np.float32], fresh: list[bool], length: int, stride: int) -> Closed:
    held: dict[int, list[list[float]]] = {}
    closed = []
    for row, (code, value, reset) in enumerate(zip(codes, values.tolist(), fresh, strict=True)):
        if reset:
            held[code] = []
        held.setdefault(code, []).append(value)
        since = len(held[code]) - length
        if since >= 0 and since % stride == 0:
            closed.append((row, held[code][-length:]))
    return closed


def push(
    windower: Windower, codes: list[int], values: NDArray[np.float32], fresh: list[bool], first: int = 0
) -> Closed:
    """Windows closed by one push; rows count from `first`."""
    closed: Closed = []
    for windows in windower.push(np.array(codes, np.int64), values, np.array(fresh, bool)):
        taken = windows.take(slice(None)).tolist()
        closed += zip((windows.rows + first).tolist(), taken, strict=True)
    return closed


@st.composite
def pushes(draw: st.DrawFn) -> tuple[list[int], list[bool], int, int, list[int]]:
    length = draw(st.integers(1, 6))
    stride = draw(st.integers(1, length))
    # Long runs of one stream in one push are the hard case: they outgrow the strip.
    runs = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 30)), max_size=8))
    codes = [code for code, count in runs for _ in range(count)]
    if draw(st.booleans()):
        codes = draw(st.permutations(codes))
    fresh = draw(st.lists(st.sampled_from([False] * 9 + [True]), min_size=len(codes), max_size=len(codes)))
    cuts = draw(st.lists(st.integers(0, len(codes)), max_size=5))
    return codes, fresh, length, stride, sorted({0, len(codes), *cuts})


@given(pushes())
def test_any_split_into_pushes_cuts_the_windows_that_a_plain_list_would(
    case: tuple[list[int], list[bool], int, int, list[int]],
) -> None:
    codes, fresh, length, stride, edges = case
    values = numbered(len(codes), 2)
    windower = Windower(KeyedState(), length, stride, 2)

    closed: Closed = []
    for a, b in itertools.pairwise(edges):
        closed += push(windower, codes[a:b], values[a:b], fresh[a:b], a)

    assert sorted(closed) == naive(codes, values, fresh, length, stride)


@given(pushes())
def test_a_restored_windower_goes_on_as_the_exported_one(
    case: tuple[list[int], list[bool], int, int, list[int]],
) -> None:
    codes, fresh, length, stride, edges = case
    values = numbered(len(codes))
    middle = edges[len(edges) // 2]
    names = [str(code) for code in range(max(codes, default=-1) + 1)]
    here, there = KeyedState(names), KeyedState(names[::-1])  # another process, other codes
    one, other = Windower(here, length, stride, 1), Windower(there, length, stride, 1)
    moved = {code: there.codes[name] for name, code in here.codes.items()}
    push(one, codes[:middle], values[:middle], fresh[:middle])

    there.restore(here.export(np.unique(np.array(codes, np.int64))))

    assert sorted(push(other, [moved[code] for code in codes[middle:]], values[middle:], fresh[middle:])) == sorted(
        push(one, codes[middle:], values[middle:], fresh[middle:])
    )


def test_a_window_closes_when_its_last_reading_arrives() -> None:
    windower = Windower(KeyedState(), length=4, stride=2, width=1)

    closed = [row for row, _ in push(windower, [0] * 8, numbered(8), [False] * 8)]

    # t      0  1  2  3  4  5  6  7
    # w0     [--------]
    # w1           [--------]
    # w2                 [--------]
    assert closed == [3, 5, 7]


def test_after_a_gap_a_window_holds_only_readings_from_after_it() -> None:
    windower = Windower(KeyedState(), length=3, stride=1, width=1)

    closed = push(windower, [0] * 7, numbered(7), [False] * 4 + [True] + [False] * 2)

    # t      0  1  2  3  |  4  5  6
    # w      [-----]     |  [-----]
    #           [-----]  |
    assert closed == [(2, [[0], [1], [2]]), (3, [[1], [2], [3]]), (6, [[4], [5], [6]])]


def test_missing_says_how_many_readings_are_lacking() -> None:
    windower = Windower(KeyedState(), length=4, stride=1, width=1)
    push(windower, [0, 0, 0, 1, 2, 2, 2, 2, 2], numbered(9), [False] * 9)

    assert windower.missing(np.array([0, 1, 2, 9])).tolist() == [1, 3, 0, 4]


def test_thousands_of_streams_close_in_one_push() -> None:
    windower = Windower(KeyedState(), length=2, stride=1, width=1)
    codes = list(range(3000)) * 2

    closed = push(windower, codes, numbered(6000), [False] * 6000)

    assert [row for row, _ in sorted(closed)] == list(range(3000, 6000))
    assert dict(closed)[3000] == [[0], [3000]]


def test_nothing_pushed_closes_nothing() -> None:
    assert push(Windower(KeyedState(), 3, 1, 2), [], numbered(0, 2), []) == []


def test_an_exported_column_of_another_window_length_is_refused() -> None:
    here, there = KeyedState(["a"]), KeyedState()
    Windower(here, 3, 1, 2)
    Windower(there, 4, 1, 2)

    with pytest.raises(ValueError, match=r"column newest: wanted \(1, 4, 2\); got \(1, 3, 2\)"):
        there.restore(here.export(np.array([0])))

    assert len(there) == 0


def test_a_stream_of_64_readings_and_8_features_costs_less_than_6_kilobytes() -> None:
    state = KeyedState()
    Windower(state, 64, 1, 8)

    assert state.bytes_per_stream <= 6 * 1024
