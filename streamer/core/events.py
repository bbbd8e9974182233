"""Events of an incident, their ids and severity.

Produced by `incidents` and `silence`, worded by `alerts`. Pure; no state, no arrays.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

ANOMALY, SILENCE = "anomaly", "silence"
OPEN, UPDATE, RESOLVE = "open", "update", "resolve"

WARNING_FROM, CRITICAL_FROM = 1.5, 3.0  # peak score


def severity(peak: float) -> str:
    """info below 1.5 times the alert line, warning below 3, critical from 3."""
    return "critical" if peak >= CRITICAL_FROM else "warning" if peak >= WARNING_FROM else "info"


def incident_id(topic: str, stream: str, kind: str, onset_ns: int) -> str:
    """Stable id of an incident: 32 hex digits, the same on every replay and every replica."""
    return hashlib.sha256("\0".join((topic, stream, kind, str(onset_ns))).encode()).hexdigest()[:32]


def alert_id(incident: str, event: str, at_ns: int) -> str:
    """Stable id of one message about an incident; consumers deduplicate by it."""
    return hashlib.sha256("\0".join((incident, event, str(at_ns))).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to one incident."""

    event: str  # OPEN, UPDATE or RESOLVE
    kind: str  # ANOMALY or SILENCE
    code: int  # stream
    onset_ns: int  # first anomalous reading; last reading before a silence
    at_ns: int  # event time of the reading that triggered it
    score: float  # of that reading; 0 for silence
    peak: float  # highest score of the incident so far
    row: int  # the reading of the batch that triggered it
    expired: bool = False  # resolved because the stream exceeded its time to live
