"""Sliding windows of thousands of streams in one slab.

Each stream owns a strip of the slab, twice the window long. Readings are written one
after another, so a window is a contiguous piece of the strip and cutting it is one copy;
when a strip is full, its newest readings move to the front. A push of any mix of
streams gives back every window it closes, without Python code per reading.

Pure: no clock, no broker. Not inside: event-time order (`frames` has seen to it), scaling.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Arrays
from streamer.core.grouping import Groups, Ints, group
from streamer.core.keyed_state import KeyedState

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows just closed; they lie in the slab, so take them before the push goes on."""

    rows: Ints  # (k,) which pushed reading closed each window
    _starts: Ints  # (k,) where each window begins in the slab
    _views: Float32  # every window of the slab, as views

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, which: slice) -> Float32:
        """Some windows, copied: `(n, length, width)`, oldest reading first."""
        return self._views[self._starts[which]]


class Windower:
    """Strips of all streams.

    Args:
        state: Of all streams.
        length: Readings in a window.
        stride: Readings between the ends of two windows of a stream.
        width: Numbers of a reading: features, then context.
        history: Readings that are kept longer, so that windows which ended with them can be cut again.
    """

    def __init__(self, state: KeyedState, length: int, stride: int, width: int, history: int = 0) -> None:
        self.length, self.stride, self.width = length, stride, width
        self._kept = length + history
        self._room = 2 * length + history
        self._state = state
        self._columns = state.register(
            "windows",
            {
                "strip": (np.float32, (self._room, width), 0.0),
                "used": (np.int64, (), 0),  # readings in the strip
                "run": (np.int64, (), 0),  # readings since the window was last reset
            },
            take=self._take,
            put=self._put,
        )

    def push(self, codes: Ints, values: Float32, fresh: NDArray[np.bool_]) -> Iterator[Windows]:
        """Add readings, several of a stream in time order, and cut the windows they close.

        Yields at least once for every `length + 1` readings of a stream; all readings
        are added only when the iterator is exhausted.

        Args:
            codes: Stream of each reading, `(n,)`.
            values: `(n, width)`.
            fresh: True where the stream's window is reset and begins with this reading, `(n,)`.
        """
        if not len(codes):
            return
        groups = group(codes)
        self._state.reach(groups.codes[-1:])
        most = self._room - self._kept + 1  # readings a strip surely has room for
        if int(groups.count.max()) <= most:
            yield self._push(groups, groups.order, values, fresh)
            return
        turn = groups.rank // most
        for number in range(int(turn[-1] if len(groups.codes) == 1 else turn.max()) + 1):
            rows = groups.order[turn == number]
            part = group(codes[rows])
            yield self._push(part, rows[part.order], values, fresh)

    def _push(self, groups: Groups, rows: Ints, values: Float32, fresh: NDArray[np.bool_]) -> Windows:
        """Push readings `rows`, already in the order of `groups`, each stream with room for its own."""
        length = self.length
        strip, used, run = self._columns["strip"], self._columns["used"], self._columns["run"]
        flat = strip.reshape(-1, self.width)
        views = np.lib.stride_tricks.as_strided(
            flat,
            (max(0, len(flat) - length + 1), length, self.width),
            (flat.strides[0], *flat.strides),
            writeable=False,
        )

        before = used[groups.codes]
        full = before + groups.count > self._room
        if full.any():
            moving = groups.codes[full]
            kept = self._kept - 1
            # Indexing copies, so source and target may overlap.
            source = (moving * self._room + before[full] - kept)[:, None] + np.arange(kept)
            strip[moving, :kept] = flat[source]
            before[full] = kept
        member, rank = groups.member, groups.rank
        place = groups.codes[member] * self._room + before[member] + rank
        flat[place] = values[rows]

        since = run[groups.codes][member] + rank + 1
        reset = fresh[rows]
        if reset.any():
            line = np.arange(len(rows))
            newest_reset = np.maximum.accumulate(np.where(reset, line, -1))
            since = np.where(newest_reset >= groups.begin[member], line - newest_reset + 1, since)
        used[groups.codes] = before + groups.count
        run[groups.codes] = since[groups.begin + groups.count - 1]

        closed = np.flatnonzero((since >= length) & ((since - length) % self.stride == 0))
        return Windows(rows[closed], place[closed] - length + 1, views)

    def missing(self, codes: Ints) -> Ints:
        """Readings each stream still lacks until its first window closes, `(n,)`."""
        self._state.reach(codes)
        lacking: Ints = np.maximum(0, self.length - self._columns["run"][codes])
        return lacking

    def run(self, code: int) -> int:
        """Readings of a stream since its window was last reset."""
        return int(self._columns["run"][code])

    def held(self, code: int) -> int:
        """Newest readings of a stream that are surely there, wherever a strip began anew and after a restart."""
        return min(int(self._columns["used"][code]), self._kept)

    def newest(self, code: int, count: int) -> Float32:
        """The newest readings of a stream, oldest first; writes go through."""
        used = int(self._columns["used"][code])
        return self._columns["strip"][code, used - count : used]

    def again(self, code: int, back: Ints) -> Float32:
        """Windows that ended so many readings before a stream's newest, `(n, length, width)`."""
        end = int(self._columns["used"][code]) - back
        windows: Float32 = self._columns["strip"][code][end[:, None] + np.arange(-self.length, 0)]
        return windows

    @property
    def strips(self) -> Float32:
        """The slab, `(rows, 2 * length, width)`; writes go through."""
        return self._columns["strip"]

    def _take(self, codes: Ints) -> Arrays:
        """The newest readings of some streams, which is all that exporting needs."""
        used = self._columns["used"][codes]
        kept = np.minimum(used, self._kept)
        place = np.maximum(used - self._kept, 0)[:, None] + np.arange(self._kept)
        return {
            "newest": self._columns["strip"][codes[:, None], place],
            "used": kept,
            "run": self._columns["run"][codes],
        }

    def _put(self, codes: Ints, columns: Arrays) -> None:
        wanted = (len(codes), self._kept, self.width)
        if columns["newest"].shape != wanted:
            raise ValueError(f"column newest: wanted {wanted}; got {columns['newest'].shape}")
        self._columns["strip"][codes, : self._kept] = columns["newest"]
        self._columns["used"][codes] = np.clip(columns["used"], 0, self._kept)
        self._columns["run"][codes] = columns["run"]
