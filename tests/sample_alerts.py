"""Alerts as the daemon writes them, for tests of who is told."""

from __future__ import annotations

from typing import Any

from streamer.core.alerts import Alert, Attribution
from streamer.core.events import alert_id, incident_id

ONSET_NS = 1_767_323_045_000_000_000  # 2026-01-02T03:04:05Z
HOSTILE = 'pump\r\nX-Evil: 1\n<!channel> <http://evil|x> "}], {{ 7*7 }} & @here'


def sample_alert(event: str = "open", *, stream: str = "machine-3", at_s: int = 60, **changes: Any) -> Alert:
    """An anomaly of a stream; `at_s` seconds after its onset."""
    kind = changes.get("kind", "anomaly")
    incident = incident_id("machines", stream, kind, ONSET_NS)
    values: dict[str, Any] = {
        "alert_id": alert_id(incident, event, ONSET_NS + at_s * 1_000_000_000),
        "incident_id": incident,
        "event": event,
        "kind": kind,
        "severity": "warning",
        "stream": stream,
        "onset": "2026-01-02T03:04:05.000Z",
        "time": f"2026-01-02T03:{4 + at_s // 60:02d}:05.000Z",
        "score": 1.75,
        "peak_score": 2.25,
        "features": [Attribution("temperature", 0.75, 81.5, 62.25), Attribution("vibration", 0.25, 0.5, 0.25)],
        "model_version": "20260101T000000Z-1a2b3c4d",
        "summary": f"{stream} has been anomalous since 2026-01-02 03:04:05 UTC: peak score 2.2 (alert line 1.0).",
        "dashboard": "http://127.0.0.1:3000/d/streamer-stream?var-stream=machine-3",
    }
    return Alert(**values | changes)
