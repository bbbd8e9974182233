"""Bars of ticks and of volume: where they end, and what bounds them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.event_time.options import TimeOptions
from streamer.core.event_time.station import EventTime
from streamer.core.keyed_state import KeyedState
from streamer.core.sessions import Sessions
from tests.core.event_time.test_station import START, S, Sent, options, readings, run

FEATURES = {"n": "count", "last": "last(price)"}
HALVES = Sessions(START + np.array([0, 30]) * S, START + np.array([25, 90]) * S)


def counted(bars: str, size: float, **other: Any) -> TimeOptions:
    field = {"bar_field": 1} if bars == "volume" else {}
    return options(features=FEATURES, bars=bars, bar_size=size, **field, **other)


def bars(opts: TimeOptions, rows: list[Sent], **more: Any) -> list[tuple[Any, ...]]:
    return run(opts, [*rows, (3, 10**6, 1.0, 1.0)], **more).rows[0]


def by_the_letter(
    opts: TimeOptions, rows: list[Sent], max_gap_s: int
) -> tuple[dict[int, list[tuple[int, float]]], int]:
    """Bars as (readings, last price), one reading at a time; and how many were dropped."""
    found: dict[int, list[tuple[int, float]]] = {}
    opened: dict[int, tuple[list[float], float]] = {}
    newest: dict[int, int] = {}
    dropped = 0
    for stream, second, price, size in sorted(rows, key=lambda row: (row[0], row[1])):
        if HALVES.session_of(np.array([START + second * S]))[0] < 0:
            continue
        kept, amount = opened.pop(stream, ([], 0.0))
        if stream in newest:
            session = [int(HALVES.session_of(np.array([START + at * S]))[0]) for at in (newest[stream], second)]
            if kept and (second - newest[stream] > max_gap_s or session[0] != session[1]):
                found.setdefault(stream, []).append((len(kept), kept[-1]))
                kept, amount = [], 0.0
        newest[stream] = second
        amount += 1 if opts.bars == "ticks" else size
        if amount >= opts.bar_size:
            found.setdefault(stream, []).append((len(kept) + 1, price))
            continue
        if len(kept) < opts.max_held:
            kept.append(price)
        else:
            dropped += 1
        opened[stream] = kept, amount
    return found, dropped


row = st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(1, 50).map(float), st.integers(0, 4).map(float))


@given(st.lists(row, max_size=60), st.lists(st.integers(0, 60), max_size=6), st.booleans())
@settings(max_examples=150)
@pytest.mark.parametrize(
    "opts", [counted("ticks", 4), counted("volume", 9, max_held=3), counted("ticks", 6, max_held=4)]
)
def test_bars_are_those_of_one_reading_at_a_time_whatever_the_cuts_and_restarts(
    opts: TimeOptions, rows: list[Sent], cuts: list[int], restart: bool
) -> None:
    rows = sorted(rows, key=lambda row: row[1])
    more: dict[str, Any] = {"max_gap_ns": 8 * S, "sessions": HALVES}

    whole = run(opts, rows, **more)
    cut = run(opts, rows, [c for c in cuts if c <= len(rows)], restart=restart, **more)

    assert (cut.rows, cut.taken, cut.overflow) == (whole.rows, whole.taken, whole.overflow)
    assert sorted(cut.triggers) == sorted(whole.triggers)
    expected, dropped = by_the_letter(opts, rows, 8)
    assert {k: [(n, last) for _, n, last, _ in v] for k, v in whole.rows.items() if v} == expected
    assert whole.overflow == dropped


def test_a_bar_of_ticks_ends_with_its_session() -> None:
    days = Sessions(START + np.array([0, 86400]) * S, START + np.array([3600, 90000]) * S)
    rows = [(0, second, 1.0, 1.0) for second in [*range(3500, 3506), *range(86400, 86408)]]

    found = bars(counted("ticks", 4), rows, sessions=days)

    assert [(second, n, fresh) for second, n, _, fresh in found] == [
        (3500, 4, False), (3504, 2, False), (86400, 4, True), (86404, 4, False)
    ]  # fmt: skip


def test_a_bar_of_volume_ends_before_a_gap() -> None:
    rows = [(0, second, 1.0, 2.0) for second in (0, 1, 100, 101, 102)]

    found = bars(counted("volume", 6), rows, max_gap_ns=10 * S)

    assert [(second, n, fresh) for second, n, _, fresh in found] == [(0, 2, False), (100, 3, True)]


@pytest.mark.parametrize(("volume", "size"), [(4e12, 5e12), (1e12, 1e15), (0.1, 0.3), (1e-9, 1e-8)])
def test_bars_of_any_volume_hold_as_many_readings_as_they_should(volume: float, size: float) -> None:
    each = max(1, int(np.ceil(size / volume - 1e-9)))

    found = bars(counted("volume", size), [(0, second, 1.0, volume) for second in range(each * 2)])

    assert [n for _, n, *_ in found] == [each, each]


def test_a_volume_far_beyond_the_bar_completes_one_bar_and_what_is_no_volume_adds_nothing() -> None:
    huge = [(0, 0, 1.0, 1e300), (0, 1, 1.0, 50.0), (0, 2, 1.0, 50.0)]
    odd = [(0, second, 1.0, value) for second, value in enumerate((float("nan"), float("inf"), -5.0, 100.0))]

    assert [n for _, n, *_ in bars(counted("volume", 100), huge)] == [1, 2]
    assert [n for _, n, *_ in bars(counted("volume", 100), odd)] == [4]


def test_an_open_bar_holds_no_more_than_max_held_and_still_ends_where_it_should() -> None:
    rows = [(0, second, float(second), 0.0) for second in range(50)] + [(0, 50, 50.0, 5.0)]

    out = run(counted("volume", 5, max_held=10), [*rows, (0, 51, 1.0, 0.0)], range(0, 50, 7))

    assert [(n, last) for _, n, last, _ in out.rows[0]] == [(11, 50)]
    assert out.overflow == 40
    assert out.taken == 11  # the last one waits in the next bar


def test_a_bar_that_ends_leaves_the_open_bars_of_other_streams_as_they_are() -> None:
    state = KeyedState([str(stream) for stream in range(64)])
    station = EventTime(state, counted("ticks", 100))
    station.take(readings([(stream, second, 1.0, 1.0) for second in range(5) for stream in range(64)]))

    admitted = [station.take(readings([(0, 10 + second, 1.0, 1.0)]))[0] for second in range(100)]

    made = [row for each in admitted for row in each.readings.values.tolist()]
    assert made == [[100.0, 1.0]]
    held = state.export(np.arange(64)).columns["rows:open_bar.stream"]
    assert np.bincount(held, minlength=64).tolist() == [4] + [5] * 63
