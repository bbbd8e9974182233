"""What only kafka-python does, and how it is told from a refusal."""

from __future__ import annotations

import pytest

from streamer.config import KafkaConfig
from streamer.connectors.kafka.kafka_python.consumer import KafkaPythonConsumer
from streamer.connectors.kafka.kafka_python.producer import KafkaPythonProducer
from streamer.connectors.kafka.outbox import Message, NotYet
from tests.brokers import Broker, config_for


def test_a_timeout_that_kafka_python_cannot_put_into_words_is_not_a_refusal() -> None:
    class Client:
        def send(self, *_: object, **__: object) -> None:
            raise TypeError("unsupported operand type(s) for /: 'str' and 'int'")

    producer = KafkaPythonProducer(KafkaConfig())
    producer._producer = Client()
    message = Message("topic", None, b"value", ())

    with pytest.raises(NotYet, match="does not know topic topic"):
        producer._transmit(message)
    assert message.error is None


def test_counting_the_partitions_of_a_topic_that_is_gone_asks_nobody(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(broker)
    consumer = KafkaPythonConsumer(config, on_assigned=lambda _: None, on_revoked=lambda _: None)
    monkeypatch.setattr(consumer._consumer, "_fetch_all_topic_metadata", lambda: pytest.fail("asked without a bound"))

    assert consumer.partition_count() == 0
    consumer.close()
