"""Market hours: open, closed, and the time between two moments, against a plain reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.sessions import CLOSED, Sessions

# Session 0: 10..20 with a break 14..16; session 1: 30..34, no break.
MARKET = Sessions(np.array([10, 30]), np.array([20, 34]), np.array([[14, 16], [30, 30]]))
OPEN = [*range(10, 14), *range(16, 20), *range(30, 34)]


@given(st.lists(st.integers(-5, 50), min_size=1, max_size=20))
def test_hours_agree_with_counting_moment_by_moment(moments: list[int]) -> None:
    times = np.array(moments, np.int64)

    assert MARKET.is_open(times).tolist() == [at in OPEN for at in moments]
    assert MARKET.session_of(times).tolist() == [(CLOSED if at not in OPEN else int(at >= 30)) for at in moments]
    assert MARKET.market_ns(times).tolist() == [sum(one < at for one in OPEN) for at in moments]
    nan = np.nan
    phases = [(sum(s <= one < at for one in OPEN) / n) for at in moments for s, n in [(10, 8) if at < 30 else (30, 4)]]
    expected = [p if at in OPEN else nan for p, at in zip(phases, moments, strict=True)]
    assert np.array_equal(MARKET.phase(times), expected, equal_nan=True)


@given(st.integers(-5, 50), st.integers(-5, 50))
def test_open_time_between_two_moments_leaves_out_what_is_closed(one: int, other: int) -> None:
    first, last = sorted((one, other))

    between = MARKET.open_time_between(np.array([first]), np.array([last]))

    assert between.tolist() == [sum(first <= at < last for at in OPEN)]


def test_years_the_calendar_does_not_know_are_told_apart_from_closed_hours() -> None:
    times = np.array([9, 10, 25, 33, 34])

    assert MARKET.covers(times).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("opens", "closes", "breaks"),
    [([10, 15], [20, 30], None), ([10], [10], None), ([], [], None), ([10], [20], [[5, 12]])],
)
def test_sessions_that_cannot_be_are_refused(opens: list[int], closes: list[int], breaks: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="wanted"):
        Sessions(np.array(opens), np.array(closes), None if breaks is None else np.array(breaks))
