"""What a proof finds while a daemon runs: a changed topic, a lost membership, a refused login, where partitions end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from kafka.admin import KafkaAdminClient

from streamer.config import KafkaConfig
from streamer.connectors.kafka import Consumer, connect_consumer
from streamer.connectors.kafka.probe import Fault, Standing, probe, prove
from tests.brokers import Broker, config_for, produce


@pytest.fixture(params=["kafka-python", "confluent"])
def config(broker: Broker, request: pytest.FixtureRequest) -> KafkaConfig:
    made = config_for(broker, client=request.param, probe_timeout_s=5.0)
    for name in (made.topic, made.alerts_topic, made.dlq_topic):
        broker.create_topic(name, 2)
    return made


@contextlib.contextmanager
def member(config: KafkaConfig) -> Iterator[Consumer]:
    assigned: list[int] = []
    consumer = connect_consumer(config, on_assigned=assigned.extend, on_revoked=lambda _: None)
    with contextlib.closing(consumer):
        for _ in range(100):
            consumer.poll(0.2)
            if assigned:
                break
        assert assigned
        yield consumer


def test_a_member_is_known_with_the_ends_of_its_partitions(broker: Broker, config: KafkaConfig) -> None:
    produce(broker, config.topic, [{"value": b"x", "partition": 1}] * 3)

    with member(config) as consumer:
        proof = prove(config, Standing(consumer.member_id(), (0, 1)))

    assert proof.failed is None
    assert proof.partitions == 2
    assert proof.ends == {0: 0, 1: 3}
    assert proof.topic_id == probe(config).topic_ids[config.topic] is not None
    if broker.kind != "embedded":  # which describes no groups
        assert proof.member is True
        assert proof.members == 1


def test_a_member_that_left_is_not_known_any_more(broker: Broker, config: KafkaConfig) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker describes no groups")
    with member(config) as consumer:
        left = consumer.member_id()

    proof = prove(config, Standing(left, (0,)))

    assert proof.member is False
    assert proof.members == 0


def test_asking_does_not_disturb_the_group(config: KafkaConfig) -> None:
    with member(config) as consumer:
        before = consumer.member_id()
        for _ in range(5):
            prove(config, Standing(before, (0, 1)))
            assert consumer.poll(0.1) == []
        after = consumer.member_id()

    assert before == after


def test_a_topic_that_is_gone_is_named_and_one_made_again_has_another_id(broker: Broker, config: KafkaConfig) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker cannot delete a topic")
    before = prove(config, Standing())
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)) as admin:
        admin.delete_topics([config.topic])

    gone = prove(config, Standing())
    broker.create_topic(config.topic, 3)
    again = prove(config, Standing())

    assert gone.failed is not None
    assert gone.failed.fault is Fault.TOPIC_MISSING
    assert f"topic {config.topic}, to read from, does not exist" in gone.failed.detail
    assert again.failed is None
    assert again.partitions == 3
    assert again.topic_id not in (None, before.topic_id)


def test_a_broker_that_is_away_is_named(broker: Broker, config: KafkaConfig) -> None:
    nowhere = config.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})

    proof = prove(nowhere, Standing())

    assert proof.failed is not None
    assert proof.failed.fault is Fault.BROKER_UNREACHABLE
    assert "no connection to 127.0.0.1:1: refused" in proof.failed.detail
