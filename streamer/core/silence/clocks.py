"""The clocks of one partition over one batch: they move with its newest event time, by at most a cap at once.

One clock for each power of two, so that every stream is measured by one whose cap is about a quarter of its limit, and
one by which streams' own steps are learned. With sessions they stand still while the market is closed. Pure numpy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamer.core.grouping import Ints
from streamer.core.newest import follow
from streamer.core.sessions import Sessions


class PartitionClocks:
    """Clocks before and after each reading of a batch.

    Args:
        stored: What `export` gave; None for a new partition.
        times_ns: Of its readings, `(n,)`, in the order they came.
        sessions: Market hours; None: always open.
        learn_cap_ns: Of the clock by which steps are learned.
        leap_ns: A reading further ahead moves no clock until others confirm it.
    """

    def __init__(
        self, stored: list[Any] | None, times_ns: Ints, sessions: Sessions | None, learn_cap_ns: int, leap_ns: int
    ) -> None:
        newest, learned, kept = stored or [None, 0, []]
        self.line_ns, self._newest = follow(newest, times_ns, leap_ns)  # newest event time, (n + 1,)
        self.steps_ns = np.diff(self.line_ns if sessions is None else sessions.market_ns(self.line_ns))
        self.learn_ns = learned + np.cumsum(np.minimum(self.steps_ns, learn_cap_ns))  # after each reading, (n,)
        self._kept: dict[int, int] = dict(kept)
        self._index = np.full(64, -1, np.int64)
        self._table = np.empty((0, len(self.line_ns)), np.int64)

    def have(self, powers: Ints) -> None:
        """Run the clocks of these powers, and of those that ran before."""
        wanted = sorted({*self._kept, *powers.tolist()})
        self._index[wanted] = np.arange(len(wanted))
        self._table = np.empty((len(wanted), len(self.line_ns)), np.int64)
        for row, power in zip(self._table, wanted, strict=True):
            row[0] = 0
            np.cumsum(np.minimum(self.steps_ns, 1 << power), out=row[1:])
            row += self._kept.get(power, 0)

    def at(self, powers: Ints, places: Ints) -> Ints:
        """Clocks after the readings at `places`; -1 is before the first, `(m,)`."""
        return np.asarray(self._table[self._index[powers], places + 1])

    def end(self, powers: Ints) -> Ints:
        """Clocks after the last reading, `(m,)`."""
        return np.asarray(self._table[self._index[powers], -1])

    @property
    def ends(self) -> Ints:
        """All clocks after the last reading, `(64,)`; the lowest number where none runs."""
        ends = np.full(64, np.iinfo(np.int64).min)
        running = self._index >= 0
        ends[running] = self._table[self._index[running], -1]
        return ends

    def first_after(self, power: int, clock: int) -> int:
        """The first reading after which a clock is past a value."""
        return int(np.searchsorted(self._table[self._index[power]], clock, side="right")) - 1

    def export(self) -> list[Any]:
        """JSON values from which the next batch goes on."""
        powers = np.flatnonzero(self._index >= 0)
        kept = [[int(power), int(self._table[self._index[power], -1])] for power in powers.tolist()]
        return [self._newest, int(self.learn_ns[-1]), kept]


def power_below(values: Ints) -> Ints:
    """The power of two at or below each value.

    >>> power_below(np.array([0, 1, 2, 3, 4, 1000])).tolist()
    [0, 0, 1, 1, 2, 9]
    """
    return np.asarray(np.frexp(np.maximum(values, 1).astype(np.float64))[1].astype(np.int64) - 1)
