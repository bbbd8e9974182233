"""The newest figures of every stream, for whoever looks: gone with the window they are of.

Not exported: a restart finds them again with the next window. Not inside: any of their use.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.grouping import Ints
from streamer.core.keyed_state import KeyedState

Float32 = NDArray[np.float32]


class Latest:
    """Score, settled score and reconstruction error of each stream's newest window.

    Args:
        state: Of all streams.
    """

    NAMES = ("score", "settled", "error")

    def __init__(self, state: KeyedState) -> None:
        self._columns = state.register("latest", dict.fromkeys(self.NAMES, (np.float32, (), np.nan)), exported=False)

    def __getitem__(self, name: str) -> Float32:
        """One figure of all streams, `(rows,)`; NaN where there is none."""
        return self._columns[name]

    @property
    def rows(self) -> int:
        return self._columns.rows

    def step(self, codes: Ints, fresh: NDArray[np.bool_], *columns: Float32) -> None:
        """Note the newest figures; a reset leaves none until the next window closes.

        Args:
            codes: Stream of each reading, `(n,)`.
            fresh: Where a stream's window is reset.
            columns: One of each name, `(n,)`; no score, no figures.
        """
        shown = ~np.isnan(columns[0])
        if fresh.any():
            resets = np.flatnonzero(fresh)
            streams, place = np.unique(codes[resets][::-1], return_index=True)
            newest = resets[::-1][place]  # each stream's last reset in this batch
            for name in self.NAMES:
                self._columns[name][streams] = np.nan
            known = np.searchsorted(streams, codes).clip(max=len(streams) - 1)
            shown &= (streams[known] != codes) | (np.arange(len(codes)) >= newest[known])
        for name, values in zip(self.NAMES, columns, strict=True):
            self._columns[name][codes[shown]] = values[shown]  # of several of a stream the last stays

    def blank(self) -> None:
        """Forget all figures."""
        self._columns.blank(np.arange(self._columns.rows))
