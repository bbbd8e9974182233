"""What only kafka-python does, and how it is told from a refusal."""

from __future__ import annotations

import pytest

from streamer.config import KafkaConfig
from streamer.connectors.kafka.kafka_python.producer import KafkaPythonProducer
from streamer.connectors.kafka.outbox import Message, NotYet


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
