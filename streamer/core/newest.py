"""The newest event time of a partition, which one reading of the far future does not move.

A reading that is far ahead of all before it is a candidate. Eight readings in a row near or beyond it, with none
between that goes on where time stood, confirm it: the partition had paused, or one of few streams is all that is left.
Until then time goes on from where it stood. So a single wrong clock does not stand in the way of all others until its
time has come. Never back, and a function of the order of the readings alone. Pure.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamer.core.grouping import Ints

CONFIRMED_BY = 8  # readings


def follow(stored: list[int] | None, times_ns: Ints, leap_ns: int) -> tuple[Ints, list[int]]:
    """Newest event time before and after each reading of a partition.

    Args:
        stored: What the last call gave; None for a new partition.
        times_ns: Event times in the order they came, `(n,)`, at least one.
        leap_ns: A reading further ahead than this is a candidate.

    Returns:
        `(n + 1,)`, never falling, the first is before the first reading; and what the next call is to be given, JSON.

    >>> line, _ = follow(None, np.array([1, 2, 90, 3, 4]), 10)
    >>> line.tolist()
    [1, 1, 2, 2, 3, 4]
    """
    newest, *candidate = stored or [int(times_ns[0])]
    n = len(times_ns)
    if not candidate:
        line = np.maximum.accumulate(np.concatenate([[newest], times_ns]))
        leaps = np.flatnonzero(np.diff(line) > leap_ns)
        if not len(leaps):
            return line, [int(line[-1])]
        begin = int(leaps[0])
        line = line.copy()
        newest = int(line[begin])
    else:
        begin, line = 0, np.empty(n + 1, np.int64)
        line[0] = newest
    # Only where a candidate is about: reading by reading.
    found: list[Any] = []
    ahead, most, count = candidate or (0, 0, 0)
    for time in times_ns[begin:].tolist():
        if count and time >= ahead - leap_ns:
            most, count = max(most, time), count + 1
            if count >= CONFIRMED_BY:
                newest, count = max(newest, most), 0
        elif time > newest + leap_ns:
            ahead, most, count = time, newest, 1
        elif time > newest:
            newest, count = time, min(count, 1)
        found.append(newest)
    line[begin + 1 :] = found
    return line, [newest, ahead, most, count] if count else [newest]
