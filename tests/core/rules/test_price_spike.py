"""A price that is taken back at once is a spike; one that stays is a move."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.events import Event
from streamer.core.keyed_state import KeyedState
from streamer.core.rules import PriceRule, Rules, RulesOptions, SpikeRule

SECOND = 1_000_000_000
NAN = float("nan")
PRICE = RulesOptions(spike=SpikeRule((0,), 5.0))
Sent = tuple[int, float, float, float]  # stream, second, price or bid, ask


def watch(sent: Sequence[Sent], cuts: Sequence[int] = (), options: RulesOptions = PRICE) -> list[Event]:
    state = KeyedState(["AIG", "BAC"])
    rules = Rules(state, options)
    edges = sorted({0, len(sent), *(cut for cut in cuts if 0 < cut < len(sent))})
    told: list[Event] = []
    for begin, end in itertools.pairwise(edges):
        codes, seconds, first, second = (np.array(column) for column in zip(*sent[begin:end], strict=True))
        times = np.round(seconds * SECOND).astype(np.int64)
        zeros = np.zeros(end - begin, np.int64)
        told += rules.step(codes, times, np.stack([first, second], 1), None, zeros, zeros, np.arange(end - begin))
    return told


def market(minutes: int = 40, stream: int = 0, every_s: float = 5.0, level: float = 50.0) -> list[Sent]:
    """Trades that bounce by a cent around a price that moves by some cents a minute."""
    rng = np.random.default_rng(stream)
    steps = int(minutes * 60 / every_s)
    drift = np.cumsum(rng.normal(0, 0.01, steps))
    prices = np.round(level + drift, 2) + 0.01 * rng.integers(0, 2, steps)
    return [(stream, i * every_s, float(price), NAN) for i, price in enumerate(np.round(prices, 2))]


def opened(events: Sequence[Event]) -> list[tuple[str, float]]:
    return [(event.kind, event.at_ns / SECOND) for event in events if event.event == "open"]


def test_one_price_far_off_is_told_by_the_one_after_it_with_what_was_expected() -> None:
    sent = market()
    _, at, before, _ = sent[400]
    sent[400] = (0, at, before + 0.60, NAN)

    events = watch(sent)

    assert opened(events) == [("price_spike", at + 5)]
    assert events[0].details["observed"] == pytest.approx(before + 0.60)
    assert events[0].details["expected"] == pytest.approx(sent[399][2])
    assert float(events[0].details["sigmas"]) > 5
    assert [event.event for event in events] == ["open", "resolve"]


def test_calm_trading_and_a_move_that_stays_are_no_spikes() -> None:
    sent = market()
    moved = [(code, at, price + (0.60 if i >= 400 else 0.0), ask) for i, (code, at, price, ask) in enumerate(sent)]

    assert watch(sent) == []
    assert watch(moved) == []


def test_nothing_is_told_before_a_few_minutes_are_known() -> None:
    sent = market(minutes=4)
    sent[30] = (0, sent[30][1], 80.0, NAN)

    assert watch(sent) == []


def test_a_spike_does_not_hide_the_next_one() -> None:
    sent = market()
    for at in (360, 384, 420, 444):
        sent[at] = (0, sent[at][1], sent[at][2] - 0.60, NAN)

    assert [at for _, at in opened(watch(sent))] == [sent[at + 1][1] for at in (360, 384, 420, 444)]


def test_either_side_of_a_quote_is_watched_though_rows_hold_one_side_each() -> None:
    sides = [
        (0, at, price, NAN) if i % 2 else (0, at, NAN, price + 0.02) for i, (_, at, price, _) in enumerate(market())
    ]
    both = RulesOptions(spike=SpikeRule((0, 1), 5.0))
    for place in (400, 451):
        code, at, bid, ask = sides[place]
        sides[place] = (code, at, bid + 0.70, ask + 0.70)

    assert [at for _, at in opened(watch(sides, options=both))] == [sides[402][1], sides[453][1]]


def test_a_slip_of_the_decimal_point_is_one_incident_where_that_rule_is_on() -> None:
    sent = market()
    sent[400] = (0, sent[400][1], sent[400][2] * 10, NAN)
    rules = RulesOptions(price=PriceRule(0, "price"), spike=SpikeRule((0,), 5.0, slips=0))

    assert opened(watch(sent, options=rules)) == [("power_of_ten", sent[400][1])]
    assert opened(watch(sent)) == [("price_spike", sent[401][1])]


@given(st.lists(st.integers(1, 959), max_size=6))
@settings(max_examples=20, deadline=None)
def test_batches_make_no_difference(cuts: list[int]) -> None:
    sent = sorted([*market(), *market(stream=1, level=9.0)], key=lambda each: each[1])
    for place in (800, 805, 900, 901):
        code, at, price, ask = sent[place]
        sent[place] = (code, at, price * 1.02, ask)

    whole, parts = watch(sent), watch(sent, cuts)

    assert len(opened(whole)) >= 3
    assert [(e.event, e.code, e.onset_ns, e.at_ns, dict(e.details)) for e in whole] == [
        (e.event, e.code, e.onset_ns, e.at_ns, dict(e.details)) for e in parts
    ]
