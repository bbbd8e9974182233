"""Events of an incident, their ids and severity.

Produced by `incidents`, `silence` and `rules`, worded by `alerts`. Pure; no state, no arrays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

ANOMALY, SILENCE = "anomaly", "silence"
CROSSED_BOOK, LOCKED_BOOK, POWER_OF_TEN = "crossed_book", "locked_book", "power_of_ten"
STALE_QUOTE, SEQUENCE_GAP, PRICE_SPIKE = "stale_quote", "sequence_gap", "price_spike"
RULE_KINDS = (CROSSED_BOOK, LOCKED_BOOK, POWER_OF_TEN, STALE_QUOTE, SEQUENCE_GAP, PRICE_SPIKE)
KINDS = (ANOMALY, SILENCE, *RULE_KINDS)
OPEN, UPDATE, RESOLVE = "open", "update", "resolve"
QUIET, EXPIRED, CORRECTED = "quiet", "expired", "corrected"  # why an incident resolves
MOVED, RECORDS_LOST = "moved", "records_lost"
STREAM, PARTITION, TOPIC = "stream", "partition", "topic"  # what an incident is about

# Kinds that have no score: a book that makes no sense or a slip of the comma misleads whoever trades on it.
SEVERITY = {
    SILENCE: "warning",
    CROSSED_BOOK: "critical",
    LOCKED_BOOK: "warning",
    POWER_OF_TEN: "critical",
    PRICE_SPIKE: "warning",
    STALE_QUOTE: "warning",
    SEQUENCE_GAP: "warning",
}

WARNING_FROM, CRITICAL_FROM = 1.5, 3.0  # peak score


def severity(peak: float, warning_from: float = WARNING_FROM, critical_from: float = CRITICAL_FROM) -> str:
    """info below 1.5 times the alert line, warning below 3, critical from 3, unless told otherwise."""
    return "critical" if peak >= critical_from else "warning" if peak >= warning_from else "info"


def incident_id(topic: str, stream: str, kind: str, onset_ns: int) -> str:
    """Stable id of an incident: 32 hex digits, the same on every replay and every replica."""
    return hashlib.sha256("\0".join((topic, stream, kind, str(onset_ns))).encode()).hexdigest()[:32]


def alert_id(incident: str, event: str, at_ns: int) -> str:
    """Stable id of one message about an incident; consumers deduplicate by it."""
    return hashlib.sha256("\0".join((incident, event, str(at_ns))).encode()).hexdigest()[:32]


Detail = float | int | str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to one incident."""

    event: str  # OPEN, UPDATE or RESOLVE
    kind: str  # one of KINDS
    code: int  # stream; NO_STREAM where the incident is of a whole partition
    onset_ns: int  # first anomalous reading; last reading before a silence
    at_ns: int  # event time of the reading that triggered it
    score: float  # of that reading; 0 for silence
    peak: float  # highest score of the incident so far
    row: int  # the reading of the batch that triggered it
    reason: str = ""  # resolved because: see QUIET and those beside it
    scope: str = STREAM  # or PARTITION
    details: Mapping[str, Detail] = field(default_factory=dict)  # figures that the alert tells, by name
    muted: str = ""  # the kind of reason why nobody is told of it; see `notifying`
    told_late: bool = False  # an update, the first that anybody is told of the incident

    @property
    def why(self) -> str | None:
        """Why it resolved; None while it is open."""
        return (self.reason or QUIET) if self.event == RESOLVE else None
