"""Sinks of a running daemon: what a sink that hangs delays (nothing), and what it misses (nothing)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import NewSite, World
from tests.e2e.harness import DaemonThread, Site, streamer, wait_until
from tests.web_servers import WebServer, web_server


@pytest.fixture
def servers() -> Iterator[tuple[WebServer, WebServer]]:
    with web_server() as well, web_server() as hanging:
        yield well, hanging


def told(server: WebServer) -> set[tuple[str, str, str]]:
    """Incident, event and time of all that an Alertmanager was sent."""
    sent = [alert for request in server.requests if request.method == "POST" for alert in request.json]
    return {(a["labels"]["incident_id"], a["annotations"]["event"], a["annotations"]["time"]) for a in sent}


def written(site: Site) -> set[tuple[str, str, str]]:
    return {(alert["incident_id"], alert["event"], alert["time"]) for alert in site.alerts()}


def test_a_sink_that_hangs_delays_neither_another_nor_the_loop_and_misses_nothing(
    world: World, new_site: NewSite, servers: tuple[WebServer, WebServer]
) -> None:
    well, hanging = servers
    hanging.answer = lambda request: None
    site = new_site(
        sinks={
            "alertmanager": {
                "ops": {"url": well.url},
                "stuck": {"url": hanging.url, "timeout_s": 0.5},
            },
            "log": {"console": {}},
        }
    )

    with DaemonThread(site) as daemon:
        site.send(world.live)
        site.wait_until_done()
        wait_until(lambda: told(well) == written(site), "all alerts at the sink that works")
        failed = wait_until(lambda: daemon.metrics()['streamer_sink_failures_total{sink="stuck"}'], "a failure")
        delivered = daemon.metrics()['streamer_sink_deliveries_total{outcome="delivered",sink="stuck"}']
        logged = wait_until(
            lambda: (
                daemon.metrics()['streamer_sink_deliveries_total{outcome="delivered",sink="console"}']
                == len(site.alerts())
            ),
            "all alerts in the log",
        )
    hanging.answer = lambda request: 200
    with DaemonThread(site) as daemon:
        wait_until(lambda: told(hanging) == written(site), "all alerts at the sink that hung")
        wait_until(lambda: daemon.metrics()['streamer_sink_backlog{sink="stuck"}'] == 0, "nothing waits")

    assert len(written(site)) > 8
    assert failed >= 1
    assert delivered == 0
    assert logged


def test_check_asks_each_sink_without_telling_it_anything(
    new_site: NewSite, servers: tuple[WebServer, WebServer]
) -> None:
    well, gone = servers
    gone.answer = lambda request: 503
    site = new_site(sinks={"alertmanager": {"ops": {"url": well.url}, "away": {"url": gone.url}}})

    found = streamer("check", site)

    assert f"ok    sink ops: Alertmanager 127.0.0.1:{well.port} answers" in found.out
    assert f"?     sink away: Alertmanager 127.0.0.1:{gone.port}: answer 503; alerts wait on" in found.out
    assert [request.method for request in well.requests + gone.requests] == ["GET", "GET"]
