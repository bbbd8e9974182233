"""Calendars of exchanges as the configuration names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from streamer import config
from streamer.errors import ConfigError

pytest.importorskip("exchange_calendars", reason="needs streamer[sessions]")


def configured(path: Path, sessions: str) -> config.Settings:
    path.joinpath("streamer.yaml").write_text(f"records: {{features: [price]}}\nsessions: {sessions}\n")
    return config.load(path / "streamer.yaml", {})


def ns(*moments: str) -> np.ndarray:
    return pd.DatetimeIndex(moments, tz="UTC").as_unit("ns").asi8


def test_new_york_knows_its_hours_holidays_early_closes_and_summer_time(tmp_path: Path) -> None:
    market = configured(tmp_path, "{calendar: XNYS}").pipeline_options().sessions

    assert market is not None
    times = ns(
        "2013-10-07 13:29:59", "2013-10-07 13:30", "2013-10-07 19:59:59", "2013-10-07 20:00",  # a summer day
        "2013-12-24 17:59", "2013-12-24 18:00", "2013-12-25 15:00", "2013-12-26 14:29",  # an early close, Christmas
    )  # fmt: skip
    assert market.is_open(times).tolist() == [False, True, True, False, True, False, False, False]
    weekend = market.open_time_between(ns("2013-10-04 19:59"), ns("2013-10-07 13:31"))
    assert weekend.tolist() == [120_000_000_000]


def test_a_lunch_break_is_closed_time_of_the_same_session(tmp_path: Path) -> None:
    market = configured(tmp_path, "{calendar: XTKS, outside: keep}").pipeline_options().sessions

    assert market is not None
    assert market.keep_outside
    morning, lunch, afternoon = market.session_of(ns("2013-10-07 01:00", "2013-10-07 03:00", "2013-10-07 04:00"))
    assert lunch == -1
    assert morning == afternoon > 0


def test_an_unknown_calendar_is_refused_with_some_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"wanted one of exchange_calendars, such as XNYS.*; got 'XNY'"):
        configured(tmp_path, "{calendar: XNY}")


def test_without_a_calendar_the_market_never_closes(tmp_path: Path) -> None:
    assert configured(tmp_path, "{}").pipeline_options().sessions is None


def test_a_session_phase_without_an_exchange_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"time\.context: session-phase needs .* set sessions\.calendar"):
        configured(tmp_path, "{}\ntime: {context: [session-phase]}")


def test_a_context_is_that_of_the_exchange_and_its_clocks(tmp_path: Path) -> None:
    here = configured(tmp_path, "{calendar: XNYS}\ntime: {context: [time-of-day, session-phase]}")
    options = here.pipeline_options()

    assert options.context == ("time-of-day of XNYS", "session-phase of XNYS")
    assert here.architecture().context == 5
    assert options.sessions is not None
    assert options.sessions.zone == "America/New_York"
