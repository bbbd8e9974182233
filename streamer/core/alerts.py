"""The text of an alert: the message about one event of one incident.

Inside: the message schema and its summary sentence. Pure. Not inside: when an alert is
due (`incidents`, `silence`), where it is sent (`sinks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urlencode

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.core.events import (
    ANOMALY,
    CORRECTED,
    CROSSED_BOOK,
    EXPIRED,
    LOCKED_BOOK,
    MOVED,
    OPEN,
    POWER_OF_TEN,
    PRICE_SPIKE,
    RECORDS_LOST,
    RESOLVE,
    SEQUENCE_GAP,
    SEVERITY,
    SILENCE,
    STALE_QUOTE,
    STREAM,
    TOPIC,
    Detail,
    Event,
    alert_id,
    incident_id,
    severity,
)


class Attribution(msgspec.Struct, frozen=True):
    """How much one feature contributed, shown at the reading where it deviates most."""

    name: str
    share: float  # of the error; all features sum to 1
    observed: float  # raw units
    expected: float


class Alert(msgspec.Struct, frozen=True, omit_defaults=False):
    """One message on the alerts topic. Times are ISO 8601 in UTC, event time."""

    alert_id: str
    incident_id: str
    event: str  # open | update | resolve
    kind: str  # anomaly | silence | crossed_book | locked_book | power_of_ten | stale_quote | sequence_gap
    severity: str  # info | warning | critical
    stream: str  # or topic[partition], or the topic, as scope says
    onset: str
    time: str
    score: float
    peak_score: float
    features: list[Attribution]  # largest share first; only features with a value in the window
    model_version: str
    summary: str
    dashboard: str | None
    filled: float = 0.0  # fraction of the window's values that were missing and filled in
    scope: str = STREAM  # stream | partition | topic
    reason: str | None = None  # on resolve: quiet | expired | corrected | moved | records_lost
    details: dict[str, Detail] = {}  # figures of a rule or of a silence: bid, ask, streams
    cold_start: bool = False  # the stream's past was lost, and it has had too little history since
    muted: str | None = None  # the rule or maintenance window that keeps it from people, and why

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @staticmethod
    def decode(message: bytes) -> Alert:
        """What `encode` made, in any version: fields it lacks have their defaults, unknown ones are left out.

        Raises:
            msgspec.ValidationError: It is no alert; `msgspec.DecodeError`: it is no JSON.
        """
        return _decoder.decode(message)


_decoder = msgspec.json.Decoder(Alert)


def build(
    event: Event,
    *,
    topic: str,
    stream: str,
    attributions: Sequence[Attribution],
    model_version: str,
    dashboard_url: str | None,
    filled: float = 0.0,
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
        summary=_summary(event, stream, attributions, filled),
        dashboard=_link(dashboard_url, stream, event) if dashboard_url else None,
        filled=round(filled, 4),
        scope=event.scope,
        reason=event.why,
        details=dict(event.details),
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
) -> list[Attribution]:
    """Attribution of the error to features, largest share first; features never observed in the window are left out.

    Args:
        names: `(features,)`.
        observed: Raw units, `(window, features)`; NaN where a value is missing.
        expected: Same, without NaN.
        shares: `(features,)`.
    """
    present = ~np.isnan(observed)
    worst = np.where(present, np.abs(observed - expected), -1.0).argmax(0)
    attributions = [
        Attribution(names[f], round(float(shares[f]), 6), _six(observed[worst[f], f]), _six(expected[worst[f], f]))
        for f in np.flatnonzero(present.any(0)).tolist()
    ]
    return sorted(attributions, key=lambda attribution: -attribution.share)


def iso(time_ns: int) -> str:
    """`2026-01-02T03:04:05.678Z`, whole milliseconds."""
    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ns % 1_000_000_000 // 1_000_000:03d}Z"


def duration(ns: int) -> str:
    """A human-readable length of time: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`.

    >>> duration(12_000_000_000_000)
    '3 h 20 min'
    """
    seconds = ns // 1_000_000_000
    days, hours, minutes = seconds // 86_400, seconds % 86_400 // 3600, seconds % 3600 // 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def _summary(event: Event, stream: str, attributions: Sequence[Attribution], filled: float) -> str:
    """What the operator reads first: which stream, since when, how far above the line, which feature."""
    lasted, since = duration(event.at_ns - event.onset_ns), _say(event.onset_ns)
    if event.kind == SILENCE:
        return _silence(event, stream, lasted, since)
    if event.kind != ANOMALY:
        return _rule(event, stream, lasted, since)
    if event.reason in _ENDED:
        return f"{stream} {_ENDED[event.reason]}; incident closed, anomalous since {since}, {_peak(event.peak)}."
    if event.reason == CORRECTED:
        return f"{stream}: late readings have corrected the scores since {since}; incident withdrawn."
    if event.event == RESOLVE:
        return f"{stream} is back to normal after {lasted}; {_peak(event.peak)}."
    state = "has been anomalous" if event.event == OPEN else "is worsening; anomalous"
    text = f"{stream} {state} since {since}: {_peak(event.peak)}"
    if attributions:
        top = attributions[0]
        text += f"; main feature {top.name} ({top.share:.0%}), observed {top.observed:g}, expected {top.expected:g}"
    if filled:
        text += f" ({max(filled, 0.01):.0%} of the window's values were missing and filled in)"
    return text + "."


def _silence(event: Event, stream: str, lasted: str, since: str) -> str:
    details = event.details
    late = "late_s" in details or event.at_ns <= event.onset_ns  # how long it was silent, the reading does not say
    if event.scope == TOPIC:
        if event.reason == EXPIRED:
            return f"Nothing had come from topic {stream} since {since}; it is no longer read here, incident closed."
        if event.event == RESOLVE:
            return f"Records of topic {stream} are coming again after {lasted}."
        return f"Nothing has come from topic {stream} since {since} ({details['partitions']} partitions read)."
    if "pause_s" in details:
        pause = duration(int(float(details["pause_s"]) * 1e9))
        if event.event == RESOLVE:
            return f"{stream} is sending again after a pause of {pause} in market hours."
        return f"{stream} has sent nothing since {since} while the market was open, and nothing else has come either."
    if event.scope != STREAM:
        if event.reason in _ENDED:
            return f"The streams of {stream} that fell silent at {since} are no longer monitored; incident closed."
        if event.event == RESOLVE:
            return (
                f"Most of the {details['streams']} streams of {stream} that had fallen silent are sending again"
                f"{', with late readings' if late else f' after {lasted}'}; {details['missing']} are not."
            )
        if "silent_before" in details:
            return (
                f"{details['silent_before']} streams of {stream} are silent already, each by itself; "
                f"those that follow are this one incident, at {since} first: {details['names']}."
            )
        return (
            f"{details['streams']} of {details['active']} streams of {stream} fell silent together at {since}: "
            f"{details['names']}."
        )
    if event.reason == EXPIRED:
        return f"{stream} has sent nothing since {since} and is no longer monitored; incident closed."
    if event.reason in _ENDED:
        return f"{stream} {_ENDED[event.reason]}; incident closed, silent since {since}."
    if event.event == RESOLVE:
        if late:
            return f"{stream} is sending again, with late readings from {_say(event.at_ns)} on."
        return f"{stream} is sending again after {lasted} of silence."
    return f"{stream} has been silent since {since} while other streams keep sending."


def _rule(event: Event, stream: str, lasted: str, since: str) -> str:
    """A fault that needs no model, and the figures that show it."""
    says = {name: f"{value:.10g}" if isinstance(value, float) else str(value) for name, value in event.details.items()}
    if event.reason in _ENDED:
        return f"{stream} {_ENDED[event.reason]}; {_RULE_NAMES[event.kind]} incident closed."
    if event.event == RESOLVE:
        over = "no further numbers are missing" if event.kind == SEQUENCE_GAP else f"{_RULE_NAMES[event.kind]} is over"
        return f"{stream}: {over} after {lasted}."
    if event.kind in (CROSSED_BOOK, LOCKED_BOOK):
        word, relation = ("crossed", "above") if event.kind == CROSSED_BOOK else ("locked", "equal to")
        return f"{stream}: the book has been {word} since {since}: bid {says['bid']} is {relation} ask {says['ask']}."
    if event.kind == POWER_OF_TEN:
        return (
            f"{stream}: {says['field']} {says['observed']} is {says['factor']} times its recent level "
            f"{says['level']}, since {since}: a slip of the decimal point?"
        )
    if event.kind == PRICE_SPIKE:
        away = f"{float(says['sigmas']):.1f} sigmas"
        return f"{stream}: price {says['observed']} at {since}, {away} from {says['expected']} before and after it."
    if event.kind == STALE_QUOTE:
        return f"{stream}: the quote has not changed since {since} while others of its partition move."
    return (
        f"{stream}: {says['missing']} sequence numbers are missing before {says['number']}; "
        f"wanted {says['wanted']} next, since {since}."
    )


# Why an incident is closed though nobody knows whether what was wrong is over.
_ENDED = {
    EXPIRED: "has stopped sending and is no longer monitored",
    MOVED: "comes in another partition since the topic has more of them",
    RECORDS_LOST: "has lost records before they were read",
}
_RULE_NAMES = {
    CROSSED_BOOK: "the crossed book",
    LOCKED_BOOK: "the locked book",
    POWER_OF_TEN: "the slip of the decimal point",
    STALE_QUOTE: "the stale quote",
    PRICE_SPIKE: "the price spike",
    SEQUENCE_GAP: "the sequence gap",
}


def _peak(peak: float) -> str:
    """The peak score beside the line; above a thousand the exact figure means nothing more."""
    return f"peak score {f'{peak:.1f}' if peak < 1000 else 'above 1,000'} (alert line 1.0)"


def _say(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns // 1_000_000_000, UTC):%Y-%m-%d %H:%M:%S} UTC"


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
