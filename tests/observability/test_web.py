"""Status codes of the three pages."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence

import pytest
from prometheus_client import CollectorRegistry

from streamer.config import HttpConfig
from streamer.errors import ConfigError
from streamer.observability.metrics import Metrics
from streamer.observability.web import WebServer


class Health:
    """What the checks answer."""

    healthy: str | None = None
    ready: str | None = None
    notes: Sequence[str] = ()


_HEALTH = Health()


@pytest.fixture
def health() -> Health:
    _HEALTH.healthy = _HEALTH.ready = None
    _HEALTH.notes = []
    return _HEALTH


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    made = WebServer(
        HttpConfig(port=0),
        metrics=Metrics(CollectorRegistry()).app(),
        healthy=lambda: _HEALTH.healthy,
        ready=lambda: _HEALTH.ready,
        notes=lambda: _HEALTH.notes,
    )
    yield made
    made.close()


def get(server: WebServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(server.address + path, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_all_is_well(server: WebServer, health: Health, path: str) -> None:
    assert get(server, path) == (200, "ok\n")


def test_not_ready_is_503_with_the_reason_and_yet_healthy(server: WebServer, health: Health) -> None:
    health.ready = "topic 'é' does not exist"

    assert get(server, "/readyz") == (503, "topic 'é' does not exist\n")
    assert get(server, "/healthz")[0] == 200
    health.ready = None
    assert get(server, "/readyz")[0] == 200


def test_what_is_no_reason_not_to_be_ready_is_said_beside_it(server: WebServer, health: Health) -> None:
    health.notes = ["no partition to read"]

    assert get(server, "/readyz") == (200, "ok\nno partition to read\n")
    assert get(server, "/healthz") == (200, "ok\n")


def test_a_stalled_loop_is_503(server: WebServer, health: Health) -> None:
    health.healthy = "the loop has not turned for 61 s"

    assert get(server, "/healthz") == (503, "the loop has not turned for 61 s\n")


def test_metrics_are_served_as_text(server: WebServer) -> None:
    status, text = get(server, "/metrics")

    assert status == 200
    assert "streamer_ready 0.0" in text


@pytest.mark.parametrize("path", ["/", "/metricsx", "/healthz/", "/../etc/passwd"])
def test_other_paths_are_not_found(server: WebServer, path: str) -> None:
    status, text = get(server, path)

    assert status == 404
    assert "/metrics" in text


def test_a_taken_port_is_an_error_of_configuration(server: WebServer) -> None:
    port = int(server.address.rpartition(":")[2])

    with pytest.raises(ConfigError, match=f"http: wanted to listen on 127.0.0.1:{port}; .*set http.port"):
        WebServer(HttpConfig(port=port), metrics=None, healthy=lambda: None, ready=lambda: None)


def test_a_closed_server_frees_its_port(server: WebServer) -> None:
    made = WebServer(HttpConfig(port=0), metrics=None, healthy=lambda: None, ready=lambda: None)
    port = int(made.address.rpartition(":")[2])
    made.close()

    WebServer(HttpConfig(port=port), metrics=None, healthy=lambda: None, ready=lambda: None).close()
