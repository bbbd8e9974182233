"""Trading sessions: when a market is open, and how much market time lies between two moments.

Pure arrays of opening and closing times. A break inside a session (lunch in Tokyo) is closed time of the same
session. Not inside: where the times come from (`config.calendars`), what is done with readings outside (`event_time`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.core.grouping import Ints

CLOSED = -1  # in place of a session


@dataclass(frozen=True, eq=False)
class Sessions:
    """Sessions of one market, oldest first.

    Outside of the years that `open_ns` covers the market counts as closed; `covers` tells them apart.

    Args:
        open_ns: First moment of each session, `(sessions,)`.
        close_ns: First moment after it.
        break_ns: Where a break begins and ends, `(sessions, 2)`; both the same where there is none.
        name: Of the calendar, for people.
        keep_outside: Readings outside of sessions are kept.
        zone: Time zone of the exchange, whose clocks its hours follow.

    >>> hour = Sessions(np.array([10, 30]), np.array([20, 40]))
    >>> hour.is_open(np.array([9, 10, 20, 39])).tolist()
    [False, True, False, True]
    >>> hour.session_of(np.array([9, 10, 20, 39])).tolist()
    [-1, 0, -1, 1]
    >>> hour.open_time_between(np.array([0, 15, 15]), np.array([12, 18, 35])).tolist()
    [2, 3, 10]
    >>> hour.phase(np.array([10, 15, 25])).tolist()
    [0.0, 0.5, nan]
    """

    open_ns: Ints
    close_ns: Ints
    break_ns: Ints | None = None
    name: str = ""
    keep_outside: bool = False
    zone: str = "UTC"
    _begin: Ints = field(init=False, repr=False)  # of each stretch of open time
    _length: Ints = field(init=False, repr=False)
    _before: Ints = field(init=False, repr=False)  # market time before it
    _session: Ints = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Cut sessions at their breaks.

        Raises:
            ValueError: Sessions overlap, are empty or not in order.
        """
        opens, closes = self.open_ns, self.close_ns
        if opens.shape != closes.shape or not len(opens) or (opens >= closes).any() or (opens[1:] < closes[:-1]).any():
            raise ValueError("wanted sessions in order, each closing after it opens and before the next opens")
        begin, end, session = opens, closes, np.arange(len(opens))
        if self.break_ns is not None:
            pauses = self.break_ns
            if pauses.shape != (len(opens), 2) or (np.diff(pauses) < 0).any():
                raise ValueError("wanted the beginning and the end of each session's break")
            cut = np.flatnonzero(pauses[:, 0] < pauses[:, 1])
            if (pauses[cut, 0] < opens[cut]).any() or (pauses[cut, 1] > closes[cut]).any():
                raise ValueError("wanted breaks inside of their sessions")
            begin = np.sort(np.concatenate([opens, pauses[cut, 1]]))
            end = np.sort(np.concatenate([closes, pauses[cut, 0]]))
            session = np.searchsorted(opens, begin, side="right") - 1
        length = end - begin
        for name, values in (
            ("_begin", begin),
            ("_length", length),
            ("_before", np.cumsum(length) - length),
            ("_session", session),
        ):
            object.__setattr__(self, name, np.asarray(values, np.int64))

    def covers(self, time_ns: Ints) -> NDArray[np.bool_]:
        """Whether moments lie within the years the calendar knows, `(n,)`."""
        return np.asarray((time_ns >= self.open_ns[0]) & (time_ns < self.close_ns[-1]))

    @property
    def known(self) -> str:
        """The years the calendar knows, for people.

        >>> Sessions(np.array([0]), np.array([86_400_000_000_000])).known
        'from 1970-01-01 to 1970-01-02'
        """
        first, last = (
            np.datetime64(int(at), "ns").astype("datetime64[D]") for at in (self.open_ns[0], self.close_ns[-1])
        )
        return f"from {first} to {last}"

    def is_open(self, time_ns: Ints) -> NDArray[np.bool_]:
        """Whether the market is open at moments, `(n,)`."""
        return self._place(time_ns)[1]

    def session_of(self, time_ns: Ints, span_ns: int = 0) -> Ints:
        """Number of the session at moments, `(n,)`; `CLOSED` where there is none.

        With `span_ns`, of stretches that begin there: the session of the first moment at which the market is open.
        """
        place, is_open = self._place(time_ns)
        found = np.where(is_open, self._session[place], CLOSED)
        if not span_ns or is_open.all():
            return found
        coming = np.searchsorted(self._begin, time_ns, side="right")
        known = coming.clip(max=len(self._begin) - 1)
        opens = ~is_open & (coming == known) & (self._begin[known] - time_ns < span_ns)
        return np.where(opens, self._session[known], found)

    def market_ns(self, time_ns: Ints) -> Ints:
        """Market time from the first session to moments, `(n,)`; it stands still while the market is closed."""
        place = np.searchsorted(self._begin, time_ns, side="right") - 1
        known = place.clip(min=0)
        passed = self._before[known] + np.minimum(time_ns - self._begin[known], self._length[known])
        return np.where(place >= 0, passed, 0)

    def open_time_between(self, from_ns: Ints, to_ns: Ints) -> Ints:
        """Market time between pairs of moments, `(n,)`."""
        return self.market_ns(to_ns) - self.market_ns(from_ns)

    def phase(self, time_ns: Ints) -> NDArray[np.float64]:
        """How far the session has gone in market time, 0 to 1, `(n,)`; NaN while the market is closed."""
        place, is_open = self._place(time_ns)
        session = self._session[place]
        first = np.searchsorted(self._session, np.arange(len(self.open_ns)))
        whole = np.add.reduceat(self._length, first)
        passed = self.market_ns(time_ns) - self._before[first[session]]
        return np.where(is_open, passed / whole[session], np.nan)

    def _place(self, time_ns: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """The newest stretch begun at moments, and whether they lie in it."""
        place = np.searchsorted(self._begin, time_ns, side="right") - 1
        known = place.clip(min=0)
        return known, np.asarray((place >= 0) & (time_ns < self._begin[known] + self._length[known]))
