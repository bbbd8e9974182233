"""The newest event time of a partition: what moves it, and what one wrong clock does not."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.newest import follow

LEAP = 60


def line(times: list[int], cuts: list[int] = []) -> list[int]:  # noqa: B006
    stored, found, begin = None, list[int](), 0
    for end in [*cuts, len(times)]:
        if begin < end:
            some, stored = follow(stored, np.array(times[begin:end]), LEAP)
            stored = json.loads(json.dumps(stored))
            found += some[1:].tolist()
            begin = end
    return found


def test_one_reading_of_the_far_future_moves_nothing() -> None:
    assert line([1, 2, 3000, 3, 4, 5]) == [1, 2, 2, 3, 4, 5]


def test_a_device_whose_clock_is_ahead_moves_nothing_while_others_go_on() -> None:
    times = [time for second in range(50) for time in (second, 3000 + second)]

    assert line(times)[-1] == 49


def test_after_a_pause_of_all_eight_readings_confirm_the_new_time() -> None:
    assert line([1, 2, *range(3000, 3010)]) == [1, 2, *[2] * 7, 3007, 3008, 3009]


@given(st.lists(st.one_of(st.integers(0, 100), st.integers(0, 100_000)), min_size=1), st.lists(st.integers(0, 60)))
def test_no_cut_shows_and_it_never_goes_back(times: list[int], cuts: list[int]) -> None:
    whole = line(times)

    assert line(times, sorted(c for c in cuts if c < len(times))) == whole
    assert whole == sorted(whole)
