"""Since when a stream is silent: never the same moment for two of its silences, as incidents are known by it.

Pure. Not inside: which streams are silent (`watch`).
"""

from __future__ import annotations

import numpy as np

from streamer.core.grouping import Ints
from streamer.core.keyed_state import KeyedState
from streamer.core.readings import NEVER
from streamer.core.silence.arrivals import Arrivals


class Onsets:
    """Onsets of silences: the newest event time a stream has sent.

    A stream that returned only with readings older than that, and then falls silent again, is silent since the newest
    event time of its partition when it was last heard.

    Args:
        state: Of all streams.
    """

    def __init__(self, state: KeyedState) -> None:
        self._columns = state.register(
            "onsets",
            {
                "heard_ns": (np.int64, (), NEVER),  # newest event time of the partition when the stream came last
                "told_ns": (np.int64, (), NEVER),  # latest onset of its silences that were told
            },
        )
        self._together = state.register_partitions("onsets")  # of the last silence of many

    @property
    def heard_ns(self) -> Ints:
        """Newest event time of its partition when each stream came last, `(rows,)`."""
        return self._columns["heard_ns"]

    def hear(self, codes: Ints, partition_ns: Ints) -> None:
        """Streams have come, and their partition stood at these times then."""
        self._columns["heard_ns"][codes] = partition_ns

    def begin(self, codes: Ints, last_ns: Ints) -> Ints:
        """Onsets of silences after the last readings, which are told, `(n,)`."""
        t = self._columns
        onsets = np.where(last_ns > t["told_ns"][codes], last_ns, t["heard_ns"][codes])
        t["told_ns"][codes] = np.maximum(t["told_ns"][codes], onsets)
        return onsets

    def begin_within(self, code: int, last_ns: int, heard_ns: int | None) -> int:
        """Onset of one that begins and ends within a batch; None: the stream was heard before it."""
        t = self._columns
        if heard_ns is None:
            heard_ns = int(t["heard_ns"][code])
        onset = last_ns if last_ns > t["told_ns"][code] else heard_ns
        t["told_ns"][code] = max(onset, int(t["told_ns"][code]))
        return onset

    def begin_together(self, batch: Arrivals, codes: Ints, last_ns: Ints) -> int:
        """Onset of a silence of many streams after a batch; not that of the one before in their partition."""
        before = self._together.get(batch.partition)
        moments = (last_ns, self._columns["heard_ns"][codes], batch.clocks.line_ns)
        onset = next(newest for newest in (int(times.max()) for times in moments) if newest != before)
        self._together[batch.partition] = onset
        return onset
