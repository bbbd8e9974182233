"""A batch that cannot be read stops its consumer in words, and never in a spin."""

from __future__ import annotations

import time
from typing import Any

import pytest
from kafka.record.default_records import DefaultRecordBatch

from streamer.connectors.kafka import PoisonedBatch
from streamer.connectors.kafka.kafka_python.consumer import KafkaPythonConsumer
from tests.brokers import Broker, config_for, produce


def test_a_damaged_batch_is_named_and_its_consumer_never_polled_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(broker)
    broker.create_topic(config.topic)
    produce(broker, config.topic, [{"value": b"good"}])
    produce(broker, config.topic, [{"value": b"bad"}])
    produce(broker, config.topic, [{"value": b"after"}])
    intact = DefaultRecordBatch.validate_crc
    monkeypatch.setattr(DefaultRecordBatch, "validate_crc", lambda batch: batch.base_offset != 1 and intact(batch))
    consumer = KafkaPythonConsumer(config, on_assigned=lambda _: None, on_revoked=lambda _: None)
    values: list[Any] = []

    def read_for_20_s() -> None:
        deadline_s = time.monotonic() + 20
        while time.monotonic() < deadline_s:
            values.extend(value for batch in consumer.poll(0.2) for value in batch.values)

    with pytest.raises(PoisonedBatch, match=rf"{config.topic}\[0\]@1: the batch there cannot be read") as first:
        read_for_20_s()
    with pytest.raises(PoisonedBatch) as second:
        consumer.poll(0.2)
    consumer.close()

    assert values == [b"good"]
    assert (first.value.partition, first.value.offset) == (0, 1)
    assert second.value is first.value

    def skip(_: object) -> None:
        successor.seek(0, 2)

    successor = KafkaPythonConsumer(config, on_assigned=skip, on_revoked=lambda _: None)
    deadline_s = time.monotonic() + 20
    while not (batches := successor.poll(0.2)) and time.monotonic() < deadline_s:
        pass
    successor.close()
    assert [value for batch in batches for value in batch.values] == [b"after"]
