"""`probe` says in one sentence what is wrong, within its bound, and writes nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka.admin import ACLOperation, ResourceType

from streamer.config import KafkaConfig
from streamer.connectors.kafka import connect_producer, connect_range_reader
from streamer.connectors.kafka.probe import Missing, Needs, ProbeReport, probe, require
from streamer.errors import BrokerError
from tests.brokers import Broker, SecureKafka, config_for, consume

READ, WRITE, DESCRIBE = ACLOperation.READ, ACLOperation.WRITE, ACLOperation.DESCRIBE
TOPIC, GROUP = ResourceType.TOPIC, ResourceType.GROUP


def timed_probe(config: KafkaConfig, *, create_missing: bool = False) -> ProbeReport:
    """Probe, and hold it to its bound."""
    started_s = time.monotonic()
    report = probe(config, missing=Missing.CREATE if create_missing else Missing.FAIL)
    assert time.monotonic() - started_s < config.probe_timeout_s + 1.0
    return report


def config_at(port: int, **settings: Any) -> KafkaConfig:
    return KafkaConfig(**{"bootstrap_servers": f"127.0.0.1:{port}", "probe_timeout_s": 1.0, **settings})


@pytest.fixture
def listen() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Listens on a loopback port and treats each connection as told; returns the port."""
    servers: list[socket.socket] = []
    kept: list[socket.socket] = []

    def serve(server: socket.socket, treat: Callable[[socket.socket], None]) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            kept.append(connection)
            treat(connection)

    def start(treat: Callable[[socket.socket], None]) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        threading.Thread(target=serve, args=(server, treat), daemon=True).start()
        return int(server.getsockname()[1])

    yield start
    for each in [*servers, *kept]:
        # shutdown() wakes the accept() of the thread, close() alone would not
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


def test_a_closed_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        port = taken.getsockname()[1]

        report = timed_probe(config_at(port, probe_timeout_s=5.0))

    assert not report.ok
    assert report.reason is not None
    assert report.reason.startswith(f"no connection to 127.0.0.1:{port}: refused")


def test_a_port_that_never_answers_is_given_up_in_time(listen: Callable[..., int]) -> None:
    port = listen(lambda connection: None)

    report = timed_probe(config_at(port))

    assert report.reason is not None
    assert report.reason.startswith(f"no answer from 127.0.0.1:{port} within 1 s")


def test_a_silent_port_is_given_up_in_time_by_a_tls_client_too(listen: Callable[..., int]) -> None:
    port = listen(lambda connection: None)

    report = timed_probe(config_at(port, security_protocol="SSL"))

    assert report.reason is not None
    assert report.reason.startswith(f"no answer from 127.0.0.1:{port} within 1 s")


def test_a_port_that_speaks_something_else_is_told_from_kafka(listen: Callable[..., int]) -> None:
    port = listen(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))

    report = timed_probe(config_at(port, probe_timeout_s=5.0))

    assert report.reason is not None
    assert "security_protocol" in report.reason


def test_a_name_that_does_not_resolve_is_named() -> None:
    report = timed_probe(
        KafkaConfig(bootstrap_servers="no-such-host.invalid:9092", allow_insecure=True, probe_timeout_s=10.0)
    )

    assert report.reason is not None
    assert report.reason.startswith("no connection to no-such-host.invalid:9092: the name does not resolve")


def test_all_is_well_when_the_topics_are_there(broker: Broker) -> None:
    config = config_for(broker, scores_topic=f"{config_for(broker).topic}-scores")
    assert config.scores_topic is not None
    outputs = [config.alerts_topic, config.dlq_topic, config.scores_topic]
    for name in [config.topic, *outputs]:
        broker.create_topic(name, 2)

    report = timed_probe(config)

    assert (report.ok, report.reason) == (True, None)
    answers = {step.name: step.ok for step in report.steps}
    # The embedded broker reports no permissions: that is said, and not called verified.
    rights = None if broker.kind == "embedded" else True
    assert answers["connection"] is answers["brokers"] is answers[f"topic {config.topic}"] is True
    assert answers[f"READ topic {config.topic}"] is answers[f"READ group {config.group}"] is rights
    assert [answers[f"WRITE topic {name}"] for name in outputs] == [rights] * 3
    assert consume(broker, config.alerts_topic, 1, timeout_s=0.3) == []


def test_a_missing_topic_is_named_and_can_be_created(broker: Broker) -> None:
    config = config_for(broker)
    broker.create_topic(config.topic)
    broker.create_topic(config.alerts_topic)

    if broker.kind != "embedded":  # which makes every topic it is asked for by name
        before = timed_probe(config)
        assert before.reason is not None
        assert before.reason.startswith(f"topic {config.dlq_topic}, to write to, does not exist; create it or set")
    after = timed_probe(config, create_missing=True)

    assert (after.ok, after.reason) == (True, None)
    assert "(just created)" in {step.name: step.detail for step in after.steps}[f"topic {config.dlq_topic}"]
    assert timed_probe(config).ok


def test_an_input_topic_that_had_to_be_created_is_said_since_its_name_may_be_mistyped(broker: Broker) -> None:
    config = config_for(broker)

    report = timed_probe(config, create_missing=True)

    created = next(step for step in report.steps if step.name == f"topic {config.topic}")
    assert report.ok
    assert created.ok is None  # a warning of the daemon's
    assert "to read from, did not exist and was created (kafka.create_topics: true)" in created.detail
    assert "check kafka.topic" in created.detail


def test_a_topic_that_run_will_create_is_no_failure(broker: Broker) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker makes every topic it is asked for")
    config = config_for(broker, create_topics=True)

    report = probe(config, missing=Missing.CREATED_BY_RUN)

    assert report.ok
    step = next(step for step in report.steps if step.name == f"topic {config.topic}")
    assert (step.ok, step.detail) == (
        None,
        f"topic {config.topic} does not exist yet; `streamer run` creates it (kafka.create_topics: true)",
    )


def test_a_command_asks_for_what_it_needs_and_no_more(broker: Broker) -> None:
    config = config_for(broker)
    broker.create_topic(config.topic)

    require(config, Needs(reads=(config.topic,)))  # neither the other topics nor the group

    steps = [step.name for step in probe(config, Needs(writes=(config.topic,))).steps]
    assert steps == ["connection", f"topic {config.topic}", "brokers", f"WRITE topic {config.topic}"]


def test_a_command_creates_the_topic_it_writes_to_if_the_configuration_says_so(broker: Broker) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker makes every topic it is asked for")
    config = config_for(broker, create_topics=True)

    with pytest.raises(BrokerError, match=rf"{config.topic}, to read from, does not exist; check kafka\.topic"):
        require(config, Needs(reads=(config.topic,)))
    require(config, Needs(writes=(config.topic,)))

    require(config, Needs(reads=(config.topic,)))


@pytest.fixture(scope="module")
def secured(secure_kafka: SecureKafka) -> KafkaConfig:
    """Topics on the secure broker; `full` may do all we need, `partial` may only describe."""
    config = config_for(secure_kafka, **secure_kafka.security("full"))
    outputs = [config.alerts_topic, config.dlq_topic]
    for name in [config.topic, *outputs]:
        secure_kafka.create_topic(name)
    secure_kafka.grant(
        "full",
        {(TOPIC, config.topic): [READ], (GROUP, config.group): [READ]} | {(TOPIC, name): [WRITE] for name in outputs},
    )
    secure_kafka.grant(
        "partial",
        {(TOPIC, name): [DESCRIBE] for name in [config.topic, *outputs]} | {(GROUP, config.group): [DESCRIBE]},
    )
    return config


def failures(report: ProbeReport) -> dict[str, str]:
    return {step.name: step.detail for step in report.steps if step.ok is False}


def test_a_user_with_all_rights_over_tls_passes(secured: KafkaConfig) -> None:
    report = timed_probe(secured)

    assert failures(report) == {}
    assert all(step.ok is True for step in report.steps)
    assert "as user 'full' with SCRAM-SHA-512 over TLS" in report.steps[0].detail


def test_a_wrong_password_is_said_to_be_one(secured: KafkaConfig) -> None:
    settings = secured.model_dump() | {"sasl_password": "wrong"}

    report = timed_probe(KafkaConfig(**settings))

    assert report.reason is not None
    assert report.reason.startswith("authentication failed for user 'full' with SCRAM-SHA-512")
    assert "wrong" not in report.reason  # never the password itself


def test_a_command_with_a_wrong_password_says_what_check_says_and_the_client_is_silent(
    secured: KafkaConfig, caplog: pytest.LogCaptureFixture
) -> None:
    settings = secured.model_dump() | {"sasl_password": "wrong"}

    with pytest.raises(BrokerError, match=r"^authentication failed for user 'full' with SCRAM-SHA-512"):
        require(KafkaConfig(**settings), Needs(reads=(secured.topic,)))

    assert caplog.records == []


def test_a_user_who_may_only_read_the_topic_may_train_on_it(secured: KafkaConfig, secure_kafka: SecureKafka) -> None:
    secure_kafka.grant("reader", {(TOPIC, secured.topic): [READ]})
    config = KafkaConfig(**secured.model_dump() | secure_kafka.security("reader"))

    require(config, Needs(reads=(config.topic,)))

    for client in ("kafka-python", "confluent"):
        reader = connect_range_reader(config.model_copy(update={"client": client}))
        send_one(config, secure_kafka)
        bounds = reader.bounds()
        read = sum(map(len, reader.read(bounds)))
        reader.close()
        assert read == bounds[0][1] > 0


def send_one(config: KafkaConfig, secure_kafka: SecureKafka) -> None:
    producer = connect_producer(KafkaConfig(**config.model_dump() | secure_kafka.security("broker")))
    producer.send(config.topic, key=None, value=b"1")
    producer.flush(20.0)
    producer.close()


def test_a_refusal_to_create_a_topic_is_said_at_once(secured: KafkaConfig, secure_kafka: SecureKafka) -> None:
    name = f"{secured.topic}-new"
    secure_kafka.grant("partial", {(TOPIC, name): [DESCRIBE]})
    config = KafkaConfig(**secured.model_dump() | secure_kafka.security("partial") | {"alerts_topic": name})
    started_s = time.monotonic()

    report = probe(config, Needs(writes=(name,)), missing=Missing.CREATE)

    assert report.reason is not None
    assert report.reason.startswith(f"user 'partial' may not create topic {name}: create it or run kafka-acls --add")
    assert time.monotonic() - started_s < config.probe_timeout_s / 2


def test_a_mechanism_the_broker_does_not_offer_is_said(secured: KafkaConfig) -> None:
    report = timed_probe(secured.model_copy(update={"sasl_mechanism": "PLAIN"}))

    assert report.reason is not None
    assert report.reason.startswith("authentication failed for user 'full' with PLAIN")
    assert "check kafka.sasl_mechanism" in report.reason


def test_every_missing_right_is_named_with_the_command_that_grants_it(
    secured: KafkaConfig, secure_kafka: SecureKafka
) -> None:
    config = KafkaConfig(**secured.model_dump() | secure_kafka.security("partial"))

    wrong = failures(timed_probe(config))

    assert set(wrong) == {
        f"READ topic {config.topic}",
        f"READ group {config.group}",
        f"WRITE topic {config.alerts_topic}",
        f"WRITE topic {config.dlq_topic}",
    }
    assert "--add --allow-principal User:partial --operation Read --group" in wrong[f"READ group {config.group}"]


def test_a_user_without_any_right_sees_nothing(secured: KafkaConfig, secure_kafka: SecureKafka) -> None:
    config = KafkaConfig(**secured.model_dump() | secure_kafka.security("nobody"))

    wrong = failures(timed_probe(config, create_missing=True))

    assert wrong[f"topic {config.topic}"].startswith(f"user 'nobody' may not see topic {config.topic}; run kafka-acls")
    assert "--operation Read --group" in wrong[f"READ group {config.group}"]


def test_plaintext_on_a_tls_port_is_said(secured: KafkaConfig) -> None:
    config = KafkaConfig(bootstrap_servers=secured.bootstrap_servers, probe_timeout_s=5.0)

    report = timed_probe(config)

    assert report.reason is not None
    assert "check kafka.security_protocol" in report.reason


def test_a_certificate_of_an_unknown_authority_is_not_trusted(secured: KafkaConfig) -> None:
    report = timed_probe(secured.model_copy(update={"ssl_cafile": None}))

    assert report.reason is not None
    assert report.reason.startswith(f"the certificate of {secured.bootstrap_servers} is not trusted")
