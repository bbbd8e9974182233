"""Rules, market hours and silence over readings as sent, while the model sees their bars."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.detector import Detector
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from tests import tiny
from tests.tiny import START_NS, VERSION

SECOND = 1_000_000_000
SETTINGS = tiny.settings(
    records={"features": ["bid", "ask"], "sequence": "number"},
    time={"grid": "60s", "lateness": "5s", "features": {"heat": "mid(bid, ask)", "current": "spread(bid, ask)"}},
    rules={"crossed_book": {"longer_than": "2s"}, "power_of_ten": {"field": "bid"}, "sequence_gap": True},
    alerting={"silent_after": 3.0},
)


def quotes() -> Readings:
    """Forty minutes of two books, a quote a second, some a little out of order, with a fault of each kind."""
    n = 2400
    at = np.repeat(np.arange(n), 2)
    stream = np.tile([0, 1], n)
    values = np.stack([20 + np.sin(at / 90), 20.1 + np.sin(at / 90)], 1)
    number = at + 1
    values[(stream == 0) & (at >= 300) & (at < 310), 0] += 1  # crossed
    values[(stream == 1) & (at == 700), 0] *= 10  # a slip of the decimal point
    kept = ~((stream == 1) & (at >= 1000) & (at < 1003))  # numbers missing
    kept &= ~((stream == 0) & (at >= 1500) & (at < 2000))  # silence
    order = np.argsort((at + np.where((at % 7 == 0), 3.5, 0))[kept], kind="stable")
    stream, at, values, number = stream[kept][order], at[kept][order], values[kept][order], number[kept][order]
    zeros = np.zeros(len(at), np.int64)
    return Readings(stream, START_NS + at * SECOND, values, zeros, np.arange(len(at)), number)


WHOLE = quotes()


def told(detector: Detector, cuts: Sequence[int]) -> list[tuple[str, str, str, str, int]]:
    pipeline = Pipeline(SETTINGS.pipeline_options(), detector, VERSION)
    for name in ("AIG", "BAC"):
        pipeline.keys.add(name)
    found = []
    for part in tiny.split(WHOLE, cuts):
        outcome = pipeline.process(part)
        for alert, (_, offset) in zip(outcome.alerts, outcome.triggers, strict=True):
            if alert.kind != "anomaly":
                found.append((alert.kind, alert.event, alert.stream, alert.alert_id, offset))
    return found


def test_each_fault_is_told_once_and_is_over_once(tiny_detector: Detector) -> None:
    found = [(kind, event, stream) for kind, event, stream, _, _ in told(tiny_detector, [])]

    assert sorted(found) == sorted(
        (kind, event, stream)
        for kind, stream in (
            ("crossed_book", "AIG"),
            ("power_of_ten", "BAC"),
            ("sequence_gap", "AIG"),
            ("sequence_gap", "BAC"),
            ("silence", "AIG"),
        )
        for event in ("open", "resolve")
    )


@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(1, len(WHOLE) - 1), max_size=8))
def test_what_is_told_and_by_which_record_does_not_depend_on_the_batches(
    tiny_detector: Detector, cuts: list[int]
) -> None:
    assert sorted(told(tiny_detector, cuts)) == sorted(told(tiny_detector, []))


# Stream, partition, seconds, bid.
Quote = tuple[str, int, float, float]


def stale(detector: Detector, names: Sequence[str], sent: Sequence[Quote], lateness: str) -> list[tuple[str, str, int]]:
    """Told of quotes that stand for five seconds, where streams have got their codes in this order; with the offset."""
    options = tiny.settings(time={"lateness": lateness}, rules={"stale_quote": {"fields": ["heat"], "after": "5s"}})
    pipeline = Pipeline(options.pipeline_options(), detector, VERSION)
    codes = {name: pipeline.keys.add(name) for name in names}
    stream, partition, seconds, bid = zip(*sent, strict=True)
    outcome = pipeline.process(
        Readings(
            np.array([codes[name] for name in stream]),
            START_NS + (np.array(seconds) * SECOND).astype(np.int64),
            np.stack([bid, np.ones(len(bid))], 1),
            np.array(partition),
            np.arange(len(sent)),
        )
    )
    told = zip(outcome.alerts, outcome.triggers, strict=True)
    return [(alert.event, alert.stream, offset) for alert, (_, offset) in told if alert.kind == "stale_quote"]


@pytest.mark.parametrize("names", list(itertools.permutations("ABC")))
def test_whose_quote_is_stale_does_not_depend_on_the_order_in_which_streams_became_known(
    tiny_detector: Detector, names: Sequence[str]
) -> None:
    # One late reading releases what three streams have held back.
    sent = [("A", 0, 0, 5), ("C", 0, 0, 5), *(("B", 0, 20 + 0.1 * i, 5 + i) for i in range(12)), ("A", 0, 20, 5)]
    sent += [("C", 0, 20 + 3 * i, 5) for i in range(1, 12)]

    assert stale(tiny_detector, names, sent, "10s") == [("open", "C", 19)]


def test_a_stream_that_comes_from_another_partition_is_compared_with_the_moves_of_its_new_one(
    tiny_detector: Detector,
) -> None:
    busy = [("B", 1, 0.1 * i, i % 7 + 1) for i in range(100)]
    moved = [("A", 0, 10, 5), ("A", 0, 14, 5), ("A", 1, 16, 5)]
    others = [("B", 1, 17 + 0.1 * i, i % 7 + 1) for i in range(10)]

    assert stale(tiny_detector, "AB", [*busy, *moved], "0s") == []
    assert stale(tiny_detector, "AB", [*busy, *moved, *others, ("A", 1, 19, 5)], "0s") == [("open", "A", 113)]
