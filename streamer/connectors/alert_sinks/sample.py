"""An alert that is marked as a test: templates are tried on it, and people are sent it to see that a sink works."""

from __future__ import annotations

import hashlib

from streamer.core.alerts import Alert, Attribution, iso
from streamer.core.events import ANOMALY, OPEN


def sample(event: str = OPEN, *, sink: str = "", at_ns: int = 1_767_323_045_000_000_000) -> Alert:
    """Of a stream that does not exist; every sink has one incident of it."""
    incident = hashlib.sha256(f"test of {sink}".encode()).hexdigest()[:32]
    return Alert(
        alert_id=hashlib.sha256(f"{incident} {event} {at_ns}".encode()).hexdigest()[:32],
        incident_id=incident,
        event=event,
        kind=ANOMALY,
        severity="info",
        stream="streamer-test",
        onset=iso(at_ns),
        time=iso(at_ns),
        score=1.0,
        peak_score=1.0,
        features=[Attribution("test", 1.0, 1.0, 0.0)],
        model_version="test",
        summary="This is a test of a sink of streamer, no stream is anomalous.",
        dashboard=None,
    )
