"""Maintenance windows: when they begin and end, in Unix nanoseconds.

Not inside: calendars and time zones (`config.notifications` turns them into moments).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field

from streamer.core.notifying.matching import Match

DAY_NS = 86_400_000_000_000


class Begins:
    """Moments at which windows begin, taken from their source as far as they are asked for.

    Args:
        moments: Unix ns, rising but for a change of the clocks; may go on for ever.
    """

    def __init__(self, moments: Iterable[int]) -> None:
        self._coming = iter(moments)
        self._known: list[int] = []
        self._until_ns: int | None = None  # all up to here are known; None: none is

    def latest(self, at_ns: int) -> int | None:
        """The last one at or before a moment; None: there is none.

        >>> begins = Begins([10, 20, 30])
        >>> begins.latest(25), begins.latest(30), begins.latest(9)
        (20, 30, None)
        """
        # A day more: where the clocks go back, what begins later by them may begin earlier.
        while self._until_ns is None or self._until_ns <= at_ns + DAY_NS:
            begin = next(self._coming, None)
            if begin is None:
                self._until_ns = 1 << 63
                break
            bisect.insort(self._known, begin)
            self._until_ns = begin
        place = bisect.bisect_right(self._known, at_ns)
        return self._known[place - 1] if place else None


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Windows of one name, all of one length; what happens in them is expected."""

    name: str
    match: Match
    lasts_ns: int
    begins: Begins = field(compare=False)

    def until_ns(self, at_ns: int) -> int | None:
        """The end of the window that a moment lies in; the end itself is outside. None: it lies in none.

        >>> weekly = Maintenance("wash", Match(), 5, Begins([10, 20]))
        >>> [weekly.until_ns(at) for at in (9, 10, 14, 15, 20)]
        [None, 15, 15, None, 25]
        """
        begin = self.begins.latest(at_ns)
        return begin + self.lasts_ns if begin is not None and at_ns < begin + self.lasts_ns else None
