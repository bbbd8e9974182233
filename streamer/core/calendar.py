"""Calendar features: what a clock and a calendar say of a moment, as numbers in [-1, 1].

    time-of-day     sine and cosine of the day's hour, so that midnight follows 23:59
    day-of-week     sine and cosine of the weekday, the same all day long
    session-phase   through a market's session: steadily, near its open, near its close

They are given to the model beside the features, as inputs that are not scored: what happens every day at the
same hour is then no surprise, at another hour it is. Days and hours are those of UTC, or of the exchange's own time
zone where there are sessions: an open at 9:30 is at 9:30 the whole year, whatever the clocks there do.

Pure: the times come with the readings. Not inside: when a session begins and ends (`sessions`).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]

WIDTHS = {"time-of-day": 2, "day-of-week": 2, "session-phase": 3}  # columns of each
_SECOND_NS = 1_000_000_000
_DAY_NS = 86_400 * _SECOND_NS
_EPOCH_WEEKDAY = 3  # 1 January 1970 was a Thursday, Monday is 0


class Sessions(Protocol):
    """Market hours, as `core.sessions` knows them."""

    @property
    def zone(self) -> str:
        """Name of the exchange's time zone, such as `America/New_York`."""
        ...

    def phase(self, time_ns: Ints) -> Float64:
        """Part of its session that has passed at each time, 0 to 1; NaN outside of all."""
        ...


def width(names: Sequence[str]) -> int:
    """Columns of some calendar features.

    >>> width(["time-of-day", "session-phase"])
    5
    """
    return sum(WIDTHS[name] for name in names)


def described(names: Sequence[str], calendar: str | None = None) -> tuple[str, ...]:
    """Names that tell inputs apart which a model must not mistake for each other: those of another exchange are others.

    >>> described(["time-of-day"]), described(["time-of-day"], "XNYS")
    (('time-of-day',), ('time-of-day of XNYS',))
    """
    return tuple(f"{name} of {calendar}" if calendar else name for name in names)


def columns(names: Sequence[str], time_ns: Ints, sessions: Sessions | None = None) -> Float32:
    """Calendar features of some moments, in the order of their names.

    Args:
        names: Among `WIDTHS`.
        time_ns: Event times, `(n,)`.
        sessions: Of the exchange; None: days are those of UTC, and there is no session.

    Returns:
        `(n, width(names))`, in [-1, 1].

    Raises:
        ValueError: `session-phase` without sessions.

    >>> columns(["time-of-day"], np.array([6 * 3600 * 10**9])).round(6).tolist()  # 06:00
    [[1.0, 0.0]]
    """
    found = np.empty((len(time_ns), width(names)), np.float32)
    local_ns = time_ns if sessions is None else time_ns + offsets_ns(sessions.zone, time_ns)
    begin = 0
    for name in names:
        into = found[:, begin : (begin := begin + WIDTHS[name])]
        if name == "session-phase":
            if sessions is None:
                raise ValueError("time.context: session-phase wants the sessions of an exchange: set sessions.calendar")
            _fill_phase(into, sessions.phase(time_ns))
            continue
        turn = local_ns % _DAY_NS / _DAY_NS if name == "time-of-day" else (local_ns // _DAY_NS + _EPOCH_WEEKDAY) % 7 / 7
        into[:, 0], into[:, 1] = np.sin(2 * np.pi * turn), np.cos(2 * np.pi * turn)
    return found


def _fill_phase(into: Float32, phase: Float64) -> None:
    """Three columns: -1 at the open to 1 at the close; 1 at the open and soon -1; -1 until shortly before the close, 1.

    Volumes and spreads change within minutes of an open or a close and hardly in between, so both ends are stretched.
    Outside of sessions all are 0, which no moment of a session is.
    """
    outside = np.isnan(phase)
    for column, values in enumerate((phase, _edge(1 - phase), _edge(phase))):
        into[:, column] = np.where(outside, 0.0, 2 * values - 1)


def _edge(part: Float64) -> Float64:
    """The 16th power, in a tenth of the time of `**`: half of the range is gone after 4 % of a session."""
    for _ in range(4):
        part = part * part
    return part


def offsets_ns(zone: str, time_ns: Ints) -> Ints:
    """How far the clocks of a time zone are ahead of UTC at each time, `(n,)`.

    >>> summer = np.array(["2026-07-01T12:00"], "datetime64[ns]").astype(np.int64)
    >>> (offsets_ns("America/New_York", summer) / 3.6e12).tolist()
    [-4.0]
    """
    if not len(time_ns):
        return np.zeros(0, np.int64)
    first, last = (int(np.datetime64(int(edge), "ns").astype("datetime64[Y]").astype(np.int64)) + 1970
                   for edge in (time_ns.min(), time_ns.max()))  # fmt: skip
    since, offsets = (
        np.concatenate(parts) for parts in zip(*(_year(zone, y) for y in range(first, last + 1)), strict=True)
    )
    found: Ints = offsets[np.searchsorted(since, time_ns, side="right") - 1]
    return found


@functools.lru_cache(maxsize=1024)
def _year(zone: str, year: int) -> tuple[Ints, Ints]:
    """When the clocks of a time zone have another offset than before, in one year, and the offset from then on."""
    clocks = ZoneInfo(zone)
    days = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(day) for day in range(367)]
    changes = [(days[0], _offset(clocks, days[0]))]
    for before, after in itertools.pairwise(days):
        if (offset := _offset(clocks, after)) == changes[-1][1]:
            continue
        while after - before > timedelta(seconds=1):
            middle = before + (after - before) // timedelta(seconds=2) * timedelta(seconds=1)
            before, after = (before, middle) if _offset(clocks, middle) == offset else (middle, after)
        if after.year == year:
            changes.append((after, offset))
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    lowest = np.iinfo(np.int64).min
    since = [max(lowest, (at - epoch) // timedelta(seconds=1) * _SECOND_NS) for at, _ in changes]
    return np.array(since, np.int64), np.array([offset for _, offset in changes], np.int64)


def _offset(clocks: ZoneInfo, at: datetime) -> int:
    ahead = at.astimezone(clocks).utcoffset() or timedelta(0)
    return ahead // timedelta(seconds=1) * _SECOND_NS
