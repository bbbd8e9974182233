"""A score is not yet an alert: runs of strange scores become incidents, with memory.

An incident opens when n of the last m scores are at or above 1.0, stays open through
dips (hysteresis), is reported again when its peak has grown, and resolves after a quiet
time; a dip shorter than that merges into it. Its id follows from the stream and the
onset alone, so a replay gives the same. Silence of one stream while the others go on
is an incident of its own kind.

Pure: event time only. Not inside: wording (`alerts`), where alerts go (`sinks`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.columns import Ints, Table, group
from streamer.events import ANOMALY, OPEN, RESOLVE, SILENCE, UPDATE, Event

NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Rule:
    """When an incident opens, is reported again, and resolves; counts are scored readings."""

    open_after: int = 3
    open_within: int = 5
    exit_below: float = 0.8
    resolve_after: int = 32
    update_factor: float = 1.5


class Incidents:
    """Incident state of every stream."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._mask = np.uint64((1 << rule.open_within) - 1)
        self.table = Table(
            {
                "bits": (np.uint64, (), 0),  # newest scores at or above 1.0, newest lowest
                # Newest strange readings, newest last: the oldest that counts when an incident opens is its onset.
                "strange_ns": (np.int64, (rule.open_within,), NEVER),
                "strange": (np.float32, (rule.open_within,), 0.0),
                "open": (np.bool_, (), False),
                "onset_ns": (np.int64, (), NEVER),
                "peak": (np.float32, (), 0.0),
                "told": (np.float32, (), 0.0),  # peak when last reported
                "quiet": (np.int64, (), 0),  # readings in a row below the exit level
            }
        )

    @property
    def open_count(self) -> int:
        return int(self.table["open"].sum())

    def step(self, codes: Ints, times_ns: Ints, scores: NDArray[np.float32]) -> list[Event]:
        """Take in scores, several of a stream in time order; rows with NaN are passed by.

        Only streams with a strange score or an open incident are walked reading by
        reading; all others move together.

        Returns:
            Events in the order of the readings that led to them.
        """
        scored = np.flatnonzero(~np.isnan(scores))
        if not len(scored):
            return []
        groups = group(codes[scored])
        self.table.reach(int(groups.codes[-1]) + 1)
        rows = scored[groups.order]
        ordered = scores[rows]
        highest = np.maximum.reduceat(ordered, groups.begin)
        active = (highest >= 1.0) | self.table["open"][groups.codes]

        calm, count = groups.codes[~active], groups.count[~active]
        if len(calm):
            bits = self.table["bits"][calm]
            shift = np.minimum(count, 63).astype(np.uint64)
            bits = np.where(count >= self.rule.open_within, np.uint64(0), (bits << shift) & self._mask)
            self.table["bits"][calm] = bits

        events: list[Event] = []
        for g in np.flatnonzero(active):
            some = rows[groups.begin[g] : groups.begin[g] + groups.count[g]]
            events += self._walk(int(groups.codes[g]), some, times_ns[some], scores[some])
        return sorted(events, key=lambda event: event.row)

    def _walk(self, code: int, rows: Ints, times_ns: Ints, scores: NDArray[np.float32]) -> list[Event]:
        """One stream, reading by reading."""
        t, rule = self.table, self.rule
        bits, is_open = int(t["bits"][code]), bool(t["open"][code])
        strange_ns, strange_scores = t["strange_ns"][code].tolist(), t["strange"][code].tolist()
        onset, peak, told = int(t["onset_ns"][code]), float(t["peak"][code]), float(t["told"][code])
        quiet, mask = int(t["quiet"][code]), int(self._mask)
        events = []
        for row, at, score in zip(rows.tolist(), times_ns.tolist(), scores.tolist(), strict=True):
            strange = score >= 1.0
            bits = ((bits << 1) | strange) & mask
            if strange:
                strange_ns, strange_scores = [*strange_ns[1:], at], [*strange_scores[1:], score]
            if not is_open:
                count = bits.bit_count()
                if not strange or count < rule.open_after:
                    continue
                onset, peak = strange_ns[-count], max(strange_scores[-count:])
                is_open, told, quiet = True, peak, 0
                events.append(Event(OPEN, ANOMALY, code, onset, at, score, peak, row))
                continue
            peak = max(peak, score)
            quiet = quiet + 1 if score < rule.exit_below else 0
            if peak >= told * rule.update_factor:
                told = peak
                events.append(Event(UPDATE, ANOMALY, code, onset, at, score, peak, row))
            if quiet >= rule.resolve_after:
                # What was strange before belongs to this incident, not to the next.
                is_open, bits = False, 0
                events.append(Event(RESOLVE, ANOMALY, code, onset, at, score, peak, row))
        t["bits"][code], t["open"][code] = bits, is_open
        t["strange_ns"][code], t["strange"][code] = strange_ns, strange_scores
        t["onset_ns"][code], t["peak"][code], t["told"][code], t["quiet"][code] = onset, peak, told, quiet
        return events


class SilenceWatch:
    """Tells streams that stopped while others of their partition went on.

    Each partition has a clock that moves with its newest event time, but by at most a
    quarter of the limit at once: when the whole partition pauses, nobody is silent. A
    stream is silent when the clock has moved by more than the limit since its last
    reading; one alone in its partition is told of only when it returns. Event time only,
    so a replay at any speed, in any batches, agrees. That the whole topic has stopped is
    for a rule on `streamer_last_record_timestamp_seconds`.

    Args:
        after_ns: Event time without a reading that counts as silence; None: never.
    """

    def __init__(self, after_ns: int | None) -> None:
        self.after_ns = after_ns
        self.table = Table(
            {
                "last_ns": (np.int64, (), NEVER),
                "last_clock_ns": (np.int64, (), 0),
                "partition": (np.int64, (), -1),
                "silent_since_ns": (np.int64, (), NEVER),  # last reading before the silence
            }
        )
        self.clocks: dict[int, tuple[int, int]] = {}  # by partition: newest event time, clock

    @property
    def silent_count(self) -> int:
        return int((self.table["silent_since_ns"] != NEVER).sum())

    def step(self, codes: Ints, times_ns: Ints, partitions: Ints) -> list[Event]:
        """Take in admitted readings; returns silences that began or ended, in the order of the readings."""
        if not len(codes):
            return []
        self.table.reach(int(codes.max()) + 1)
        events: list[Event] = []
        for partition in np.unique(partitions).tolist():
            rows = np.flatnonzero(partitions == partition)
            events += self._step(partition, rows, codes[rows], times_ns[rows])
        return sorted(events, key=lambda event: event.row)

    def _step(self, partition: int, rows: Ints, codes: Ints, times_ns: Ints) -> list[Event]:
        t = self.table
        newest, clock = self.clocks.get(partition, (int(times_ns[0]), 0))
        line = np.maximum.accumulate(np.concatenate([[newest], times_ns]))
        cap = np.iinfo(np.int64).max if self.after_ns is None else max(1, self.after_ns // 4)
        clocks = clock + np.cumsum(np.minimum(np.diff(line), cap))  # (n,) after each reading
        self.clocks[partition] = int(line[-1]), int(clocks[-1])

        groups = group(codes)
        ordered_clock, ordered_time = clocks[groups.order], times_ns[groups.order]
        before_clock = np.concatenate([[0], ordered_clock[:-1]])
        before_time = np.concatenate([[0], ordered_time[:-1]])
        before_clock[groups.begin] = t["last_clock_ns"][groups.codes]
        before_time[groups.begin] = t["last_ns"][groups.codes]
        # A stream that comes from another partition was measured by another clock.
        moved = t["partition"][groups.codes] != partition
        before_time[groups.begin[moved]] = NEVER
        events: list[Event] = []
        if self.after_ns is not None:
            # The clock just before a reading: its own step does not count against its stream.
            just_before = np.concatenate([[clock], clocks[:-1]])[groups.order]
            back = (before_time != NEVER) & (just_before - before_clock > self.after_ns)
            for i in np.flatnonzero(back).tolist():
                place, since = int(groups.order[i]), int(before_time[i])
                code = int(codes[place])
                # A stream already told of as silent is so before its first reading here.
                told = _is_first(groups.begin, i) and t["silent_since_ns"][code] != NEVER
                if not told:
                    events.append(self._open(code, since, int(before_clock[i]), clocks, rows, times_ns))
                at = int(times_ns[place])
                events.append(Event(RESOLVE, SILENCE, code, since, at, 0.0, 0.0, int(rows[place])))
        for g in np.flatnonzero(moved & (t["silent_since_ns"][groups.codes] != NEVER)).tolist():
            code, place = int(groups.codes[g]), int(groups.order[groups.begin[g]])
            since = int(t["silent_since_ns"][code])
            events.append(Event(RESOLVE, SILENCE, code, since, int(times_ns[place]), 0.0, 0.0, int(rows[place])))
        last = groups.begin + groups.count - 1
        t["silent_since_ns"][groups.codes] = NEVER
        t["last_ns"][groups.codes] = ordered_time[last]
        t["last_clock_ns"][groups.codes] = ordered_clock[last]
        t["partition"][groups.codes] = partition
        if self.after_ns is not None:
            gone = np.flatnonzero(
                (t["partition"] == partition)
                & (t["silent_since_ns"] == NEVER)
                & (clocks[-1] - t["last_clock_ns"] > self.after_ns)
            )
            for code in gone.tolist():
                since = int(t["last_ns"][code])
                events.append(self._open(code, since, int(t["last_clock_ns"][code]), clocks, rows, times_ns))
            t["silent_since_ns"][gone] = t["last_ns"][gone]
        return events

    def _open(self, code: int, since: int, since_clock: int, clocks: Ints, rows: Ints, times_ns: Ints) -> Event:
        """Silence told by the first reading that moved the clock past the limit."""
        assert self.after_ns is not None
        place = int(np.searchsorted(clocks, since_clock + self.after_ns, side="right"))
        return Event(OPEN, SILENCE, code, since, int(times_ns[place]), 0.0, 0.0, int(rows[place]))


def _is_first(begin: Ints, place: int) -> bool:
    """Whether `place` is where a group begins."""
    found = int(np.searchsorted(begin, place))
    return found < len(begin) and int(begin[found]) == place
