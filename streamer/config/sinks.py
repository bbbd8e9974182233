"""The section `sinks`: who is told of alerts besides the alerts topic, and of which.

Not inside: how a sink is reached (`connectors.alert_sinks`), when (`runtime.sinks`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from streamer.config.section import Duration, Section, is_loopback
from streamer.core.events import KINDS, OPEN, PARTITION, RESOLVE, STREAM, TOPIC, UPDATE
from streamer.core.routing import Route

# By kind of sink; each is refused in the configuration file.
SINK_SECRETS = {"alertmanager": ("token", "password"), "webhook": ("url", "key", "token", "password")}

PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue"

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OWN_LABELS = ("alertname", "topic", "stream", "kind", "scope", "severity", "incident_id")
_MOST_SINKS = 20


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_Glob = Annotated[str, Field(min_length=1, max_length=512)]
_Globs = Annotated[tuple[_Glob, ...], BeforeValidator(_list), Field(max_length=100)]
_Words = Annotated[tuple[str, ...], BeforeValidator(_list)]


class WhenConfig(Section):
    """Which alerts a sink is told: all conditions must hold; of several values in one condition, any."""

    stream: _Globs = ()  # patterns of stream names, such as machine-*
    kind: _Words = ()  # anomaly, silence, or kinds of rules
    severity: Literal["info", "warning", "critical"] = "info"  # at least
    scope: _Words = ()  # stream, partition, topic
    event: _Words = ()  # open, update, resolve

    @field_validator("kind", "scope", "event")
    @classmethod
    def _known(cls, words: tuple[str, ...], info: Any) -> tuple[str, ...]:
        known = {"kind": KINDS, "scope": (STREAM, PARTITION, TOPIC), "event": (OPEN, UPDATE, RESOLVE)}[info.field_name]
        for word in words:
            if word not in known:
                raise ValueError(f"wanted {', '.join(known)}; got {word!r}")
        return words

    def route(self) -> Route:
        """The same as a decision."""
        return Route(self.stream, self.kind, self.severity, self.scope, self.event)


class LogSinkConfig(Section):
    """One line of the log for each alert."""

    when: WhenConfig = WhenConfig()  # which alerts; none: all


class HttpSinkConfig(Section):
    """What sinks reached by HTTP have in common."""

    when: WhenConfig = WhenConfig()  # which alerts; none: all
    timeout_s: Annotated[float, Field(gt=0, le=30)] = 10.0  # of one request, from the connection to the last byte
    ca_file: Path | None = None  # trusted CA certificates, PEM; none: the system's
    token: SecretStr | None = None  # bearer token; environment or file only
    username: str | None = None  # login, if a user name and a password are wanted
    password: SecretStr | None = None  # environment or file only

    @model_validator(mode="after")
    def _one_login(self) -> HttpSinkConfig:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together; the password comes from the environment or a file")
        if self.token is not None and self.username is not None:
            raise ValueError("wanted a token, or username and password; got both")
        return self


class AlertmanagerConfig(HttpSinkConfig):
    """Alertmanager, by its API of version 2."""

    url: str | None = None  # e.g. http://127.0.0.1:9093; of one member, where there are several
    resend_s: Annotated[float, Field(ge=5, le=3600)] = 60.0  # open incidents are sent again; they expire after four
    labels: dict[str, str] = Field(default={})  # added to every alert, e.g. {job: streamer}

    @model_validator(mode="after")
    def _whole(self) -> AlertmanagerConfig:
        check_url(self.url, "http://alertmanager:9093")
        for name in self.labels:
            if not _LABEL.fullmatch(name) or name in _OWN_LABELS:
                raise ValueError(f"labels: wanted names of letters, digits and _, none of {', '.join(_OWN_LABELS)}")
        if self.when.event:
            raise ValueError("when.event: an Alertmanager needs all events; leave it out")
        return self


class WebhookConfig(HttpSinkConfig):
    """A POST for each alert."""

    preset: Literal["slack", "teams", "pagerduty"] | None = None  # shape of what is sent
    template_file: Path | None = None  # a Jinja template of JSON, in place of a preset
    url: SecretStr | None = None  # environment or file only; not needed for pagerduty
    key: SecretStr | None = None  # PagerDuty's routing key, or what a template calls key; environment or file only
    give_up_after: Duration = 86_400.0  # an alert that fails for so long is given up

    @model_validator(mode="after")
    def _whole(self) -> WebhookConfig:
        if (self.preset is None) == (self.template_file is None):
            raise ValueError("wanted preset or template_file, one of them")
        if self.url is not None:  # else commands that send nothing need no secret
            check_url(self.address(), "https://hooks.example/...")
        return self

    def missing(self) -> str | None:
        """The secret without which nothing can be sent."""
        if self.preset == "pagerduty":
            return "key" if self.key is None else None
        return "url" if self.url is None else None

    def address(self) -> str:
        """Where alerts are sent, as the secret says now."""
        if self.url is not None:
            return self.url.get_secret_value()
        return PAGERDUTY_URL if self.preset == "pagerduty" else ""


class SinksConfig(Section):
    """Who is told of alerts besides the alerts topic; each sink has a name of its own (docs/sinks.md)."""

    alertmanager: dict[str, AlertmanagerConfig] = Field(default={})  # {NAME: {url: http://127.0.0.1:9093}}
    webhook: dict[str, WebhookConfig] = Field(default={})  # {NAME: {preset: slack}}, or teams, pagerduty, a template
    log: dict[str, LogSinkConfig] = Field(default={})  # {NAME: {}}: one line for each alert
    runbook_url: str | None = None  # where docs/runbook.md is published; alerts link to its sections
    lookback: Duration = 604_800.0  # how far the alerts topic is read back for incidents still open

    @model_validator(mode="after")
    def _named(self) -> SinksConfig:
        names = [name for name, _ in self.all()]
        for name in names:
            if not _NAME.fullmatch(name) or len(name) > 40:
                raise ValueError(
                    "the name of a sink: wanted at most 40 lower-case letters and digits, joined by single "
                    f"underscores; got {name[:80]!r}"
                )
            if names.count(name) > 1:
                raise ValueError(f"every sink needs a name of its own, it names a consumer group; got {name} twice")
        if len(names) > _MOST_SINKS:
            raise ValueError(f"wanted at most {_MOST_SINKS} sinks, each is a thread and a consumer; got {len(names)}")
        if self.runbook_url is not None and not self.runbook_url.startswith(("http://", "https://")):
            raise ValueError(f"runbook_url: wanted an address such as https://...; got {self.runbook_url!r}")
        return self

    def all(self) -> Iterator[tuple[str, LogSinkConfig | HttpSinkConfig]]:
        """Every sink with its name."""
        yield from self.alertmanager.items()
        yield from self.webhook.items()
        yield from self.log.items()

    def in_the_clear(self) -> list[str]:
        """Names of sinks that are sent to unencrypted and are not on this machine."""
        addresses = {name: sink.url for name, sink in self.alertmanager.items()}
        addresses |= {name: sink.address() for name, sink in self.webhook.items()}
        return [name for name, url in addresses.items() if _in_the_clear(url)]


def is_sink_secret(keys: Sequence[str]) -> bool:
    """Whether `sinks.KIND.NAME.KEY` must not be shown nor stand in a file."""
    return len(keys) >= 4 and keys[0] == "sinks" and keys[3] in SINK_SECRETS.get(keys[1], ())


def check_url(url: str | None, example: str) -> None:
    """Raises:
    ValueError: It is not an address of HTTP; what came is not shown, it may hold a token.
    """
    try:
        parts = urlsplit(url or "")
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or not (url or "").isprintable() or " " in (url or ""):
        raise ValueError(f"url: wanted an address such as {example}")
    if parts.username or parts.password:
        raise ValueError("url: a login does not belong in the address; set username and password, or token")


def _in_the_clear(url: str | None) -> bool:
    parts = urlsplit(url or "")
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")
