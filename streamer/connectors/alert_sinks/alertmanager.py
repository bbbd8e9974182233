"""Incidents as alerts of an Alertmanager, by its API of version 2.

Labels are the identity of an alert and do not change while it lives; numbers are annotations. Of an incident that
grows worse there is an alert for each severity it reached, and Alertmanager's inhibition shows the worst: that is how
the Prometheus rules do it (docs/decisions/0022-sinks.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from streamer.config.sinks import AlertmanagerConfig
from streamer.connectors.alert_sinks.http import HttpClient
from streamer.connectors.alert_sinks.interface import DELIVERED, Answer, Incident, SinkUnreachable
from streamer.core.alerts import Alert
from streamer.core.events import ANOMALY, RESOLVE, SILENCE, TOPIC

EXPIRES_AFTER = 4  # times resend_s: a daemon that is dead for so long tells of nothing any more
_MOST_CHARACTERS = 1000

_PATH = "/api/v2/alerts"


class AlertmanagerSink:
    """One Alertmanager.

    Args:
        name: Of the sink.
        config: Where it is.
        topic: Input topic.
        runbook_url: Where the runbook is published.
    """

    resend_s: float | None
    give_up_after_s: float | None = None

    def __init__(self, name: str, config: AlertmanagerConfig, *, topic: str, runbook_url: str | None) -> None:
        self.name, self.resend_s = name, config.resend_s
        self._labels, self._topic, self._runbook_url = config.labels, topic, runbook_url
        self._client = HttpClient(
            lambda: config.url or "",
            timeout_s=config.timeout_s,
            ca_file=config.ca_file,
            token=config.token,
            username=config.username,
            password=config.password,
        )

    def deliver(self, incident: Incident, now_s: float) -> Answer:
        return self.resend([incident], now_s)

    def resend(self, incidents: Sequence[Incident], now_s: float) -> Answer:
        alerts = [alert for incident in incidents for alert in self._alerts(incident, now_s)]
        return self._client.post(_PATH, msgspec.json.encode(alerts))

    def prove(self) -> str:
        answer = self._client.get("/api/v2/status")
        if answer.outcome != DELIVERED:
            raise SinkUnreachable(f"Alertmanager {self._client.where}: {answer.why}")
        return f"Alertmanager {self._client.where} answers"

    def _alerts(self, incident: Incident, now_s: float) -> list[dict[str, Any]]:
        alert, now = incident.alert, datetime.fromtimestamp(now_s, UTC)
        name = alert_name(alert)
        labels = {
            "alertname": name,
            "topic": self._topic,
            "stream": alert.stream,
            "kind": alert.kind,
            "scope": alert.scope,
            "incident_id": alert.incident_id,
        }
        annotations = annotations_of(alert) | (
            {"runbook_url": runbook_link(self._runbook_url, alert)} if self._runbook_url else {}
        )
        ends = now_s if alert.event == RESOLVE else now_s + EXPIRES_AFTER * (self.resend_s or 0)
        about: dict[str, Any] = {
            "annotations": _bounded(annotations),
            # A stream whose clock is ahead has an onset to come, which Alertmanager refuses.
            "startsAt": min(alert.onset, _iso(now)),
            "endsAt": _iso(datetime.fromtimestamp(ends, UTC)),
        }
        if alert.dashboard:
            about["generatorURL"] = alert.dashboard
        own = _bounded(labels) | self._labels
        return [about | {"labels": own | {"severity": severity}} for severity in incident.severities]


def alert_name(alert: Alert) -> str:
    """As the Prometheus rules call the same, so that both have one section of the runbook."""
    if alert.kind == ANOMALY:
        return "StreamerAnomaly"
    if alert.kind == SILENCE:
        return "StreamerTopicSilent" if alert.scope == TOPIC else "StreamerStreamSilent"
    return "StreamerFaultyData"


def runbook_link(runbook_url: str, alert: Alert) -> str:
    """The section of the runbook about an alert."""
    return f"{runbook_url}#{alert_name(alert).lower()}"


def annotations_of(alert: Alert) -> dict[str, str]:
    """What is told of an incident besides its identity."""
    annotations = {
        "summary": alert.summary,
        "onset": alert.onset,
        "time": alert.time,
        "event": alert.event,
        "score": f"{alert.score:g}",
        "peak_score": f"{alert.peak_score:g}",
        "model_version": alert.model_version,
    }
    if alert.features:
        top = alert.features[0]
        annotations |= {"feature": top.name, "observed": f"{top.observed:g}", "expected": f"{top.expected:g}"}
    if alert.reason is not None:
        annotations["reason"] = alert.reason
    if alert.dashboard:
        annotations["dashboard_url"] = alert.dashboard
    return annotations


def _bounded(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: text[:_MOST_CHARACTERS] for name, text in texts.items()}


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
