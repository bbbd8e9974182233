"""Between decoding and windows: readings as sent become readings of the model.

    order      late, duplicate and outside readings are told apart; what may still be overtaken waits
    bars       readings of one grid interval, or of so many ticks or so much volume, become one
    gaps       bars without readings, carried values, transforms
    context    calendar features

Training, backtest and daemon run this same object. Pure: no clock but the readings' own. What comes out
does not depend on how the readings were cut into batches. Not inside: windows, rules over readings in order.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core import calendar
from streamer.core.event_time.bars import BarMaker, Made
from streamer.core.event_time.cuts import cuts
from streamer.core.event_time.held import NO_SEQUENCE, Held, Rows
from streamer.core.event_time.hindsight import Hindsight
from streamer.core.event_time.lateness import Lateness
from streamer.core.event_time.options import TimeOptions
from streamer.core.expiry import NOTHING_EXPIRED, Expired
from streamer.core.grouping import group
from streamer.core.keyed_state import KeyedState
from streamer.core.options import PipelineOptions
from streamer.core.ordering import Admitted, Ordering
from streamer.core.readings import NEVER, Readings
from streamer.core.resets import Resets
from streamer.core.sessions import Sessions

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


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
        sessions: Market hours; None: always open.
    """

    def __init__(
        self,
        state: KeyedState,
        options: TimeOptions,
        max_gap_ns: int | None = None,
        *,
        sessions: Sessions | None = None,
    ) -> None:
        self.options, self._state, self._sessions = options, state, sessions
        self._resets = Resets(max_gap_ns, sessions)
        self.ordering = Ordering(state, self._resets)
        self.held: Held | None = None
        self.hindsight: Hindsight | None = None
        if options.holds:
            grid_ns = options.grid_ns if options.bars == "time" else 0
            self._lateness = Lateness(
                state,
                self.ordering.columns,
                lateness_ns=options.lateness_ns,
                grid_ns=grid_ns,
                max_held=options.max_held,
            )
            span_ns = max(grid_ns or options.lateness_ns, 1_000_000_000)
            self.held = state.register_rows("held", Held(len(options.fields), span_ns))
            if options.features:
                self._bars = bars = BarMaker(state, options, self._resets)
                if options.correct and options.bars == "time":
                    self.hindsight = Hindsight(
                        state, options, bars.remembered, lambda rows: bars.make(rows, rows.offset)
                    )
            else:
                self._last = state.register("released", {"last_ns": (np.int64, (), NEVER)})

    @classmethod
    def of(cls, state: KeyedState, options: PipelineOptions) -> EventTime:
        """As a pipeline has it."""
        return cls(state, options.time, options.max_gap_ns, sessions=options.sessions)

    @property
    def width(self) -> int:
        """Features of a reading of the model; its context comes on top."""
        return len(self.options.features) or len(self.options.fields)

    @property
    def holding(self) -> int:
        """Readings held back now."""
        if self.held is None:
            return 0
        return self.held.count + self._opened

    @property
    def _opened(self) -> int:
        """Readings of bars by count or volume that are not complete."""
        return self._bars.holding if self.options.features else 0

    @property
    def behind_ns(self) -> int:
        """Event time from where the stream that waits longest stands to the newest reading; 0: none waits."""
        if self.held is None or not self.held.count:
            return 0
        waits = self._lateness.holding()
        newest = self.ordering.columns["newest_ns"]
        started = self._lateness.frontier_ns[waits]
        return int(newest[waits].max() - started[started != NEVER].min(initial=int(newest[waits].max())))

    def is_newer(self, readings: Readings) -> Bools:
        """Readings newer than all that their streams had sent before this batch, `(n,)`."""
        return self.ordering.is_newer(readings)

    def take(self, readings: Readings, gone: Expired = NOTHING_EXPIRED) -> tuple[Admitted, InOrder | None]:
        """Take in one batch, in the order it came.

        Args:
            readings: The batch.
            gone: Streams that leave in it: of what is held back of them only what goes by then is released.

        Returns:
            Readings of the model with what became of the others, and the readings as sent that were
            released, for rules; those are None when nothing is held back.
        """
        inside = self._inside(readings)
        if (outside := len(readings) - len(inside)) == 0:
            admitted, in_order = self._take(readings, gone)
            return self._beside(admitted), in_order
        inside_by_then = Expired(gone.codes, np.searchsorted(inside, gone.rows, side="right") - 1)
        admitted, in_order = self._take(readings.take(inside), inside_by_then)
        return self._beside(admitted.among(inside, outside)), in_order_among(in_order, inside)

    def pieces(self, readings: Readings) -> list[Readings]:
        """A batch, cut where corrections have to be made before it goes on; mostly as it is."""
        if self.hindsight is None or not len(readings):
            return [readings]
        inside = self._inside(readings)
        some = readings.take(inside)
        self._state.reach(readings.stream)
        verdicts = self._lateness.foresee(some.stream, some.time_ns, some.partition)
        oldest_ns = self.hindsight.floor_ns(np.maximum(self._bars.last_ns, -(1 << 62)))
        late = np.flatnonzero(verdicts.late & (some.time_ns >= oldest_ns[some.stream]))
        edges = [0, *inside[cuts(verdicts, some.stream, late)].tolist(), len(readings)]
        return [readings.take(slice(*edge)) for edge in itertools.pairwise(edges)]

    def _inside(self, readings: Readings) -> Ints:
        """Rows of a batch that are not dropped as outside of the sessions."""
        if self._sessions is None or self._sessions.keep_outside:
            return np.arange(len(readings))
        return np.flatnonzero(self._sessions.session_of(readings.time_ns) >= 0)

    def release(self, codes: Ints, partition: int) -> tuple[Admitted, InOrder | None]:
        """Release all that some streams of a partition have sent, as nothing more is expected of them for now."""
        if self.held is None:
            return _nothing(Readings.empty(len(self.options.fields))), None
        rows = _in_order(self.held.release(codes, self._lateness.release_all(codes), len(self._state.names)))
        admitted, in_order = self._released(rows, np.zeros(len(rows), np.int64), np.array([partition]))
        return self._beside(admitted), in_order

    def holders(self, partition: int) -> Ints:
        """Streams of a partition that have readings held back."""
        if self.held is None:
            return np.empty(0, np.int64)
        self._state.reach(np.empty(0, np.int64))
        return np.flatnonzero(self._lateness.holding() & (self._state.partition == partition))

    def _beside(self, admitted: Admitted) -> Admitted:
        """The same with calendar features, if any are wanted."""
        names = self.options.context
        return admitted.with_columns(lambda at: calendar.columns(names, at, self._sessions)) if names else admitted

    def _take(self, readings: Readings, gone: Expired) -> tuple[Admitted, InOrder | None]:
        if self.options.zero_is_missing and len(readings):
            readings = _without_zeros(readings, self.options.zero_is_missing)
        if self.held is None:
            return self.ordering.admit(readings), None
        if not len(readings):
            return _nothing(Readings.empty(self.width)), None
        verdicts = self._lateness.judge(readings.stream, readings.time_ns, readings.partition)
        taken = np.flatnonzero(verdicts.taken)
        self.held.add(rows_of(readings, taken))
        rows = _in_order(self.held.release(verdicts.codes, verdicts.frontier_ns, len(self._state.names)))
        place = np.full(len(self._state.names), -1, np.int64)
        place[verdicts.codes] = np.arange(len(verdicts.codes))
        trigger = verdicts.triggers(place[rows.code], rows.time_ns)
        if len(gone.codes):
            # What goes by after its stream has left is held on, to be forgotten with it.
            until = np.full(len(self._state.names), np.iinfo(np.int64).max)
            until[gone.codes] = gone.rows
            in_time = trigger <= until[rows.code]
            self.held.add(rows.take(~in_time))
            rows, trigger = rows.take(in_time), trigger[in_time]
        admitted, in_order = self._released(rows, trigger, readings.partition)
        late = np.flatnonzero(verdicts.late)
        too_many = len(readings) - len(taken) - len(late)
        if self.hindsight is not None and len(late):
            corrected = self.hindsight.correct(rows_of(readings, late), late, self._bars.last_ns)
            late = np.setdiff1d(late, [one.row for one in corrected])
            admitted = admitted.with_corrected(corrected)
        return admitted.with_verdicts(late=late, overflow=too_many, reordered=verdicts.reordered), in_order

    def _released(self, rows: Rows, trigger: Ints, partition: Ints) -> tuple[Admitted, InOrder]:
        """Readings that nothing can overtake any more: in order, without duplicates, made into bars."""
        if not len(rows):
            return _nothing(Readings.empty(self.width)), InOrder(rows, trigger)
        n = len(rows)
        same = (np.diff(rows.code, prepend=-1) == 0) & (np.diff(rows.time_ns, prepend=0) == 0)
        if self.options.features:
            # Several readings at one time are data, unless a sequence number says that they are one.
            same[1:] &= rows.sequence[1:] == rows.sequence[:-1]
            same &= rows.sequence != NO_SEQUENCE
        duplicates = int(same.sum())
        if duplicates:
            rows, trigger = rows.take(~same), trigger[~same]
        in_order = InOrder(rows, trigger)
        opened = self._opened
        made = self._bars.make(rows, trigger) if self.options.features else self._as_they_are(rows, trigger)
        if self.hindsight is not None:
            self.hindsight.keep(rows, self._bars.last_ns)
        return _admitted(made, partition).with_counts(
            duplicates=duplicates,
            taken=n - duplicates - made.overflow - (self._opened - opened),
            overflow=made.overflow,
        ), in_order

    def _as_they_are(self, rows: Rows, trigger: Ints) -> Made:
        groups = group(rows.code)
        self._state.reach(groups.codes[-1:])
        last_ns = self._last["last_ns"]
        before = np.concatenate([[0], rows.time_ns[:-1]])[: len(rows)]
        before[groups.begin] = last_ns[groups.codes]
        last_ns[groups.codes] = rows.time_ns[groups.begin + groups.count - 1]
        fresh = self._resets.between(before, rows.time_ns)
        none = np.zeros(len(rows), np.float32)
        return Made(rows.code, rows.time_ns, rows.values, rows.offset, trigger, fresh, none)


def _admitted(made: Made, partition: Ints) -> Admitted:
    """In the order of what released them, so that no cut into batches shows."""
    order = np.argsort(made.trigger, kind="stable")
    trigger = made.trigger[order]
    owner = partition[trigger] if len(order) else np.empty(0, np.int64)
    with np.errstate(over="ignore"):
        narrow = made.values[order].astype(np.float32)
    readings = Readings(made.code[order], made.time_ns[order], narrow, owner, made.offset[order])
    return Admitted(readings, trigger, made.fresh[order], 0, 0, carried=made.carried[order])


def rows_of(readings: Readings, where: Ints) -> Rows:
    """Some readings, as they are held."""
    sequence = np.full(len(readings), NO_SEQUENCE) if readings.sequence is None else readings.sequence
    values = readings.values[where].astype(np.float64)
    return Rows(readings.stream[where], readings.time_ns[where], values, readings.offset[where], sequence[where])


def _in_order(rows: Rows) -> Rows:
    """Sorted by stream, time and sequence number; what is equal stays as it came."""
    keys = (rows.time_ns, rows.code)
    return rows.take(np.lexsort((rows.sequence, *keys) if (rows.sequence != NO_SEQUENCE).any() else keys))


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
