"""The life of an incident, put together from the alerts about it and from what people did about it.

    Action      one thing that a person did: the message on the topic of actions
    Incident    what is known of one incident
    with_alert  the incident after one more alert
    standing    what the actions about an incident come to

The same alerts and actions give the same incident, in whatever order and however often they come. Pure. Not inside:
where incidents are kept (`connectors.incident_store`), when one opens (`incidents`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from streamer.core.alerts import Alert
from streamer.core.events import OPEN, RESOLVE, UPDATE

ACKNOWLEDGE, UNACKNOWLEDGE, COMMENT, UNDO = "acknowledge", "unacknowledge", "comment", "undo"
FALSE_ALARM, EXPECTED = "false-alarm", "expected"
VERDICTS = (FALSE_ALARM, EXPECTED)
ACTIONS = (ACKNOWLEDGE, UNACKNOWLEDGE, COMMENT, *VERDICTS, UNDO)
MAX_WHO, MAX_TEXT = 100, 2000  # characters
MAX_MESSAGE_BYTES = 2 * 2**20  # of one alert or action
MOST_ACTIONS = 1000  # about one incident; more are not kept

_ID = re.compile(r"[0-9a-f]{32}")
_RANKS = {OPEN: 0, UPDATE: 1, RESOLVE: 2}
_SEVERITIES = ("info", "warning", "critical")
_MAX_NAME, _MAX_SUMMARY = 1024, 8192  # characters of a stream and of a sentence


class NotUnderstood(ValueError):
    """A message is no alert, or no action, of any version known here."""


class Action(msgspec.Struct, frozen=True):
    """One message on the topic of actions."""

    action_id: str
    incident_id: str
    action: str  # one of ACTIONS
    who: str  # as they say themselves: who may write to the topic is for the broker to know
    time: str  # ISO 8601 in UTC, by the clock where it was done
    text: str = ""
    undoes: str | None = None  # of undo: the action_id

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @staticmethod
    def decode(message: bytes | None) -> Action:
        """What `encode` made.

        Raises:
            NotUnderstood: It is no action.
        """
        action = _decode(message, _action_decoder)
        assert isinstance(action, Action)
        action.check()
        return action

    def check(self) -> None:
        """Whether it can be kept.

        Raises:
            NotUnderstood: It cannot; says what was wanted.
        """
        ids = [self.action_id, self.incident_id] + ([self.undoes] if self.undoes is not None else [])
        if not all(map(_ID.fullmatch, ids)):
            raise NotUnderstood("wanted ids of 32 hexadecimal digits")
        if self.action not in ACTIONS or (self.action == UNDO) != (self.undoes is not None):
            raise NotUnderstood(f"wanted one of {', '.join(ACTIONS)}")
        if not 0 < len(self.who) <= MAX_WHO or len(self.text) > MAX_TEXT:
            raise NotUnderstood(f"wanted a name of 1 to {MAX_WHO} characters and at most {MAX_TEXT} of text")
        try:
            (self.who + self.text).encode()
        except UnicodeEncodeError:
            raise NotUnderstood("wanted UTF-8 text") from None
        milliseconds(self.time)


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one incident; times are event time in milliseconds since 1970 unless said otherwise."""

    id: str
    stream: str
    kind: str
    scope: str
    severity: str  # of the newest alert
    peak_severity: str
    onset_ms: int
    opened_ms: int
    updated_ms: int  # of the newest alert
    resolved_ms: int | None
    reason: str | None  # why it resolved
    score: float
    peak_score: float
    summary: str
    features: str  # JSON, of the alert with the highest score
    feature_score: float  # that score
    model_version: str
    dashboard: str | None
    muted: str | None  # what keeps it from people, by the newest alert
    newest_event: str
    newest_alert: str
    seen_ms: int  # when the newest record about it was written, by the broker
    size: int  # bytes of its alerts
    acknowledged_by: str | None = None
    acknowledged_ms: int | None = None  # by the clock where it was done, as the next
    verdict: str | None = None  # one of VERDICTS
    verdict_by: str | None = None
    verdict_ms: int | None = None
    comments: int = 0

    @property
    def open(self) -> bool:
        return self.resolved_ms is None


def read_alert(message: bytes | None) -> Alert:
    """The alert that a message is.

    Raises:
        NotUnderstood: It is none.
    """
    alert = _decode(message, Alert)
    assert isinstance(alert, Alert)
    if not _ID.fullmatch(alert.alert_id) or not _ID.fullmatch(alert.incident_id):
        raise NotUnderstood("wanted ids of 32 hexadecimal digits")
    if alert.event not in _RANKS:
        raise NotUnderstood(f"wanted one of the events {', '.join(_RANKS)}")
    milliseconds(alert.onset), milliseconds(alert.time)
    return alert


def with_alert(before: Incident | None, alert: Alert, *, seen_ms: int, size: int) -> Incident:
    """The incident after one more alert about it, which it must not know yet.

    Args:
        before: What was known; None: nothing.
        alert: Of this incident, from `read_alert`.
        seen_ms: When its record was written.
        size: Of its message, in bytes.
    """
    at_ms = milliseconds(alert.time)
    newest: dict[str, Any] = {
        "severity": _name(alert.severity),
        "updated_ms": at_ms,
        "resolved_ms": at_ms if alert.event == RESOLVE else None,
        "reason": _name(alert.reason) if alert.event == RESOLVE and alert.reason else None,
        "score": alert.score,
        "summary": clean(alert.summary[:_MAX_SUMMARY]),
        "model_version": _name(alert.model_version),
        "dashboard": None if alert.dashboard is None else clean(alert.dashboard[:_MAX_SUMMARY]),
        "muted": None if alert.muted is None else _name(alert.muted),
        "newest_event": alert.event,
        "newest_alert": alert.alert_id,
    }
    shown: dict[str, Any] = {
        "features": clean(msgspec.json.encode(alert.features).decode()),
        "feature_score": alert.score,
    }
    if before is None:
        return Incident(
            id=alert.incident_id,
            stream=_name(alert.stream),
            kind=_name(alert.kind),
            scope=_name(alert.scope),
            peak_severity=_name(alert.severity),
            onset_ms=milliseconds(alert.onset),
            opened_ms=at_ms,
            peak_score=alert.peak_score,
            seen_ms=seen_ms,
            size=size,
            **newest,
            **shown,
        )
    old = (before.updated_ms, _RANKS[before.newest_event], before.newest_alert)
    changed: dict[str, Any] = newest if (at_ms, _RANKS[alert.event], alert.alert_id) > old else {}
    highest = (alert.score, shown["features"]) > (before.feature_score, before.features)
    if alert.features and (highest or before.features == "[]"):
        changed |= shown
    return msgspec.structs.replace(
        before,
        **changed,
        peak_severity=max(before.peak_severity, _name(alert.severity), key=_gravity),
        opened_ms=min(before.opened_ms, at_ms),
        peak_score=max(before.peak_score, alert.peak_score),
        seen_ms=max(before.seen_ms, seen_ms),
        size=before.size + size,
    )


def standing(incident: Incident, actions: Sequence[Action]) -> Incident:
    """The incident with what the actions about it come to.

    Args:
        incident: Whose earlier standing is replaced.
        actions: All about it, in the order of their topic.
    """
    undone = {action.undoes for action in actions if action.action == UNDO}
    valid = [action for action in actions if action.action != UNDO and action.action_id not in undone]
    acknowledged = verdict = None
    for action in valid:
        if action.action in (ACKNOWLEDGE, UNACKNOWLEDGE):
            acknowledged = action if action.action == ACKNOWLEDGE else None
        elif action.action in VERDICTS:
            verdict = action
    return msgspec.structs.replace(
        incident,
        acknowledged_by=acknowledged.who if acknowledged else None,
        acknowledged_ms=milliseconds(acknowledged.time) if acknowledged else None,
        verdict=verdict.action if verdict else None,
        verdict_by=verdict.who if verdict else None,
        verdict_ms=milliseconds(verdict.time) if verdict else None,
        comments=sum(bool(action.text) for action in valid),
    )


def undoable(actions: Sequence[Action]) -> Action | None:
    """What `undo` takes back: the newest action but comments that is not undone yet; None if there is none."""
    undone = {action.undoes for action in actions if action.action == UNDO}
    kept = [each for each in actions if each.action not in (UNDO, COMMENT) and each.action_id not in undone]
    return kept[-1] if kept else None


def milliseconds(time: str) -> int:
    """Since 1970, of an ISO 8601 time, which without a zone is UTC.

    Raises:
        NotUnderstood: It is none.

    >>> milliseconds("2026-01-02T03:04:05.678Z")
    1767323045678
    """
    try:
        at = datetime.fromisoformat(time[:64])
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return round((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
    except (ValueError, OverflowError):
        raise NotUnderstood("wanted a time in ISO 8601") from None


def iso_ms(time_ms: int) -> str:
    """An ISO 8601 time in UTC, whole milliseconds.

    >>> iso_ms(1767323045678)
    '2026-01-02T03:04:05.678Z'
    """
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_json(incident: Incident) -> dict[str, Any]:
    """What programs are told of an incident; times in ISO 8601."""

    def time(time_ms: int | None) -> str | None:
        return None if time_ms is None else iso_ms(time_ms)

    return {
        "incident_id": incident.id,
        "state": "open" if incident.open else "resolved",
        "stream": incident.stream,
        "kind": incident.kind,
        "scope": incident.scope,
        "severity": incident.severity,
        "peak_severity": incident.peak_severity,
        "onset": time(incident.onset_ms),
        "opened": time(incident.opened_ms),
        "updated": time(incident.updated_ms),
        "resolved": time(incident.resolved_ms),
        "reason": incident.reason,
        "score": incident.score,
        "peak_score": incident.peak_score,
        "features": msgspec.json.decode(incident.features),
        "model_version": incident.model_version,
        "summary": incident.summary,
        "dashboard": incident.dashboard,
        "muted": incident.muted,
        "acknowledged_by": incident.acknowledged_by,
        "acknowledged": time(incident.acknowledged_ms),
        "verdict": incident.verdict,
        "verdict_by": incident.verdict_by,
        "verdict_time": time(incident.verdict_ms),
        "comments": incident.comments,
    }


def moment_as_json(at_ms: int, what: Alert | Action) -> dict[str, Any]:
    """What programs are told of an alert or an action in the life of an incident."""
    return {"time": iso_ms(at_ms), "alert" if isinstance(what, Alert) else "action": msgspec.to_builtins(what)}


def clean(text: str) -> str:
    """Without the character that no database keeps in text."""
    return text.replace("\0", "\ufffd")


def _decode(message: bytes | None, wanted: Any) -> object:
    if message is None or len(message) > MAX_MESSAGE_BYTES:
        raise NotUnderstood(f"wanted a message of at most {MAX_MESSAGE_BYTES} bytes")
    try:
        return Alert.decode(message) if wanted is Alert else wanted.decode(message)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise NotUnderstood("wanted JSON with the fields of this version or an earlier one") from None


def _name(text: str) -> str:
    return clean(text[:_MAX_NAME])


def _gravity(severity: str) -> int:
    return _SEVERITIES.index(severity) if severity in _SEVERITIES else -1


_action_decoder = msgspec.json.Decoder(Action)
