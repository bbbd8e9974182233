"""Records no well-behaved producer sends are read all the same, by both clients."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from streamer.config import KafkaConfig
from streamer.connectors.kafka import RecordBatch, connect_consumer, connect_range_reader
from tests.brokers import Broker, config_for, produce, unique

PATIENCE_S = 20.0


@pytest.fixture(params=["kafka-python", "confluent"])
def config(request: pytest.FixtureRequest, broker: Broker) -> KafkaConfig:
    made = config_for(broker, client=request.param)
    broker.create_topic(made.topic)
    return made


class NotUtf8(str):
    """A header name that is sent as bytes no text has."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe"


def read(config: KafkaConfig, count: int) -> list[RecordBatch]:
    consumer = connect_consumer(config, on_assigned=lambda _: None, on_revoked=lambda _: None)
    batches: list[RecordBatch] = []
    deadline_s = time.monotonic() + PATIENCE_S
    try:
        while sum(map(len, batches)) < count:
            assert time.monotonic() < deadline_s, f"{sum(map(len, batches))} of {count} records came"
            batches += consumer.poll(0.2)
    finally:
        consumer.close()
    return batches


def values_of(batches: list[RecordBatch] | Iterator[RecordBatch]) -> list[Any]:
    return [value for batch in batches for value in batch.values]


def with_strange_names(broker: Broker, config: KafkaConfig) -> None:
    messages = [
        {"value": b"0", "headers": [("plain", b"a")]},
        {"value": b"1", "headers": [("plain", b"b"), (NotUtf8("odd"), b"c")]},
        {"value": b"2", "headers": [("plain", b"d")]},
    ]
    produce(broker, config.topic, messages)


def test_a_record_with_a_header_name_that_is_not_utf8_is_read_and_its_headers_are_counted_as_unreadable(
    broker: Broker, config: KafkaConfig
) -> None:
    with_strange_names(broker, config)

    batches = read(config, 3)

    assert values_of(batches) == [b"0", b"1", b"2"]
    headers = [list(found) for batch in batches for found in batch.headers]
    assert headers[0] == [("plain", b"a")]
    assert headers[2] == [("plain", b"d")]
    assert sum(batch.unreadable_headers for batch in batches) == 1


def test_a_range_with_a_header_name_that_is_not_utf8_is_read_to_its_end(broker: Broker, config: KafkaConfig) -> None:
    with_strange_names(broker, config)
    reader = connect_range_reader(config)

    values = values_of(reader.read(reader.bounds()))
    reader.close()

    assert values == [b"0", b"1", b"2"]


def transactions(broker: Broker, topic: str, *, ending: str = "abort") -> None:
    """Values 0 to 4 committed, 5 to 9 not: aborted, or (`open`) still on their way."""
    confluent_kafka = pytest.importorskip("confluent_kafka")
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "transactional.id": unique("tx"), "linger.ms": 5}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in range(5):
        producer.produce(topic, b"%d" % number)
    producer.commit_transaction(30)
    producer.begin_transaction()
    for number in range(5, 10):
        producer.produce(topic, b"%d" % number)
    producer.flush(30)
    if ending == "abort":
        producer.abort_transaction(30)
    else:
        OPEN.append(producer)


OPEN: list[Any] = []  # kept, so that nothing aborts them


@pytest.fixture
def transactional(broker: Broker, config: KafkaConfig) -> KafkaConfig:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker writes no marks of transactions; set KAFKA_HOME")
    return config


def test_aborted_transactions_are_not_read_and_position_and_lag_say_that_all_was(
    broker: Broker, transactional: KafkaConfig
) -> None:
    transactions(broker, transactional.topic)
    produce(broker, transactional.topic, [{"value": b"after"}])
    transactions(broker, transactional.topic)
    consumer = connect_consumer(transactional, on_assigned=lambda _: None, on_revoked=lambda _: None)
    batches: list[RecordBatch] = []

    deadline_s = time.monotonic() + PATIENCE_S
    while len(values_of(batches)) < 11 or consumer.position(0) < consumer.bounds([0])[0][1]:
        assert time.monotonic() < deadline_s, f"{values_of(batches)}, position {consumer.position(0)}"
        batches += consumer.poll(0.2)
    lag, end = consumer.lag(), consumer.bounds([0])[0][1]
    consumer.close()

    committed = [b"%d" % number for number in range(5)]
    assert values_of(batches) == [*committed, b"after", *committed]
    assert end == 25  # 21 records, 4 marks
    assert lag == {0: 0}


def test_what_transactions_aborted_is_read_where_the_configuration_asks_for_it(
    broker: Broker, transactional: KafkaConfig
) -> None:
    transactions(broker, transactional.topic)

    batches = read(transactional.model_copy(update={"isolation_level": "read_uncommitted"}), 10)

    assert values_of(batches) == [b"%d" % number for number in range(10)]


def test_the_end_of_the_log_is_told_from_the_begin_of_a_transaction_that_is_open(
    broker: Broker, transactional: KafkaConfig
) -> None:
    transactions(broker, transactional.topic, ending="open")
    told: list[Any] = []

    def assigned(partitions: Sequence[int]) -> None:
        told.extend([consumer.bounds([0])[0], consumer.log_end(0), consumer.bounds([0])[0]])
        consumer.seek(0, 9)  # where a group may have come that reads what is not committed

    consumer = connect_consumer(transactional, on_assigned=assigned, on_revoked=lambda _: None)
    deadline_s = time.monotonic() + PATIENCE_S
    while not told:
        assert time.monotonic() < deadline_s
        consumer.poll(0.2)
    batches = [batch for _ in range(5) for batch in consumer.poll(0.2)]
    position, resets = consumer.position(0), consumer.offset_resets
    consumer.close()

    assert told == [(0, 6), 11, (0, 6)]  # 5 records and a mark, then 5 records of the open transaction
    assert not batches
    assert (position, resets) == (9, 0)


@pytest.mark.parametrize("ending", ["abort", "open"])
def test_a_range_that_ends_in_a_transaction_is_read_to_its_end(
    broker: Broker, transactional: KafkaConfig, ending: str
) -> None:
    transactions(broker, transactional.topic, ending=ending)
    reader = connect_range_reader(transactional)

    values = values_of(reader.read(reader.bounds()))
    reader.close()

    assert values == [b"%d" % number for number in range(5)]
