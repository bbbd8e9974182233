"""What a model is told of the hour, the weekday and the session."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.core import calendar

ALL = ("time-of-day", "day-of-week", "session-phase")
_ANY_NS = st.integers(-(1 << 62), 1 << 62)


class NewYork:
    """Open from 9:30 to 16:00 on the clocks of New York, every day."""

    zone = "America/New_York"

    def phase(self, time_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        local = (time_ns + calendar.offsets_ns(self.zone, time_ns)) / 60e9 % 1440
        phase = (local - 570) / 390
        return np.where((phase >= 0) & (phase <= 1), phase, np.nan)


def at(*moments: str) -> NDArray[np.int64]:
    return np.array(moments, "datetime64[ns]").astype(np.int64)


@given(times=st.lists(_ANY_NS, max_size=30))
def test_every_number_is_between_minus_one_and_one_and_depends_on_its_own_moment_alone(times: list[int]) -> None:
    some = np.array(times, np.int64)

    found = calendar.columns(ALL, some, NewYork())

    assert found.shape == (len(times), calendar.width(ALL))
    assert found.dtype == np.float32
    assert (np.abs(found) <= 1).all()
    for i in range(len(times)):
        assert np.array_equal(calendar.columns(ALL, some[i : i + 1], NewYork())[0], found[i])


def test_midnight_follows_a_minute_to_twelve_and_every_weekday_is_another() -> None:
    before, after, noon = calendar.columns(["time-of-day"], at("2026-03-02T23:59", "2026-03-03", "2026-03-03T12:00"))
    week = calendar.columns(["day-of-week"], at(*(f"2026-03-0{day}T{day}0:00" for day in (1, 2)), *(
        f"2026-03-0{day}T03:00" for day in range(3, 8)
    )))  # fmt: skip
    monday, next_monday = calendar.columns(["day-of-week"], at("2026-03-02T00:00", "2026-03-09T23:59"))

    assert np.abs(before - after).max() < 0.01
    assert np.abs(noon - after).max() == pytest.approx(2)
    assert len(np.unique(week.round(4), axis=0)) == 7
    assert monday == pytest.approx(next_monday)


def test_the_hours_of_an_exchange_follow_its_own_clocks_through_summer_and_winter_time() -> None:
    # New York changed its clocks on 8 March 2026: half past nine was 14:30 UTC, then 13:30.
    winter, summer = at("2026-03-06T14:30"), at("2026-03-09T13:30")

    own = [calendar.columns(["time-of-day", "session-phase"], moment, NewYork()) for moment in (winter, summer)]
    utc = [calendar.columns(["time-of-day"], moment) for moment in (winter, summer)]

    assert np.array_equal(own[0], own[1])
    assert not np.allclose(utc[0], utc[1])


@given(seconds=st.integers(-(1 << 31), 1 << 32))
@pytest.mark.parametrize("zone", ["America/New_York", "Europe/London", "Asia/Kolkata", "Australia/Lord_Howe"])
def test_offsets_are_those_of_the_time_zone_data(zone: str, seconds: int) -> None:
    wanted = datetime.fromtimestamp(seconds, UTC).astimezone(ZoneInfo(zone)).utcoffset()

    found = calendar.offsets_ns(zone, np.array([seconds * 10**9]))

    assert wanted is not None
    assert found[0] == wanted.total_seconds() * 1e9


@pytest.mark.parametrize("when", ["2026-03-08T07:00", "2026-11-01T06:00"])
def test_an_offset_changes_in_the_very_second_the_clocks_do(when: str) -> None:
    moment = at(when)[0]

    before, on = calendar.offsets_ns("America/New_York", np.array([moment - 10**9, moment]))

    assert abs(on - before) == 3600 * 10**9


def test_open_middle_close_and_a_closed_market_are_told_apart() -> None:
    day = [f"2026-07-01T{hour}" for hour in ("13:30", "13:45", "16:45", "19:45", "20:00", "22:00")]

    opening, after, middle, before, closing, closed = calendar.columns(["session-phase"], at(*day), NewYork())

    assert opening.tolist() == [-1, 1, -1]
    assert closing.tolist() == [1, -1, 1]
    assert closed.tolist() == [0, 0, 0]
    assert middle == pytest.approx([0, -1, -1], abs=1e-3)
    # A quarter of an hour after the open, or before the close, is far from both the edge and the middle.
    assert -0.5 < after[1] < 0.5
    assert -0.5 < before[2] < 0.5


def test_a_phase_without_sessions_is_refused_with_the_key_to_set() -> None:
    with pytest.raises(ValueError, match=r"time\.context: session-phase .* set sessions\.calendar"):
        calendar.columns(["session-phase"], at("2026-07-01"))
