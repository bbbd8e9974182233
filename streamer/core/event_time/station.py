"""Between decoding and windows: readings as sent become readings of the model.

    order      late, duplicate and outside readings are told apart; what may still be overtaken waits
    bars       readings of one grid interval, or of so many ticks or so much volume, become one
    gaps       bars without readings, carried values, transforms
    context    calendar features

Training, backtest and daemon run this same object. Pure: no clock but the readings' own. What comes out
does not depend on how the readings were cut into batches. Not inside: windows, rules over readings in order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamer.core import calendar
from streamer.core.event_time.aggregates import Bars, aggregate
from streamer.core.event_time.gaps import Filled, Gaps
from streamer.core.event_time.held import Held, Rows
from streamer.core.event_time.lateness import Lateness
from streamer.core.event_time.options import TimeOptions
from streamer.core.event_time.segments import running_max
from streamer.core.event_time.trail import Trail
from streamer.core.grouping import group
from streamer.core.keyed_state import KeyedState
from streamer.core.ordering import Admitted, Ordering
from streamer.core.readings import NEVER, Readings
from streamer.core.sessions import Sessions

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_SCALE = 1_000_000  # volumes are added as whole millionths, so that no order of additions matters


@dataclass(frozen=True, slots=True)
class InOrder:
    """Readings as sent, released in order: sorted by stream and time."""

    rows: Rows
    trigger: Ints  # (n,) reading of the batch that released each


class EventTime:
    """One station for all streams.

    Args:
        state: Of all streams.
        options: What is wanted.
        max_gap_ns: A longer step between two readings of a stream resets its window; None: never.
        sessions: Market hours; None: always open. They say what becomes of readings outside of them.
    """

    def __init__(
        self,
        state: KeyedState,
        options: TimeOptions,
        max_gap_ns: int | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        self.options, self._state = options, state
        self._max_gap_ns, self._sessions = max_gap_ns, sessions
        self.ordering = Ordering(state, max_gap_ns)
        self.held: Held | None = None
        if options.holds:
            grid_ns = options.grid_ns if options.bars == "time" else 0
            self._lateness = Lateness(
                state,
                self.ordering.columns,
                lateness_ns=options.lateness_ns,
                grid_ns=grid_ns,
                max_held=options.max_held,
            )
            span_ns = grid_ns or options.lateness_ns or 1_000_000_000
            self.held = state.register_rows("held", Held(len(options.fields), span_ns))
            if options.features:
                self._gaps = Gaps(state, options, max_gap_ns)
                self._trail = Trail(state, len(options.fields), options.features)
                self._open: Held | None = None
                if options.bars != "time":
                    self._open = state.register_rows("open_bar", Held(len(options.fields), 1 << 62))
            else:
                self._last = state.register("released", {"last_ns": (np.int64, (), NEVER)})

    @property
    def width(self) -> int:
        """Values of a reading of the model: features, then what the calendar says."""
        o = self.options
        return (len(o.features) or len(o.fields)) + calendar.width(o.context)

    @property
    def holding(self) -> int:
        """Readings held back now."""
        if self.held is None:
            return 0
        opened = self._open.count if self.options.features and self._open is not None else 0
        return self.held.count + opened

    def is_newer(self, readings: Readings) -> Bools:
        """Readings newer than all that their streams had sent before this batch, `(n,)`."""
        return self.ordering.is_newer(readings)

    def take(self, readings: Readings) -> tuple[Admitted, InOrder | None]:
        """Take in one batch, in the order it came.

        Returns:
            Readings of the model with what became of the others, and the readings as sent that were
            released, for rules; those are None when nothing is held back.
        """
        outside = np.empty(0, np.int64)
        if self._sessions is not None and not self._sessions.keep_outside and len(readings):
            closed = self._sessions.session_of(readings.time_ns) < 0
            outside = np.flatnonzero(closed)
            if len(outside):
                inside = np.flatnonzero(~closed)
                admitted, in_order = self._take(readings.take(inside))
                return admitted.among(inside, len(outside)), in_order_among(in_order, inside)
        return self._take(readings)

    def release(self, codes: Ints, partition: int) -> tuple[Admitted, InOrder | None]:
        """Release all that some streams of a partition have sent, as nothing more is expected of them for now."""
        if self.held is None:
            return _nothing(Readings.empty(len(self.options.fields))), None
        rows = self.held.release(codes, self._lateness.release_all(codes), len(self._state.names))
        return self._released(rows, np.zeros(len(rows), np.int64), np.array([partition]))

    def holders(self, partition: int) -> Ints:
        """Streams of a partition that have readings held back."""
        if self.held is None:
            return np.empty(0, np.int64)
        self._state.reach(np.empty(0, np.int64))
        return np.flatnonzero(self._lateness.holding() & (self._state.partition == partition))

    def _take(self, readings: Readings) -> tuple[Admitted, InOrder | None]:
        if self.options.zero_is_missing and len(readings):
            readings = _without_zeros(readings, self.options.zero_is_missing)
        if self.held is None:
            admitted = self.ordering.admit(readings)
            if self.options.context:
                kept = admitted.readings
                admitted = replace(admitted, readings=replace(kept, values=self._with_context(kept)))
            return admitted, None
        if not len(readings):
            return _nothing(Readings.empty(self.width)), None
        verdicts = self._lateness.judge(readings.stream, readings.time_ns, readings.partition)
        taken = np.flatnonzero(verdicts.taken)
        sequence = np.zeros(len(readings), np.int64) if readings.sequence is None else readings.sequence
        self.held.add(
            Rows(
                readings.stream[taken],
                readings.time_ns[taken],
                readings.values[taken].astype(np.float64),
                readings.offset[taken],
                sequence[taken],
            )
        )
        rows = self.held.release(verdicts.codes, verdicts.frontier_ns, len(self._state.names))
        place = np.full(len(self._state.names), -1, np.int64)
        place[verdicts.codes] = np.arange(len(verdicts.codes))
        trigger = verdicts.triggers(place[rows.code], rows.time_ns)
        admitted, in_order = self._released(rows, trigger, readings.partition)
        late = np.flatnonzero(verdicts.late)
        too_many = len(readings) - len(taken) - len(late)
        return admitted.with_verdicts(late=late, overflow=too_many, reordered=verdicts.reordered), in_order

    def _released(self, rows: Rows, trigger: Ints, partition: Ints) -> tuple[Admitted, InOrder]:
        """Readings that nothing can overtake any more: in order, without duplicates, made into bars."""
        if not len(rows):
            return _nothing(Readings.empty(self.width)), InOrder(rows, trigger)
        order = np.lexsort((rows.sequence, rows.time_ns, rows.code))
        rows, trigger = rows.take(order), trigger[order]
        n = len(rows)
        same = (np.diff(rows.code, prepend=-1) == 0) & (np.diff(rows.time_ns, prepend=0) == 0)
        if self.options.features:
            # Several readings at one time are data, unless a sequence number says that they are one.
            same &= (np.diff(rows.sequence, prepend=0) == 0) & (rows.sequence != 0)
        duplicates = int(same.sum())
        if duplicates:
            rows, trigger = rows.take(~same), trigger[~same]
        in_order = InOrder(rows, trigger)
        if self.options.features:
            admitted = self._bars(rows, trigger, partition)
        else:
            admitted = self._as_they_are(rows, trigger, partition)
        return admitted.with_counts(duplicates=duplicates, taken=n - duplicates), in_order

    def _as_they_are(self, rows: Rows, trigger: Ints, partition: Ints) -> Admitted:
        groups = group(rows.code)
        self._state.reach(groups.codes[-1:])
        last_ns = self._last["last_ns"]
        before = np.concatenate([[0], rows.time_ns[:-1]])[: len(rows)]
        before[groups.begin] = last_ns[groups.codes]
        last_ns[groups.codes] = rows.time_ns[groups.begin + groups.count - 1]
        known = before != NEVER
        fresh = known & self._apart(np.where(known, before, rows.time_ns), rows.time_ns)
        if self._max_gap_ns is not None:
            fresh |= known & (rows.time_ns - np.where(known, before, rows.time_ns) > self._max_gap_ns)
        return self._admitted(
            rows.code,
            rows.time_ns,
            rows.values,
            rows.offset,
            trigger,
            partition,
            fresh,
            np.zeros(len(rows), np.float32),
        )

    def _bars(self, rows: Rows, trigger: Ints, partition: Ints) -> Admitted:
        o = self.options
        if self._open is not None:
            rows, trigger, number = self._counted(rows, trigger)
            if not len(rows):
                return _nothing(Readings.empty(self.width))
        else:
            number = rows.time_ns // o.grid_ns
        n = len(rows)
        begin = np.flatnonzero((np.diff(rows.code, prepend=-1) != 0) | (np.diff(number, prepend=-1) != 0))
        bars = Bars(begin, np.diff(np.append(begin, n)))
        last = begin + bars.count - 1
        code = rows.code[begin]
        at = number[begin] * o.grid_ns if self._open is None else self._distinct(code, rows.time_ns[begin])
        end_ns = rows.time_ns[last] if self._open is not None else at + o.grid_ns
        groups = group(code)
        before = np.concatenate([[0], at[:-1]])
        self._state.reach(groups.codes[-1:])
        before[groups.begin] = self._gaps.last_ns[groups.codes]
        known = before != NEVER
        apart = known & self._apart(np.where(known, before, at), at)
        begins_anew = np.zeros(n, bool)
        begins_anew[begin] = self._gaps.breaks(before, at, apart)[0]
        trails = self._trail.follow(rows.code, rows.time_ns, rows.values, begins_anew)
        measured = aggregate(o.features, rows.values, bars, trails, end_ns)
        filled: Filled = self._gaps.fill(code, at, measured, apart)
        bar = filled.bar
        return self._admitted(
            code[bar],
            filled.time_ns,
            filled.values,
            rows.offset[last][bar],
            trigger[last][bar],
            partition,
            filled.fresh,
            filled.carried,
        )

    def _distinct(self, code: Ints, time_ns: Ints) -> Ints:
        """Times of bars by count or volume, moved on by a nanosecond where two began at one time."""
        groups = group(code)
        self._state.reach(groups.codes[-1:])
        rank, last_ns = groups.rank, self._gaps.last_ns[groups.codes]
        first = np.where(last_ns == NEVER, NEVER, last_ns + 1)
        free = np.maximum(time_ns - rank, np.repeat(first, groups.count))
        return running_max(groups.member, free) + rank

    def _counted(self, rows: Rows, trigger: Ints) -> tuple[Rows, Ints, Ints]:
        """Readings of complete bars by count or volume, the reading that completed each, and bar numbers."""
        assert self._open is not None
        o, touched = self.options, np.unique(rows.code)
        most = np.full(len(touched), np.iinfo(np.int64).max)
        opened = self._open.release(touched, most, len(self._state.names))
        waiting = np.full(len(opened), -1, np.int64)  # released earlier: what completes the bar comes after
        both = Rows.join([opened, rows])
        order = np.argsort(both.code, kind="stable")
        both, trigger = both.take(order), np.concatenate([waiting, trigger])[order]
        groups = group(both.code)
        if o.bars == "ticks":
            amount, size = np.ones(len(both), np.int64), max(1, round(o.bar_size))
        else:
            volume = np.nan_to_num(both.values[:, o.bar_field], nan=0.0)
            amount, size = np.round(np.maximum(volume, 0) * _SCALE).astype(np.int64), max(1, round(o.bar_size * _SCALE))
        number, complete = _cut(amount, groups.begin, groups.count, size)
        self._open.add(both.take(~complete))
        return both.take(complete), trigger[complete], number[complete]

    def _with_context(self, readings: Readings) -> NDArray[np.float32]:
        """Values, then what the calendar says of each time."""
        context = calendar.columns(self.options.context, readings.time_ns, self._sessions)
        return np.concatenate([readings.values.astype(np.float32), context], axis=1)

    def _apart(self, before_ns: Ints, time_ns: Ints) -> Bools:
        """Whether two times lie in different sessions."""
        if self._sessions is None or not len(time_ns):
            return np.zeros(len(time_ns), bool)
        return np.asarray(self._sessions.session_of(before_ns) != self._sessions.session_of(time_ns))

    def _admitted(
        self,
        code: Ints,
        time_ns: Ints,
        values: NDArray[np.float64],
        offset: Ints,
        trigger: Ints,
        partition: Ints,
        fresh: Bools,
        carried: NDArray[np.float32],
    ) -> Admitted:
        """In the order of what released them, so that no cut into batches shows."""
        order = np.argsort(trigger, kind="stable")
        owner = partition[trigger[order]] if len(order) else np.empty(0, np.int64)
        with np.errstate(over="ignore"):
            narrow = values[order].astype(np.float32)
        readings = Readings(code[order], time_ns[order], narrow, owner, offset[order])
        if self.options.context:
            readings = replace(readings, values=self._with_context(readings))
        return Admitted(readings, trigger[order], fresh[order], 0, 0, carried=carried[order])


def _nothing(readings: Readings) -> Admitted:
    return Admitted(readings, np.empty(0, np.int64), np.empty(0, bool), 0, 0, taken=0)


def in_order_among(in_order: InOrder | None, rows: Ints) -> InOrder | None:
    """The same where the batch was made of `rows` of a larger one."""
    return None if in_order is None else InOrder(in_order.rows, rows[in_order.trigger])


def _without_zeros(readings: Readings, fields: tuple[int, ...]) -> Readings:
    values = readings.values.copy()
    for field in fields:
        values[values[:, field] == 0, field] = np.nan
    return Readings(readings.stream, readings.time_ns, values, readings.partition, readings.offset, readings.sequence)


def _cut(amount: Ints, begin: Ints, count: Ints, size: int) -> tuple[Ints, Bools]:
    """Cut streams into bars of at least `size`: a bar is complete with the reading that reaches it.

    Args:
        amount: Of each reading, `(n,)`, sorted by stream.
        begin: Where each stream begins, at the beginning of a bar.
        count: Of each stream.
        size: Of a bar.

    Returns:
        Bar of each reading, and whether that bar is complete.

    >>> _cut(np.array([1, 1, 1, 1, 1]), np.array([0]), np.array([5]), 2)[0].tolist()
    [0, 0, 1, 1, 2]
    """
    number, complete = np.zeros(len(amount), np.int64), np.zeros(len(amount), bool)
    for first, n in zip(begin.tolist(), count.tolist(), strict=True):
        some = np.cumsum(amount[first : first + n])
        done, bar = 0, 0
        base = 0
        while done < n and int(some[-1]) - base >= size:
            end = int(np.searchsorted(some, base + size)) + 1
            number[first + done : first + end], complete[first + done : first + end] = bar, True
            base, done, bar = int(some[end - 1]), end, bar + 1
        number[first + done : first + n] = bar
    return number, complete
