"""Streams that may have gone to another partition, because partitions were added to the topic.

Keys are then spread anew, so a stream that stops coming to a partition need not be silent. Where a default partitioner
explains why the streams known are where they are, it says which ones stay and which do not; otherwise every stream is
in doubt until it is heard again. Pure. Not inside: how long one may be unheard (`silence`), what its end leads to
(`pipeline`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from streamer.core.grouping import Ints
from streamer.core.keyed_state import KeyedState
from streamer.core.partitioners import which

_HEARD, _IN_DOUBT, _ELSEWHERE = 0, 1, 2


class Moves:
    """What is known of where streams are.

    Args:
        state: Of all streams.
    """

    def __init__(self, state: KeyedState) -> None:
        self._state = state
        self._counts = state.register_partitions("partitions")  # of the topic, when it was last told
        self._columns = state.register("moves", {"doubt": (np.int8, (), _HEARD)})

    @property
    def in_doubt(self) -> NDArray[np.bool_]:
        """Streams not heard since partitions were added, that may have gone, `(rows,)`."""
        return np.asarray(self._columns["doubt"] != _HEARD)

    def spread(self, partitions: Iterable[int], count: int) -> int:
        """The topic has so many partitions; returns of how many streams of `partitions` it is doubtful that they stay.

        Args:
            partitions: Those held.
            count: Of the whole topic.
        """
        found = 0
        for partition in partitions:
            before, self._counts[partition] = self._counts.get(partition, count), count
            if count <= before:
                continue
            codes = self._state.streams_of(partition)
            self._state.reach(codes)
            names = [self._state.names[code] for code in codes.tolist()]
            partitioner = which(names, partition, before)
            if partitioner is None:
                doubt = np.full(len(codes), _IN_DOUBT)
            else:
                stays = (partitioner(name.encode()) % count == partition for name in names)
                doubt = np.where(np.fromiter(stays, bool, len(names)), _HEARD, _ELSEWHERE)
            self._columns["doubt"][codes] = doubt
            found += int((doubt != _HEARD).sum())
        return found

    def hear(self, codes: Ints, partition: int) -> None:
        """Streams have come to a partition; call it before that is noted as theirs.

        One that does not belong there is still on its way: producers learn of new partitions minutes later.
        """
        doubt = self._columns["doubt"]
        leaves = (doubt[codes] == _ELSEWHERE) & (self._state.partition[codes] == partition)
        doubt[codes] = np.where(leaves, _ELSEWHERE, _HEARD)

    def leaves(self, codes: Ints) -> NDArray[np.bool_]:
        """Which streams are known to belong to another partition than the one they were last heard in."""
        return np.asarray(self._columns["doubt"][codes] == _ELSEWHERE)

    def returns(self, codes: Ints) -> Ints:
        """Where in a batch streams in doubt come, rising."""
        self._state.reach(codes)
        return np.flatnonzero(self.in_doubt[codes])

    def cuts(self, rows: Ints, until_ns: Ints, codes: Ints, times_ns: Ints, partitions: Ints) -> list[int]:
        """Those of `rows` whose stream's partition may move past a time within the batch.

        Args:
            rows: From `returns`.
            until_ns: Event time, of each.
            codes: Stream of each reading of the batch, `(n,)`.
            times_ns: `(n,)`.
            partitions: `(n,)`.
        """
        owners, found = self._state.partition[codes[rows]], np.zeros(len(rows), bool)
        for owner in np.unique(owners).tolist():
            newest_ns = times_ns[partitions == owner].max(initial=0)
            found |= (owners == owner) & (until_ns < newest_ns)
        return [row for row in rows[found].tolist() if row]

    def gone(self, partition: int) -> Ints:
        """Streams of a partition of which it is known that they come elsewhere now."""
        self._state.reach(np.empty(0, np.int64))
        return np.flatnonzero((self._columns["doubt"] == _ELSEWHERE) & (self._state.partition == partition))
