"""Event time: each stream moves forward only; duplicates, late readings and gaps are told apart.

A reading is admitted if it is newer than all its stream has admitted. Which readings
are admitted does not depend on how they were batched. Pure: no clock but the readings'
own. Not inside: re-ordering within a lateness budget, resampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.grouping import group
from streamer.core.keyed_state import Table
from streamer.core.readings import NEVER, Readings


@dataclass(frozen=True, slots=True)
class Admitted:
    """What came of one batch of readings."""

    readings: Readings  # the admitted ones, in arrival order
    fresh: NDArray[np.bool_]  # (admitted,) the stream begins anew here: a gap too long to bridge
    duplicates: int  # same stream and event time as the newest admitted
    late: int  # older than the newest admitted


class Ordering:
    """Keeps the newest event time of every stream.

    Args:
        max_gap_ns: A longer step between two readings of a stream starts it anew;
            None never does.
    """

    def __init__(self, max_gap_ns: int | None = None) -> None:
        self.max_gap_ns = max_gap_ns
        self.table = Table({"last_ns": (np.int64, (), NEVER)})

    def admit(self, readings: Readings) -> Admitted:
        """Sort out one batch and move the streams' clocks forward."""
        n = len(readings)
        if n == 0:
            return Admitted(readings, np.empty(0, bool), 0, 0)
        groups = group(readings.stream)
        self.table.reach(int(groups.codes[-1]) + 1)
        last = self.table["last_ns"]
        if len(groups.codes) == n and self.max_gap_ns is None:  # one reading a stream: nothing to order
            known = last[readings.stream]
            where = np.flatnonzero(readings.time_ns > known)
            duplicates = int((readings.time_ns == known).sum())
            last[readings.stream[where]] = readings.time_ns[where]
            kept = readings if len(where) == n else readings.take(where)
            return Admitted(kept, np.zeros(len(where), bool), duplicates, n - len(where) - duplicates)
        # One line of times: each group's newest known time, then its readings. Ranks stand
        # for times so that group and time fit one integer and one running maximum.
        before = last[groups.codes]
        line = np.insert(readings.time_ns[groups.order], groups.begin, before)
        rank = np.unique(line, return_inverse=True)[1]
        member = np.repeat(np.arange(len(groups.codes)), groups.count + 1)
        key = member * (n + len(groups.codes) + 1) + rank
        newest = np.maximum.accumulate(key)
        is_reading = np.ones(len(line), bool)
        is_reading[groups.begin + np.arange(len(groups.begin))] = False
        ahead = np.zeros(len(line), np.int64)
        ahead[1:] = key[1:] - newest[:-1]
        verdict = ahead[is_reading]  # above 0: newer than everything before it in its group
        admitted_in_order = verdict > 0

        admitted = np.empty(n, bool)
        admitted[groups.order] = admitted_in_order
        fresh = np.zeros(n, bool)
        if self.max_gap_ns is not None:
            # The newest time before each reading; the inverse of `rank` is in `line` itself.
            where_newest = np.maximum.accumulate(np.where(key == newest, np.arange(len(line)), 0))
            previous = line[np.concatenate([[0], where_newest[:-1]])][is_reading]
            known = previous != NEVER
            step = readings.time_ns[groups.order] - np.where(known, previous, 0)
            fresh[groups.order] = known & admitted_in_order & (step > self.max_gap_ns)
        last[groups.codes] = np.maximum(before, np.maximum.reduceat(readings.time_ns[groups.order], groups.begin))
        where = np.flatnonzero(admitted)
        duplicates = int((verdict == 0).sum())
        return Admitted(readings.take(where), fresh[where], duplicates, n - len(where) - duplicates)
