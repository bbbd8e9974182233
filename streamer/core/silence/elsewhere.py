"""Streams that would be silent, but may have gone to another partition.

Not inside: which ones may have (`core.moves`), what becomes of them (`core.leaving`).
"""

from __future__ import annotations

from streamer.core.columns import Columns
from streamer.core.expiry import NOTHING_EXPIRED, Expired
from streamer.core.grouping import Ints
from streamer.core.moves import Moves
from streamer.core.silence.arrivals import Arrivals
from streamer.core.silence.intervals import Intervals
from streamer.core.silence.onsets import Onsets


class Elsewhere:
    """Finds them.

    Args:
        moves: Who may have gone.
        columns: Of silence.
        intervals: Limits of the streams.
        onsets: Know when streams were heard.
    """

    def __init__(self, moves: Moves, columns: Columns, intervals: Intervals, onsets: Onsets) -> None:
        self._moves, self._columns, self._intervals, self._onsets = moves, columns, intervals, onsets

    def cuts(self, codes: Ints, times_ns: Ints, partitions: Ints) -> list[int]:
        """Rows before which a batch is to be cut, as what comes there may be found to have left earlier in it."""
        rows = self._moves.returns(codes)
        until_ns = self._onsets.heard_ns[codes[rows]] + self._intervals.limit_ns(codes[rows])
        return self._moves.cuts(rows, until_ns, codes, times_ns, partitions)

    def gone(self, batch: Arrivals) -> Expired:
        """Those past their limit at the end of a batch."""
        unheard = batch.others[self._moves.in_doubt[batch.others]]
        if not len(unheard):
            return NOTHING_EXPIRED
        limit = self._columns["clock_ns"][unheard] + self._intervals.limit_ns(unheard)
        return batch.past(unheard, self._columns["power"][unheard], limit)
