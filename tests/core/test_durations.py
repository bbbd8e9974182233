"""Durations read as people write them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.core.durations import duration_text, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("1d 12h", 129_600), ("1h30m", 5400), ("0.5s", 0.5)],
)
def test_days_hours_minutes_and_seconds_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "1w", "-1d", "1e3s", "infd", "7 d", "1d,2h", "\u0661d", "1" * 60 + "d"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="wanted a duration such as 7d, 12h, 30m or 45s; got"):
        parse_duration(text)


@given(st.integers(0, 10**9))
@example(1_000_001)
def test_a_duration_is_written_so_that_it_reads_back(seconds: int) -> None:
    assert parse_duration(duration_text(seconds)) == seconds
