"""Which readings of a data set the daemon would admit, and where its window buffers would be reset.

The daemon's own ordering, run over columns: training, the reconstruction and the report cut their windows where the
daemon does because the same code says where. Not inside: the windows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.grouping import Ints
from streamer.core.keyed_state import KeyedState
from streamer.core.ordering import Ordering
from streamer.core.readings import Readings


class Admission:
    """Takes readings piece by piece; which are admitted does not depend on the pieces.

    Args:
        max_gap_s: `window.max_gap_s`.
    """

    def __init__(self, max_gap_s: float | None) -> None:
        self._ordering = Ordering(KeyedState(), None if max_gap_s is None else int(max_gap_s * 1e9))

    def admit(self, stream: Ints, time_ns: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Positions of the admitted readings in the piece, and which of these begin after a gap."""
        n = len(stream)
        nothing = np.empty((n, 0), np.float32)  # values are not looked at
        admitted = self._ordering.admit(Readings(stream, time_ns, nothing, np.zeros(n, np.int64), np.arange(n)))
        return admitted.readings.offset, admitted.fresh
