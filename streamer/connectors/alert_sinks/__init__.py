"""Sinks that tell people of alerts: Alertmanager, webhooks and the log.

Inside: `open_sinks`, and one module for each kind. A sink makes one attempt at a time. Not inside: reading the alerts
topic and trying again (`runtime.sinks`), the topics that the daemon itself writes (`connectors.sinks`).
"""

from __future__ import annotations

from streamer.config import Settings
from streamer.connectors.alert_sinks.alertmanager import AlertmanagerSink
from streamer.connectors.alert_sinks.interface import (
    DELIVERED,
    FAILED,
    REFUSED,
    Answer,
    Incident,
    Sink,
    SinkUnreachable,
)
from streamer.connectors.alert_sinks.log_lines import LogSink
from streamer.connectors.alert_sinks.webhook import WebhookSink
from streamer.core.routing import Route

__all__ = ["DELIVERED", "FAILED", "REFUSED", "Answer", "Incident", "Sink", "SinkUnreachable", "open_sinks"]


def open_sinks(settings: Settings) -> list[tuple[Sink, Route]]:
    """Every sink configured, with what it is told; nothing is connected yet.

    Raises:
        ConfigError: A template cannot be used.
    """
    sinks, topic = settings.sinks, settings.kafka.topic
    found: list[tuple[Sink, Route]] = []
    for name, manager in sinks.alertmanager.items():
        sink = AlertmanagerSink(name, manager, topic=topic, runbook_url=sinks.runbook_url)
        found.append((sink, manager.when.route()))
    for name, hook in sinks.webhook.items():
        sink_of = WebhookSink(name, hook, topic=topic, runbook_url=sinks.runbook_url)
        found.append((sink_of, hook.when.route()))
    found += [(LogSink(name), lines.when.route()) for name, lines in sinks.log.items()]
    return found
