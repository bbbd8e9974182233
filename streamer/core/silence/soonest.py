"""Before which clocks no stream can have passed half of its limit: spares looking at every stream for every batch.

Only to be quick: what it does not know is found again, and nothing of it is kept over a restart.
"""

from __future__ import annotations

import numpy as np

from streamer.core.grouping import Ints
from streamer.core.silence.arrivals import Arrivals

_NEVER = np.iinfo(np.int64).max


class Soonest:
    """A bound for each partition and clock."""

    def __init__(self) -> None:
        self._bounds: dict[int, Ints] = {}

    def forget(self, partition: int | None = None) -> None:
        """Find a partition's bounds again; None: of all."""
        if partition is None:
            self._bounds.clear()
        else:
            self._bounds.pop(partition, None)

    def found(self, partition: int, power: Ints, clock: Ints, limit: Ints) -> None:
        """Note the clocks of all streams of a partition that are not silent."""
        bounds = np.full(64, _NEVER)
        np.minimum.at(bounds, power, clock + limit // 2)
        self._bounds[partition] = bounds

    def all_well(self, batch: Arrivals) -> bool:
        """Whether it is certain that no stream has passed half of its limit."""
        bounds = self._bounds.get(batch.partition)
        if bounds is None or len(batch.back) or batch.slow.any():
            return False
        np.minimum.at(bounds, batch.power, batch.clock + batch.limit // 2)
        return bool((batch.clocks.ends <= bounds).all())
