"""The store of incidents beside a daemon: what it holds survives whatever happens to the daemon, and to the store."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from streamer import cli
from streamer.connectors.incident_store import IncidentStore, StoreUnavailable, Wanted, open_to_read
from streamer.core.alerts import Alert
from tests.databases import PostgresServer
from tests.e2e.conftest import NewSite, World
from tests.e2e.harness import DaemonProcess, DaemonThread, Expected, Site, streamer, wait_until


def known(site: Site) -> dict[str, Any]:
    """What the store of a site holds: of each incident who acknowledged it, and its alerts."""
    try:
        store = IncidentStore(open_to_read(site.settings))
    except StoreUnavailable:
        return {}  # not yet
    try:
        incidents = store.page(Wanted(), 1000).incidents
        alerts = {
            each.id: {moment.what.alert_id for moment in store.timeline(each.id) if isinstance(moment.what, Alert)}
            for each in incidents
        }
        return {each.id: (each.acknowledged_by, alerts[each.id]) for each in incidents}
    finally:
        store.close()


def has_tables(site: Site) -> bool:
    """Whether a daemon has begun to write."""
    try:
        open_to_read(site.settings).close()
        return True
    except StoreUnavailable:
        return False


def alerts_in(found: dict[str, Any]) -> set[str]:
    return {alert for _, alerts in found.values() for alert in alerts}


@pytest.mark.usefixtures("keep_logging")
def test_an_acknowledgement_survives_kill_9_and_a_lost_store_and_reaches_other_replicas(
    world: World, new_site: NewSite, capsys: pytest.CaptureFixture[str]
) -> None:
    site = new_site(incidents={"store": "sqlite:incidents.db"})
    expected = Expected.of(site, world.live)

    def incidents(action: str, *arguments: str) -> str:
        assert cli.main(["incidents", action, *arguments, "--config", str(site.file)]) == 0
        return capsys.readouterr().out

    with DaemonProcess(site) as daemon:
        site.send(world.live)
        wait_until(lambda: alerts_in(known(site)) == expected.alerts, "all alerts in the store")
        assert daemon.metrics()["streamer_incident_store_failures_total"] == 0
        listed = json.loads(incidents("list", "--json", "--limit", "1000"))["incidents"]
        chosen = listed[0]["incident_id"]
        incidents("ack", chosen, "on my way", "--by", "anna")
        daemon.kill()
    assert len(listed) == expected.opened
    assert chosen[:8] in incidents("list")

    with DaemonProcess(site):
        wait_until(lambda: known(site)[chosen][0] == "anna", "the acknowledgement in the store")
        other = site.copy("other")
        with DaemonThread(other):
            wait_until(lambda: known(other) == known(site), "the same in the store of another replica")
    before = known(site)

    path = site.settings.incidents_file
    assert path is not None
    for file in path.parent.glob("incidents.db*"):
        file.unlink()
    with DaemonThread(site):
        wait_until(lambda: known(site) == before, "the store made again")
    assert "on my way" in incidents("show", chosen[:12])
    assert alerts_in(before) == expected.alerts


def test_a_store_that_cannot_be_used_stops_nothing(world: World, new_site: NewSite) -> None:
    site = new_site(incidents={"store": "sqlite:/proc/streamer/incidents.db"})

    with DaemonThread(site) as daemon:
        site.send(world.live)
        site.wait_until_done()
        daemon.wait_until_ready()
        wait_until(lambda: "store of incidents" in daemon.get("/readyz")[1], "the reason at /readyz")
        metrics = daemon.metrics()

    assert metrics["streamer_incident_store_failures_total"] >= 1
    assert metrics["streamer_not_ready" + '{reason="state_store"}'] == 0
    Expected.of(site, world.live).hold(site, each_once=True)


def test_replicas_that_share_a_database_take_turns_when_the_writer_is_killed(
    world: World, new_site: NewSite, postgresql: PostgresServer
) -> None:
    site = new_site(incidents={"store": postgresql.new_database()})
    other = site.copy("other")
    for each in (site, other):
        each.environment["STREAMER_INCIDENTS__PASSWORD"] = postgresql.password
    expected = Expected.of(site, world.live)

    with DaemonProcess(site) as writer:
        wait_until(lambda: known(site) == {} and has_tables(site), "the tables")
        with DaemonThread(other) as waiting:
            site.send(world.live)
            wait_until(lambda: alerts_in(known(other)) == expected.alerts, "all alerts in the database")
            assert math.isnan(waiting.metrics()["streamer_incident_store_lag_records"])
            assert waiting.metrics()["streamer_incident_store_failures_total"] == 0

            writer.kill()
            chosen = sorted(known(other))[0]
            done = streamer("incidents", other, "ack", chosen, "--by", "anna")
            assert done.code == 0, done.err
            assert postgresql.password not in done.err + done.out
            wait_until(lambda: known(other)[chosen][0] == "anna", "the acknowledgement in the database")
            listed = json.loads(waiting.get("/incidents?limit=200")[1])["incidents"]

    assert {each["incident_id"] for each in listed} == set(known(other))
    assert len(listed) == expected.opened
