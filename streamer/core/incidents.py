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

from streamer.core.events import ANOMALY, OPEN, RESOLVE, UPDATE, Event
from streamer.core.grouping import Ints, group
from streamer.core.keyed_state import Table
from streamer.core.readings import NEVER


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
