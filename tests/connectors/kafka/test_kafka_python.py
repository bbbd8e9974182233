"""What only kafka-python does, and how it is told from a refusal."""

from __future__ import annotations

import threading
import time

import pytest
from kafka.admin import NewTopic
from kafka.errors import KafkaConnectionError
from kafka.future import Future

from streamer.config import KafkaConfig
from streamer.connectors.kafka.embedded import EmbeddedBroker
from streamer.connectors.kafka.kafka_python.consumer import KafkaPythonConsumer
from streamer.connectors.kafka.kafka_python.producer import KafkaPythonProducer
from streamer.connectors.kafka.kafka_python.topic_admin import KafkaPythonTopicAdmin
from streamer.connectors.kafka.outbox import Message, NotYet
from streamer.errors import BrokerError, DeliveryFailed
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


def test_a_producer_closed_while_its_broker_is_away_leaves_no_thread_behind_that_holds_its_messages() -> None:
    others = set(threading.enumerate())
    gone = EmbeddedBroker().start()
    gone.create_topic("alerts")
    producer = KafkaPythonProducer(KafkaConfig(bootstrap_servers=gone.bootstrap_servers))
    producer.send("alerts", key=None, value=b"arrives")
    producer.flush(30)
    gone.stop()
    producer.send("alerts", key=None, value=b"waits")
    with pytest.raises(DeliveryFailed):
        producer.flush(0.1)

    producer.close()
    left = set(threading.enumerate()) - others
    for thread in left:
        thread.join(10)

    assert [thread.name for thread in left if thread.is_alive()] == []


def test_a_client_that_was_let_go_says_nothing_any_more_of_messages_that_another_has() -> None:
    class Client:
        def send(self, *_: object, **__: object) -> Future:
            self.answer = Future()
            return self.answer

        def close(self, timeout: float) -> None: ...

    producer, old, message = KafkaPythonProducer(KafkaConfig()), Client(), Message("topic", None, b"value", ())
    producer._producer = old
    producer._transmit(message)
    producer._discard()

    old.answer.failure(KafkaConnectionError("closed"))

    assert message.error is None


def test_counting_the_partitions_of_a_topic_that_is_gone_asks_nobody(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(broker)
    consumer = KafkaPythonConsumer(config, on_assigned=lambda _: None, on_revoked=lambda _: None)
    monkeypatch.setattr(consumer._consumer, "_fetch_all_topic_metadata", lambda: pytest.fail("asked without a bound"))

    assert consumer.partition_count() == 0
    consumer.close()


class _Admin:
    """An AdminClient whose connection is lost so many times before a request goes out."""

    def __init__(self, losses: float) -> None:
        self.losses = losses
        self.made: list[str] = []

    def create_topics(self, topics: list[NewTopic]) -> None:
        if self.losses:
            self.losses -= 1
            raise KafkaConnectionError("Socket EVENT_READ without in-flight-requests")
        self.made += [topic.name for topic in topics]

    def close(self) -> None: ...


def test_a_topic_is_made_though_kafka_python_loses_its_connection_behind_the_handshake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admin, waited_s = _Admin(losses=2), list[float]()
    topics = KafkaPythonTopicAdmin(KafkaConfig())
    monkeypatch.setattr(topics, "_admin", admin)
    monkeypatch.setattr(time, "sleep", waited_s.append)

    topics.create("state", 1, {})

    assert admin.made == ["state"]
    assert sum(waited_s) > 0.05  # reconnect.backoff.ms, until which every attempt fails


def test_a_broker_that_is_away_is_said_to_be_after_a_few_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    topics = KafkaPythonTopicAdmin(KafkaConfig())
    monkeypatch.setattr(topics, "_admin", _Admin(losses=float("inf")))
    monkeypatch.setattr(time, "sleep", lambda _: None)

    with pytest.raises(BrokerError, match="making state: KafkaConnectionError"):
        topics.create("state", 1, {})
