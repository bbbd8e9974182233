"""What an Alertmanager is sent: labels that do not change, everything else as annotations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from streamer.config.sinks import AlertmanagerConfig
from streamer.connectors.alert_sinks import Incident, SinkUnreachable
from streamer.connectors.alert_sinks.alertmanager import AlertmanagerSink
from streamer.core.alerts import Alert
from tests.sample_alerts import HOSTILE, sample_alert
from tests.web_servers import WebServer, web_server

NOW_S = 1_767_326_400.0  # 2026-01-02T04:00:00Z


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as served:
        yield served


def sent(server: WebServer, alert: Alert, *severities: str, **settings: Any) -> list[dict[str, Any]]:
    sink = AlertmanagerSink(
        "ops",
        AlertmanagerConfig(url=server.url, **settings),
        topic="machines",
        runbook_url="https://wiki.example/runbook",
    )
    answer = sink.deliver(Incident(alert, severities or (alert.severity,), NOW_S), NOW_S)
    assert answer.outcome == "delivered", answer
    alerts: list[dict[str, Any]] = server.requests[-1].json
    return alerts


def test_labels_say_which_incident_and_annotations_all_the_rest(server: WebServer) -> None:
    (alert,) = sent(server, sample_alert(), labels={"job": "streamer"})

    assert server.requests[0].path == "/api/v2/alerts"
    assert alert["labels"] == {
        "alertname": "StreamerAnomaly",
        "topic": "machines",
        "stream": "machine-3",
        "kind": "anomaly",
        "scope": "stream",
        "severity": "warning",
        "incident_id": sample_alert().incident_id,
        "job": "streamer",
    }
    assert alert["annotations"] == {
        "summary": sample_alert().summary,
        "event": "open",
        "onset": "2026-01-02T03:04:05.000Z",
        "time": "2026-01-02T03:05:05.000Z",
        "score": "1.75",
        "peak_score": "2.25",
        "feature": "temperature",
        "observed": "81.5",
        "expected": "62.25",
        "model_version": "20260101T000000Z-1a2b3c4d",
        "runbook_url": "https://wiki.example/runbook#streameranomaly",
        "dashboard_url": "http://127.0.0.1:3000/d/streamer-stream?var-stream=machine-3",
    }
    assert alert["startsAt"] == "2026-01-02T03:04:05.000Z"
    assert alert["generatorURL"] == alert["annotations"]["dashboard_url"]


def test_an_open_incident_expires_if_nothing_more_is_heard_of_it_and_a_resolved_one_is_over_now(
    server: WebServer,
) -> None:
    (opened,) = sent(server, sample_alert(), resend_s=30)
    (resolved,) = sent(server, sample_alert("resolve"))

    assert opened["endsAt"] == "2026-01-02T04:02:00.000Z"
    assert resolved["endsAt"] == "2026-01-02T04:00:00.000Z"


def test_labels_stay_the_same_while_an_incident_lives(server: WebServer) -> None:
    lives = [
        sample_alert(severity="info"),
        sample_alert("update", severity="info", peak_score=1.4, features=[], at_s=120),
        sample_alert("resolve", severity="info", reason="quiet", at_s=600),
    ]

    labels = [sent(server, alert)[0]["labels"] for alert in lives]

    assert labels[0] == labels[1] == labels[2]


def test_a_worse_severity_is_a_further_alert_and_all_of_them_resolve_together(server: WebServer) -> None:
    worse = sent(server, sample_alert("update", severity="critical"), "info", "critical")
    over = sent(server, sample_alert("resolve", severity="critical"), "info", "critical")

    assert [alert["labels"]["severity"] for alert in worse] == ["info", "critical"]
    assert [alert["labels"] for alert in over] == [alert["labels"] for alert in worse]
    assert {alert["endsAt"] for alert in over} == {"2026-01-02T04:00:00.000Z"}
    assert worse[0]["annotations"] == worse[1]["annotations"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"kind": "silence"}, "StreamerStreamSilent"),
        ({"kind": "silence", "scope": "topic"}, "StreamerTopicSilent"),
        ({"kind": "crossed_book"}, "StreamerFaultyData"),
    ],
)
def test_an_incident_is_called_as_the_prometheus_rules_call_it(
    server: WebServer, changes: dict[str, Any], name: str
) -> None:
    (alert,) = sent(server, sample_alert(features=[], **changes))

    assert alert["labels"]["alertname"] == name
    assert alert["annotations"]["runbook_url"].endswith(f"#{name.lower()}")


def test_a_hostile_stream_name_stays_one_label(server: WebServer) -> None:
    (alert,) = sent(server, sample_alert(stream=HOSTILE))

    assert alert["labels"]["stream"] == HOSTILE
    assert "x-evil" not in server.requests[0].headers
    assert len(alert["labels"]) == 7


def test_texts_have_a_bound(server: WebServer) -> None:
    (alert,) = sent(server, sample_alert(stream="x" * 100_000, summary="y" * 100_000))

    assert len(server.requests[0].body) < 5000
    assert len(alert["labels"]["stream"]) == 1000


def test_an_onset_to_come_begins_now(server: WebServer) -> None:
    (alert,) = sent(server, sample_alert(onset="2026-01-02T05:00:00.000Z"))

    assert alert["startsAt"] == "2026-01-02T04:00:00.000Z"


def test_whether_it_is_there_can_be_asked_without_telling_it_anything(server: WebServer) -> None:
    sink = AlertmanagerSink("ops", AlertmanagerConfig(url=server.url), topic="machines", runbook_url=None)

    found = sink.prove()
    server.answer = lambda request: 404

    assert found == f"Alertmanager 127.0.0.1:{server.port} answers"
    assert [(request.method, request.path) for request in server.requests] == [("GET", "/api/v2/status")]
    with pytest.raises(SinkUnreachable, match="answer 404"):
        sink.prove()
