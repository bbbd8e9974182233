"""What only the consumer on librdkafka has to get right: several things told by one poll."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from streamer.config import KafkaConfig
from streamer.connectors.kafka import OffsetReset

confluent_kafka = pytest.importorskip("confluent_kafka")

from confluent_kafka import KafkaError, KafkaException, TopicPartition  # noqa: E402

from streamer.connectors.kafka.confluent import side_client  # noqa: E402
from streamer.connectors.kafka.confluent.consumer import ConfluentConsumer  # noqa: E402
from streamer.connectors.kafka.confluent.side_client import SideClient  # noqa: E402
from tests.brokers import Broker, config_for, produce  # noqa: E402

PATIENCE_S = 20.0


class Librdkafka:
    """Stands where the client is: one partition, and events that are handed out by one poll."""

    def __init__(self, end: int, events: list[Any]) -> None:
        self.end, self.events = end, events

    def poll(self, timeout_s: float) -> Any:
        return self.events.pop(0) if self.events else None

    def consume(self, count: int, timeout_s: float) -> list[Any]:
        taken, self.events = self.events[:count], self.events[count:]
        return taken

    def assign(self, partitions: list[TopicPartition]) -> None: ...

    def seek(self, partition: TopicPartition) -> None: ...

    def get_watermark_offsets(self, partition: TopicPartition, **how: Any) -> tuple[int, int]:
        return 0, self.end

    def close(self) -> None: ...


def record(offset: int) -> Any:
    return confluent_kafka.Message(topic="readings", partition=0, offset=offset, value=b"v", timestamp=(1, 5))


def told(code: int, offset: int = -1001) -> Any:
    return confluent_kafka.Message(topic="readings", partition=0, offset=offset, error=KafkaError(code))


def consumer_of(monkeypatch: pytest.MonkeyPatch, end: int, events: list[Any]) -> ConfluentConsumer:
    resets: list[OffsetReset] = []
    config = KafkaConfig(bootstrap_servers="127.0.0.1:1", topic="readings", group="g", client="confluent")
    consumer = ConfluentConsumer(
        config, on_assigned=lambda _: None, on_revoked=lambda _: None, on_offset_reset=resets.append
    )
    consumer._consumer.close()
    monkeypatch.setattr(consumer, "_consumer", Librdkafka(end, events))
    monkeypatch.setattr(SideClient, "bounds", lambda side, partitions: dict.fromkeys(partitions, (0, end)))
    consumer._next = {0: 0}
    return consumer


def test_an_end_behind_a_mark_is_heard_also_with_the_last_records(monkeypatch: pytest.MonkeyPatch) -> None:
    # The mark of the transaction is at 2; librdkafka tells of an end once.
    consumer = consumer_of(monkeypatch, 3, [record(0), record(1), told(KafkaError._PARTITION_EOF, 3)])

    (batch,) = consumer.poll(0.1)

    assert batch.offsets.tolist() == [0, 1]
    assert consumer.position(0) == 3
    assert consumer.lag() == {0: 0}


def test_records_behind_an_end_move_on_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = consumer_of(monkeypatch, 5, [told(KafkaError._PARTITION_EOF, 3), record(3), record(4)])

    consumer.poll(0.1)

    assert consumer.position(0) == 5


def test_an_end_before_the_log_was_made_anew_is_no_end_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [told(KafkaError._PARTITION_EOF, 7), told(KafkaError._AUTO_OFFSET_RESET), record(0)]
    consumer = consumer_of(monkeypatch, 1, events)

    consumer.poll(0.1)

    assert consumer.position(0) == 1


def test_records_that_a_refusal_hides_are_read_again_though_the_end_came_with_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = [record(0), told(KafkaError._PARTITION_EOF, 1), told(KafkaError.TOPIC_AUTHORIZATION_FAILED)]
    consumer = consumer_of(monkeypatch, 1, events)

    with pytest.raises(Exception, match="grant READ"):
        consumer.poll(0.1)

    assert consumer.position(0) == 0


class Admin:
    """Stands where the client beside the consumer is: answers when it may."""

    def __init__(self, partitions: int) -> None:
        self.partitions, self.asked = partitions, 0
        self.refuses, self.may_answer = False, threading.Event()

    def list_topics(self, topic: str, timeout: float) -> Any:
        self.asked += 1
        assert self.may_answer.wait(PATIENCE_S)
        if self.refuses:
            raise confluent_kafka.KafkaException(KafkaError(KafkaError._TRANSPORT))
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions=dict.fromkeys(range(self.partitions)))})


def side_client_of(monkeypatch: pytest.MonkeyPatch, admin: Admin, clock: list[float]) -> SideClient:
    monkeypatch.setattr(side_client, "AdminClient", lambda options: admin)
    monkeypatch.setattr(side_client, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return SideClient(KafkaConfig(topic="readings", client="confluent"))


def answered(side: SideClient) -> None:
    """Wait until the question asked last has its answer."""
    assert side._asking is not None
    side._asking.join(PATIENCE_S)


def test_counting_partitions_waits_for_no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    admin, clock = Admin(4), [0.0]
    side = side_client_of(monkeypatch, admin, clock)

    assert side.partition_count() == 0
    clock[0] = 60.0
    assert side.partition_count() == 0
    assert admin.asked == 1, "one question at a time"

    admin.may_answer.set()
    answered(side)
    assert side.partition_count() == 4


def test_a_broker_that_does_not_say_how_many_partitions_there_are_is_asked_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admin, clock = Admin(4), [0.0]
    admin.refuses = True
    admin.may_answer.set()
    side = side_client_of(monkeypatch, admin, clock)

    for clock[0] in (0.0, 1.0, 9.0):
        assert side.partition_count() == 0
        answered(side)
    assert admin.asked == 1

    admin.refuses, clock[0] = False, 11.0
    side.partition_count()
    answered(side)
    assert side.partition_count() == 4


def test_the_partitions_of_a_rebalance_are_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = Admin(4)
    admin.may_answer.set()
    side = side_client_of(monkeypatch, admin, [0.0])

    assert side.partition_count(wait=True) == 4
    admin.partitions = 8
    assert side.partition_count() == 4
    assert side.partition_count(wait=True) == 8


def test_a_closed_consumer_lets_go_of_the_client_it_asks_beside_without_waiting_for_garbage_to_be_collected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(side_client, "AdminClient", lambda options: Admin(4))
    consumer = consumer_of(monkeypatch, 0, [])
    consumer._side._ready().may_answer.set()
    consumer.partition_count(wait=True)
    beside = weakref.ref(consumer._side._ready())

    consumer.close()

    assert beside() is None


def test_log_ends_are_asked_again_of_a_new_client_where_the_known_leader_is_of_before(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(broker, client="confluent")
    broker.create_topic(config.topic)
    produce(broker, config.topic, [{"value": b"v"}] * 3)
    side, asked = SideClient(config), list[str]()

    class Before:
        """A client that learned of the leader before the broker was started again."""

        def list_offsets(self, wanted: dict[Any, Any], **_: Any) -> dict[Any, Future[Any]]:
            asked.append("before")
            answers: dict[Any, Future[Any]] = {where: Future() for where in wanted}
            for answer in answers.values():
                answer.set_exception(KafkaException(KafkaError(KafkaError.FENCED_LEADER_EPOCH)))
            return answers

    monkeypatch.setattr(side, "_client", Before())

    assert side.log_end(0) == 3
    assert asked == ["before"]
    side.close()
