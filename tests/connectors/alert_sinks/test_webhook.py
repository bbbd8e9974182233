"""What webhooks are sent: JSON whatever a stream is called, an id that stays the same, and no secret in any log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from streamer.config.sinks import WebhookConfig
from streamer.connectors.alert_sinks import Incident
from streamer.connectors.alert_sinks.webhook import WebhookSink
from streamer.core.alerts import Alert
from streamer.errors import ConfigError
from tests.sample_alerts import HOSTILE, sample_alert
from tests.web_servers import WebServer, web_server


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as served:
        yield served


def hook(server: WebServer, **settings: Any) -> WebhookSink:
    config = WebhookConfig(url=SecretStr(f"{server.url}/services/T0/SECRET"), **settings)
    return WebhookSink("pager", config, topic="machines", runbook_url="https://wiki.example/runbook")


def sent(server: WebServer, alert: Alert, **settings: Any) -> Any:
    answer = hook(server, **settings).deliver(Incident(alert, (alert.severity,), 0.0), 0.0)
    assert answer.outcome == "delivered", answer
    return server.requests[-1].json


def template(path: Path, text: str) -> Path:
    file = path / "body.j2"
    file.write_text(text)
    return file


def test_slack_is_sent_blocks(server: WebServer) -> None:
    body = sent(server, sample_alert(), preset="slack")

    request = server.requests[0]
    assert (request.method, request.path) == ("POST", "/services/T0/SECRET")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["idempotency-key"] == sample_alert().alert_id
    assert body["text"] == sample_alert().summary
    assert body["blocks"][0]["text"]["text"] == "WARNING anomaly: machine-3"
    assert body["blocks"][2]["elements"][1]["text"] == f"<{sample_alert().dashboard}|Dashboard>"
    assert body["blocks"][2]["elements"][2]["text"] == "<https://wiki.example/runbook#streameranomaly|Runbook>"


def test_teams_is_sent_an_adaptive_card(server: WebServer) -> None:
    body = sent(server, sample_alert("resolve"), preset="teams")

    (attachment,) = body["attachments"]
    card = attachment["content"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert card["type"] == "AdaptiveCard"
    assert card["body"][0]["inlines"][0]["text"] == "RESOLVED anomaly: machine-3"
    assert [action["title"] for action in card["actions"]] == ["Dashboard", "Runbook"]


def test_pagerduty_opens_and_resolves_one_incident(server: WebServer) -> None:
    settings: dict[str, Any] = {"preset": "pagerduty", "key": SecretStr("R0UT1NG")}
    opened = sent(server, sample_alert(severity="critical"), **settings)
    resolved = sent(server, sample_alert("resolve", severity="critical"), **settings)

    assert (opened["event_action"], resolved["event_action"]) == ("trigger", "resolve")
    assert opened["dedup_key"] == resolved["dedup_key"] == sample_alert().incident_id
    assert opened["routing_key"] == "R0UT1NG"
    assert opened["payload"]["severity"] == "critical"
    assert opened["payload"]["summary"] == sample_alert().summary
    assert opened["payload"]["custom_details"]["features"][0]["name"] == "temperature"
    assert [link["text"] for link in opened["links"]] == ["Dashboard", "Runbook"]


@pytest.mark.parametrize("preset", ["slack", "teams", "pagerduty"])
@pytest.mark.parametrize("event", ["open", "update", "resolve"])
def test_a_hostile_name_is_text_and_nothing_else(server: WebServer, preset: str, event: str) -> None:
    alert = sample_alert(event, stream=HOSTILE, summary=f"{HOSTILE} has been anomalous.", alert_id="a\r\nX-Evil: 1")

    body = sent(server, alert, preset=preset, key=SecretStr("k"))

    request = server.requests[0]
    assert "x-evil" not in request.headers
    assert len(request.headers["idempotency-key"]) == 32
    assert "{{ 7*7 }}" in str(body)  # not 49
    texts = list(strings(body))
    if preset == "slack":
        assert not any("<!channel>" in text or "<http://evil" in text for text in texts)
        assert any("&lt;!channel&gt;" in text for text in texts)
    else:
        assert any(HOSTILE in text for text in texts)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for inside in value.values() if isinstance(value, dict) else value:
            yield from strings(inside)


@pytest.mark.parametrize("preset", ["slack", "teams", "pagerduty"])
def test_texts_stay_within_what_the_receiver_takes(server: WebServer, preset: str) -> None:
    alert = sample_alert(stream="&" * 50_000, summary="<" * 50_000, dashboard=f"http://127.0.0.1/{'x' * 50_000}")

    body = sent(server, alert, preset=preset, key=SecretStr("k"))

    assert max(map(len, strings(body))) <= 4000
    if preset == "slack":
        assert len(body["blocks"][0]["text"]["text"]) <= 150
        assert body["blocks"][0]["text"]["text"].endswith("&amp;")
    assert len(server.requests[0].body) < 20_000


def test_a_template_of_ones_own_gets_the_alert_the_topic_and_the_key(server: WebServer, tmp_path: Path) -> None:
    text = (
        '{"who": {{ alert.stream }}, "all": {{ alert }}, "from": {{ topic ~ "/" ~ sink }}, "key": {{ key | tojson }}}'
    )

    body = sent(server, sample_alert(), template_file=template(tmp_path, text), key=SecretStr("k"))

    assert (body["who"], body["from"], body["key"]) == ("machine-3", "machines/pager", "k")
    assert body["all"]["features"][0]["share"] == 0.75


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": {{ alert.strem }}}', "has no attribute 'strem'"),
        ('{"a": "{{ alert.stream }}"}', "not JSON"),
        ("{{ alert", "TemplateSyntaxError in line 1"),
        ("{% for i in range(99999) %}{{ alert.summary }}{% endfor %}", "more than 100,000 characters"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
    ],
)
def test_a_template_that_does_not_work_is_told_at_the_start(
    server: WebServer, tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        hook(server, template_file=template(tmp_path, text))

    assert "sinks.webhook.pager" in str(error.value)
    assert "SECRET" not in str(error.value)


def test_an_alert_that_a_template_cannot_take_is_refused_with_the_reason(server: WebServer, tmp_path: Path) -> None:
    file = template(tmp_path, '{"a": {{ alert.features[0].name }}}')

    answer = hook(server, template_file=file).deliver(Incident(sample_alert(features=[]), ("info",), 0.0), 0.0)

    assert answer.outcome == "refused"
    assert answer.why.startswith("its template: UndefinedError")


def test_the_path_of_the_address_is_shown_nowhere(server: WebServer, caplog: pytest.LogCaptureFixture) -> None:
    sink = hook(server, preset="slack")
    server.answer = lambda request: (400, {}, request.path.encode())

    answer = sink.deliver(Incident(sample_alert(), ("warning",), 0.0), 0.0)

    assert answer.outcome == "refused"
    for shown in (answer.why, sink.prove(), repr(sink._config), caplog.text):
        assert "SECRET" not in shown
    assert sink.prove() == f"webhook 127.0.0.1:{server.port} answers"


@pytest.mark.parametrize(("preset", "key"), [("slack", "url"), ("pagerduty", "key")])
def test_without_its_secret_a_webhook_cannot_be_opened_but_other_commands_need_none(preset: Any, key: str) -> None:
    config = WebhookConfig(preset=preset)

    with pytest.raises(
        ConfigError, match=rf"pager.{key}: is missing; set STREAMER_SINKS__WEBHOOK__PAGER__{key.upper()}_FILE"
    ):
        WebhookSink("pager", config, topic="machines", runbook_url=None)
