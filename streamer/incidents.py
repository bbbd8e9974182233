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
                "first_ns": (np.int64, (), NEVER),  # first strange reading since `bits` was 0
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
            self.table["first_ns"][calm[bits == 0]] = NEVER

        events: list[Event] = []
        for g in np.flatnonzero(active):
            some = rows[groups.begin[g] : groups.begin[g] + groups.count[g]]
            events += self._walk(int(groups.codes[g]), some, times_ns[some], scores[some])
        return sorted(events, key=lambda event: event.row)

    def _walk(self, code: int, rows: Ints, times_ns: Ints, scores: NDArray[np.float32]) -> list[Event]:
        """One stream, reading by reading."""
        t, rule = self.table, self.rule
        bits, first, is_open = int(t["bits"][code]), int(t["first_ns"][code]), bool(t["open"][code])
        onset, peak, told = int(t["onset_ns"][code]), float(t["peak"][code]), float(t["told"][code])
        quiet, mask = int(t["quiet"][code]), int(self._mask)
        events = []
        for row, at, score in zip(rows.tolist(), times_ns.tolist(), scores.tolist(), strict=True):
            strange = score >= 1.0
            bits = ((bits << 1) | strange) & mask
            if bits == 0:
                first = NEVER
            elif strange and first == NEVER:
                first = at
                peak = peak if is_open else 0.0
            if strange:
                peak = max(peak, score)
            if not is_open:
                if not strange or bits.bit_count() < rule.open_after:
                    continue
                is_open, onset, told, quiet = True, first, peak, 0
                events.append(Event(OPEN, ANOMALY, code, onset, at, score, peak, row))
                continue
            quiet = quiet + 1 if score < rule.exit_below else 0
            if peak >= told * rule.update_factor:
                told = peak
                events.append(Event(UPDATE, ANOMALY, code, onset, at, score, peak, row))
            if quiet >= rule.resolve_after:
                is_open = False
                events.append(Event(RESOLVE, ANOMALY, code, onset, at, score, peak, row))
        t["bits"][code], t["first_ns"][code], t["open"][code] = bits, first, is_open
        t["onset_ns"][code], t["peak"][code], t["told"][code], t["quiet"][code] = onset, peak, told, quiet
        return events


class SilenceWatch:
    """Tells streams that stopped while others of their partition went on.

    Measured in event time against the newest reading of the partition, so a replay
    at any speed agrees. When the whole partition stops nothing here can tell: that is
    for a rule on `streamer_last_record_timestamp_seconds`.

    Args:
        after_ns: Event time without a reading that counts as silence; None: never.
    """

    def __init__(self, after_ns: int | None) -> None:
        self.after_ns = after_ns
        self.table = Table(
            {
                "last_ns": (np.int64, (), NEVER),
                "partition": (np.int64, (), -1),
                "silent_since_ns": (np.int64, (), NEVER),  # last reading before the silence
            }
        )
        self.newest_ns: dict[int, int] = {}  # by partition

    @property
    def silent_count(self) -> int:
        return int((self.table["silent_since_ns"] != NEVER).sum())

    def step(self, codes: Ints, times_ns: Ints, partitions: Ints) -> list[Event]:
        """Take in admitted readings; returns silences that ended or began."""
        if not len(codes):
            return []
        groups = group(codes)
        newest = np.maximum.reduceat(times_ns[groups.order], groups.begin)
        self.table.reach(int(groups.codes[-1]) + 1)
        t = self.table
        events = []
        back = groups.codes[t["silent_since_ns"][groups.codes] != NEVER]
        if len(back):
            first = np.minimum.reduceat(times_ns[groups.order], groups.begin)
            at = dict(zip(groups.codes.tolist(), first.tolist(), strict=True))
            for code in back.tolist():
                events.append(self._event(RESOLVE, code, at[code]))
            t["silent_since_ns"][back] = NEVER
        t["last_ns"][groups.codes] = newest
        t["partition"][groups.codes] = partitions[groups.order[groups.begin]]
        for partition in np.unique(partitions).tolist():
            mine = int(times_ns[partitions == partition].max())
            self.newest_ns[partition] = max(mine, self.newest_ns.get(partition, NEVER))
            if self.after_ns is None:
                continue
            limit = self.newest_ns[partition] - self.after_ns
            gone = np.flatnonzero(
                (t["partition"] == partition)
                & (t["last_ns"] < limit)
                & (t["last_ns"] != NEVER)
                & (t["silent_since_ns"] == NEVER)
            )
            t["silent_since_ns"][gone] = t["last_ns"][gone]
            events += [self._event(OPEN, int(code), self.newest_ns[partition]) for code in gone]
        return events

    def _event(self, event: str, code: int, at_ns: int) -> Event:
        since = int(self.table["silent_since_ns"][code])
        # An opening is named by the moment silence was complete, however late it was noticed.
        at_ns = since + (self.after_ns or 0) if event == OPEN else at_ns
        return Event(event, SILENCE, code, since, at_ns, 0.0, 0.0, -1)


