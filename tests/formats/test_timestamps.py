"""Event times as messages and files write them, to nanoseconds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.formats.timestamps import times_of, times_of_floats, times_of_integers


def test_a_time_that_cannot_be_read_is_marked_and_its_neighbours_are_kept() -> None:
    times, bad = times_of(["2024-01-01T00:00:00Z", "soon", "2024-01-01T01:00:00+01:00"], "iso8601")

    assert times.tolist() == [1_704_067_200_000_000_000, 0, 1_704_067_200_000_000_000]
    assert bad.tolist() == [False, True, False]


@pytest.mark.parametrize("unit", ["iso8601", "s", "ms", "us", "ns"])
def test_no_times_give_no_times(unit: str) -> None:
    times, bad = times_of([], unit)

    assert (len(times), len(bad)) == (0, 0)
    assert times.dtype == np.int64


def test_float_seconds_are_read_to_the_microsecond() -> None:
    times, bad = times_of_floats(np.array([1_700_000_000.123456, np.nan, np.inf, -1.0]), "s")

    assert times.tolist() == [1_700_000_000_123_456_000, 0, 0, 0]
    assert bad.tolist() == [False, True, True, True]


def test_whole_numbers_keep_every_nanosecond() -> None:
    assert times_of_integers(np.array([1_700_000_000_123_456_789]), "ns")[0].tolist() == [1_700_000_000_123_456_789]


@given(st.lists(st.integers(0, 7_258_118_399)), st.sampled_from(["s", "ms", "us"]))
def test_an_array_of_a_file_reads_as_the_numbers_of_messages(seconds: list[int], unit: str) -> None:
    numbers = [second * {"s": 1, "ms": 10**3, "us": 10**6}[unit] for second in seconds]

    whole, _ = times_of(numbers, unit)

    assert times_of_integers(np.array(numbers, np.int64), unit)[0].tolist() == whole.tolist()
    assert times_of_floats(np.array(numbers, np.float64), unit)[0].tolist() == whole.tolist()
