"""Which readings make a bar where bars are of so many readings, or of so much volume.

A bar ends with the reading that completes it. One that is open when a gap or another session comes ends there, short.
What is known of an open bar is a few numbers of its stream; its readings are looked at again only when it ends. Pure.
Not inside: what is made of the readings (`bars`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.event_time.held import HeldByStream, Rows
from streamer.core.event_time.options import TimeOptions
from streamer.core.grouping import group
from streamer.core.keyed_state import KeyedState
from streamer.core.readings import NEVER
from streamer.core.resets import Resets
from streamer.core.segments import shifted

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_FINE = 1 << 36  # parts of a bar in which volumes are counted, at most: sums of 2^26 readings stay exact


@dataclass(frozen=True, slots=True)
class Ended:
    """Readings of bars that have ended, sorted by stream, in order."""

    rows: Rows
    trigger: Ints  # (n,) what ended the bar of each
    number: Ints  # (n,) bar, different from that of the bar before
    overflow: int  # readings dropped, as their bar had too many


class CountedBars:
    """Open bars of all streams.

    Args:
        state: Of all streams.
        options: Bars of ticks or volume.
        resets: What ends a bar before it is complete.
    """

    def __init__(self, state: KeyedState, options: TimeOptions, resets: Resets) -> None:
        self._state, self._options, self._resets = state, options, resets
        self._open = state.register_rows("open_bar", HeldByStream(len(options.fields)))
        self._columns = state.register(
            "open_bars",
            {
                "held": (np.int64, (), 0),  # readings that are kept
                "amount": (np.int64, (), 0),  # ticks or volume, with that of dropped readings
                "last_ns": (np.int64, (), NEVER),  # newest reading
            },
        )
        # Powers of ten, so that volumes such as 0.1 are whole numbers and no order of additions matters.
        self._scale = 10.0 ** np.floor(np.log10(_FINE / options.bar_size)) if options.bars == "volume" else 1.0
        self._size = max(1, round(options.bar_size * float(self._scale)))

    @property
    def holding(self) -> int:
        """Readings of open bars."""
        return self._open.count

    def take(self, rows: Rows, trigger: Ints) -> Ended:
        """Take in readings in order, sorted by stream and time; at least one."""
        n, groups = len(rows), group(rows.code)
        self._state.reach(groups.codes[-1:])
        t, begin = self._columns, groups.begin
        held, amount = t["held"][groups.codes], np.minimum(t["amount"][groups.codes], self._size - 1)
        anew = self._resets.between(shifted(rows.time_ns, begin, t["last_ns"][groups.codes]), rows.time_ns)
        cut_off = anew[begin] & (held > 0)  # bars that end before the first of these readings

        # Runs of readings that nothing parts; the first of a stream goes on with the open bar.
        heads = anew.copy()
        heads[begin] = True
        run = np.flatnonzero(heads)
        length = np.diff(np.append(run, n))
        goes_on = np.zeros(n, bool)
        goes_on[begin] = ~anew[begin]
        start, kept_before = np.zeros(n, np.int64), np.zeros(n, np.int64)
        start[begin], kept_before[begin] = np.where(anew[begin], 0, amount), np.where(anew[begin], 0, held)
        each = self._amounts(rows)
        number, is_full = self._cut(each, run, length, start[run])

        # Bars, in order.
        bar_heads = heads | (np.diff(number, prepend=-1) != 0)
        bar, which = np.flatnonzero(bar_heads), np.cumsum(bar_heads) - 1
        ends = np.append(bar[1:], n) - 1
        first = np.zeros(n, bool)
        first[begin] = True
        followed = np.append(~first[bar[1:]], False)  # by another bar of the stream
        full = is_full[bar]
        done = full | followed
        ended_by = np.where(full, trigger[ends], trigger[np.minimum(ends + 1, n - 1)])
        had = np.where(goes_on[bar], kept_before[bar], 0)
        completes = np.zeros(n, bool)
        completes[ends[full]] = True
        rank = np.arange(n) - bar[which] + had[which]
        kept = (rank < self._options.max_held) | completes

        # The open bar of each stream from here on: its last one, unless that is done.
        last = which[begin + groups.count - 1]
        in_bar, sums = np.add.reduceat(kept.astype(np.int64), bar), np.add.reduceat(each, bar)
        t["held"][groups.codes] = np.where(done[last], 0, in_bar[last] + had[last])
        before = np.where(goes_on[bar[last]], start[bar[last]], 0)
        t["amount"][groups.codes] = np.where(done[last], 0, sums[last] + before)
        t["last_ns"][groups.codes] = rows.time_ns[begin + groups.count - 1]

        of_first = which[begin]
        ending = cut_off | (goes_on[begin] & (held > 0) & done[of_first])
        opened = self._open.take_out(groups.codes[ending])
        place = np.zeros(len(self._state.names), np.int64)
        place[groups.codes] = np.arange(len(groups.codes))
        of = place[opened.code]
        out = kept & done[which]
        self._open.add(rows.take(kept & ~done[which]))
        both = Rows.join([opened, rows.take(out)])
        order = np.argsort(both.code, kind="stable")
        by = np.concatenate([np.where(cut_off, trigger[begin], ended_by[of_first])[of], ended_by[which[out]]])
        numbers = np.concatenate([np.where(cut_off, -1, of_first)[of], which[out]])
        return Ended(both.take(order), by[order], numbers[order], n - int(kept.sum()))

    def _amounts(self, rows: Rows) -> Ints:
        """What each reading adds; what is more than a bar completes one."""
        if self._options.bars == "ticks":
            return np.ones(len(rows), np.int64)
        volume = rows.values[:, self._options.bar_field]
        clipped = np.clip(np.where(np.isfinite(volume), volume, 0.0), 0.0, self._options.bar_size)
        return np.minimum(np.round(clipped * self._scale).astype(np.int64), self._size)

    def _cut(self, amount: Ints, begin: Ints, count: Ints, start: Ints) -> tuple[Ints, Bools]:
        """Bar of each reading inside its run, and whether that bar is complete; `start` is there already."""
        size, run = self._size, np.repeat(np.arange(len(begin)), count)
        if self._options.bars == "ticks":
            before = np.arange(len(amount)) - begin[run] + start[run]
            return before // size, before // size < ((start + count) // size)[run]
        sums = np.cumsum(amount)
        sums += (start - sums[begin] + amount[begin])[run]
        number, complete = np.zeros(len(amount), np.int64), np.zeros(len(amount), bool)
        for one in np.flatnonzero(sums[begin + count - 1] >= size).tolist():
            first, n = int(begin[one]), int(count[one])
            some, done, bar, base = sums[first : first + n], 0, 0, 0
            while done < n and int(some[-1]) - base >= size:
                end = int(np.searchsorted(some, base + size)) + 1
                number[first + done : first + end], complete[first + done : first + end] = bar, True
                base, done, bar = int(some[end - 1]), end, bar + 1
            number[first + done : first + n] = bar
        return number, complete
