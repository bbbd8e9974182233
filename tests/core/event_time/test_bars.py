"""What bars are made of: each aggregation, transform and gap policy against pandas or plain arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from streamer.core.event_time.options import TimeOptions, parse_feature
from streamer.core.event_time.station import EventTime
from streamer.core.keyed_state import KeyedState
from streamer.core.readings import Readings

FIELDS = ("bid", "ask", "size")
S = 1_000_000_000
START = 1_700_000_000 * S
NAN = math.nan


def bars(
    expressions: list[str], rows: Sequence[tuple[float, float, float, float]], grid_s: float = 10, **other: Any
) -> list[list[float]]:
    """Bars of one stream; rows are second, bid, ask, size. The last bar is released too."""
    options = TimeOptions(
        fields=FIELDS,
        grid_ns=int(grid_s * S) if "bars" not in other else 0,
        features=tuple(parse_feature(text, text, FIELDS) for text in expressions),
        **other,
    )
    state = KeyedState(["a"])
    station = EventTime(state, options)
    n = len(rows)
    times = np.array([START + int(row[0] * S) for row in rows])
    values = np.array([row[1:] for row in rows])
    parts = [station.take(Readings(np.zeros(n, np.int64), times, values, np.zeros(n, np.int64), np.arange(n)))[0]]
    parts.append(station.release(np.zeros(1, np.int64), 0)[0])
    return [row for part in parts for row in part.readings.values.tolist()]


def column(expression: str, rows: Sequence[tuple[float, float, float, float]], **other: Any) -> list[float]:
    return [row[0] for row in bars([expression], rows, **other)]


@pytest.mark.parametrize(
    ("expression", "pandas"),
    [
        ("last(bid)", "last"),
        ("first(bid)", "first"),
        ("mean(bid)", "mean"),
        ("min(bid)", "min"),
        ("max(bid)", "max"),
        ("sum(bid)", "sum"),
        ("count(bid)", "count"),
        ("median(bid)", "median"),
        ("quantile(bid, 0.9)", lambda values: values.quantile(0.9)),
        ("std(bid)", lambda values: values.std(ddof=0)),
        ("range(bid)", lambda values: values.max() - values.min()),
    ],
)
def test_aggregations_agree_with_pandas(expression: str, pandas: Any) -> None:
    rng = np.random.default_rng(3)
    seconds = np.sort(rng.uniform(0, 60, 200))
    bid = np.where(rng.random(200) < 0.2, NAN, rng.normal(100, 5, 200))
    rows = [(second, value, 1.0, 1.0) for second, value in zip(seconds.tolist(), bid.tolist(), strict=True)]

    found = column(expression, rows)

    expected = pd.Series(bid).groupby((seconds // 10).astype(int)).agg(pandas)
    np.testing.assert_allclose(found, expected.to_numpy(), rtol=1e-6)


def test_vwap_weighs_prices_by_size() -> None:
    assert column("vwap(bid, size)", [(1, 10.0, NAN, 1.0), (2, 20.0, NAN, 3.0)]) == [17.5]


def test_a_one_sided_quote_leaves_the_other_side_as_it_was() -> None:
    rows = [(1, 10.0, NAN, NAN), (2, NAN, 12.0, NAN), (11, 11.0, NAN, NAN)]

    assert column("mid(bid, ask)", rows) == [11.0, 11.5]
    assert column("spread(bid, ask)", rows) == [2.0, 1.0]


def test_returns_reach_over_the_border_of_a_bar() -> None:
    rows = [(1, 100.0, 1, 1), (9, 100.0, 1, 1), (11, 110.0, 1, 1), (12, 100.0, 1, 1)]

    up, down = 1e4 * math.log(1.1), 1e4 * math.log(1 / 1.1)

    assert column("jump(bid)", rows) == pytest.approx([0, up], rel=1e-6)
    assert column("volatility(bid)", rows) == pytest.approx([0, math.hypot(up, down)], rel=1e-6)
    assert column("reversal(bid)", rows) == pytest.approx([0, up], rel=1e-6)


def test_a_level_that_stays_is_no_reversal() -> None:
    rows = [(1, 100.0, 1, 1), (2, 110.0, 1, 1), (3, 110.0, 1, 1), (4, 120.0, 1, 1)]

    assert column("reversal(bid)", rows) == [0.0]


def test_age_counts_from_the_last_change_also_through_bars_without_readings() -> None:
    rows = [(4, 100.0, 1, 1), (8, 100.0, 1, 1), (41, 100.0, 1, 1), (55, 101.0, 1, 1)]

    assert column("age(bid)", rows) == [6.0, 16.0, 26.0, 36.0, 46.0, 5.0]


def test_an_empty_bar_carries_prices_and_counts_nothing() -> None:
    rows = [(1, 100.0, 1, 5.0), (31, 110.0, 1, 7.0)]

    found = bars(["last(bid)", "sum(size)", "count", "last(bid) | log_return"], rows)

    change = pytest.approx(1e4 * math.log(1.1), rel=1e-6)
    assert found == [[100, 5, 1, 0], [100, 0, 0, 0], [100, 0, 0, 0], [110, 7, 1, change]]


def test_gap_policies() -> None:
    rows = [(1, 100.0, 1, 1), (31, 130.0, 1, 1)]

    def said(**other: Any) -> list[float | None]:
        return [None if math.isnan(value) else value for value in column("last(bid)", rows, **other)]

    assert said(gap="carry") == [100, 100, 100, 130]
    assert said(gap="interpolate") == [100, 110, 120, 130]
    assert said(gap="missing") == [100, None, None, 130]
    assert said(gap="reset") == [100, 130]
    assert said(gap="carry", gap_limit=1) == [100, 130]


def test_a_metric_that_did_not_come_is_carried_for_a_bounded_time() -> None:
    rows = [(1, 100.0, 1.0, 1)] + [(second, NAN, float(second), 1) for second in (11, 21, 31, 41)]

    found = column("last(bid)", rows, gap_limit=2)

    assert found[:3] == [100, 100, 100]
    assert all(map(math.isnan, found[3:]))


def test_a_counter_becomes_a_rate_also_when_it_begins_again() -> None:
    rows = [(1, 100.0, 1, 1), (11, 150.0, 1, 1), (31, 250.0, 1, 1), (41, 30.0, 1, 1)]

    found = column("last(bid) | rate", rows)

    assert math.isnan(found[0])
    assert found[1:] == [5.0, 5.0, 5.0, 3.0]


def test_diff_and_log1p() -> None:
    rows = [(1, 100.0, 1, 9.0), (11, 90.0, 1, 0.0)]

    assert column("last(bid) | diff", rows) == [0, -10]
    assert column("sum(size) | log1p", rows) == pytest.approx([math.log(10), 0])


def test_bars_by_ticks_and_by_volume() -> None:
    rows = [(second, float(second), 1, 2.0) for second in range(7)]

    assert column("last(bid)", rows, bars="ticks", bar_size=3.0) == [2, 5]
    assert column("last(bid)", rows, bars="volume", bar_size=5.0, bar_field=2) == [2, 5]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("latest(bid)", "wanted an aggregation of"),
        ("last(bod)", "wanted fields among records.features"),
        ("last(bid) | log", "wanted a transform of"),
        ("vwap(bid)", "vwap takes 2 field"),
        ("quantile(bid, 2)", "wants a number from 0 to 1"),
        ("last(bid", "wanted an expression such as"),
    ],
)
def test_an_expression_that_is_none_is_refused_with_what_was_wanted(expression: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        parse_feature("price", expression, FIELDS)
