"""Event time of each stream only moves forward: duplicates, late readings and gaps are told apart.

A reading is admitted if it is newer than every reading of its stream admitted so far; otherwise it is a
duplicate (same event time as the newest) or late (older). Which readings are admitted does not depend on how they
were batched. Training, backtest and daemon use this same code. Pure: no clock but the readings' own. Not
inside: waiting for late readings, bars (`event_time`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.core.event_time.hindsight import Corrected
from streamer.core.grouping import Ints, group
from streamer.core.keyed_state import KeyedState
from streamer.core.readings import NEVER, Readings
from streamer.core.resets import Resets
from streamer.core.segments import running_max, shifted


@dataclass(frozen=True, slots=True)
class Admitted:
    """What came of one batch of readings."""

    readings: Readings  # the admitted ones, in arrival order
    rows: Ints  # (admitted,) their rows in the batch
    fresh: NDArray[np.bool_]  # (admitted,) the stream's window begins anew: after a gap, in another session
    duplicates: int  # same stream and event time as the newest admitted
    late: int  # older than the newest admitted
    carried: NDArray[np.float32] | None = None  # (admitted,) part of the features not measured but carried; None: none
    late_rows: Ints = field(default_factory=lambda: np.empty(0, np.int64))  # rows of the late ones in the batch
    taken: int | None = None  # readings as sent that the admitted are made of; None: they are those themselves
    reordered: int = 0  # put in their place before newer ones of their stream
    overflow: int = 0  # too many of one stream were waiting
    outside: int = 0  # outside of the sessions
    corrected: tuple[Corrected, ...] = ()  # newest bars of some streams, made again with late readings

    def with_verdicts(self, *, late: Ints, overflow: int, reordered: int) -> Admitted:
        """The same with what was not admitted."""
        return replace(self, late=len(late), late_rows=late, overflow=self.overflow + overflow, reordered=reordered)

    def with_corrected(self, corrected: Sequence[Corrected]) -> Admitted:
        """The same with bars that late readings have changed."""
        return replace(self, corrected=tuple(corrected))

    def with_counts(self, *, duplicates: int, taken: int, overflow: int) -> Admitted:
        """The same with how many readings it was made of."""
        return replace(self, duplicates=duplicates, taken=taken, overflow=overflow)

    def with_columns(self, columns: Callable[[Ints], NDArray[np.float32]]) -> Admitted:
        """The same, with columns that follow from its time after the values of each reading."""

        def widened(values: NDArray[Any], time_ns: Ints) -> NDArray[np.float32]:
            return np.concatenate([values, columns(time_ns)], 1, dtype=np.float32, casting="same_kind")

        kept = self.readings
        return replace(
            self,
            readings=replace(kept, values=widened(kept.values, kept.time_ns)),
            corrected=tuple(replace(one, values=widened(one.values, one.time_ns)) for one in self.corrected),
        )

    def among(self, rows: Ints, outside: int) -> Admitted:
        """The same where the batch was made of `rows` of a larger one, the others being outside of the sessions."""
        return replace(
            self,
            rows=rows[self.rows],
            late_rows=rows[self.late_rows],
            outside=outside,
            corrected=tuple(replace(one, row=int(rows[one.row])) for one in self.corrected),
        )


class Ordering:
    """Keeps the newest event time of every stream.

    Args:
        state: Of all streams.
        resets: What resets the window of a stream; None: nothing.
    """

    def __init__(self, state: KeyedState, resets: Resets | None = None) -> None:
        self._resets = resets or Resets()
        self._state = state
        self.columns = state.register("ordering", {"newest_ns": (np.int64, (), NEVER)})

    def is_newer(self, readings: Readings) -> NDArray[np.bool_]:
        """Readings newer than all that their streams had admitted before this batch, `(n,)`."""
        self._state.reach(readings.stream)
        return np.asarray(readings.time_ns > self.columns["newest_ns"][readings.stream])

    def admit(self, readings: Readings) -> Admitted:
        """Sort out one batch and move the streams' clocks forward."""
        n = len(readings)
        if n == 0:
            return Admitted(readings, np.empty(0, np.int64), np.empty(0, bool), 0, 0)
        groups = group(readings.stream)
        self._state.reach(groups.codes[-1:])
        last = self.columns["newest_ns"]
        if len(groups.codes) == n and self._resets.never:  # one reading a stream: nothing to order
            known = last[readings.stream]
            where = np.flatnonzero(readings.time_ns > known)
            duplicates = int((readings.time_ns == known).sum())
            last[readings.stream[where]] = readings.time_ns[where]
            kept = readings if len(where) == n else readings.take(where)
            late = np.flatnonzero(readings.time_ns < known)
            return Admitted(kept, where, np.zeros(len(where), bool), duplicates, len(late), late_rows=late)
        time_ns, known = readings.time_ns[groups.order], last[groups.codes]
        newest = np.maximum(running_max(groups.member, time_ns), np.repeat(known, groups.count))
        before = shifted(newest, groups.begin, known)
        newer = time_ns > before
        admitted, fresh = np.empty(n, bool), np.zeros(n, bool)
        admitted[groups.order] = newer
        if not self._resets.never:
            # Only what is admitted comes after the reading before it; the others are no step.
            fresh[groups.order] = self._resets.between(np.where(newer, before, NEVER), time_ns)
        last[groups.codes] = newest[groups.begin + groups.count - 1]
        where = np.flatnonzero(admitted)
        duplicates = int((time_ns == before).sum())
        late = np.sort(groups.order[time_ns < before])
        return Admitted(readings.take(where), where, fresh[where], duplicates, len(late), late_rows=late)
