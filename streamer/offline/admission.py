"""Which readings of a data set the daemon would admit, and where its window buffers would be reset.

The daemon's own ordering, run over columns: training, the reconstruction and the report cut their windows where the
daemon does because the same code says where. Not inside: the windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.connectors.files import DataSet
from streamer.core.event_time.station import EventTime
from streamer.core.grouping import Ints, group
from streamer.core.keyed_state import KeyedState
from streamer.core.options import PipelineOptions
from streamer.core.ordering import Admitted, Ordering
from streamer.core.readings import Readings
from streamer.core.resets import Resets

LATE_IN_FILES = "raise time.lateness, or, if the order of the rows means nothing, sort them by time"
LATE_IN_TOPIC = (
    "key the messages by stream, so that each stays in one partition and in order (`streamer inspect` says whether "
    "they do), or raise time.lateness to what it shows"
)
OUTSIDE = "lie outside of the market hours of sessions.calendar: leave it out if there are none"
MOST_OUTSIDE = 0.01  # of all rows; more are worth a warning


@dataclass(frozen=True, slots=True)
class Passed:
    """Readings of the model, in order inside each stream."""

    stream: Ints  # (n,)
    time_ns: Ints  # (n,)
    values: NDArray[np.float32]  # (n, features + context)


class Arrivals:
    """Readings as they arrive, piece by piece, become what the model sees: the daemon's own event time.

    A stream that goes on in another file at an earlier time has nothing late there: files are given in any order.

    Args:
        options: Of the pipeline.
    """

    def __init__(self, options: PipelineOptions) -> None:
        self._state = KeyedState()
        self._station = EventTime.of(self._state, options)
        self._file: int | None = None
        self._met = set[int]()  # streams with rows in that file so far
        self.late = self.duplicates = self.outside = 0

    def take(self, piece: DataSet) -> list[Passed]:
        """Take in one piece; what comes of it, and of readings before that nothing can overtake any more."""
        for name in piece.names[len(self._state) :]:
            self._state.add(name)
        parts = [] if piece.file is None else self._begin_in_file(piece, piece.file)
        n = len(piece)
        partition = np.full(n, piece.partition)
        values = piece.values if self._station.options.holds else piece.values.astype(np.float32)
        readings = Readings(piece.stream, piece.time_ns, values, partition, np.arange(n), piece.sequence)
        admitted, _ = self._station.take(readings)
        self._state.assign(np.unique(piece.stream), piece.partition)
        return [*parts, self._passed(admitted)]

    def finish(self) -> list[Passed]:
        """What is still held back."""
        if not self._station.options.holds:
            return []
        return [self._passed(self._station.release(np.arange(len(self._state)), 0)[0])]

    def _begin_in_file(self, piece: DataSet, file: int) -> list[Passed]:
        """Streams whose rows in a file begin with this piece, earlier than those of a file before, begin anew."""
        if file != self._file:
            self._file, self._met = file, set()
        groups = group(piece.stream)
        self._state.reach(groups.codes)
        begins = np.minimum.reduceat(piece.time_ns[groups.order], groups.begin) if len(piece) else groups.begin
        met = np.array([code in self._met for code in groups.codes.tolist()], bool)
        self._met.update(groups.codes.tolist())
        back = groups.codes[~met & (begins <= self._station.ordering.columns["newest_ns"][groups.codes])]
        if not len(back):
            return []
        held = self._station.options.holds
        passed = [self._passed(self._station.release(back, piece.partition)[0])] if held else []
        self._state.clear(back)
        return passed

    def _passed(self, admitted: Admitted) -> Passed:
        self.late += admitted.late
        self.duplicates += admitted.duplicates
        self.outside += admitted.outside
        made = admitted.readings
        return Passed(made.stream, made.time_ns, made.values.astype(np.float32))


class Admission:
    """Takes readings piece by piece; which are admitted does not depend on the pieces.

    Args:
        resets: What resets a window.
    """

    def __init__(self, resets: Resets) -> None:
        self._ordering = Ordering(KeyedState(), resets)

    def admit(self, stream: Ints, time_ns: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Positions of the admitted readings in the piece, and which of these begin a window anew."""
        n = len(stream)
        nothing = np.empty((n, 0), np.float32)  # values are not looked at
        admitted = self._ordering.admit(Readings(stream, time_ns, nothing, np.zeros(n, np.int64), np.arange(n)))
        return admitted.readings.offset, admitted.fresh
