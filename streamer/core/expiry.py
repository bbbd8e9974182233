"""Streams that have sent nothing for their time to live: found, so that what is remembered of them can go.

Each partition has a clock that moves with its newest event time, by at most a quarter of the time to live at
once: after a pause of the whole partition no stream has expired. Event time only, so a replay in any batches
agrees. Pure. Not inside: forgetting them (`keyed_state`), resolving their incidents (`incidents`, `silence`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamer.core.grouping import Ints, group
from streamer.core.keyed_state import KeyedState
from streamer.core.silence import advance

_LONGEST = 1 << 61  # ns; sums of two stay within 64 bits


@dataclass(frozen=True, slots=True)
class Expired:
    """Streams that a batch has shown to be gone."""

    codes: Ints  # (k,)
    rows: Ints  # (k,) the reading of the batch that moved the clock past each one's time to live


class Expiry:
    """The time to live of every stream.

    Args:
        state: Of all streams.
        ttl_ns: Event time without a reading after which a stream is forgotten; None: never.
    """

    def __init__(self, state: KeyedState, ttl_ns: int | None) -> None:
        self.ttl_ns = None if ttl_ns is None else min(ttl_ns, _LONGEST)
        self._state = state
        self._clocks = state.register_partitions("expiry")
        self._columns = state.register("expiry", {"last_clock_ns": (np.int64, (), -1)})
        self._oldest = state.register_partitions("expiry.oldest")  # no stream of it was last seen before this

    def first_return(self, codes: Ints, times_ns: Ints, partitions: Ints) -> int | None:
        """The first reading, if any, whose stream had expired when it came; the batch must be cut before it.

        Args:
            codes: Stream of each reading, `(n,)`, in the order they came.
            times_ns: `(n,)`.
            partitions: `(n,)`.
        """
        if self.ttl_ns is None or not len(codes):
            return None
        self._state.reach(codes)
        found = []
        for partition in np.unique(partitions).tolist():
            rows = np.flatnonzero(partitions == partition)
            some = codes[rows]
            clock, clocks = advance(dict(self._clocks), partition, times_ns[rows], self._cap)
            last = self._columns["last_clock_ns"][some]
            oldest = min(clock, int(last[last >= 0].min(initial=clock)))
            if clocks[-1] - oldest <= self.ttl_ns:
                continue  # nothing in this batch is that far apart
            groups = group(some)
            before = np.concatenate([[0], clocks[groups.order][:-1]])
            here = self._state.partition[groups.codes] == partition  # else measured by another clock
            before[groups.begin] = np.where(here, self._columns["last_clock_ns"][groups.codes], -1)
            just_before = np.concatenate([[clock], clocks[:-1]])[groups.order]
            back = (before >= 0) & (just_before - before > self.ttl_ns)
            if back.any():
                found.append(int(rows[groups.order[back].min()]))
        return min(found, default=None)

    def step(self, codes: Ints, times_ns: Ints, partitions: Ints) -> Expired:
        """Take in readings, late ones too, since they are signs of life; find the streams that have expired."""
        expired, at = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        if self.ttl_ns is None or not len(codes):
            return Expired(expired[0], at[0])
        self._state.reach(codes)
        last = self._columns["last_clock_ns"]
        for partition in np.unique(partitions).tolist():
            rows = np.flatnonzero(partitions == partition)
            _, clocks = advance(self._clocks, partition, times_ns[rows], self._cap)
            last[codes[rows]] = clocks  # of several readings of a stream the last stays
            if clocks[-1] - self._oldest.get(partition, 0) <= self.ttl_ns:
                continue
            known = np.flatnonzero((self._state.partition == partition) & (last >= 0))
            is_gone = clocks[-1] - last[known] > self.ttl_ns
            gone = known[is_gone]
            expired.append(gone)
            at.append(rows[np.searchsorted(clocks, last[gone] + self.ttl_ns, side="right")])
            self._oldest[partition] = int(last[known[~is_gone]].min(initial=int(clocks[-1])))
        return Expired(np.concatenate(expired), np.concatenate(at))

    @property
    def _cap(self) -> int:
        assert self.ttl_ns is not None
        return max(1, self.ttl_ns // 4)
