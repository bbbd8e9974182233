"""When the newest readings of every stream were made: event times of the windows that alerts explain.

A ring of times for each stream, written once a batch for all streams together. Pure. Not inside: the values of the
windows (`windows`), which part of one is anomalous (`spans`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamer.core.columns import Arrays
from streamer.core.grouping import Groups, Ints, group
from streamer.core.keyed_state import KeyedState


@dataclass(frozen=True, slots=True)
class Timed:
    """A batch of readings on top of those before it."""

    numbers: Ints  # (n,) which reading of its stream each is, from 1
    _time_ns: Ints  # (n,)
    _groups: Groups
    _ring: Ints  # as it was before the batch
    _before: Ints  # (groups,) readings of each stream before the batch

    def window(self, code: int, row: int) -> Ints:
        """Times of a stream's newest readings up to row `row` of the batch, oldest first; at most a window of them."""
        groups, length = self._groups, self._ring.shape[1]
        g = int(np.searchsorted(groups.codes, code))
        before = int(self._before[g])
        begin = int(groups.begin[g])
        own = groups.order[begin : begin + int(self.numbers[row]) - before][-length:]
        older = before + np.arange(-min(length - len(own), before), 0)
        return np.concatenate([self._ring[code, older % length], self._time_ns[own]])


class Times:
    """Times of the newest readings of all streams.

    Args:
        state: Of all streams.
        length: Readings of each that are kept.
    """

    def __init__(self, state: KeyedState, length: int) -> None:
        self._state, self._length = state, length
        self._columns = state.register(
            "times",
            {"ring_ns": (np.int64, (length,), 0), "count": (np.int64, (), 0)},
            take=self._take,
            put=self._put,
        )

    def look(self, codes: Ints, time_ns: Ints) -> Timed:
        """Readings that are about to be scored, those of a stream in time order; `step` takes them in afterwards."""
        groups = group(codes)
        self._state.reach(groups.codes[-1:])
        before = self._columns["count"][groups.codes]
        numbers = np.empty(len(codes), np.int64)
        numbers[groups.order] = np.repeat(before, groups.count) + groups.rank + 1
        return Timed(numbers, time_ns, groups, self._columns["ring_ns"], before)

    def step(self, timed: Timed) -> None:
        """Take in what was looked at."""
        groups, length = timed._groups, self._length
        count = timed._before + groups.count
        order, owners = groups.order, np.repeat(groups.codes, groups.count)
        if int(groups.count.max(initial=0)) > length:
            kept = groups.rank >= np.repeat(groups.count - length, groups.count)
            order, owners = order[kept], owners[kept]
        self._columns["ring_ns"][owners, (timed.numbers[order] - 1) % length] = timed._time_ns[order]
        self._columns["count"][groups.codes] = count

    def _take(self, codes: Ints) -> Arrays:
        """The ring as steps: those of a steady stream are all alike but for one, and compress to nothing."""
        ring_ns = self._columns["ring_ns"][codes]
        return {
            "first_ns": ring_ns[:, 0].copy(),
            "step_ns": np.diff(ring_ns, axis=1),
            "count": self._columns["count"][codes],
        }

    def _put(self, codes: Ints, columns: Arrays) -> None:
        first_ns, step_ns, count = (columns[name] for name in ("first_ns", "step_ns", "count"))
        wanted = (len(codes), self._length - 1)
        if step_ns.shape != wanted:
            raise ValueError(f"column step_ns: wanted {wanted}; got {step_ns.shape}")
        ring_ns = np.concatenate([first_ns[:, None], step_ns], axis=1)
        self._columns["ring_ns"][codes] = np.cumsum(ring_ns, axis=1, out=ring_ns)
        self._columns["count"][codes] = count
