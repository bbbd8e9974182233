"""A daemon that cannot see its records says so within seconds, and goes on by itself when it can again."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka.admin import ACLOperation, KafkaAdminClient, ResourceType

from streamer.runtime import readiness
from tests.brokers import Broker, SecureKafka, kafka_home
from tests.e2e.conftest import NewSite, World
from tests.e2e.harness import DaemonThread, Expected, Scrape, Site, wait_until
from tests.e2e.test_broker_trouble import outage

SOON_S = 25.0  # told within, on any machine; some 10 s on a quiet one
CLIENTS = pytest.mark.parametrize("client", ["kafka-python", "confluent"])


@pytest.fixture(autouse=True)
def not_embedded(broker: Broker) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker neither deletes topics nor describes groups")


def reasons(scrape: Scrape) -> set[str]:
    prefix = 'streamer_not_ready{reason="'
    return {key[len(prefix) : -2] for key, value in scrape.items() if key.startswith(prefix) and value}


def lags(scrape: Scrape) -> list[float]:
    return [value for key, value in scrape.items() if key.startswith("streamer_consumer_lag_records")]


def idle(daemon: DaemonThread) -> None:
    """Ready, with partitions, and nothing waits."""
    daemon.wait_until_ready()
    wait_until(lambda: lags(daemon.metrics()) and not any(lags(daemon.metrics())), "a known lag of 0")


def is_blind(daemon: DaemonThread, reason: str, words: str) -> None:
    """`/readyz`, the reason's metric and the lag agree that nothing is seen, and the process is not to be restarted."""
    daemon.wait_until_not_ready(words, within_s=SOON_S)

    def told() -> bool:
        scrape = daemon.metrics()
        return reasons(scrape) == {reason} and not scrape["streamer_consumer_lag_known"]

    wait_until(told, f"reason {reason}: {reasons(daemon.metrics())}", within_s=SOON_S)
    scrape = daemon.metrics()
    assert scrape["streamer_ready"] == 0
    assert scrape["streamer_broker_errors_total"] > 0
    assert all(map(math.isnan, lags(scrape)))
    assert daemon.get("/healthz") == (200, "ok\n")


@contextlib.contextmanager
def admin_of(broker: Broker) -> Iterator[KafkaAdminClient]:
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)) as admin:
        yield admin


@CLIENTS
def test_a_broker_that_goes_while_nothing_comes_is_missed(
    broker: Broker, world: World, new_site: NewSite, client: str
) -> None:
    site = new_site(kafka={"client": client})
    with DaemonThread(site) as daemon:
        idle(daemon)
        with outage(broker):
            is_blind(daemon, "broker_unreachable", "no connection to|no answer from")
        daemon.wait_until_ready()
        site.send(world.live)
        site.wait_until_done()
        idle(daemon)

    Expected.of(site, world.live).hold(site)


@CLIENTS
def test_an_input_topic_that_is_deleted_is_missed_and_read_when_it_is_there_again(
    broker: Broker, world: World, new_site: NewSite, client: str
) -> None:
    site = new_site(kafka={"client": client})
    topic = site.settings.kafka.topic
    with DaemonThread(site) as daemon:
        idle(daemon)
        with admin_of(broker) as admin:
            admin.delete_topics([topic])
        is_blind(daemon, "topic_missing", f"topic {topic}, to read from, does not exist")
        broker.create_topic(topic)
        daemon.wait_until_ready()
        site.send(world.live)
        site.wait_until_done()

    Expected.of(site, world.live).hold(site)


@CLIENTS
def test_a_topic_made_again_is_read_from_its_first_record_with_nothing_of_the_old_one(
    broker: Broker, world: World, new_site: NewSite, client: str
) -> None:
    site = new_site(kafka={"client": client})
    topic = site.settings.kafka.topic
    with DaemonThread(site) as daemon:
        site.send(world.live)
        site.wait_until_done()
        told_before = len(site.alerts())
        with admin_of(broker) as admin:
            admin.delete_topics([topic])
        broker.create_topic(topic)
        resets = daemon.metrics()["streamer_topics_recreated_total"]
        site.send(world.live)  # as many records as before, so every old offset is valid in the new topic
        wait_until(lambda: daemon.metrics()["streamer_topics_recreated_total"] > resets, "the new topic is noticed")
        site.wait_until_done()
        daemon.wait_until_ready()
        consumed = daemon.metrics()["streamer_records_consumed_total"]

    assert consumed >= 2 * len(world.live)
    assert {alert["alert_id"] for alert in site.alerts()[told_before:]} >= Expected.of(site, world.live).alerts


def test_a_member_the_group_has_forgotten_joins_again(broker: Broker, world: World, new_site: NewSite) -> None:
    """Evicted without being told: its heartbeats go nowhere. Nothing else than the group itself knows."""
    site = new_site()
    kafka = site.settings.kafka
    with DaemonThread(site) as daemon:
        idle(daemon)
        connection = daemon.daemon._connection
        assert connection is not None
        coordinator = connection.consumer._consumer._coordinator  # type: ignore[attr-defined]
        coordinator._disable_heartbeat_thread()
        coordinator.poll_heartbeat = lambda: None
        wait_until(lambda: "not_a_member" in reasons(daemon.metrics()), "not_a_member", within_s=SOON_S, every_s=0.01)
        daemon.wait_until_ready()
        site.send(world.live)
        site.wait_until_done()

    assert kafka.group
    Expected.of(site, world.live).hold(site)


@CLIENTS
def test_a_client_that_brings_no_records_though_some_wait_is_replaced(
    world: World, new_site: NewSite, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    """Whatever keeps it from fetching; here a pause that nobody ordered. The broker alone knows that records wait."""
    monkeypatch.setattr(readiness, "UNREAD_S", 3.0)
    site = new_site(kafka={"client": client})
    with DaemonThread(site) as daemon:
        idle(daemon)
        connection = daemon.daemon._connection
        assert connection is not None
        connection.consumer.pause([0])
        site.send(world.live)
        wait_until(lambda: "nothing_read" in reasons(daemon.metrics()), "nothing_read", every_s=0.1)
        site.wait_until_done()
        daemon.wait_until_ready()

    Expected.of(site, world.live).hold(site)


def set_password(secure: SecureKafka, user: str, password: str) -> None:
    home = kafka_home()
    assert home is not None
    options = secure.client_options()
    file = Path(secure.cafile).parent / "admin.properties"
    file.write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nssl.truststore.type=PEM\n"
        f"ssl.truststore.location={secure.cafile}\n"
        "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required "
        f'username="broker" password="{options["sasl_plain_password"]}";\n'
    )
    done = subprocess.run(
        [home / "bin" / "kafka-configs.sh", "--bootstrap-server", secure.bootstrap_servers, "--command-config", file,
         "--alter", "--entity-type", "users", "--entity-name", user,
         "--add-config", f"SCRAM-SHA-512=[password={password}]"],
        capture_output=True, text=True, env=os.environ | {"KAFKA_HEAP_OPTS": "-Xmx128m"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def guarded_site(secure_kafka: SecureKafka, world: World, directory: Path, client: str) -> tuple[Site, str]:
    """A site whose daemon logs in as `full`, and the password."""
    site = Site(secure_kafka, directory / "guarded", world.bundles, kafka={"client": client})
    security = secure_kafka.security("full")
    password = site.environment["STREAMER_KAFKA__SASL_PASSWORD"] = security.pop("sasl_password")
    site.sections["kafka"] |= {name: str(value) for name, value in security.items()}
    site.save()
    site.create_topics()
    kafka = site.settings.kafka
    topics = (kafka.topic, kafka.alerts_topic, kafka.dlq_topic, str(kafka.scores_topic))
    rights = [ACLOperation.READ, ACLOperation.WRITE, ACLOperation.DESCRIBE]
    secure_kafka.grant("full", {(ResourceType.TOPIC, name): rights for name in topics})
    secure_kafka.grant("full", {(ResourceType.GROUP, kafka.group): [ACLOperation.READ]})
    return site, password


@CLIENTS
def test_a_password_that_is_changed_while_running_is_noticed_and_one_that_is_changed_back_too(
    secure_kafka: SecureKafka, world: World, tmp_path: Path, client: str
) -> None:
    site, password = guarded_site(secure_kafka, world, tmp_path, client)
    try:
        with DaemonThread(site) as daemon:
            idle(daemon)
            set_password(secure_kafka, "full", "another one")
            secure_kafka.down()  # so that connections made with the old one are gone
            secure_kafka.up()
            is_blind(daemon, "login_refused", "authentication failed for user 'full'")
            set_password(secure_kafka, "full", password)
            daemon.wait_until_ready()
            site.send(world.live)
            wait_until(lambda: daemon.metrics()["streamer_records_consumed_total"] >= len(world.live), "every record")
            wait_until(lambda: lags(daemon.metrics()) == [0.0], "a known lag of 0")
    finally:
        set_password(secure_kafka, "full", password)


def test_a_password_that_is_changed_in_its_file_too_needs_no_restart(
    secure_kafka: SecureKafka, world: World, tmp_path: Path
) -> None:
    site, password = guarded_site(secure_kafka, world, tmp_path, "kafka-python")
    file = tmp_path / "password"
    file.write_text(password)
    del site.environment["STREAMER_KAFKA__SASL_PASSWORD"]
    site.environment["STREAMER_KAFKA__SASL_PASSWORD_FILE"] = str(file)
    try:
        with DaemonThread(site) as daemon:
            idle(daemon)
            set_password(secure_kafka, "full", "another one")
            file.write_text("another one\n")
            secure_kafka.down()  # so that connections made with the old one are gone
            secure_kafka.up()
            site.send(world.live)
            wait_until(lambda: daemon.metrics()["streamer_records_consumed_total"] >= len(world.live), "every record")
            daemon.wait_until_ready()
    finally:
        set_password(secure_kafka, "full", password)
