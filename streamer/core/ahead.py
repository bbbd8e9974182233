"""Readings from the future that nothing vouches for: refused, so that the time of their streams does not run away.

A reading at most a minute ahead of its record's own time is what it says it is. Any other is measured against the
newest time of its stream and of its partition (`newest`, which one wrong clock does not move): further ahead than the
stream's longest usual pause, or where records have no time than `max_future`, it is refused. Eight such readings of a
stream in a row, which agree, are a clock that is wrong steadily and are taken from the eighth on; without a record's
time only the partition's own time can say so. A function of the order of arrival alone. Pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.grouping import Ints
from streamer.core.keyed_state import KeyedState
from streamer.core.newest import CONFIRMED_BY, follow
from streamer.core.readings import NEVER, NO_RECORD_TIME, VOUCHED, Readings

LEAP_NS = 60_000_000_000
PAUSE = 30  # intervals of the bundle that a stream may usually pause


class Ahead:
    """Keeps the newest time of each partition, and how many readings of a stream in a row were refused.

    Args:
        state: Of all streams.
        max_future_ns: How far ahead of its partition a reading may be whose record has no time.
    """

    def __init__(self, state: KeyedState, max_future_ns: int) -> None:
        self._state, self._max_future_ns = state, max(max_future_ns, LEAP_NS)
        self._clocks = state.register_partitions("ahead")
        self._columns = state.register("ahead", {"count": (np.int8, (), 0), "from_ns": (np.int64, (), NEVER)})

    def refuse(self, readings: Readings, newest_ns: Ints, limit_ns: Ints) -> Ints:
        """Rows of a batch that are not to be taken, rising.

        Args:
            readings: In the order they came.
            newest_ns: Of each reading's stream before the batch, `(n,)`.
            limit_ns: Of each reading's stream: a longer step is a silence, `(n,)`.
        """
        if not len(readings):
            return np.empty(0, np.int64)
        stands_ns = self._follow(readings)
        self._state.reach(readings.stream)
        waits = self._columns["count"][readings.stream] > 0
        if readings.ahead is None and not waits.any():
            return np.empty(0, np.int64)
        kind = np.full(len(readings), VOUCHED, np.int8) if readings.ahead is None else readings.ahead
        leap_ns = np.where(kind == NO_RECORD_TIME, self._max_future_ns, np.maximum(LEAP_NS, limit_ns))
        far = (kind != VOUCHED) & (readings.time_ns - np.maximum(stands_ns, newest_ns) > leap_ns)
        if not far.any() and not waits.any():
            return np.empty(0, np.int64)
        some = np.flatnonzero(np.isin(readings.stream, readings.stream[far | waits]))
        return self._one_by_one(readings, some, kind, stands_ns, newest_ns, leap_ns)

    def _one_by_one(
        self, readings: Readings, rows: Ints, kind: NDArray[np.int8], stands_ns: Ints, newest_ns: Ints, leap_ns: Ints
    ) -> Ints:
        """Of the few streams with a reading that is far ahead, reading by reading."""
        t, refused, own = self._columns, list[int](), dict[int, int]()
        for row in rows.tolist():
            code, at, leap = int(readings.stream[row]), int(readings.time_ns[row]), int(leap_ns[row])
            stands = max(own.get(code, int(newest_ns[row])), int(stands_ns[row]))
            if kind[row] == VOUCHED or at - stands <= leap:
                t["count"][code] = 0
                own[code] = max(own.get(code, int(newest_ns[row])), at)
                continue
            agrees = t["count"][code] > 0 and at >= t["from_ns"][code] - leap
            if not agrees:
                t["count"][code], t["from_ns"][code] = 0, at
            if kind[row] != NO_RECORD_TIME and t["count"][code] + 1 >= CONFIRMED_BY:
                t["count"][code] = 0
                own[code] = at
                continue
            t["count"][code] = min(int(t["count"][code]) + 1, CONFIRMED_BY)
            refused.append(row)
        return np.array(refused, np.int64)

    def _follow(self, readings: Readings) -> Ints:
        """Newest time of its partition before each reading, `(n,)`."""
        partitions, stands_ns = readings.partition, np.empty(len(readings), np.int64)
        first = int(partitions[0])
        several = np.unique(partitions).tolist() if (partitions != first).any() else [first]
        for partition in several:
            rows = np.flatnonzero(partitions == partition) if len(several) > 1 else slice(None)
            line, self._clocks[partition] = follow(self._clocks.get(partition), readings.time_ns[rows], LEAP_NS)
            stands_ns[rows] = line[:-1]
        return stands_ns
