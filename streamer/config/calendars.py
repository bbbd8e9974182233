"""Calendars of exchanges, turned once into arrays of opening and closing times.

The only code that imports `exchange_calendars`, and only where a calendar is configured (docs/decisions/0015).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from streamer.core.grouping import Ints
from streamer.core.sessions import Sessions

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

FROM, TO = pd.Timestamp("1990-01-01"), pd.Timestamp("2050-12-31")  # or what the exchange has published


@functools.lru_cache(maxsize=8)
def sessions(calendar: str, *, keep_outside: bool) -> Sessions:
    """Sessions of an exchange.

    Raises:
        ValueError: The package is missing, or knows no such calendar; says what to do.
    """
    try:
        import exchange_calendars
    except ImportError:
        raise ValueError(
            "sessions.calendar needs the package exchange_calendars: pip install 'streamer[sessions]'"
        ) from None
    try:
        exchange = _widest(exchange_calendars.get_calendar(calendar))
        schedule = exchange.schedule
    except exchange_calendars.errors.InvalidCalendarName:
        names = exchange_calendars.get_calendar_names(include_aliases=False)
        near = [name for name in names if calendar.upper() in name] or ["XNYS", "XLON", "XTKS"]
        raise ValueError(
            f"sessions.calendar: wanted one of exchange_calendars, such as {', '.join(near[:5])}; got {calendar!r}; a "
            "market that never closes needs none"
        ) from None
    except (NotImplementedError, ValueError) as error:
        why = str(error)[:200]
        raise ValueError(f"sessions.calendar: exchange_calendars cannot make {calendar!r}: {why}") from None
    opens, closes = _ns(schedule["open"]), _ns(schedule["close"])
    pauses = np.stack([_ns(schedule["break_start"]), _ns(schedule["break_end"])], 1)
    has_none = schedule["break_start"].isna().to_numpy()
    pauses[has_none] = opens[has_none, None]
    return Sessions(opens, closes, None if has_none.all() else pauses, calendar, keep_outside, str(exchange.tz))


def _widest(calendar: ExchangeCalendar) -> ExchangeCalendar:
    """The same exchange over all the years that are known of it."""
    kind = type(calendar)
    try:
        first, last = kind.bound_min(), kind.bound_max()
        return kind(FROM if first is None else max(FROM, first), TO if last is None else min(TO, last))
    except (NotImplementedError, ValueError):
        return calendar  # its holidays are written down for the years by default alone


def _ns(moments: pd.Series) -> Ints:
    return np.asarray(moments.dt.as_unit("ns").to_numpy("datetime64[ns]").astype(np.int64))
