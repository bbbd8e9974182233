"""Sinks on a broker: replicas share the alerts topic, and one that goes hands its incidents over."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from streamer.config import Settings
from streamer.config.sinks import AlertmanagerConfig, SinksConfig
from streamer.connectors.kafka import connect_producer
from streamer.observability.metrics import Metrics
from streamer.runtime.sinks import SinkThreads
from tests.brokers import Broker, unique
from tests.e2e.harness import wait_until
from tests.sample_alerts import sample_alert
from tests.web_servers import WebServer, web_server


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as served:
        yield served


def write(settings: Settings, *events: str) -> None:
    producer = connect_producer(settings.kafka)
    for event in events:
        for number in range(6):
            alert = sample_alert(event, stream=f"machine-{number}")
            producer.send(settings.kafka.alerts_topic, key=alert.stream.encode(), value=alert.encode())
    producer.flush(60)
    producer.close()


def told(requests: WebServer, since: int = 0) -> dict[str, str]:
    """The newest event of each stream."""
    sent = [alert for request in requests.requests[since:] for alert in request.json]
    return {alert["labels"]["stream"]: alert["annotations"]["event"] for alert in sent}


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_replica_that_stops_hands_its_open_incidents_over(broker: Broker, server: WebServer, client: str) -> None:
    if broker.kind == "embedded" and client == "kafka-python":
        pytest.skip("the embedded broker refuses (error 42) a member whose SyncGroup comes after its leader's")
    topic = unique("alerts")
    broker.create_topic(topic, 3)
    sinks = SinksConfig(alertmanager={"ops": AlertmanagerConfig(url=server.url, resend_s=5)})
    kafka = {
        "bootstrap_servers": broker.bootstrap_servers,
        "alerts_topic": topic,
        "group": topic,
        "client": client,
        "session_timeout_ms": broker.min_session_ms,
    }
    settings = Settings.model_validate({"kafka": kafka, "records": {"features": ["a"]}, "sinks": sinks})
    registries = [CollectorRegistry(), CollectorRegistry()]
    replicas = [SinkThreads(settings, Metrics(registry), time.time) for registry in registries]
    streams = {f"machine-{number}" for number in range(6)}
    try:
        for replica in replicas:
            replica.start()
        write(settings, "open")
        wait_until(lambda: told(server).keys() == streams, "all alerts")
        replicas[0].close()
        before = len(server.requests)
        wait_until(lambda: told(server, before).keys() == streams, "all incidents told again by the other replica")
        write(settings, "resolve")
        wait_until(lambda: set(told(server).values()) == {"resolve"}, "all resolved")
    finally:
        for replica in replicas:
            replica.close()

    outcomes = [
        sum(
            registry.get_sample_value("streamer_sink_deliveries_total", {"sink": "ops", "outcome": outcome}) or 0
            for registry in registries
        )
        for outcome in ("delivered", "refused", "unreadable")
    ]
    assert outcomes[0] >= 12  # an alert may come twice where replicas change
    assert outcomes[1:] == [0, 0]
