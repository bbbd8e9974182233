"""Readings in order become bars: of time, of so many ticks, of so much volume.

    counted      which readings make a bar of so many ticks or so much volume
    trail        what readings leave behind for the next
    aggregates   one number of the readings of a bar
    gaps         bars without readings, carried values, transforms

Pure. Not inside: order (`lateness`), what is done with the bars.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Columns
from streamer.core.event_time.aggregates import Bars, aggregate
from streamer.core.event_time.counted import CountedBars
from streamer.core.event_time.gaps import Gaps
from streamer.core.event_time.held import Rows
from streamer.core.event_time.options import TimeOptions
from streamer.core.event_time.trail import Trail
from streamer.core.grouping import group
from streamer.core.keyed_state import KeyedState
from streamer.core.readings import NEVER
from streamer.core.resets import Resets
from streamer.core.segments import running_max

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Made:
    """What the model sees, sorted by stream and time; columns of equal length."""

    code: Ints  # (n,)
    time_ns: Ints  # (n,) start of the bar
    values: NDArray[np.float64]  # (n, features)
    offset: Ints  # (n,) of its last reading
    trigger: Ints  # (n,) what released that
    fresh: Bools  # (n,) the stream's window begins anew
    carried: NDArray[np.float32]  # (n,) part of the features that was not measured
    overflow: int = 0  # readings dropped, as their bar had too many


class BarMaker:
    """Bars of all streams.

    Args:
        state: Of all streams.
        options: What is wanted; with features.
        resets: What ends a window between two bars.
    """

    def __init__(self, state: KeyedState, options: TimeOptions, resets: Resets) -> None:
        self._state, self._options = state, options
        self._resets = resets if options.bars != "time" else replace(resets, bar_ns=options.grid_ns)
        self._gaps = Gaps(state, options, resets.max_gap_ns)
        self._trail = Trail(state, len(options.fields), options.features)
        self._counted = None if options.bars == "time" else CountedBars(state, options, resets)

    @property
    def last_ns(self) -> Ints:
        """Newest bar of each stream, `(rows,)`."""
        return self._gaps.last_ns

    @property
    def remembered(self) -> dict[str, Columns]:
        """All that bars of time take over from those before, by station."""
        return {"gaps": self._gaps.columns, "trail": self._trail.columns}

    @property
    def holding(self) -> int:
        """Readings of bars that are not complete; those of time are held back before they come here."""
        return 0 if self._counted is None else self._counted.holding

    def make(self, rows: Rows, trigger: Ints) -> Made:
        """Take in readings in order, sorted by stream and time; at least one.

        Args:
            rows: Readings; of whole bars, where bars are of time.
            trigger: What released each, `(n,)`, not falling inside a stream.
        """
        o, overflow = self._options, 0
        if self._counted is not None:
            ended = self._counted.take(rows, trigger)
            rows, trigger, number, overflow = ended.rows, ended.trigger, ended.number, ended.overflow
            if not len(rows):
                none = np.empty(0, np.int64)
                values = np.empty((0, len(o.features)))
                return Made(none, none, values, none, none, np.empty(0, bool), np.empty(0, np.float32), overflow)
        else:
            number = rows.time_ns // o.grid_ns
        n = len(rows)
        begin = np.flatnonzero((np.diff(rows.code, prepend=-1) != 0) | (np.diff(number, prepend=-2) != 0))
        bars = Bars(begin, np.diff(np.append(begin, n)))
        last = begin + bars.count - 1
        code = rows.code[begin]
        at = number[begin] * o.grid_ns if self._counted is None else self._distinct(code, rows.time_ns[begin])
        end_ns = rows.time_ns[last] if self._counted is not None else at + o.grid_ns
        groups = group(code)
        before = np.concatenate([[0], at[:-1]])
        self._state.reach(groups.codes[-1:])
        before[groups.begin] = self._gaps.last_ns[groups.codes]
        apart = self._resets.apart(before, at)
        begins_anew = np.zeros(n, bool)
        begins_anew[begin] = self._gaps.breaks(before, at, apart)[0]
        trails = self._trail.follow(rows.code, rows.time_ns, rows.values, begins_anew)
        measured = aggregate(o.features, rows.values, bars, trails, end_ns)
        filled = self._gaps.fill(code, at, measured, apart)
        bar = filled.bar
        offset, trigger = rows.offset[last][bar], trigger[last][bar]
        return Made(code[bar], filled.time_ns, filled.values, offset, trigger, filled.fresh, filled.carried, overflow)

    def _distinct(self, code: Ints, time_ns: Ints) -> Ints:
        """Times of bars by count or volume, moved on by a nanosecond where two began at one time."""
        groups = group(code)
        self._state.reach(groups.codes[-1:])
        rank, last_ns = groups.rank, self._gaps.last_ns[groups.codes]
        first = np.where(last_ns == NEVER, NEVER, last_ns + 1)
        free = np.maximum(time_ns - rank, np.repeat(first, groups.count))
        return running_max(groups.member, free) + rank
