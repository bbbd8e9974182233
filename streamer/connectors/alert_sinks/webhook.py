"""A POST for each alert, to an address that is a secret.

Not inside: the shape of what is sent (`bodies`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from streamer.config.sinks import WebhookConfig
from streamer.connectors.alert_sinks.alertmanager import runbook_link
from streamer.connectors.alert_sinks.bodies import Bodies, BodyError, source_of
from streamer.connectors.alert_sinks.http import HttpClient
from streamer.connectors.alert_sinks.interface import DELIVERED, REFUSED, Answer, Incident
from streamer.connectors.alert_sinks.sample import sample
from streamer.core.alerts import Alert
from streamer.core.events import OPEN, RESOLVE, UPDATE
from streamer.errors import ConfigError

_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class WebhookSink:
    """One webhook.

    Args:
        name: Of the sink.
        config: Where it is, and the template.
        topic: Input topic.
        runbook_url: Where the runbook is published.

    Raises:
        ConfigError: The template does not make JSON of an alert, or there is no address.
    """

    resend_s: float | None = None
    give_up_after_s: float | None

    def __init__(self, name: str, config: WebhookConfig, *, topic: str, runbook_url: str | None) -> None:
        self.name, self.give_up_after_s = name, config.give_up_after
        self._config, self._runbook_url = config, runbook_url
        if (key := config.missing()) is not None:
            variable = f"STREAMER_SINKS__WEBHOOK__{name}__{key}".upper()
            raise ConfigError(
                f"sinks.webhook.{name}.{key}: is missing; set {variable}_FILE to a file that holds it, or {variable}"
            )
        self._client = HttpClient(
            config.address,
            timeout_s=config.timeout_s,
            ca_file=config.ca_file,
            token=config.token,
            username=config.username,
            password=config.password,
        )
        try:
            self._bodies = Bodies(source_of(config.preset, config.template_file), {"topic": topic, "sink": name})
            for event in (OPEN, UPDATE, RESOLVE):
                self._body(sample(event))
        except BodyError as error:
            raise ConfigError(f"sinks.webhook.{name}: {config.template_file or config.preset}: {error}") from None

    def deliver(self, incident: Incident, now_s: float) -> Answer:
        alert = incident.alert
        try:
            body = self._body(alert)
        except BodyError as error:
            return Answer(REFUSED, f"its template: {error}")
        return self._client.post("", body, {"Idempotency-Key": _header(alert.alert_id)})

    def resend(self, incidents: Sequence[Incident], now_s: float) -> Answer:
        return Answer(DELIVERED)

    def prove(self) -> str:
        self._client.reach()
        return f"webhook {self._client.where} answers"

    def _body(self, alert: Alert) -> bytes:
        key = self._config.key
        more: dict[str, Any] = {
            "key": None if key is None else key.get_secret_value(),
            "runbook_url": runbook_link(self._runbook_url, alert) if self._runbook_url else None,
        }
        return self._bodies.body(alert, **more)


def _header(alert_id: str) -> str:
    """An id as a header; one that the daemon did not make may hold anything."""
    return alert_id if _PLAIN_ID.fullmatch(alert_id) else hashlib.sha256(alert_id.encode()).hexdigest()[:32]
