"""The alert of an event: ids, severity, attribution, sentence, link.

Pure. Not inside: the message itself (`message`), the words (`sentences`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from streamer.core.alerts.message import SCHEMA, Alert, Attribution, Rarity, Span
from streamer.core.alerts.sentences import summary
from streamer.core.alerts.words import iso
from streamer.core.events import ANOMALY, SEVERITY, TOPIC, Event, alert_id, incident_id, severity


def build(
    event: Event,
    *,
    topic: str,
    stream: str,
    attributions: Sequence[Attribution],
    model_version: str,
    dashboard_url: str | None,
    filled: float = 0.0,
    span: Span | None = None,
    rarity: Rarity | None = None,
    in_training: bool | None = None,
) -> Alert:
    """The alert of one event.

    Args:
        event: What happened.
        topic: Input topic, part of the incident's identity.
        stream: Name of the stream.
        attributions: From `attribute`, largest share first; empty for silence.
        model_version: Bundle that scored the window.
        dashboard_url: Drill-down page; the stream and the time range are added.
        filled: Fraction of the window's values that were missing.
        span: Anomalous part of the incident, if it is known.
        rarity: Of its peak, if it is known.
        in_training: Whether the bundle was trained on the stream.
    """
    incident = incident_id(topic, stream, event.kind, event.onset_ns)
    return Alert(
        alert_id=alert_id(incident, event.event, event.at_ns),
        incident_id=incident,
        event=event.event,
        kind=event.kind,
        severity=_severity(event),
        stream=stream,
        onset=iso(event.onset_ns),
        time=iso(event.at_ns),
        score=round(event.score, 6),
        peak_score=round(event.peak, 6),
        features=list(attributions),
        model_version=model_version,
        summary=summary(event, stream, attributions, filled, span=span, rarity=rarity, in_training=in_training),
        dashboard=_link(dashboard_url, stream, event) if dashboard_url else None,
        filled=round(filled, 4),
        scope=event.scope,
        reason=event.why,
        details=dict(event.details),
        schema=SCHEMA,
        span=span,
        rarity=rarity,
        in_training=in_training,
    )


def _severity(event: Event) -> str:
    if event.kind == ANOMALY:
        return severity(event.peak)
    return "critical" if event.scope == TOPIC else SEVERITY[event.kind]


def attribute(
    names: Sequence[str],
    observed: NDArray[np.float32],
    expected: NDArray[np.float32],
    shares: NDArray[np.float32],
    lower: NDArray[np.float32] | None = None,
    upper: NDArray[np.float32] | None = None,
) -> list[Attribution]:
    """Attribution of the error to features, largest share first; features never observed in the window are left out.

    Args:
        names: `(features,)`.
        observed: Raw units, `(window, features)`; NaN where a value is missing.
        expected: Same, without NaN.
        shares: `(features,)`.
        lower: Expected band, as `expected`; None, or a limit that is not finite: it is not known.
        upper: Same.
    """

    def limit(band: NDArray[np.float32] | None, f: int) -> float | None:
        value = None if band is None else _six(band[worst[f], f])
        return value if value is not None and math.isfinite(value) else None

    present = ~np.isnan(observed)
    worst = np.where(present, np.abs(observed - expected), -1.0).argmax(0)
    attributions = [
        Attribution(
            names[f],
            round(float(shares[f]), 6),
            _six(observed[worst[f], f]),
            _six(expected[worst[f], f]),
            limit(lower, f),
            limit(upper, f),
        )
        for f in np.flatnonzero(present.any(0)).tolist()
    ]
    return sorted(attributions, key=lambda attribution: -attribution.share)


def _link(url: str, stream: str, event: Event) -> str:
    margin = max(event.at_ns - event.onset_ns, 3_600_000_000_000)
    query = {
        "var-stream": stream,
        "from": (event.onset_ns - margin) // 1_000_000,
        "to": (event.at_ns + margin) // 1_000_000,
    }
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"


def _six(value: np.floating) -> float:
    return float(f"{float(value):.6g}")
