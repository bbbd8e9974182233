"""How long readings are waited for, and which come too late.

Each stream has a frontier: its readings from before it have been released and others of that time are late. The
frontier follows the newest reading of the stream at the distance of the lateness, in whole bars where there is a
grid. A stream that pauses is not waited for: when its partition's clock has moved on by the lateness and a bar since
its last reading, all it has is released. The clock moves by at most a quarter of that at once, so one reading
of the far future does not release anything.

All of it is a function of the order in which a partition's readings arrived, never of where that was cut into
batches. Pure. After the watermarks of Akidau et al., 2015, https://doi.org/10.14778/2824032.2824076, kept for
each stream instead of all together: a device that sends a backlog is behind the others, and not late.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Columns
from streamer.core.grouping import group
from streamer.core.keyed_state import KeyedState
from streamer.core.newest import follow
from streamer.core.readings import NEVER
from streamer.core.segments import Ints, line_up, running_max, shifted

Bools = NDArray[np.bool_]

_LEAP_NS = 60_000_000_000  # a reading further ahead of its partition than this ...
_LEAPS = 10  # ... and than so many times the lateness and a bar may be a mistake


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What is to be done with the readings of a batch, and what they release."""

    taken: Bools  # (n,) neither late nor too many
    late: Bools  # (n,)
    reordered: int  # taken, though an earlier one of the stream is newer
    codes: Ints  # (k,) streams with something to release
    frontier_ns: Ints  # (k,) their readings from before this are released
    _member: Ints  # (m,) place in `codes` of each step of a frontier, rising
    _steps_ns: Ints  # (m,) frontier after the step, rising inside a stream
    _rows: Ints  # (m,) reading of the batch that led to it

    def moves(self) -> tuple[Ints, Ints]:
        """Streams whose frontier moved, once for each move, and the reading that moved it."""
        member, steps = self._member, self._steps_ns
        moved = (np.diff(member, prepend=-1) != 0) | (np.diff(steps, prepend=0) != 0)
        return self.codes[member[moved]], self._rows[moved]

    def triggers(self, place: Ints, time_ns: Ints) -> Ints:
        """The reading of the batch that released each row.

        Args:
            place: In `codes`, of each released row, `(r,)`.
            time_ns: `(r,)`.
        """
        if not len(place):
            return np.empty(0, np.int64)
        steps, rows = line_up(self._member, self._steps_ns, place, time_ns)
        found = np.searchsorted(steps, rows, side="right")
        return self._rows[np.minimum(found, len(self._rows) - 1)]


class Lateness:
    """Frontiers of all streams.

    Args:
        state: Of all streams.
        newest: Column `newest_ns` of `Ordering`, moved here.
        lateness_ns: How far a frontier stays behind its stream's newest reading.
        grid_ns: Frontiers move in whole bars of it; 0: there is no grid.
        max_held: Readings of a stream while its frontier is in one stretch as long as the lateness and a bar; so at
            most twice as many are held.
    """

    def __init__(
        self, state: KeyedState, newest: Columns, *, lateness_ns: int, grid_ns: int = 0, max_held: int = 100_000
    ) -> None:
        self._lateness_ns, self._grid_ns, self._max_held = lateness_ns, grid_ns, max_held
        self._pause_ns = max(1, lateness_ns + grid_ns)
        self._leap_ns = max(_LEAP_NS, _LEAPS * self._pause_ns)
        self._state, self._newest = state, newest
        self._clocks = state.register_partitions("event_time")  # newest event time, clock
        self._columns = state.register(
            "event_time",
            {
                "frontier_ns": (np.int64, (), NEVER),
                "clock_ns": (np.int64, (), -1),  # of the partition when the newest reading came
                "owner": (np.int64, (), -1),  # partition of that clock
                "stretch": (np.int64, (), NEVER),  # where the frontier was at the newest reading, in lengths of a pause
                "pending": (np.int64, (), 0),  # readings taken since the frontier entered its stretch
            },
        )

    @property
    def frontier_ns(self) -> Ints:
        """Frontier of each stream, `(rows,)`."""
        return self._columns["frontier_ns"]

    def holding(self) -> Bools:
        """Streams that may have readings held back, `(rows,)`."""
        newest = self._newest["newest_ns"]
        return np.asarray((newest != NEVER) & (newest >= self._columns["frontier_ns"]))

    def judge(self, code: Ints, time_ns: Ints, partition: Ints) -> Verdicts:
        """Take in one batch, in the order it came."""
        n, t = len(code), self._columns
        groups = group(code)
        self._state.reach(groups.codes[-1:] if n else np.empty(0, np.int64))
        newest_column = self._newest["newest_ns"]
        clock_before, clock_after, ends = self._move_clocks(time_ns, partition)

        order, member, begin = groups.order, groups.member, groups.begin
        time = time_ns[order]
        known = newest_column[groups.codes]
        newest = np.maximum(running_max(member, time), np.repeat(known, groups.count))
        newest_before = shifted(newest, begin, known)

        # Streams that paused since their last reading: all they had was released before this one came.
        last_clock = shifted(clock_after[order], begin, t["clock_ns"][groups.codes])
        last_owner = shifted(partition[order], begin, t["owner"][groups.codes])
        comparable = (last_clock >= 0) & (last_owner == partition[order])
        paused = comparable & (clock_before[order] - last_clock > self._pause_ns)

        own = self._frontier(newest - self._lateness_ns)
        flushed = np.where(paused, self._past(newest_before), NEVER)
        start = t["frontier_ns"][groups.codes]
        reached = np.maximum(running_max(member, np.maximum(own, flushed)), np.repeat(start, groups.count))
        before = np.maximum(shifted(reached, begin, start), flushed)
        late_in_order = time < before

        # How many came since the frontier last entered another stretch as long as what may be held back.
        stretch = reached // self._pause_ns
        moved = stretch > shifted(stretch, begin, t["stretch"][groups.codes])
        so_far = np.cumsum(~late_in_order)
        at_move = running_max(member, np.where(moved, so_far, -1))
        at_begin = np.repeat(so_far[begin] - ~late_in_order[begin], groups.count) if n else so_far
        waiting = np.where(
            at_move >= 0, so_far - at_move, so_far - at_begin + np.repeat(t["pending"][groups.codes], groups.count)
        )
        too_many = ~late_in_order & (waiting > self._max_held)

        late, taken = np.empty(n, bool), np.empty(n, bool)
        late[order], taken[order] = late_in_order, ~late_in_order & ~too_many
        reordered = int((taken[order] & (time < newest_before)).sum())

        last = begin + groups.count - 1
        newest_column[groups.codes] = newest[last] if n else known
        t["frontier_ns"][groups.codes] = reached[last]
        t["clock_ns"][groups.codes] = clock_after[order][last]
        t["owner"][groups.codes] = partition[order][last]
        t["pending"][groups.codes] = waiting[last]
        t["stretch"][groups.codes] = stretch[last]

        step_code = [groups.codes[member], groups.codes[member]]
        step_ns = [flushed, reached]
        step_row = [self._passed(last_clock, paused, partition[order], ends), order]
        step_place = [2 * np.arange(n), 2 * np.arange(n) + 1]
        quiet, rows = self._quiet(ends)
        if len(quiet):
            t["frontier_ns"][quiet] = self._past(newest_column[quiet])
            step_code.append(quiet)
            step_ns.append(t["frontier_ns"][quiet])
            step_row.append(rows)
            step_place.append(np.full(len(quiet), 2 * n))
        return self._verdicts(taken, late, reordered, groups.codes, start, step_code, step_ns, step_row, step_place)

    def foresee(self, code: Ints, time_ns: Ints, partition: Ints) -> Verdicts:
        """What `judge` would say; nothing changes."""
        self._state.reach(code)
        kept = {name: self._columns[name].copy() for name in self._columns}
        newest, clocks = self._newest["newest_ns"].copy(), dict(self._clocks)
        verdicts = self.judge(code, time_ns, partition)
        for name, values in kept.items():
            self._columns[name][:] = values
        self._newest["newest_ns"][:] = newest
        self._clocks.clear()
        self._clocks.update(clocks)
        return verdicts

    def release_all(self, codes: Ints) -> Ints:
        """Move frontiers past everything some streams have sent; returns the frontiers."""
        self._state.reach(codes)
        self._columns["frontier_ns"][codes] = self._past(self._newest["newest_ns"][codes])
        return self._columns["frontier_ns"][codes]

    def _verdicts(
        self,
        taken: Bools,
        late: Bools,
        reordered: int,
        codes: Ints,
        start: Ints,
        step_code: list[Ints],
        step_ns: list[Ints],
        step_row: list[Ints],
        step_place: list[Ints],
    ) -> Verdicts:
        t = self._columns
        code, frontier = np.concatenate(step_code), np.concatenate(step_ns)
        row, place = np.concatenate(step_row), np.concatenate(step_place)
        began = np.full(t.rows, NEVER)
        began[codes] = start
        # Streams that paused all through the batch begin where they stood: any step of theirs counts.
        counts = frontier > began[code]
        code, frontier, row, place = code[counts], frontier[counts], row[counts], place[counts]
        order = np.lexsort((place, code))
        code, frontier, row = code[order], frontier[order], row[order]
        moving = np.flatnonzero(np.diff(code, prepend=-1)) if len(code) else np.empty(0, np.int64)
        which = code[moving]
        member = np.repeat(np.arange(len(which)), np.diff(np.append(moving, len(code))))
        return Verdicts(
            taken, late, reordered, which, t["frontier_ns"][which], member, running_max(member, frontier), row
        )

    def _move_clocks(self, time_ns: Ints, partition: Ints) -> tuple[Ints, Ints, dict[int, tuple[Ints, Ints]]]:
        """Each partition's clock before and after each reading, and by partition its rows and clocks."""
        before, after = np.empty_like(time_ns), np.empty_like(time_ns)
        ends: dict[int, tuple[Ints, Ints]] = {}
        cap = max(1, self._pause_ns // 4)
        for number in np.unique(partition).tolist():
            rows = np.flatnonzero(partition == number)
            stored, clock = self._clocks.get(number) or (None, 0)
            line, stored = follow(stored, time_ns[rows], self._leap_ns)
            moved = clock + np.cumsum(np.minimum(np.diff(line), cap))
            self._clocks[number] = [stored, int(moved[-1])]
            after[rows] = moved
            before[rows] = np.concatenate([[clock], moved[:-1]])
            ends[number] = rows, moved
        return before, after, ends

    def _quiet(self, ends: dict[int, tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
        """Streams that the clock has left behind by the end of the batch, and the reading that showed it."""
        t, holding = self._columns, self.holding()
        codes, rows = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for number, (where, clocks) in ends.items():
            waits = holding & (t["owner"] == number) & (clocks[-1] - t["clock_ns"] > self._pause_ns)
            found = np.flatnonzero(waits)
            codes.append(found)
            rows.append(where[np.searchsorted(clocks, t["clock_ns"][found] + self._pause_ns, side="right")])
        return np.concatenate(codes), np.concatenate(rows)

    def _passed(self, last_clock: Ints, paused: Bools, partition: Ints, ends: dict[int, tuple[Ints, Ints]]) -> Ints:
        """For readings after a pause, the reading whose time released what the stream had before."""
        rows = np.zeros(len(paused), np.int64)
        for number, (where, clocks) in ends.items():
            mine = np.flatnonzero(paused & (partition == number))
            found = np.searchsorted(clocks, last_clock[mine] + self._pause_ns, side="right")
            rows[mine] = where[np.minimum(found, len(where) - 1)]
        return rows

    def _frontier(self, time_ns: Ints) -> Ints:
        """The frontier when nothing before a time is waited for any more."""
        return time_ns - time_ns % self._grid_ns if self._grid_ns else time_ns

    def _past(self, time_ns: Ints) -> Ints:
        """The frontier that leaves the reading of a time behind."""
        if self._grid_ns:
            return np.where(time_ns == NEVER, NEVER, time_ns - time_ns % self._grid_ns + self._grid_ns)
        return np.where(time_ns == NEVER, NEVER, time_ns + 1)
