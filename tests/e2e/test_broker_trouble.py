"""The broker is away, refuses, or loses a topic: the daemon says so, waits, and goes on without a loss."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from kafka.admin import ACLOperation, KafkaAdminClient, ResourceType

from tests.brokers import Broker, SecureKafka
from tests.e2e.conftest import NewSite, World
from tests.e2e.harness import DaemonProcess, DaemonThread, Expected, Site, streamer, wait_until
from tests.e2e.test_stops_and_crashes import halves


@contextlib.contextmanager
def outage(broker: Broker) -> Iterator[None]:
    """The broker is away inside, and back on leaving."""
    try:
        broker.down()
    except NotImplementedError as error:
        pytest.skip(str(error))
    try:
        yield
    finally:
        broker.up()


def test_a_broker_that_comes_later_is_waited_for(broker: Broker, world: World, new_site: NewSite) -> None:
    site = new_site()
    with contextlib.ExitStack() as stack:
        with outage(broker):
            daemon = stack.enter_context(DaemonThread(site))
            reason = daemon.wait_until_not_ready("no connection to|no answer from")
            assert broker.bootstrap_servers in reason
            assert daemon.get("/healthz") == (200, "ok\n")
            assert daemon.metrics()["streamer_ready"] == 0
            checked = streamer("check", site)
            assert checked.code == 69
            assert broker.bootstrap_servers in checked.out
        daemon.wait_until_ready()
        site.send(world.live)
        site.wait_until_done()

    Expected.of(site, world.live).hold(site, each_once=True)


def test_an_outage_under_load_loses_nothing(broker: Broker, world: World, new_site: NewSite) -> None:
    site = new_site(partitions=2)
    with DaemonThread(site) as daemon:
        with site.feeding(world.live, limit=len(world.live) // 2) as feed:
            wait_until(lambda: daemon.metrics()["streamer_records_consumed_total"] > 200, "some records")
            with outage(broker):
                feed.hurry()
                assert daemon.get("/healthz")[0] == 200
        site.wait_until_done()
        metrics = daemon.metrics()

    assert metrics.accounted() == metrics["streamer_records_consumed_total"]
    Expected.of(site, world.live).hold(site)


@pytest.mark.parametrize("telling", ["scores and alerts", "alerts"])
def test_sigterm_during_an_outage_is_obeyed_in_time(
    broker: Broker, world: World, new_site: NewSite, telling: str
) -> None:
    """With nothing to tell it is the commit that cannot be made, else the flush before it."""
    site = new_site(kafka={"delivery_timeout_s": 30.0, "request_timeout_ms": 30_000})
    first, _ = halves(world.live, 0.05)  # too little for a window, so for an alert or a score
    site.send(first if telling == "alerts" else world.live)
    with DaemonProcess(site) as daemon:
        wait_until(lambda: daemon.metrics()["streamer_records_consumed_total"] > 0, "some records")
        with outage(broker):
            took_s = daemon.terminate()
    with DaemonThread(site):
        if telling == "alerts":
            site.send(world.live.select(world.live.time_ns > first.time_ns.max()))
        site.wait_until_done()

    assert took_s < 20
    Expected.of(site, world.live).hold(site)


def test_no_offset_is_committed_past_an_alert_that_is_not_delivered(
    broker: Broker, world: World, new_site: NewSite
) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker cannot delete a topic")
    site = new_site(kafka={"delivery_timeout_s": 2.0})
    kafka = site.settings.kafka
    with DaemonThread(site) as daemon:
        daemon.wait_until_ready()
        with contextlib.closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)) as admin:
            admin.delete_topics([kafka.alerts_topic])
        site.send(world.live)
        wait_until(lambda: daemon.metrics()["streamer_checkpoint_failures_total"] >= 1, "a refused checkpoint")
        metrics = daemon.metrics()
        committed = site.committed()
        broker.create_topic(kafka.alerts_topic)
        site.wait_until_done()
        after = daemon.metrics()

    assert metrics["streamer_alerts_pending"] > 0
    assert metrics["streamer_delivery_failures_total"] > 0
    before = world.live.select(np.arange(len(world.live)) < committed.get(0, 0))
    assert committed.get(0, 0) < len(world.live)
    assert Expected.of(site, before).alerts == set()
    assert after["streamer_alerts_pending"] == 0
    Expected.of(site, world.live).hold(site)


# -- logins and rights ---------------------------------------------------------


@pytest.fixture
def guarded(secure_kafka: SecureKafka, world: World, tmp_path: Path) -> Site:
    """A site on the guarded broker, for a user who may do nothing yet."""
    site = Site(secure_kafka, tmp_path / "guarded", world.bundles)
    security = secure_kafka.security("partial")
    site.environment["STREAMER_KAFKA__SASL_PASSWORD"] = security.pop("sasl_password")
    site.sections["kafka"] |= {name: str(value) for name, value in security.items()}
    site.save()
    return site.create_topics()


def test_a_wrong_password_is_named_within_bounds(guarded: Site) -> None:
    guarded.environment["STREAMER_KAFKA__SASL_PASSWORD"] = "not the password"
    began = time.monotonic()

    with DaemonThread(guarded) as daemon:
        reason = daemon.wait_until_not_ready("authentication failed", within_s=10)
        health = daemon.get("/healthz")[0]
    checked = streamer("check", guarded)

    assert "partial" in reason
    assert "not the password" not in reason
    assert health == 200
    assert time.monotonic() - began < 30
    assert checked.code == 69
    assert "authentication failed for user 'partial'" in checked.out
    assert "not the password" not in checked.out + checked.err


def test_missing_rights_are_named_one_after_the_other_and_granting_them_is_enough(
    guarded: Site, secure_kafka: SecureKafka, world: World
) -> None:
    kafka = guarded.settings.kafka
    outputs = (kafka.alerts_topic, kafka.dlq_topic, str(kafka.scores_topic))
    with DaemonThread(guarded) as daemon:
        assert kafka.topic in daemon.wait_until_not_ready("may not see topic|has no READ")
        secure_kafka.grant("partial", {(ResourceType.TOPIC, kafka.topic): [ACLOperation.READ]})
        secure_kafka.grant("partial", {(ResourceType.TOPIC, name): [ACLOperation.DESCRIBE] for name in outputs})
        daemon.wait_until_not_ready(f"no WRITE on topic {kafka.alerts_topic}")
        checked = streamer("check", guarded)
        secure_kafka.grant("partial", {(ResourceType.TOPIC, name): [ACLOperation.WRITE] for name in outputs})
        daemon.wait_until_not_ready(f"no READ on group {kafka.group}")
        secure_kafka.grant("partial", {(ResourceType.GROUP, kafka.group): [ACLOperation.READ]})
        daemon.wait_until_ready()

    assert checked.code == 69
    assert f"no WRITE on topic {kafka.alerts_topic}" in checked.out
    assert "kafka-acls --add --allow-principal User:partial" in checked.out
