"""Readings of one partition as they arrived, measured against what is known of their streams.

Nothing is remembered of them yet. Not inside: what is told of it (`watch`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamer.core.columns import Columns
from streamer.core.events import OPEN, PARTITION, RESOLVE, SILENCE, STREAM, Detail, Event
from streamer.core.expiry import Expired
from streamer.core.grouping import Groups, Ints, group
from streamer.core.keyed_state import NO_STREAM, KeyedState
from streamer.core.moves import Moves
from streamer.core.readings import NEVER
from streamer.core.sessions import Sessions
from streamer.core.silence.clocks import PartitionClocks, power_below
from streamer.core.silence.intervals import IRREGULAR_NS, Bools, Intervals

_LEARN_NS = 15_000_000_000  # a pause of the whole partition counts as at most this in its streams' own steps, or more
_LEAP_NS = 60_000_000_000


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Some readings of one partition."""

    partition: int
    rows: Ints  # in the whole batch
    times_ns: Ints
    groups: Groups
    clocks: PartitionClocks
    known: Bools  # (groups,) the stream was in this partition before
    power: Ints  # (groups,) which clock measures the stream from now on
    limit: Ints  # (groups,) from now on
    clock: Ints  # (groups,) when it came last
    back: Ints  # places in `groups.order` of readings that end a silence which was not told
    back_since: Ints  # where in clock time their limit was passed ...
    back_power: Ints  # ... and by which clock
    back_limit: Ints
    pauses: Ints  # places in `groups.order` of readings that end a pause of the whole partition
    slow: Bools  # (groups,) more than half of the limit passed before one of its readings
    others: Ints  # streams of the partition that are not in the batch

    def event(self, event: str, code: int, since_ns: int, place: int) -> Event:
        """A stream's silence, shown by the reading at `place`."""
        return Event(event, SILENCE, code, since_ns, int(self.times_ns[place]), 0.0, 0.0, int(self.rows[place]))

    def over(self, code: int, since_ns: int, place: int, limit_ns: int) -> Event:
        """The end of a stream's silence, with the reading at `place`."""
        late = _lateness(int(self.times_ns[place]), since_ns, int(self.clocks.line_ns[place]), limit_ns)
        return replace(self.event(RESOLVE, code, since_ns, place), details=late)

    def late(self, since_ns: int) -> dict[str, Detail]:
        """How late the last reading is, if it is that which ends a silence of many."""
        newest_ns = int(self.clocks.line_ns[-1])
        return _lateness(int(self.times_ns[-1]), since_ns, newest_ns, newest_ns - since_ns)

    def past(self, codes: Ints, power: Ints, limit: Ints) -> Expired:
        """Streams whose clocks are past a limit at the end, and the reading after which they are."""
        gone = np.flatnonzero(self.clocks.end(power) > limit)
        places = [self.clocks.first_after(int(power[i]), int(limit[i])) for i in gone.tolist()]
        return Expired(codes[gone], self.rows[places])

    def pauses_told(self) -> list[Event]:
        """Pauses of the whole partition in market hours, told when they end; of one stream where it is alone."""
        events = []
        firsts = self.groups.order[self.groups.begin[~self.known]]
        for i in self.pauses.tolist():
            place = int(self.groups.order[i])
            onset, at = int(self.clocks.line_ns[place]), int(self.times_ns[place])
            pause: dict[str, Detail] = {"partition": self.partition, "pause_s": int(self.clocks.steps_ns[place]) / 1e9}
            alone = len(self.others) + int(self.known.sum()) + int((firsts < place).sum()) == 1
            code, scope = (int(self.groups.codes[self._member(i)]), STREAM) if alone else (NO_STREAM, PARTITION)
            events += [
                Event(event, SILENCE, code, onset, at, 0.0, 0.0, int(self.rows[place]), scope=scope, details=pause)
                for event in (OPEN, RESOLVE)
            ]
        return events

    @property
    def heard_ns(self) -> Ints:
        """Newest event time of the partition when each stream came last, `(groups,)`."""
        return np.asarray(self.clocks.line_ns[self.groups.order[self.groups.begin + self.groups.count - 1] + 1])

    def before(self, i: int, last_ns: Ints) -> tuple[int, int, int | None]:
        """The stream of a place in `groups.order`, the newest event time it had sent before, and that of its partition
        then; None: it was before the batch.
        """
        g = self._member(i)
        code = int(self.groups.codes[g])
        before = self.times_ns[self.groups.order[self.groups.begin[g] : i]]
        first = int(last_ns[code]) if self.known[g] else NEVER
        heard = int(self.clocks.line_ns[self.groups.order[i - 1] + 1]) if len(before) else None
        return code, max(first, int(before.max(initial=NEVER))), heard

    def _member(self, i: int) -> int:
        return int(np.searchsorted(self.groups.begin, i, side="right")) - 1


class Measure:
    """Measures readings.

    Args:
        state: Of all streams.
        columns: Of silence.
        clocks: Of the partitions.
        intervals: Limits of the streams.
        moves: Streams that may have gone to another partition; one that comes all the same begins anew.
        sessions: Market hours; None: always open.
    """

    def __init__(
        self,
        state: KeyedState,
        columns: Columns,
        clocks: dict[int, Any],
        intervals: Intervals,
        moves: Moves,
        sessions: Sessions | None,
    ) -> None:
        self._state, self._columns, self._clocks = state, columns, clocks
        self._intervals, self._moves, self._sessions = intervals, moves, sessions

    def look(self, partition: int, rows: Ints, codes: Ints, times_ns: Ints) -> Arrivals:
        """Measure readings of one partition; remembers nothing."""
        t, groups = self._columns, group(codes)
        order, begin = groups.order, groups.begin
        seed_ns = self._intervals.seed_ns
        learn_cap_ns, leap_ns = max(_LEARN_NS, seed_ns // 4), max(_LEAP_NS, seed_ns)
        clocks = PartitionClocks(self._clocks.get(partition), times_ns, self._sessions, learn_cap_ns, leap_ns)
        # A stream that comes from another partition was measured by another clock.
        known = (t["last_ns"][groups.codes] != NEVER) & (self._state.partition[groups.codes] == partition)
        known &= ~self._moves.in_doubt[groups.codes] | (t["since_ns"][groups.codes] != NEVER)
        is_known = np.ones(len(codes), bool)
        is_known[begin] = known
        if (leaves := self._moves.leaves(groups.codes)).any():
            is_known &= ~np.repeat(leaves, groups.count)  # nothing is learned of how it goes

        limits_before = np.empty(len(codes), np.int64)
        limits_before[begin] = self._intervals.limit_ns(groups.codes)
        learn_ns = clocks.learn_ns[order]
        counts = is_known if self._sessions is None else is_known & self._sessions.is_open(times_ns)[order]
        steps_ns = learn_ns - _shifted(learn_ns, begin, t["learn_ns"][groups.codes])
        limits = self._intervals.step(groups, steps_ns, counts)
        limits_before = _shifted(limits, begin, limits_before[begin])
        powers = power_below(limits // 4)
        powers_before = _shifted(powers, begin, t["power"][groups.codes])
        clocks.have(np.flatnonzero(np.bincount(powers_before, minlength=64) + np.bincount(powers, minlength=64)))

        stands = clocks.at(powers, order)  # the clock that measures a stream from each reading on
        since = _shifted(stands, begin, t["clock_ns"][groups.codes])
        # The clock just before a reading: its own step does not count against its stream.
        elapsed = clocks.at(powers_before, order - 1) - since
        back = is_known & (elapsed > limits_before)
        back[begin[known & (t["since_ns"][groups.codes] != NEVER)]] = False  # told already
        pauses = np.empty(0, np.int64)
        if self._sessions is not None:
            pauses = np.flatnonzero(
                is_known & ~back & (clocks.steps_ns[order] > np.maximum(limits_before, IRREGULAR_NS))
            )
        found = np.flatnonzero(back)
        ends = begin + groups.count - 1
        others = self._state.partition == partition
        others[groups.codes] = False
        return Arrivals(
            partition=partition,
            rows=rows,
            times_ns=times_ns,
            groups=groups,
            clocks=clocks,
            known=known,
            power=powers[ends],
            limit=limits[ends],
            clock=stands[ends],
            back=found,
            back_since=since[found] + limits_before[found],
            back_power=powers_before[found],
            back_limit=limits_before[found],
            pauses=pauses,
            slow=np.asarray(np.maximum.reduceat(is_known & (2 * elapsed > limits_before), begin)),
            others=np.flatnonzero(others),
        )


def _shifted(values: Ints, begin: Ints, first: Ints) -> Ints:
    """What stood before each reading of a group: the value of the reading before, `first` for the first one."""
    before = np.concatenate([values[:1], values[:-1]])
    before[begin] = first
    return before


def _lateness(at_ns: int, onset_ns: int, newest_ns: int, limit_ns: int) -> dict[str, Detail]:
    """How late the reading is that ends a silence, if its time is too near the onset to show how long it lasted."""
    if 2 * (at_ns - onset_ns) > limit_ns:
        return {}
    return {"late_s": max(0, newest_ns - at_ns) / 1e9}
