"""Where the window of a stream begins anew: after a gap, in another session.

Pure. Training, backtest and daemon ask the same. Not inside: gaps of a grid that are filled in (`event_time.gaps`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.grouping import Ints
from streamer.core.readings import NEVER
from streamer.core.sessions import Sessions

_DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Resets:
    """What no window reaches over.

    >>> market = Sessions(np.array([10, 30]), np.array([20, 40]))
    >>> Resets(8, market).between(np.array([NEVER, 10, 10, 19]), np.array([5, 18, 19, 30])).tolist()
    [False, False, True, True]
    """

    max_gap_ns: int | None = None  # a longer step; None: none is too long
    sessions: Sessions | None = None  # market hours; None: always open
    bar_ns: int = 0  # length of a bar, where readings are bars of time

    @property
    def never(self) -> bool:
        """Whether windows reach over everything."""
        return self.max_gap_ns is None and (self.sessions is None or self.sessions.keep_outside)

    def between(self, before_ns: Ints, time_ns: Ints) -> NDArray[np.bool_]:
        """Whether a window ends between a stream's reading and the one before it, which may be NEVER, `(n,)`."""
        found = self.apart(before_ns, time_ns)
        if self.max_gap_ns is not None:
            known = before_ns != NEVER
            found |= known & (time_ns - np.where(known, before_ns, time_ns) > self.max_gap_ns)
        return found

    def apart(self, before_ns: Ints, time_ns: Ints) -> NDArray[np.bool_]:
        """Whether the two lie in different sessions, `(n,)`; bars of a day or longer hold whole ones.

        Where readings outside of sessions are kept, a stream goes on through the night: nothing is apart.
        """
        if self.sessions is None or self.sessions.keep_outside or self.bar_ns >= _DAY_NS or not len(time_ns):
            return np.zeros(len(time_ns), bool)
        known = before_ns != NEVER
        before = self.sessions.session_of(np.where(known, before_ns, time_ns), self.bar_ns)
        return np.asarray(known & (before != self.sessions.session_of(time_ns, self.bar_ns)))
