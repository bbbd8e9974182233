"""Silence: of one stream while others go on, of many at once, of a whole partition while its market is open.

Pure: event time only, and arrivals, whatever their time: a late reading is a sign of life too. Not inside: how long a
stream may take (`intervals`), streams that stay silent for good (`expiry`), that the whole topic has stopped
(`runtime.topic_silence`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Arrays, Schema
from streamer.core.events import EXPIRED, OPEN, PARTITION, QUIET, RESOLVE, SILENCE, Detail, Event
from streamer.core.expiry import NOTHING_EXPIRED, Expired
from streamer.core.grouping import Ints
from streamer.core.keyed_state import NO_STREAM, KeyedState
from streamer.core.moves import Moves
from streamer.core.readings import NEVER
from streamer.core.sessions import Sessions
from streamer.core.silence.arrivals import Arrivals, Measure
from streamer.core.silence.elsewhere import Elsewhere
from streamer.core.silence.intervals import Bools, Intervals
from streamer.core.silence.onsets import Onsets
from streamer.core.silence.soonest import Soonest

CROWD = 100  # streams of a partition that are silent each by itself; further ones are one incident
MANY = 10  # streams that fall silent together, and at least half of those active, are one incident
NAMES_TOLD = 5
Details = Mapping[str, Detail]
NOTHING: Details = {}
BARS = 3  # a silence lasts at least so many
_COLUMNS: Schema = {
    "last_ns": (np.int64, (), NEVER),  # newest event time
    "clock_ns": (np.int64, (), 0),  # when it came last, by the clock `power`
    "learn_ns": (np.int64, (), 0),  # when it came last, by the clock for learning
    "power": (np.int64, (), 0),
    "since_ns": (np.int64, (), NEVER),  # last reading before the silence
    "storm": (np.bool_, (), False),  # silent as part of an incident of the partition
}


class SilenceWatch:
    """Finds streams that stopped while others of their partition went on.

    Each partition has clocks that move with its newest event time, in market time where there are sessions, but by at
    most a quarter of a stream's limit at once: when the whole partition pauses, nobody is silent. A stream is silent
    when its clock has moved by more than its limit since its last reading. Many that fall silent together are one
    incident, of the partition. With sessions a pause of the whole partition in market hours is told too, by the
    reading that ends it. Event time only, so a replay at any speed, in any batches, agrees.

    Args:
        state: Of all streams.
        after_ns: Limit of streams that have no usual interval yet; None: silence is not watched.
        factor: Usual intervals that make a silence.
        grid_ns: Interval of a bar; no limit is shorter than three.
        sessions: Market hours; None: always open.
    """

    def __init__(
        self,
        state: KeyedState,
        after_ns: int | None,
        *,
        factor: float = 30.0,
        grid_ns: int = 0,
        sessions: Sessions | None = None,
    ) -> None:
        self._state = state
        self._clocks = state.register_partitions("silence")
        self._storms = state.register_partitions("silence.storms")  # onset, streams, returned, expired
        self._columns = state.register("silence", _COLUMNS, put=self._put)
        self._onsets = Onsets(state)
        self._soonest = Soonest()
        self._intervals = Intervals(state, factor, BARS * grid_ns)
        self.moves = Moves(state)
        self.limit_ns = self._intervals.limit_ns
        self._measure = Measure(state, self._columns, self._clocks, self._intervals, self.moves, sessions)
        self._elsewhere = Elsewhere(self.moves, self._columns, self._intervals, self._onsets)
        self.left = NOTHING_EXPIRED  # streams that come elsewhere, as the newest step has shown
        self.after_ns = after_ns

    @property
    def after_ns(self) -> int | None:
        """Limit of streams that have no usual interval yet."""
        return self._after_ns

    @after_ns.setter
    def after_ns(self, after_ns: int | None) -> None:
        self._after_ns = after_ns
        self._intervals.seed_ns = after_ns or 1
        self._soonest.forget()

    @property
    def is_silent(self) -> NDArray[np.bool_]:
        """Streams that are silent now, `(rows,)`."""
        return np.asarray(self._columns["since_ns"] != NEVER)

    @property
    def last_ns(self) -> Ints:
        """Newest event time of each stream, `(rows,)`."""
        return self._columns["last_ns"]

    def cuts(self, codes: Ints, times_ns: Ints, partitions: Ints) -> list[int]:
        """See `Elsewhere.cuts`."""
        return [] if self.after_ns is None else self._elsewhere.cuts(codes, times_ns, partitions)

    def step(self, codes: Ints, times_ns: Ints, partitions: Ints) -> list[Event]:
        """Take in readings as they came; returns silences that began or ended, in the order of the readings."""
        self.left = NOTHING_EXPIRED
        if not len(codes):
            return []
        self._state.reach(codes)
        events, left = list[Event](), [NOTHING_EXPIRED]
        for partition in np.unique(partitions).tolist():
            rows = np.flatnonzero(partitions == partition)
            while len(rows):
                batch = self._measure.look(partition, rows, codes[rows], times_ns[rows])
                cut = self._cut(batch)
                if cut < len(rows):
                    # Where something happens to many streams at once, what they all stand at must be known exactly.
                    batch = self._measure.look(partition, rows[:cut], codes[rows[:cut]], times_ns[rows[:cut]])
                events += self._take(batch)
                if self.after_ns is not None:
                    left.append(self._elsewhere.gone(batch))
                rows = rows[cut:]
        self.left = Expired.join(left)
        return sorted(events, key=lambda event: _in_order(event, self._name(event.code)))

    def close(self, codes: Ints, rows: Ints, times_ns: Ints, reason: str = EXPIRED) -> list[Event]:
        """Resolve the silences of streams that are no longer tracked; see `Incidents.close`."""
        t, events = self._columns, []
        for code, row, at in zip(codes.tolist(), rows.tolist(), times_ns.tolist(), strict=True):
            partition = int(self._state.partition[code])
            storm = self._storms.get(partition)
            if t["storm"][code] and storm is not None:
                storm[3] += 1
                if storm[2] + storm[3] >= storm[1]:
                    events.append(_storm_over(self._storms.pop(partition), partition, at, row, 0, reason))
            elif t["since_ns"][code] != NEVER:
                events.append(Event(RESOLVE, SILENCE, code, int(t["since_ns"][code]), at, 0.0, 0.0, row, reason))
        return events

    # -- what a batch means ----------------------------------------------------------

    def _everyone(self, batch: Arrivals) -> tuple[Ints, Ints, Ints, Ints, Bools]:
        """Streams of the partition after the batch: clock, clock when last heard, time since then, limit, silence."""
        t, others = self._columns, batch.others
        codes = np.concatenate([batch.groups.codes, others])
        power = np.concatenate([batch.power, t["power"][others]])
        limit = np.concatenate([batch.limit, self._intervals.limit_ns(others)])
        clock = np.concatenate([batch.clock, t["clock_ns"][others]])
        silent = t["since_ns"][others] != NEVER
        silent = np.concatenate([np.zeros(len(batch.power), bool), silent | self.moves.in_doubt[others]])
        return codes, power, clock, limit, silent

    def _put(self, codes: Ints, columns: Arrays) -> None:
        self._columns.put(codes, columns)
        self._soonest.forget()

    def _cut(self, batch: Arrivals) -> int:
        """How many readings may be taken in before an incident of many streams might begin or end."""
        n, groups, t = len(batch.rows), batch.groups, self._columns
        if self.after_ns is None:
            return n
        if batch.partition not in self._clocks:
            self._soonest.forget(batch.partition)  # its clocks begin anew
        storm = self._storms.get(batch.partition)
        if storm is not None:
            returning = groups.begin[batch.known & t["storm"][groups.codes]]
            places = np.sort(groups.order[np.concatenate([returning, batch.back])])
            wanted = max(1, -(-storm[1] // 2) - storm[2])
            return int(places[wanted - 1]) + 1 if len(places) >= wanted else n
        if self._soonest.all_well(batch):
            return n
        _, power, clock, limit, silent = self._everyone(batch)
        elapsed = batch.clocks.end(power) - clock
        gone = np.flatnonzero(~silent & (elapsed > limit))
        if not len(gone) and not len(batch.back):
            return n
        slow = ~silent & (2 * elapsed > limit)
        slow[: len(batch.slow)] |= batch.slow
        passing = len(gone) + len(batch.back)
        active = int((~silent).sum()) - passing
        if (slow.sum() < MANY or 2 * slow.sum() < active) and self._silent_in(batch.partition) + passing <= CROWD:
            return n
        passed = [(int(power[i]), int(clock[i] + limit[i])) for i in gone.tolist()]
        passed += zip(batch.back_power.tolist(), batch.back_since.tolist(), strict=True)
        return min(batch.clocks.first_after(*each) for each in passed) + 1

    # -- what is told and remembered ------------------------------------------------------

    def _take(self, batch: Arrivals) -> list[Event]:
        """Remember a batch, and tell what it led to."""
        t, groups, partition = self._columns, batch.groups, batch.partition
        if self.after_ns is None:
            self._remember(batch)
            return []
        events = batch.pauses_told()
        storm = self._storms.get(partition)
        was_silent = t["since_ns"][groups.codes] != NEVER
        limits = self._intervals.limit_ns(groups.codes)
        for g in np.flatnonzero(was_silent).tolist():
            code, place = int(groups.codes[g]), int(groups.order[groups.begin[g]])
            if t["storm"][code]:
                owner = self._storms.get(int(self._state.partition[code]))
                if owner is not None:
                    owner[2] += 1
            else:
                events.append(batch.over(code, int(t["since_ns"][code]), place, int(limits[g])))
        backs = (batch.back, batch.back_power, batch.back_since, batch.back_limit)
        for i, power, passed, limit in zip(*(column.tolist() for column in backs), strict=True):
            if storm is not None:
                storm[1], storm[2] = storm[1] + 1, storm[2] + 1
                continue
            place = int(groups.order[i])
            code, last_ns, heard_ns = batch.before(i, t["last_ns"])
            since = self._onsets.begin_within(code, last_ns, heard_ns)
            events.append(batch.event(OPEN, code, since, batch.clocks.first_after(power, passed)))
            events.append(batch.over(code, since, place, limit))
        self._remember(batch)
        return events + self._gone(batch)

    def _remember(self, batch: Arrivals) -> None:
        t, groups = self._columns, batch.groups
        codes = groups.codes
        newest = np.maximum.reduceat(batch.times_ns[groups.order], groups.begin)
        t["last_ns"][codes] = np.maximum(np.where(batch.known, t["last_ns"][codes], NEVER), newest)
        t["clock_ns"][codes], t["power"][codes] = batch.clock, batch.power
        t["learn_ns"][codes] = batch.clocks.learn_ns[groups.order[groups.begin + groups.count - 1]]
        t["since_ns"][codes], t["storm"][codes] = NEVER, False
        self.moves.hear(codes, batch.partition)
        self._onsets.hear(codes, batch.heard_ns)
        self._intervals.keep()
        self._state.assign(codes, batch.partition)
        self._clocks[batch.partition] = batch.clocks.export()

    def _gone(self, batch: Arrivals) -> list[Event]:
        """Streams that have fallen silent at the end of a batch; incidents of many streams begin and end here."""
        t, partition, last = self._columns, batch.partition, len(batch.rows) - 1
        if partition not in self._storms and self._soonest.all_well(batch):
            return []
        codes, power, clock, limit, silent = self._everyone(batch)
        self._soonest.found(partition, power[~silent], clock[~silent], limit[~silent])
        elapsed = batch.clocks.end(power) - clock
        gone = ~silent & (elapsed > limit)
        storm = self._storms.get(partition)
        if storm is not None:
            self._fall_silent(codes[gone], in_storm=True)
            storm[1] += int(gone.sum())
            if 2 * storm[2] < storm[1]:
                return []
            # Who has not returned yet has as long to do so as any stream, then falls silent on its own.
            missing = codes[t["storm"][codes]]
            t["storm"][missing], t["since_ns"][missing] = False, NEVER
            t["clock_ns"][missing] = batch.clocks.end(t["power"][missing])
            self._soonest.forget(partition)
            at, row, late = int(batch.times_ns[-1]), int(batch.rows[-1]), batch.late(storm[0])
            return [_storm_over(self._storms.pop(partition), partition, at, row, len(missing), QUIET, late)]
        if not gone.any():
            return []
        places = {
            int(codes[i]): batch.clocks.first_after(int(power[i]), int(clock[i] + limit[i]))
            for i in np.flatnonzero(gone).tolist()
        }
        together, active = ~silent & (2 * elapsed > limit), int((~silent).sum())
        if max(places.values()) == last and together.sum() >= MANY and 2 * together.sum() >= active:
            return [self._begin_storm(batch, codes[together], active)]
        if (told := self._silent_in(partition)) + len(places) > CROWD:
            return [self._begin_storm(batch, codes[gone], active, before=told)]
        self._fall_silent(codes[gone], in_storm=False)
        return [batch.event(OPEN, code, int(t["since_ns"][code]), place) for code, place in places.items()]

    def _begin_storm(self, batch: Arrivals, codes: Ints, active: int, *, before: int = 0) -> Event:
        """Many fall silent with the last reading of a batch; `before` of the partition were so, each by itself."""
        onset = self._onsets.begin_together(batch, codes, self._columns["last_ns"][codes])
        self._storms[batch.partition] = [onset, len(codes), 0, 0]
        self._fall_silent(codes, in_storm=True)
        return _together(batch, onset, [self._name(code) for code in codes.tolist()], active, before=before)

    def _silent_in(self, partition: int) -> int:
        """Streams of a partition that are silent now."""
        return int((self.is_silent & (self._state.partition == partition)).sum())

    def _fall_silent(self, codes: Ints, *, in_storm: bool) -> None:
        t = self._columns
        t["since_ns"][codes], t["storm"][codes] = t["last_ns"][codes], in_storm
        if not in_storm:
            t["since_ns"][codes] = self._onsets.begin(codes, t["last_ns"][codes])

    def _name(self, code: int) -> str:
        return self._state.names[code] if 0 <= code < len(self._state.names) else str(code)


def silent_together(watch: SilenceWatch, partition: int) -> int:
    """Streams of a partition that are silent as one incident."""
    here = watch._state.partition == partition
    return int((watch._columns["storm"] & watch.is_silent & here).sum())


def _in_order(event: Event, name: str) -> tuple[int, int, str]:
    """Of one reading: what ends before what begins, then by name, as codes differ between processes."""
    if "pause_s" in event.details:
        return event.row, 0, ""
    return event.row, 1 if event.event == RESOLVE else 2, name


def _storm_over(
    storm: list[int], partition: int, at: int, row: int, missing: int, reason: str, late: Details = NOTHING
) -> Event:
    """The end of a silence of many."""
    onset, streams, *_ = storm
    told = {"partition": partition, "streams": streams, "missing": missing, **late}
    return Event(RESOLVE, SILENCE, NO_STREAM, onset, at, 0.0, 0.0, row, reason, scope=PARTITION, details=told)


def _together(batch: Arrivals, onset_ns: int, names: list[str], active: int, *, before: int = 0) -> Event:
    """What is told of it."""
    more = f" and {len(names) - NAMES_TOLD} more" if len(names) > NAMES_TOLD else ""
    told: Details = {
        "partition": batch.partition,
        "streams": len(names),
        "active": active,
        **({"silent_before": before} if before else {}),
        "names": ", ".join(sorted(names)[:NAMES_TOLD]) + more,
    }
    at, row = int(batch.times_ns[-1]), int(batch.rows[-1])
    return Event(OPEN, SILENCE, NO_STREAM, onset_ns, at, 0.0, 0.0, row, scope=PARTITION, details=told)
