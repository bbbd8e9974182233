"""Decisions of open incidents, kept with the state of their streams.

It is decided when an incident opens, and holds for its life but for this: a muted incident is decided anew with each
update, and when a maintenance window it was muted in is over, unless a rule mutes it altogether or the limit of its
stream did. If it is told then, that is one update, and from there on it is told like any other; if it never is, its end
is muted too. The end of a window is seen by the first reading of the stream from then on; for a silence, by the first
of its partition. So batches and restarts change nothing.

Events of a stream are taken in the order of the records that led to them. Not inside: the rules (`deciding`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from streamer.core.alerts import Alert, iso
from streamer.core.events import OPEN, RESOLVE, SILENCE, STREAM, UPDATE, Event, alert_id
from streamer.core.grouping import Ints
from streamer.core.keyed_state import NO_STREAM, KeyedState
from streamer.core.notifying.deciding import RATE_LIMIT, RULE, Decider, Facts, Muted, by_rate
from streamer.core.notifying.options import NotifyingOptions
from streamer.core.readings import NEVER, Readings

Told = list[tuple[Event, Alert]]
KEPT = (RULE, RATE_LIMIT)  # hold for the life of an incident


class Entry(msgspec.Struct, frozen=True):
    """An open incident that nobody was told of."""

    reason: str
    words: str
    onset_ns: int
    alert: Alert  # the newest one
    until_ns: int | None = None


Entries = dict[str, Entry]  # by incident


class Notifying:
    """Mutes alerts.

    Args:
        state: Of all streams.
        options: Rules and maintenance windows.
    """

    def __init__(self, state: KeyedState, options: NotifyingOptions) -> None:
        self._state, self._decider, self._limit = state, Decider(options), options.per_stream
        self._of_streams: dict[int, Entries] = state.register_sparse(
            "notifying", msgspec.to_builtins, self._restored, optional=True
        )
        self._of_partitions: dict[int, dict[str, Any]] = state.register_partitions("notifying", optional=True)
        # When incidents of a stream were told first, newest last.
        self._told_ns: dict[int, list[int]] = state.register_sparse(
            "notifying.told", list, lambda value: msgspec.convert(value, list[int]), optional=True
        )
        self._newest_ns = NEVER  # of the batch
        self._waiting: dict[int, int] | None = None  # when the next window of a stream is over; None: to be found

    def open_muted(self) -> dict[str, int]:
        """Open incidents of streams that nobody was told of, by kind."""
        counts: dict[str, int] = {}
        for entries in self._of_streams.values():
            for entry in entries.values():
                counts[entry.alert.kind] = counts.get(entry.alert.kind, 0) + 1
        return counts

    @property
    def partitions_muted(self) -> list[int]:
        """Partitions of which nobody was told that streams are silent together."""
        return list(self._of_partitions)

    def is_muted(self, code: int, kind: str) -> bool:
        """Whether nobody was told of a stream's open incident of a kind."""
        return any(entry.alert.kind == kind for entry in self._of_streams.get(code, {}).values())

    def step(self, told: Sequence[tuple[Event, Alert]], readings: Readings | None = None) -> Told:
        """Decide who is told.

        Args:
            told: Alerts of a batch of readings.
            readings: As they came; None: none did.

        Returns:
            The alerts, those that are muted with the reason, and alerts of incidents whose maintenance window is over,
            all in the order of the readings that led to them.
        """
        owners: dict[tuple[int, int], list[tuple[Event, Alert]]] = {}
        for event, alert in sorted(told, key=lambda each: each[0].row):
            owners.setdefault(_owner(event), []).append((event, alert))
        self._newest_ns = NEVER
        if readings is not None and len(readings):
            self._newest_ns = int(readings.time_ns.max())
            for owner in self._due(readings):
                owners.setdefault(owner, [])
        found: Told = []
        for owner, events in owners.items():
            found += self._walk(owner, events, readings)
        return sorted(found, key=lambda each: (each[0].row, each[1].stream))

    def _walk(self, owner: tuple[int, int], events: Told, readings: Readings | None) -> Told:
        """What becomes of the incidents of one stream, or of one partition, in a batch."""
        entries = self._entries(*owner)
        opened: dict[str, int] = {}  # by a reading of this batch
        found: Told = []
        coming = iter(events)
        event_and_alert = next(coming, None)
        while True:
            over = self._next_over(owner, entries, opened, readings)
            if event_and_alert is not None and (over is None or event_and_alert[0].row <= over[0]):
                event, alert = event_and_alert
                found.append(self._decide(owner, entries, event, alert))
                if event.event == OPEN:
                    opened[alert.incident_id] = event.row
                event_and_alert = next(coming, None)
            elif over is not None and readings is not None:
                row, incident = over
                found += self._outlasted(owner, entries, incident, row, int(readings.time_ns[row]))
                opened[incident] = row - 1  # the same reading may end another window
            else:
                break
        self._keep(owner, entries)
        return found

    def _decide(self, owner: tuple[int, int], entries: Entries, event: Event, alert: Alert) -> tuple[Event, Alert]:
        before = entries.pop(alert.incident_id, None)
        decision = self._decider.decide(Facts.of(alert, event.at_ns))
        muted: Muted | None = None
        if before is not None and (event.event == RESOLVE or before.reason in KEPT):
            muted = Muted(before.reason, before.words)
        elif before is not None or event.event == OPEN:
            muted = decision.muted or self._limited(owner[0], event.at_ns)
        alert = msgspec.structs.replace(alert, severity=decision.severity)
        if muted is None:
            if before is not None:
                alert = msgspec.structs.replace(alert, summary=_told_now(alert, before))
            return dataclasses.replace(event, told_late=before is not None), alert
        alert = msgspec.structs.replace(alert, muted=muted.words)
        if event.event != RESOLVE:
            entries[alert.incident_id] = Entry(muted.reason, muted.words, event.onset_ns, alert, muted.until_ns)
        return dataclasses.replace(event, muted=muted.reason), alert

    def _outlasted(self, owner: tuple[int, int], entries: Entries, incident: str, row: int, at_ns: int) -> Told:
        """A reading shows that a maintenance window is over: the alert of an incident that is still open."""
        entry = entries.pop(incident)
        last = entry.alert
        decision = self._decider.decide(Facts.of(last, at_ns))
        muted = decision.muted or self._limited(owner[0], at_ns)
        if muted is not None:
            entries[incident] = Entry(muted.reason, muted.words, entry.onset_ns, last, muted.until_ns)
            return []
        alert = msgspec.structs.replace(
            last,
            # Not the id of an update of the model, which may be due at the same time.
            alert_id=alert_id(incident, "told", at_ns),
            event=UPDATE,
            time=iso(at_ns),
            severity=decision.severity,
            summary=_told_now(last, entry),
            muted=None,
        )
        code, onset_ns, details = owner[0], entry.onset_ns, last.details
        event = Event(
            UPDATE, last.kind, code, onset_ns, at_ns, last.score, last.peak_score, row, scope=last.scope,
            details=details, told_late=True,
        )  # fmt: skip
        return [(event, alert)]

    def _limited(self, code: int, at_ns: int) -> Muted | None:
        """Counts one more incident of a stream that is told, or says that it is one too many."""
        limit = self._limit
        if limit is None or code == NO_STREAM:
            return None
        told_ns = [at for at in self._told_ns.get(code, ()) if at > at_ns - limit.within_ns]
        if len(told_ns) >= limit.at_most:
            return by_rate(limit)
        self._told_ns[code] = sorted([*told_ns, at_ns])
        return None

    # -- maintenance windows that end ------------------------------------------------------

    def _due(self, readings: Readings) -> list[tuple[int, int]]:
        """Streams and partitions whose readings may show that a window is over."""
        due = [(NO_STREAM, partition) for partition in self._of_partitions]
        if self._waiting is None:
            self._waiting = {}
            for code in self._of_streams:
                self._wait(code)
        codes = [code for code, until_ns in self._waiting.items() if until_ns <= self._newest_ns]
        if not codes:
            return due
        here = set(np.unique(readings.stream).tolist())
        return due + [(code, -1) for code in codes if code in here or self.is_muted(code, SILENCE)]

    def _next_over(
        self, owner: tuple[int, int], entries: Entries, opened: dict[str, int], readings: Readings | None
    ) -> tuple[int, str] | None:
        """The first reading that shows that a window is over, and the incident that was muted in it."""
        found = []
        for incident, entry in entries.items():
            if entry.until_ns is None or readings is None or entry.until_ns > self._newest_ns:
                continue
            rows = self._heard(owner, entry, readings)
            rows = rows[(rows > opened.get(incident, -1)) & (readings.time_ns[rows] >= entry.until_ns)]
            if len(rows):
                found.append((int(rows[0]), incident))
        return min(found, default=None)

    def _heard(self, owner: tuple[int, int], entry: Entry, readings: Readings) -> Ints:
        """Readings that may show that a window is over."""
        code, partition = owner
        if entry.alert.kind != SILENCE:
            return np.flatnonzero(readings.stream == code)
        return np.flatnonzero(readings.partition == (self._state.partition[code] if partition < 0 else partition))

    # -- what is remembered ----------------------------------------------------------------

    def _entries(self, code: int, partition: int) -> Entries:
        if code != NO_STREAM:
            return self._of_streams.get(code, {})
        return msgspec.convert(self._of_partitions.get(partition, {}), Entries)

    def _keep(self, owner: tuple[int, int], entries: Entries) -> None:
        code, partition = owner
        if code == NO_STREAM:
            self._of_partitions.pop(partition, None)
            if entries:
                self._of_partitions[partition] = msgspec.to_builtins(entries)
            return
        self._of_streams.pop(code, None)
        if entries:
            self._of_streams[code] = entries
        if self._waiting is not None:
            self._wait(code)

    def _wait(self, code: int) -> None:
        assert self._waiting is not None
        untils = [entry.until_ns for entry in self._of_streams.get(code, {}).values() if entry.until_ns is not None]
        self._waiting.pop(code, None)
        if untils:
            self._waiting[code] = min(untils)

    def _restored(self, value: Any) -> Entries:
        self._waiting = None
        return msgspec.convert(value, Entries)


def _owner(event: Event) -> tuple[int, int]:
    """Stream, or none and the partition."""
    return (event.code, -1) if event.scope == STREAM else (NO_STREAM, int(event.details["partition"]))


def _told_now(alert: Alert, before: Entry) -> str:
    return f"{alert.summary} Not told before: {before.words}."
