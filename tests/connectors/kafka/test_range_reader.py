"""The contract of `RangeReader`, held against both clients on the chosen broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message

from streamer.config import KafkaConfig
from streamer.connectors.kafka import Commit, PoisonedBatch, RangeReader, connect_consumer, connect_range_reader
from streamer.connectors.kafka.confluent.range_reader import ConfluentRangeReader
from streamer.errors import BrokerError
from tests.brokers import Broker, config_for, produce

T0 = 1_700_000_000_000
Open = Callable[[KafkaConfig], RangeReader]


@pytest.fixture(params=["kafka-python", "confluent"])
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_reader() -> Iterator[Open]:
    readers: list[RangeReader] = []

    def make(config: KafkaConfig) -> RangeReader:
        readers.append(connect_range_reader(config))
        return readers[-1]

    yield make
    for reader in readers:
        reader.close()


def topic_with(broker: Broker, config: KafkaConfig, count: int, partitions: int = 1) -> None:
    """Make the topic and put `count` records, one a second from `T0`, on its partitions in turn."""
    broker.create_topic(config.topic, partitions)
    produce(
        broker,
        config.topic,
        [{"value": b"%d" % n, "partition": n % partitions, "timestamp_ms": T0 + 1000 * n} for n in range(count)],
    )


def offsets(reader: RangeReader, ranges: dict[int, tuple[int, int]]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {partition: [] for partition in ranges}
    for batch in reader.read(ranges):
        found[batch.partition] += batch.offsets.tolist()
    return found


def test_each_partition_is_read_from_its_first_offset_to_before_its_end(
    broker: Broker, client: str, open_reader: Open
) -> None:
    config = config_for(broker, client=client, max_poll_records=7)
    topic_with(broker, config, 60, partitions=3)
    reader = open_reader(config)

    assert reader.bounds() == {0: (0, 20), 1: (0, 20), 2: (0, 20)}
    assert offsets(reader, {0: (0, 20), 1: (5, 9), 2: (3, 3)}) == {0: list(range(20)), 1: [5, 6, 7, 8], 2: []}


def test_a_partition_is_read_again_from_another_place(broker: Broker, client: str, open_reader: Open) -> None:
    config = config_for(broker, client=client, max_poll_records=7)
    topic_with(broker, config, 20, partitions=1)
    reader = open_reader(config)

    found = [offsets(reader, {0: (first, first + 3)}) for first in (0, 8, 17, 2)]

    assert found == [{0: [first, first + 1, first + 2]} for first in (0, 8, 17, 2)]


def test_what_was_read_of_before_and_given_up_does_not_come_with_what_is_read_next(
    broker: Broker, client: str, open_reader: Open
) -> None:
    config = config_for(broker, client=client, max_poll_records=7)
    topic_with(broker, config, 60, partitions=3)
    reader = open_reader(config)

    assert offsets(reader, {0: (0, 20), 2: (0, 20)})[2] == list(range(20))
    for batch in reader.read({0: (0, 20), 1: (0, 20)}):
        assert len(batch)
        break  # as where what was looked for is found
    assert offsets(reader, {1: (3, 9)}) == {1: list(range(3, 9))}
    assert offsets(reader, {0: (0, 2), 1: (0, 2)}) == {0: [0, 1], 1: [0, 1]}


def test_offsets_are_found_by_the_time_the_broker_took_the_records(
    broker: Broker, client: str, open_reader: Open
) -> None:
    config = config_for(broker, client=client)
    topic_with(broker, config, 20, partitions=3)  # partition 2 has 6 records, the others 7
    broker_knows = broker.kind != "embedded"
    reader = open_reader(config)

    assert reader.offsets_at(T0 + 9_500) == ({0: 4, 1: 3, 2: 3} if broker_knows else None)
    assert reader.offsets_at(T0 + 18_500) == ({0: 7, 1: 6, 2: 6} if broker_knows else None)
    if broker_knows:
        assert reader.offsets_at(0) == {0: 0, 1: 0, 2: 0}


def test_an_empty_topic_has_bounds_and_nothing_to_read(broker: Broker, client: str, open_reader: Open) -> None:
    config = config_for(broker, client=client)
    broker.create_topic(config.topic, 2)
    reader = open_reader(config)

    assert reader.bounds() == {0: (0, 0), 1: (0, 0)}
    assert reader.offsets_at(T0) == {0: 0, 1: 0}
    assert offsets(reader, reader.bounds()) == {0: [], 1: []}


def test_readers_beside_each_other_and_beside_a_group_each_see_everything(
    broker: Broker, client: str, open_reader: Open
) -> None:
    config = config_for(broker, client=client)
    topic_with(broker, config, 40, partitions=2)
    events: list[str] = []
    member = connect_consumer(
        config, on_assigned=lambda _: events.append("assigned"), on_revoked=lambda _: events.append("revoked")
    )
    read, deadline_s = 0, time.monotonic() + 20
    while read < 40 and time.monotonic() < deadline_s:
        read += sum(map(len, member.poll(0.2)))
    member.commit({0: Commit(3)})

    one, other = open_reader(config), open_reader(config)
    first_half = next(iter(one.read(one.bounds())))  # and is then abandoned, as by a kill
    found = offsets(other, other.bounds())

    assert len(first_half) > 0
    assert found == {0: list(range(20)), 1: list(range(20))}
    assert member.poll(0.2) == []
    assert (member.committed([0]).get(0), member.committed([1]).get(1)) == (Commit(3), None)
    assert events == ["assigned"]
    member.close()


def test_records_deleted_meanwhile_are_passed_over(broker: Broker, client: str, open_reader: Open) -> None:
    config = config_for(broker, client=client)
    topic_with(broker, config, 10)
    reader = open_reader(config)
    ranges = reader.bounds()
    broker.delete_records(config.topic, 0, 6)

    assert offsets(reader, ranges) == {0: [6, 7, 8, 9]}


def test_the_end_is_reached_though_the_last_offsets_are_no_records(
    broker: Broker, client: str, open_reader: Open
) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker writes no markers at the end of a transaction")
    import confluent_kafka

    config = config_for(broker, client=client)
    broker.create_topic(config.topic)
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "transactional.id": config.topic}
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    for number in range(3):
        producer.produce(config.topic, b"%d" % number)
    producer.commit_transaction(20)
    reader = open_reader(config)

    assert reader.bounds() == {0: (0, 4)}  # the fourth is the marker
    assert offsets(reader, reader.bounds()) == {0: [0, 1, 2]}


def test_a_topic_that_is_not_there_is_named(broker: Broker, client: str, open_reader: Open) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker makes every topic it is asked for")
    config = config_for(broker, client=client)

    with pytest.raises(BrokerError, match=f"topic {config.topic} is not on {config.bootstrap_servers}"):
        open_reader(config).bounds()


def test_confluent_asks_again_while_brokers_have_not_agreed_who_leads_a_partition(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(broker, client="confluent")
    topic_with(broker, config, 3)
    reader = ConfluentRangeReader(config)
    consumer, answers = reader._consumer, [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE]

    class Unsettled:
        def get_watermark_offsets(self, *arguments: Any, **options: Any) -> Any:
            if answers:
                raise KafkaException(KafkaError(answers.pop()))
            return consumer.get_watermark_offsets(*arguments, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(consumer, name)

    monkeypatch.setattr(reader, "_consumer", Unsettled())
    monkeypatch.setattr(time, "sleep", lambda _: None)

    assert reader.bounds() == {0: (0, 3)}
    reader.close()


def test_confluent_returns_what_came_before_a_damaged_batch_with_the_same_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ConfluentRangeReader(KafkaConfig(topic="readings", client="confluent"))
    damaged = Message(topic="readings", partition=0, offset=2, error=KafkaError(KafkaError._BAD_MSG))
    events = [*(Message(topic="readings", partition=p, offset=o, value=b"v") for p, o in ((0, 0), (0, 1), (1, 0)))]
    events += [damaged, Message(topic="readings", partition=0, offset=5, value=b"v")]

    class Damaged:
        def poll(self, timeout_s: float) -> Any:
            return events.pop(0)

        def consume(self, count: int, timeout_s: float) -> list[Any]:
            return events

        def incremental_assign(self, partitions: list[Any]) -> None: ...

        def close(self) -> None: ...

    monkeypatch.setattr(reader, "_consumer", Damaged())
    read = list[tuple[int, int]]()

    def read_on() -> None:
        for batch in reader.read({0: (0, 9), 1: (0, 9)}):
            read.extend((batch.partition, int(offset)) for offset in batch.offsets)

    with pytest.raises(PoisonedBatch) as met:
        read_on()

    assert read == [(0, 0), (0, 1), (1, 0)]
    assert (met.value.partition, met.value.offset) == (0, 2)
