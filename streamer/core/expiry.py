"""Streams that have sent nothing for their time to live: found, so that what is remembered of them can go.

Each partition has a clock that moves with its newest event time, by at most a quarter of the time to live at
once: after a pause of the whole partition no stream has expired. Event time only, so a replay in any batches
agrees. Pure. Not inside: forgetting them (`keyed_state`), resolving their incidents (`incidents`, `silence`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.grouping import Ints, group
from streamer.core.keyed_state import KeyedState

Bools = NDArray[np.bool_]

_LONGEST = 1 << 61  # ns; sums of two stay within 64 bits


@dataclass(frozen=True, slots=True)
class Expired:
    """Streams that a batch has shown to be gone."""

    codes: Ints  # (k,)
    rows: Ints  # (k,) the reading of the batch that moved the clock past each one's time to live

    @classmethod
    def join(cls, parts: Sequence[Expired]) -> Expired:
        """Several of one batch; there is at least one."""
        if len(parts) == 1:
            return parts[0]
        return cls(np.concatenate([part.codes for part in parts]), np.concatenate([part.rows for part in parts]))

    def among(self, rows: Ints, wanted: bool) -> Expired:
        """The same, if wanted, where the batch was made of `rows` of a larger one."""
        return Expired(self.codes, rows[self.rows]) if wanted and len(self.codes) else self

    def but(self, others: Expired) -> Expired:
        """Those that are not among others, unless they are there for a later reading."""
        where = dict(zip(others.codes.tolist(), others.rows.tolist(), strict=True))
        pairs = zip(self.codes.tolist(), self.rows.tolist(), strict=True)
        kept = np.array([row < where.get(code, row + 1) for code, row in pairs], bool)
        return Expired(self.codes[kept], self.rows[kept])


NOTHING_EXPIRED = Expired(np.empty(0, np.int64), np.empty(0, np.int64))


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
        self.clocks = np.empty(0, np.int64)  # of its partition after each reading of the newest step, `(n,)`

    def first_return(self, codes: Ints, times_ns: Ints, partitions: Ints, moves: Bools) -> tuple[int, int] | None:
        """The first reading, if any, whose stream had expired when it came: its row and stream.

        The batch must be cut before it, and the stream forgotten.

        Args:
            codes: Stream of each reading, `(n,)`, in the order they came.
            times_ns: `(n,)`.
            partitions: `(n,)`.
            moves: False for late readings and duplicates, which move no clock, `(n,)`.
        """
        if self.ttl_ns is None or not len(codes):
            return None
        self._state.reach(codes)
        found = []
        for partition in np.unique(partitions).tolist():
            rows = np.flatnonzero(partitions == partition)
            clock, clocks, _ = self._advance(partition, times_ns[rows], moves[rows])
            just_before = np.concatenate([[clock], clocks[:-1]])
            # A stream of another partition was measured by another clock.
            rows, clocks_here, just_before = self._own(partition, codes, rows, clocks, just_before)
            if not len(rows):
                continue
            last = self._columns["last_clock_ns"][codes[rows]]
            oldest = min(clock, int(last[last >= 0].min(initial=clock)))
            if clocks[-1] - oldest <= self.ttl_ns:
                continue  # nothing in this batch is that far apart
            groups = group(codes[rows])
            before = np.concatenate([[0], clocks_here[groups.order][:-1]])
            before[groups.begin] = self._columns["last_clock_ns"][groups.codes]
            back = (before >= 0) & (just_before[groups.order] - before > self.ttl_ns)
            if back.any():
                found.append(int(rows[groups.order[back].min()]))
        row = min(found, default=None)
        return None if row is None else (row, int(codes[row]))

    def clock(self, partition: int) -> int:
        """The clock of a partition now."""
        return int(self._clocks.get(partition, (0, 0))[1])

    def step(self, codes: Ints, times_ns: Ints, partitions: Ints, moves: Bools) -> Expired:
        """Take in readings, late ones too, since they are signs of life; find the streams that have expired."""
        expired, at = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        self.clocks = np.zeros(len(codes), np.int64)
        if not len(codes):
            return NOTHING_EXPIRED
        self._state.reach(codes)
        last = self._columns["last_clock_ns"]
        for partition in np.unique(partitions).tolist():
            rows = np.flatnonzero(partitions == partition)
            _, clocks, self._clocks[partition] = self._advance(partition, times_ns[rows], moves[rows])
            self.clocks[rows] = clocks
            own, clocks_here = self._own(partition, codes, rows, clocks)
            last[codes[own]] = clocks_here  # of several readings of a stream the last stays
            gone = self._gone(partition, clocks)
            expired.append(gone.codes)
            at.append(rows[gone.rows])
        return Expired(np.concatenate(expired), np.concatenate(at))

    def go_on(self, partition: int, times_ns: Ints) -> Expired:
        """Time goes on in a partition by readings that are of no stream known."""
        self._state.reach(np.empty(0, np.int64))
        _, clocks, self._clocks[partition] = self._advance(partition, times_ns, np.ones(len(times_ns), bool))
        return self._gone(partition, clocks)

    def _gone(self, partition: int, clocks: Ints) -> Expired:
        """Streams of a partition that have expired, given its clock after each reading."""
        last = self._columns["last_clock_ns"]
        if self.ttl_ns is None or clocks[-1] - self._oldest.get(partition, 0) <= self.ttl_ns:
            return NOTHING_EXPIRED
        known = np.flatnonzero((self._state.partition == partition) & (last >= 0))
        is_gone = clocks[-1] - last[known] > self.ttl_ns
        gone = known[is_gone]
        self._oldest[partition] = int(last[known[~is_gone]].min(initial=int(clocks[-1])))
        return Expired(gone, np.searchsorted(clocks, last[gone] + self.ttl_ns, side="right"))

    def _own(self, partition: int, codes: Ints, rows: Ints, *columns: Ints) -> list[Ints]:
        """Of the rows of a partition those of its own streams and of new ones; columns beside them likewise."""
        owner = self._state.partition[codes[rows]]
        mine = (owner == partition) | (owner < 0)
        return [rows[mine], *(column[mine] for column in columns)]

    def _advance(self, partition: int, times_ns: Ints, moves: Bools) -> tuple[int, Ints, list[int]]:
        """A partition's clock before and after each reading, `(n,)`; newest event time and clock at the end."""
        newest, clock = self._clocks.get(partition) or (int(times_ns[np.argmax(moves)]), 0)
        line = np.maximum.accumulate(np.concatenate([[newest], np.where(moves, times_ns, newest)]))
        cap = _LONGEST if self.ttl_ns is None else max(1, self.ttl_ns // 4)
        clocks = clock + np.cumsum(np.minimum(np.diff(line), cap))
        return int(clock), clocks, [int(line[-1]), int(clocks[-1])]
