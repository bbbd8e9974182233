"""A line of the log for each alert."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from streamer.connectors.alert_sinks.interface import DELIVERED, Answer, Incident
from streamer.core.events import RESOLVE

LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}

log = logging.getLogger(__name__)


class LogSink:
    """Never fails.

    Args:
        name: Of the sink.
    """

    resend_s: float | None = None
    give_up_after_s: float | None = None

    def __init__(self, name: str) -> None:
        self.name = name

    def deliver(self, incident: Incident, now_s: float) -> Answer:
        alert = incident.alert
        level = logging.INFO if alert.event == RESOLVE else LEVELS.get(alert.severity, logging.ERROR)
        log.log(
            level,
            "%s: %s (%s, %s; incident %s)",
            self.name, alert.summary, alert.event, alert.severity, alert.incident_id,
            extra={"stream": alert.stream, "incident_id": alert.incident_id},
        )  # fmt: skip
        return Answer(DELIVERED)

    def resend(self, incidents: Sequence[Incident], now_s: float) -> Answer:
        return Answer(DELIVERED)

    def prove(self) -> str:
        return "alerts are logged"
