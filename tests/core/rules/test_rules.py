"""Faults that need no model: told when they last, resolved when they are over, whatever the batches."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.config import SessionsConfig
from streamer.core.events import Event
from streamer.core.keyed_state import ExportedState, KeyedState
from streamer.core.rules import BookRule, PriceRule, QuoteRule, Rules, RulesOptions
from streamer.core.sessions import Sessions

SECOND = 1_000_000_000
NAN = float("nan")
BOOK = RulesOptions(book=BookRule(0, 1, SECOND))
PRICE = RulesOptions(price=PriceRule(0, "price"))
QUOTE = RulesOptions(quote=QuoteRule((0, 1), 60 * SECOND))
SEQUENCE = RulesOptions(sequence=True)
EVERYTHING = RulesOptions(BOOK.book, PRICE.price, QUOTE.quote, sequence=True)

Sent = tuple[int, float, float, float, int]  # stream, second, bid or price, ask, sequence number


def watch(
    options: RulesOptions, sent: Sequence[Sent], cuts: Sequence[int] = (), sessions: Sessions | None = None
) -> list[Event]:
    state = KeyedState(["AIG", "BAC", "C", "D"])
    return feed(state, Rules(state, options, sessions), sent, cuts)


def feed(state: KeyedState, rules: Rules, sent: Sequence[Sent], cuts: Sequence[int] = ()) -> list[Event]:
    edges = sorted({0, len(sent), *(cut for cut in cuts if 0 < cut < len(sent))})
    told: list[Event] = []
    for a, b in itertools.pairwise(edges):
        codes, seconds, bids, asks, numbers = (np.array(column) for column in zip(*sent[a:b], strict=True))
        rows, zeros = np.arange(b - a), np.zeros(b - a, np.int64)
        state.reach(codes)
        times = np.round(seconds * SECOND).astype(np.int64)
        events = rules.step(codes, times, np.stack([bids, asks], 1), numbers, zeros, rows + a, rows)
        state.assign(np.unique(codes), 0)
        told += [dataclasses.replace(event, row=event.row + a) for event in events]
    return told


def brief(events: Sequence[Event]) -> list[tuple[str, str, float, float]]:
    return [(event.event, event.kind, event.onset_ns / SECOND, event.at_ns / SECOND) for event in events]


def test_a_crossed_book_is_told_when_it_lasts_and_when_it_has_been_over_for_as_long() -> None:
    moment = [(0, 0, 10.0, 10.1, 0), (0, 1, 10.2, 10.1, 0), (0, 1.5, 10.0, 10.1, 0)]
    lasting = [(0, 10, 10.2, 10.1, 0), (0, 10.5, 10.3, 10.1, 0), (0, 11.2, 10.3, 10.1, 0)]
    over = [(0, 12, 10.0, 10.1, 0), (0, 12.5, 10.0, 10.1, 0), (0, 13.5, 10.0, 10.1, 0)]

    events = watch(BOOK, [*moment, *lasting, *over])

    assert brief(events) == [("open", "crossed_book", 10, 11.2), ("resolve", "crossed_book", 10, 13.5)]
    assert events[0].details == {"bid": 10.3, "ask": 10.1}


def test_a_book_that_stood_crossed_until_the_next_quote_is_told_by_that_quote() -> None:
    events = watch(BOOK, [(0, 0, 10.2, 10.1, 0), (0, 30, 10.0, 10.1, 0), (0, 31, 10.0, 10.1, 0)])

    assert brief(events) == [("open", "crossed_book", 0, 30), ("resolve", "crossed_book", 0, 31)]
    assert events[0].details == {"bid": 10.2, "ask": 10.1}


def test_a_locked_book_is_another_kind() -> None:
    events = watch(BOOK, [(0, 0, 10.1, 10.1, 0), (0, 2, 10.1, 10.1, 0)])

    assert brief(events) == [("open", "locked_book", 0, 2)]


@pytest.mark.parametrize("missing", [0.0, NAN])
def test_a_missing_side_is_not_a_crossed_book(missing: float) -> None:
    # Both sides in one message: the ask has been withdrawn, and the bid may go where it likes.
    withdrawn = [(0, 0, 10.0, 10.1, 0), *((0, at, 10.5, missing, 0) for at in range(1, 9))]
    # One side in a message: the other one stands.
    one_sided = [(1, 0, missing, 10.1, 0), (1, 0, 10.0, missing, 0), (1, 1, 10.5, missing, 0), (1, 3, 10.5, missing, 0)]

    assert watch(BOOK, withdrawn) == []
    assert brief(watch(BOOK, one_sided)) == [("open", "crossed_book", 1, 3)]


@pytest.mark.parametrize("factor", [10, 0.1, 100, 0.001])
def test_a_slip_of_the_decimal_point_is_told_at_once_and_once_a_minute(factor: float) -> None:
    prices = [(0, float(at), 50 + at % 3 / 10, NAN, 0) for at in range(200)]
    for at in (40, 70):
        prices[at] = (0, float(at), 50 * factor, NAN, 0)

    events = watch(PRICE, prices)

    assert brief(events) == [("open", "power_of_ten", 40, 40), ("resolve", "power_of_ten", 40, 131)]
    assert events[0].details["factor"] == factor
    assert events[0].details["level"] == pytest.approx(50, abs=0.3)
    assert events[0].details["field"] == "price"


def test_a_crash_of_a_third_is_no_slip_and_a_price_that_stays_becomes_the_level() -> None:
    crash = [(0, float(at), 50.0 if at < 40 else 33.0, NAN, 0) for at in range(120)]
    split = [(0, float(at), 500.0 if at < 100 else 50.0, NAN, 0) for at in range(300)]

    assert watch(PRICE, crash) == []
    assert [event.event for event in watch(PRICE, split)] == ["open", "resolve"]


def test_missing_numbers_are_told_with_how_many_and_a_restart_is_none() -> None:
    numbers = [1, 2, 3, 7, 8, 0, 9, 1, 2, 2, 3]

    events = watch(SEQUENCE, [(0, float(at), 1.0, 1.0, number) for at, number in enumerate(numbers)])

    assert brief(events) == [("open", "sequence_gap", 3, 3)]
    assert events[0].details == {"missing": 3, "wanted": 4, "number": 7}


def test_a_quote_that_stands_while_others_move_is_stale_until_it_moves() -> None:
    sent: list[Sent] = []
    for at in range(200):
        sent.append((0, float(at), 10.0 if 20 <= at < 150 else 10 + at / 100, 11.0, 0))
        sent.append((1, at + 0.5, 20 + at / 100, 21.0, 0))

    events = watch(QUOTE, sent)

    assert brief(events) == [("open", "stale_quote", 20, 80), ("resolve", "stale_quote", 20, 150)]


def test_a_quiet_market_makes_no_quote_stale() -> None:
    assert watch(QUOTE, [(code, float(at), 10.0, 11.0, 0) for at in range(150) for code in (0, 1)]) == []


def test_a_closed_market_makes_nothing_last() -> None:
    hours = Sessions(np.array([0, 1000]) * SECOND, np.array([100, 1100]) * SECOND)

    events = watch(BOOK, [(0, 99.8, 10.2, 10.1, 0), (0, 1000.1, 10.0, 10.1, 0)], sessions=hours)

    assert events == []


readings = st.tuples(
    st.integers(0, 3),
    st.sampled_from([0.0, 0.1, 0.4, 2.0, 30.0, 70.0]),
    st.sampled_from([NAN, 0.0, 10.0, 10.0, 10.1, 10.2, 101.0, 1.01]),
    st.sampled_from([NAN, 0.0, 10.1, 10.1, 10.2]),
    st.sampled_from([0, 1, 1, 1, 1, 3, -5]),
)


def script(steps: Sequence[tuple[int, float, float, float, int]], repeat: int) -> list[Sent]:
    sent, now, number = [], 0.0, dict.fromkeys(range(4), 5)
    for code, step, bid, ask, jump in [*steps] * repeat:
        now += step
        number[code] = max(1, number[code] + jump)
        sent.append((code, now, bid, ask, number[code] if jump else 0))
    return sent


@settings(max_examples=150, deadline=None)
@given(st.lists(readings, min_size=1, max_size=80), st.integers(1, 4), st.lists(st.integers(1, 300), max_size=8))
def test_what_rules_tell_does_not_depend_on_the_batches(steps: list[Any], repeat: int, cuts: list[int]) -> None:
    sent = script(steps, repeat)

    together = watch(EVERYTHING, sent)

    def key(event: Event) -> tuple[Any, ...]:
        return event.row, event.kind, event.event

    assert sorted(watch(EVERYTHING, sent, cuts), key=key) == sorted(together, key=key)
    open_now: set[tuple[str, int]] = set()
    for event in together:
        of = (event.kind, event.code)
        assert (of in open_now) == (event.event == "resolve")
        open_now ^= {of}


@settings(max_examples=60, deadline=None)
@given(st.lists(readings, min_size=2, max_size=60), st.integers(1, 3), st.integers(1, 179))
def test_rules_go_on_from_an_export(steps: list[Any], repeat: int, at: int) -> None:
    sent = script(steps, repeat)
    cut = min(at, len(sent) - 1)
    whole = watch(EVERYTHING, sent, [cut])
    first, second = KeyedState(["AIG", "BAC", "C", "D"]), KeyedState(["AIG", "BAC", "C", "D"])
    before = feed(first, Rules(first, EVERYTHING), sent[:cut])

    rules = Rules(second, EVERYTHING)
    exported = first.export(first.held())
    second.restore(ExportedState(exported.columns, json.loads(json.dumps(exported.values))))
    after = feed(second, rules, sent[cut:])

    assert [*before, *(dataclasses.replace(event, row=event.row + cut) for event in after)] == whole


def test_streams_that_expire_leave_no_incident_open() -> None:
    state = KeyedState(["AIG"])
    rules = Rules(state, BOOK)
    feed(state, rules, [(0, 0, 10.2, 10.1, 0), (0, 2, 10.2, 10.1, 0)])

    closed = rules.close(np.array([0]), np.array([7]), np.array([99 * SECOND]))

    assert [(event.event, event.kind, event.reason) for event in closed] == [("resolve", "crossed_book", "expired")]
    assert dict(rules.open_counts()) == {"crossed_book": 1, "locked_book": 0}


# -- ticks as they are --------------------------------------------------------------------------------------------

TICKS = Path(__file__).parents[3].parent / "shared" / "data" / "ticks"


def market_hours(file: str) -> tuple[pd.DataFrame, np.ndarray]:
    if not TICKS.is_dir():
        pytest.skip(f"{TICKS} is not there: the data is not part of the project")
    pytest.importorskip("exchange_calendars", reason="needs streamer[sessions]")
    frame = pd.read_parquet(TICKS / file)
    times = frame["timestamp"].to_numpy("datetime64[ns]").astype(np.int64)
    market = SessionsConfig(calendar="XNYS").build()
    assert market is not None
    inside = market.is_open(times)
    return frame[inside].reset_index(drop=True), times[inside]


def over(options: RulesOptions, times: np.ndarray, values: np.ndarray) -> list[Event]:
    state, zeros = KeyedState(["BAC"]), np.zeros(len(times), np.int64)
    return Rules(state, options).step(zeros, times, values, None, zeros, zeros, np.arange(len(times)))


def test_a_day_of_quotes_has_no_crossed_book_and_one_put_into_it_is_found() -> None:
    frame, times = market_hours("bac-quotes.parquet")
    values = frame[["bid", "ask"]].to_numpy(np.float64)
    options = RulesOptions(book=BookRule(0, 1, 2 * SECOND))
    crossed = values.copy()
    some = (times >= times[200_000]) & (times < times[200_000] + 5 * SECOND) & (values[:, 0] > 0)
    crossed[some, 0] += 0.5

    assert over(options, times, values) == []
    assert [(event.event, event.kind) for event in over(options, times, crossed)][:1] == [("open", "crossed_book")]


@pytest.mark.parametrize("file", ["aig-trades.parquet", "bac-trades.parquet"])
def test_two_days_of_trades_have_no_slip_of_the_decimal_point_and_those_put_in_are_found(file: str) -> None:
    frame, times = market_hours(file)
    values = frame[["price"]].to_numpy(np.float64)
    slips = np.linspace(1000, len(values) - 1000, 20).astype(int)
    slipped = values.copy()
    slipped[slips[::2]] *= 10
    slipped[slips[1::2]] /= 10

    assert over(PRICE, times, values) == []
    told = [event.row for event in over(PRICE, times, slipped) if event.event == "open"]
    assert told == slips.tolist()
