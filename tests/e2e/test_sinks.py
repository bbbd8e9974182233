"""Sinks of a running daemon: what a sink that hangs delays (nothing), and what it misses (nothing)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import NewSite, World
from tests.e2e.harness import DaemonProcess, DaemonThread, Site, streamer, wait_until
from tests.web_servers import WebServer, web_server


@pytest.fixture
def servers() -> Iterator[tuple[WebServer, WebServer]]:
    with web_server() as well, web_server() as hanging:
        yield well, hanging


def told(server: WebServer) -> set[tuple[str, str, str]]:
    """Incident, event and time of all that an Alertmanager was sent."""
    sent = [alert for request in server.requests if request.method == "POST" for alert in request.json]
    return {(a["labels"]["incident_id"], a["annotations"]["event"], a["annotations"]["time"]) for a in sent}


def keys(server: WebServer) -> set[str]:
    return {request.headers["idempotency-key"] for request in server.requests}


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
            },
            "webhook": {"stuck": {"preset": "slack", "timeout_s": 0.5}},
            "log": {"console": {}},
        }
    )
    site.environment["STREAMER_SINKS__WEBHOOK__STUCK__URL"] = f"{hanging.url}/services/SECRET"

    with DaemonProcess(site) as daemon:
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
        log = daemon.log()
        daemon.kill()
    hanging.answer = lambda request: 200
    with DaemonThread(site) as daemon:
        ids = {alert["alert_id"] for alert in site.alerts()}
        wait_until(lambda: keys(hanging) >= ids, "all alerts at the sink that hung")
        wait_until(lambda: daemon.metrics()['streamer_sink_backlog{sink="stuck"}'] == 0, "nothing waits")

    assert len(written(site)) > 8
    assert failed >= 1
    assert delivered == 0
    assert logged
    assert "sink stuck fails, alerts wait on the alerts topic: no whole answer in time" in log
    assert "SECRET" not in log


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


def test_a_test_alert_goes_through_one_sink_and_says_what_came_of_it(
    new_site: NewSite, servers: tuple[WebServer, WebServer]
) -> None:
    well, bad = servers
    bad.answer = lambda request: (400, {}, b"invalid_payload")
    site = new_site(sinks={"webhook": {"chat": {"preset": "slack"}, "pager": {"preset": "pagerduty"}}})
    site.environment = {
        "STREAMER_SINKS__WEBHOOK__CHAT__URL": f"{bad.url}/services/SECRET",
        "STREAMER_SINKS__WEBHOOK__PAGER__URL": f"{well.url}/v2/enqueue",
        "STREAMER_SINKS__WEBHOOK__PAGER__KEY": "R0UT1NG",
    }

    sent = [streamer("sinks", site, "test", "pager"), streamer("sinks", site, "test", "pager", "--resolve")]
    refused = streamer("sinks", site, "test", "chat")
    unknown = streamer("sinks", site, "test", "chatt")

    assert [(ran.code, ran.out[:28]) for ran in sent] == [(0, "ok    sink pager: delivered,")] * 2
    opened, resolved = well.bodies
    assert (opened["event_action"], resolved["event_action"]) == ("trigger", "resolve")
    assert opened["dedup_key"] == resolved["dedup_key"]
    assert "This is a test" in opened["payload"]["summary"]
    assert (refused.code, refused.out) == (69, "FAIL  sink chat: refused, answer 400: invalid_payload\n")
    assert unknown.code == 64
    assert "did you mean 'chat'?" in unknown.err
    assert site.alerts() == []
