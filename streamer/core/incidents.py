"""A score is not yet an alert: runs of anomalous scores become incidents, with memory.

An incident opens when n of the last m scores are at or above 1.0, stays open through
dips (hysteresis), is updated when its peak has grown, and resolves after a quiet
time; a dip shorter than that merges into it. Its id follows from the stream and the
onset alone, so a replay gives the same.

Pure: event time only. Not inside: silence (`silence`), wording (`alerts`), where alerts go (`sinks`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Arrays
from streamer.core.events import ANOMALY, CORRECTED, EXPIRED, OPEN, RESOLVE, UPDATE, Event
from streamer.core.grouping import Ints, group
from streamer.core.keyed_state import KeyedState
from streamer.core.readings import NEVER


@dataclass(frozen=True, slots=True)
class Rule:
    """When an incident opens, is updated, and resolves; counts are readings."""

    open_after: int = 3
    open_within: int = 5
    exit_below: float = 0.8
    resolve_after: int = 32
    update_factor: float = 1.5

    def in_scores(self, stride: int) -> Rule:
        """The same with counts in scores: one stands for the `stride` readings that end with it.

        >>> rule = Rule(open_after=3, open_within=5, resolve_after=32).in_scores(4)
        >>> rule.open_after, rule.open_within, rule.resolve_after
        (1, 2, 8)
        """
        return replace(
            self,
            open_after=-(-self.open_after // stride),
            open_within=-(-self.open_within // stride),
            resolve_after=-(-self.resolve_after // stride),
        )


class Incidents:
    """Incident state of every stream.

    Args:
        state: Of all streams.
        rule: Counts in readings.
        stride: Readings between two scores of a stream.
    """

    def __init__(self, state: KeyedState, rule: Rule, stride: int = 1) -> None:
        self.rule = rule = rule.in_scores(stride)
        self._mask = np.uint64((1 << rule.open_within) - 1)
        self._state = state
        self._columns = state.register(
            "incidents",
            {
                "bits": (np.uint64, (), 0),  # newest scores at or above 1.0, newest lowest
                # Newest anomalous readings, newest last: the oldest that counts when an incident opens is its onset.
                "anomalous_ns": (np.int64, (rule.open_within,), NEVER),
                "anomalous": (np.float32, (rule.open_within,), 0.0),
                "open": (np.bool_, (), False),
                "onset_ns": (np.int64, (), NEVER),
                "peak": (np.float32, (), 0.0),
                "reported": (np.float32, (), 0.0),  # peak when last reported
                "quiet": (np.int64, (), 0),  # scores in a row below the exit level
            },
            put=self._put,
        )

    @property
    def is_open(self) -> NDArray[np.bool_]:
        """Streams with an open incident, `(rows,)`."""
        return self._columns["open"]

    @property
    def open_count(self) -> int:
        return int(self.is_open.sum())

    def step(self, codes: Ints, times_ns: Ints, scores: NDArray[np.float32]) -> list[Event]:
        """Take in scores, several of a stream in time order; rows with NaN are passed by.

        Only streams with an anomalous score or an open incident are walked reading by
        reading; all others move together.

        Returns:
            Events in the order of the readings that led to them.
        """
        scored = np.flatnonzero(~np.isnan(scores))
        if not len(scored):
            return []
        groups = group(codes[scored])
        self._state.reach(groups.codes[-1:])
        rows = scored[groups.order]
        ordered = scores[rows]
        highest = np.maximum.reduceat(ordered, groups.begin)
        active = (highest >= 1.0) | self.is_open[groups.codes]

        calm, count = groups.codes[~active], groups.count[~active]
        if len(calm):
            bits = self._columns["bits"][calm]
            shift = np.minimum(count, 63).astype(np.uint64)
            bits = np.where(count >= self.rule.open_within, np.uint64(0), (bits << shift) & self._mask)
            self._columns["bits"][calm] = bits

        events: list[Event] = []
        for g in np.flatnonzero(active):
            some = rows[groups.begin[g] : groups.begin[g] + groups.count[g]]
            events += self._walk(int(groups.codes[g]), some, times_ns[some], scores[some])
        return sorted(events, key=lambda event: event.row)

    def _walk(self, code: int, rows: Ints, times_ns: Ints, scores: NDArray[np.float32]) -> list[Event]:
        """One stream, reading by reading."""
        t, rule = self._columns, self.rule
        bits, is_open = int(t["bits"][code]), bool(t["open"][code])
        anomalous_ns, anomalous_scores = t["anomalous_ns"][code].tolist(), t["anomalous"][code].tolist()
        onset, peak, reported = int(t["onset_ns"][code]), float(t["peak"][code]), float(t["reported"][code])
        quiet, mask = int(t["quiet"][code]), int(self._mask)
        events = []
        for row, at, score in zip(rows.tolist(), times_ns.tolist(), scores.tolist(), strict=True):
            anomalous = score >= 1.0
            bits = ((bits << 1) | anomalous) & mask
            if anomalous:
                anomalous_ns, anomalous_scores = [*anomalous_ns[1:], at], [*anomalous_scores[1:], score]
            if not is_open:
                count = bits.bit_count()
                if not anomalous or count < rule.open_after:
                    continue
                onset, peak = anomalous_ns[-count], max(anomalous_scores[-count:])
                is_open, reported, quiet = True, peak, 0
                events.append(Event(OPEN, ANOMALY, code, onset, at, score, peak, row))
                continue
            peak = max(peak, score)
            quiet = quiet + 1 if score < rule.exit_below else 0
            if peak >= reported * rule.update_factor:
                reported = peak
                events.append(Event(UPDATE, ANOMALY, code, onset, at, score, peak, row))
            if quiet >= rule.resolve_after:
                # What was anomalous before belongs to this incident, not to the next.
                is_open, bits = False, 0
                events.append(Event(RESOLVE, ANOMALY, code, onset, at, score, peak, row))
        t["bits"][code], t["open"][code] = bits, is_open
        t["anomalous_ns"][code], t["anomalous"][code] = anomalous_ns, anomalous_scores
        t["onset_ns"][code], t["peak"][code], t["reported"][code], t["quiet"][code] = onset, peak, reported, quiet
        return events

    def correct(
        self, code: int, times_ns: Ints, scores: NDArray[np.float32], before: NDArray[np.float32], at_ns: int, row: int
    ) -> Event | None:
        """Put the newest scores of a stream right: those that are no longer anomalous count no more.

        Args:
            code: Stream.
            times_ns: Of its newest scores, rising; NEVER where there is none.
            scores: As they are now, and what they were `before`.
            at_ns: Event time of its newest reading.
            row: The reading that led to this.

        Returns:
            That the open incident is resolved, if all of it lies in these scores and they do not make one any more.
        """
        t, rule = self._columns, self.rule
        withdrawn = (before >= 1.0) & ~(scores >= 1.0)
        if not withdrawn.any():
            return None
        bits = int(t["bits"][code])
        for place in np.flatnonzero(withdrawn[::-1][: rule.open_within]).tolist():
            bits &= ~(1 << place)
        t["bits"][code] = bits
        kept = [
            (at, score)
            for at, score in zip(t["anomalous_ns"][code].tolist(), t["anomalous"][code].tolist(), strict=True)
            if at not in set(times_ns[withdrawn].tolist())
        ]
        blank = [(NEVER, 0.0)] * (rule.open_within - len(kept))
        t["anomalous_ns"][code], t["anomalous"][code] = zip(*blank, *kept, strict=True)
        onset = int(t["onset_ns"][code])
        since = times_ns >= onset
        if not t["open"][code] or not (times_ns == onset).any():
            return None
        flags = scores[since] >= 1.0
        in_window = np.convolve(flags, np.ones(rule.open_within, np.int64))[: len(flags)]
        if (flags & (in_window >= rule.open_after)).any():
            return None
        t["open"][code], t["quiet"][code] = False, 0
        score = float(scores[-1])
        return Event(RESOLVE, ANOMALY, code, onset, at_ns, score, float(t["peak"][code]), row, reason=CORRECTED)

    def close(self, codes: Ints, rows: Ints, times_ns: Ints, reason: str = EXPIRED) -> list[Event]:
        """Resolve the open incidents of streams that are no longer tracked.

        Args:
            codes: Streams, `(n,)`.
            rows: The reading that led to this for each, `(n,)`.
            times_ns: Its event time, `(n,)`.
            reason: Why they are not.
        """
        self._state.reach(codes)
        t = self._columns
        return [
            Event(RESOLVE, ANOMALY, code, int(t["onset_ns"][code]), at, 0.0, float(t["peak"][code]), row, reason)
            for code, row, at in zip(codes.tolist(), rows.tolist(), times_ns.tolist(), strict=True)
            if t["open"][code]
        ]

    def _put(self, codes: Ints, columns: Arrays) -> None:
        """Columns exported under another n of m: as many of the newest readings as there is room for."""
        m, fitted = self.rule.open_within, dict(columns)
        for name, blank in (("anomalous_ns", NEVER), ("anomalous", 0.0)):
            values = columns[name]
            if values.ndim != 2:
                raise ValueError(f"column {name}: wanted one row for each stream; got {values.shape}")
            kept = min(m, values.shape[1])
            fitted[name] = np.full((len(values), m), blank, self._columns[name].dtype)
            fitted[name][:, m - kept :] = values[:, values.shape[1] - kept :]
        fitted["bits"] = columns["bits"] & self._mask
        self._columns.put(codes, fitted)
