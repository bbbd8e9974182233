"""The input topic is deleted and made again, under two replicas or while none runs: what was open ends, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.brokers import Broker
from tests.e2e.conftest import NewSite, World
from tests.e2e.harness import DaemonProcess, DaemonThread, Site, partitions_of, wait_until
from tests.e2e.test_readiness import admin_of
from tests.e2e.test_state_travels import STORES, store, thirds

CLIENTS = pytest.mark.parametrize("client", ["kafka-python", "confluent"])


@pytest.fixture(autouse=True)
def not_embedded(broker: Broker) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker does not delete topics")


def remake(broker: Broker, site: Site, partitions: int) -> None:
    topic = site.settings.kafka.topic
    with admin_of(broker) as admin:
        admin.delete_topics([topic])
    broker.create_topic(topic, partitions)


def still_open(alerts: list[dict[str, Any]]) -> set[str]:
    ended = {alert["incident_id"] for alert in alerts if alert["event"] == "resolve"}
    return {alert["incident_id"] for alert in alerts if alert["event"] == "open"} - ended


def lost(alerts: list[dict[str, Any]]) -> list[str]:
    """Incidents that ended since records were lost, each alert once by its id."""
    found = {alert["alert_id"]: alert["incident_id"] for alert in alerts if alert["reason"] == "records_lost"}
    return sorted(found.values())


@pytest.mark.parametrize("kind", STORES)
def test_what_was_open_in_a_topic_made_again_while_no_replica_ran_ends(
    broker: Broker, world: World, new_site: NewSite, tmp_path: Path, kind: str
) -> None:
    site = new_site(partitions=2, state=store(kind, tmp_path))
    early, _, late = thirds(world.live)
    with DaemonThread(site):
        site.send(early)
        site.wait_until_done()
    was_open = still_open(site.alerts())
    assert was_open

    remake(broker, site, 2)
    site.send(late)
    with DaemonProcess(site) as killed:
        wait_until(lambda: lost(site.alerts()), "ends")
        killed.kill()
    with DaemonThread(site):
        site.wait_until_done()

    assert lost(site.alerts()) == sorted(was_open)
    with DaemonThread(site) as again:
        again.wait_until_ready()
    assert lost(site.alerts()) == sorted(was_open)


@CLIENTS
def test_what_was_open_in_a_topic_made_again_under_two_replicas_ends(
    broker: Broker, world: World, new_site: NewSite, tmp_path: Path, client: str
) -> None:
    one = new_site(partitions=4, state=store("topic", tmp_path), kafka={"client": client})
    other = one.copy("other")
    early, _, late = thirds(world.live)
    with DaemonProcess(one) as first, DaemonProcess(other) as second:
        wait_until(lambda: partitions_of([first, second]) == [2, 2], "two partitions each")
        one.send(early)
        one.wait_until_done()
        was_open = still_open(one.alerts())
        assert was_open

        remake(broker, one, 4)
        one.send(late)
        one.wait_until_done()
        for replica in (first, second):
            replica.wait_until_ready()
        wait_until(lambda: partitions_of([first, second]) == [2, 2], "two partitions each again")

    assert lost(one.alerts()) == sorted(was_open)
