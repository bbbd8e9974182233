"""The contract of `streamer.connectors.kafka`, held against both clients on the chosen broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from streamer.config import KafkaConfig
from streamer.connectors.kafka import (
    Commit,
    Consumer,
    OffsetReset,
    Producer,
    RecordBatch,
    connect_consumer,
    connect_producer,
)
from streamer.errors import BrokerError, CommitFailed, DeliveryFailed
from tests.brokers import Broker, config_for, consume, produce

PATIENCE_S = 20.0
CLIENTS = ["kafka-python", "confluent"]


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Member:
    """A consumer that writes down what it was told and what it read."""

    def __init__(self, config: KafkaConfig, **options: Any) -> None:
        self.config = config
        self.events: list[tuple[str, tuple[int, ...]]] = []
        self.read: list[tuple[int, int]] = []  # (partition, offset)
        self.owned: set[int] = set()
        self.on_assigned: Callable[[Sequence[int]], None] = lambda partitions: None
        self.on_revoked: Callable[[Sequence[int]], None] = lambda partitions: None
        self.consumer: Any
        if options:
            self.consumer = _consumer_class(config)(
                config, on_assigned=self._assigned, on_revoked=self._revoked, **options
            )
        else:
            self.consumer = connect_consumer(config, on_assigned=self._assigned, on_revoked=self._revoked)

    def _assigned(self, partitions: Sequence[int]) -> None:
        self.events.append(("assigned", tuple(partitions)))
        self.owned |= set(partitions)
        self.on_assigned(partitions)

    def _revoked(self, partitions: Sequence[int]) -> None:
        self.events.append(("revoked", tuple(partitions)))
        self.on_revoked(partitions)
        self.owned -= set(partitions)

    def poll(self, timeout_s: float = 0.2) -> list[RecordBatch]:
        batches: list[RecordBatch] = self.consumer.poll(timeout_s)
        self.read += [(batch.partition, int(offset)) for batch in batches for offset in batch.offsets]
        return batches

    def poll_until(self, enough: Callable[[], bool]) -> list[RecordBatch]:
        batches: list[RecordBatch] = []
        until(enough, lambda: batches.extend(self.poll()))
        return batches


def _consumer_class(config: KafkaConfig) -> Any:
    if config.client == "confluent":
        from streamer.connectors.kafka.confluent.consumer import ConfluentConsumer

        return ConfluentConsumer
    from streamer.connectors.kafka.kafka_python.consumer import KafkaPythonConsumer

    return KafkaPythonConsumer


def until(enough: Callable[[], bool], step: Callable[[], object]) -> None:
    """Take steps until it is enough; fails rather than waits for ever."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not enough():
        assert time.monotonic() < deadline_s, "patience is over"
        step()


@pytest.fixture
def join() -> Iterator[Callable[..., Member]]:
    members: list[Member] = []

    def make(config: KafkaConfig, **options: Any) -> Member:
        members.append(Member(config, **options))
        return members[-1]

    yield make
    for member in members:
        member.on_revoked = lambda partitions: None
        member.consumer.close()


@pytest.fixture
def producer_of() -> Iterator[Callable[[KafkaConfig], Producer]]:
    producers: list[Producer] = []

    def make(config: KafkaConfig) -> Producer:
        producers.append(connect_producer(config))
        return producers[-1]

    yield make
    for producer in producers:
        producer.close()


def topic_with(broker: Broker, config: KafkaConfig, count: int, partitions: int = 1) -> None:
    """Make the input topic and put `count` records, value = number, on its partitions in turn."""
    broker.create_topic(config.topic, partitions)
    produce(broker, config.topic, [{"value": b"%d" % n, "partition": n % partitions} for n in range(count)])


def test_a_poll_becomes_columns_in_offset_order(broker: Broker, client: str, join: Callable[..., Member]) -> None:
    config = config_for(broker, client=client)
    broker.create_topic(config.topic)
    produce(
        broker,
        config.topic,
        [
            {"key": b"k", "value": b"v", "headers": [("h", b"1"), ("h", b"2")], "timestamp_ms": 1_700_000_000_000},
            {"key": b"gone", "value": None, "timestamp_ms": 1_700_000_000_001},
            {"key": None, "value": b"", "timestamp_ms": 1_700_000_000_002},
        ],
    )
    member = join(config)

    batches = member.poll_until(lambda: len(member.read) == 3)

    assert np.concatenate([batch.offsets for batch in batches]).tolist() == [0, 1, 2]
    assert [int(t) for batch in batches for t in batch.timestamps_ms] == [1_700_000_000_000 + n for n in range(3)]
    assert [key for batch in batches for key in batch.keys] == [b"k", b"gone", None]
    assert [value for batch in batches for value in batch.values] == [b"v", None, b""]
    assert [list(headers) for batch in batches for headers in batch.headers] == [[("h", b"1"), ("h", b"2")], [], []]
    first = batches[0]
    assert (first.topic, first.partition) == (config.topic, 0)
    assert first.offsets.dtype == first.timestamps_ms.dtype == np.int64


def test_partitions_come_as_batches_of_their_own_and_max_poll_records_holds(
    broker: Broker, client: str, join: Callable[..., Member]
) -> None:
    config = config_for(broker, client=client, max_poll_records=40)
    topic_with(broker, config, 300, partitions=3)
    member = join(config)

    sizes: list[int] = []
    until(lambda: len(member.read) == 300, lambda: sizes.append(sum(map(len, member.poll()))))

    assert max(sizes) <= 40
    for partition in range(3):
        assert [offset for number, offset in member.read if number == partition] == list(range(100))


def test_a_group_without_offsets_starts_where_the_configuration_says(
    broker: Broker, client: str, join: Callable[..., Member]
) -> None:
    config = config_for(broker, client=client, start="latest")
    topic_with(broker, config, 5)
    member = join(config)
    member.poll_until(lambda: bool(member.owned))

    assert member.consumer.position(0) == 5
    produce(broker, config.topic, [{"value": b"new"}])
    member.poll_until(lambda: bool(member.read))

    assert member.read == [(0, 5)]


def test_seek_commit_committed_position_bounds_and_lag_agree(
    broker: Broker, client: str, join: Callable[..., Member]
) -> None:
    config = config_for(broker, client=client)
    topic_with(broker, config, 10)
    member = join(config)
    member.poll_until(lambda: len(member.read) == 10)

    assert member.consumer.bounds([0])[0] == (0, 10)
    assert member.consumer.log_end(0) == 10
    assert member.consumer.position(0) == 10
    assert member.consumer.lag() == {0: 0}
    assert member.consumer.committed([0]).get(0) is None
    assert not member.consumer.has_committed()

    member.consumer.commit({0: Commit(7, "where the state is")})
    assert member.consumer.committed([0]).get(0) == Commit(7, "where the state is")
    assert member.consumer.has_committed()

    member.consumer.seek(0, 4)
    assert member.consumer.position(0) == 4
    member.read.clear()
    member.poll_until(lambda: len(member.read) == 6)
    assert member.read == [(0, offset) for offset in range(4, 10)]

    member.consumer.close()
    successor = join(config)
    successor.poll_until(lambda: len(successor.read) == 3)
    assert successor.read == [(0, 7), (0, 8), (0, 9)]


def test_whether_a_group_has_committed_is_one_question_and_none_once_it_has(
    broker: Broker, client: str, join: Callable[..., Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(broker, client=client)
    topic_with(broker, config, 3, partitions=12)
    member = join(config)
    member.poll_until(lambda: len(member.owned) == 12)
    asked = counted_questions(member.consumer, monkeypatch)

    assert not member.consumer.has_committed()
    assert asked == [12]

    member.consumer.commit({11: Commit(0)})
    assert member.consumer.has_committed()
    assert member.consumer.has_committed()
    assert asked == [12, 12]


def counted_questions(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of how many partitions each question for what is committed is, as they are asked."""
    asked: list[int] = []

    class Counting:
        def __init__(self, client: Any) -> None:
            self.client = client

        def __getattr__(self, name: str) -> Any:
            return getattr(self.client, name)

        def committed(self, partitions: Any, **options: Any) -> Any:
            asked.append(len(partitions))
            return self.client.committed(partitions, **options)

        def fetch_committed_offsets(self, partitions: Any, **options: Any) -> Any:
            asked.append(len(partitions))
            return self.client.fetch_committed_offsets(partitions, **options)

    inner, name = (
        (consumer._consumer, "_coordinator") if hasattr(consumer._consumer, "_coordinator") else (consumer, "_consumer")
    )
    monkeypatch.setattr(inner, name, Counting(getattr(inner, name)))
    return asked


def test_a_callback_may_ask_how_many_partitions_there_are(
    broker: Broker, client: str, join: Callable[..., Member]
) -> None:
    config = config_for(broker, client=client)
    topic_with(broker, config, 0, partitions=2)
    first, counted, done = join(config), list[int](), threading.Event()
    first.on_assigned = lambda partitions: counted.append(first.consumer.partition_count(wait=True))

    def come_and_go() -> None:
        second = Member(config)
        until(lambda: bool(second.owned) or done.is_set(), second.poll)
        second.consumer.close()

    first.poll_until(lambda: bool(counted))
    other = threading.Thread(target=come_and_go)
    other.start()
    # Several callbacks in one poll.
    until(lambda: len(counted) >= 2, lambda: first.poll(10.0))
    done.set()
    other.join()

    assert set(counted) == {2}


def test_a_note_is_read_by_the_other_client_as_it_was_written(
    broker: Broker, client: str, join: Callable[..., Member]
) -> None:
    config = config_for(broker, client=client)
    topic_with(broker, config, 3, partitions=24)
    writer = join(config)
    writer.poll_until(lambda: len(writer.owned) == 24)
    # Of many lengths: the end of a note must not depend on what memory happens to hold behind it.
    written = {partition: Commit(1, "n" * (40 + partition)) for partition in range(24)}
    writer.consumer.commit(written)
    writer.consumer.close()

    reader = join(config.model_copy(update={"client": next(other for other in CLIENTS if other != client)}))
    reader.poll_until(lambda: len(reader.owned) == 24)

    assert reader.consumer.committed(range(24)) == written


def test_a_seek_inside_the_assigned_callback_decides_where_reading_starts(
    broker: Broker, client: str, join: Callable[..., Member]
) -> None:
    config = config_for(broker, client=client)
    topic_with(broker, config, 10)
    member = join(config)
    seen: list[object] = []

    def restore(partitions: Sequence[int]) -> None:
        seen.append((member.consumer.committed([0]).get(0), member.consumer.bounds([0])[0]))
        member.consumer.seek(0, 8)
        seen.append(member.consumer.position(0))

    member.on_assigned = restore
    member.poll_until(lambda: len(member.read) == 2)

    assert seen == [(None, (0, 10)), 8]
    assert member.read == [(0, 8), (0, 9)]


def test_a_paused_partition_rests_until_it_is_resumed(broker: Broker, client: str, join: Callable[..., Member]) -> None:
    config = config_for(broker, client=client)
    topic_with(broker, config, 4, partitions=2)
    member = join(config)
    member.on_assigned = lambda partitions: member.consumer.pause([1])

    member.poll_until(lambda: len(member.read) >= 2)
    for _ in range(5):
        member.poll(0.05)
    assert member.read == [(0, 0), (0, 1)]

    member.consumer.resume([1])
    member.poll_until(lambda: len(member.read) == 4)
    assert member.read[2:] == [(1, 0), (1, 1)]


def test_a_partition_that_was_paused_when_it_was_revoked_flows_when_it_comes_back(
    broker: Broker, client: str, join: Callable[..., Member]
) -> None:
    config = config_for(broker, client=client)
    topic_with(broker, config, 4, partitions=2)
    first = join(config)
    first.poll_until(lambda: len(first.read) == 4)
    first.consumer.pause([0, 1])

    def from_the_first(partitions: Sequence[int]) -> None:
        for partition in partitions:
            first.consumer.seek(partition, 0)

    first.on_assigned = from_the_first
    second = join(config)
    until(lambda: bool(second.owned), lambda: (first.poll(0.1), second.poll(0.1)))
    first.poll_until(lambda: len(first.read) == 6)

    assert {partition for partition, _ in first.read[4:]} == first.owned
    assert len(first.owned) == 1


def test_what_a_callback_raises_comes_out_of_poll(broker: Broker, client: str, join: Callable[..., Member]) -> None:
    config = config_for(broker, client=client)
    topic_with(broker, config, 3)
    member = join(config)

    def refuse(partitions: Sequence[int]) -> None:
        raise BrokerError("the snapshot cannot be read")

    member.on_assigned = refuse
    with pytest.raises(BrokerError, match="snapshot"):
        member.poll_until(lambda: bool(member.read))

    assert member.read == []
    member.poll_until(lambda: len(member.read) == 3)
    assert member.read == [(0, 0), (0, 1), (0, 2)]


def test_an_offset_that_is_gone_is_reported_and_reading_goes_on_at_the_beginning(
    broker: Broker, client: str, join: Callable[..., Member], caplog: pytest.LogCaptureFixture
) -> None:
    config = config_for(broker, client=client)
    topic_with(broker, config, 10)
    broker.delete_records(config.topic, 0, 6)
    resets: list[OffsetReset] = []
    member = join(config, on_offset_reset=resets.append)
    member.on_assigned = lambda partitions: member.consumer.seek(0, 2)

    member.poll_until(lambda: len(member.read) >= 4)

    assert member.read == [(0, 6), (0, 7), (0, 8), (0, 9)]
    assert resets == [OffsetReset(partition=0, wanted=2, restarted_at=6, lost=4)]
    assert member.consumer.offset_resets == 1
    assert f"{config.topic}[0]: offset 2 is no longer held: 4 records (2 to 5) were deleted unread" in caplog.text


def test_an_offset_beyond_the_end_goes_to_the_beginning(
    broker: Broker, client: str, join: Callable[..., Member]
) -> None:
    config = config_for(broker, client=client)
    topic_with(broker, config, 3)
    resets: list[OffsetReset] = []
    member = join(config, on_offset_reset=resets.append)
    member.on_assigned = lambda partitions: member.consumer.seek(0, 50)

    member.poll_until(lambda: len(member.read) >= 3)

    assert member.read == [(0, 0), (0, 1), (0, 2)]
    assert resets == [OffsetReset(partition=0, wanted=50, restarted_at=0, lost=0)]


def test_two_members_share_the_partitions_and_nothing_is_lost(
    broker: Broker, client: str, join: Callable[..., Member]
) -> None:
    if broker.kind == "embedded" and client == "kafka-python":
        pytest.skip("the embedded broker refuses (error 42) a member whose SyncGroup comes after its leader's")
    config = config_for(broker, client=client)
    topic_with(broker, config, 200, partitions=4)
    first = join(config)
    committed: dict[int, int] = {}

    def commit_what_was_read(partitions: Sequence[int]) -> None:
        offsets = {p: first.consumer.position(p) for p in partitions}
        first.consumer.commit({p: Commit(offset) for p, offset in offsets.items()})
        committed.update(offsets)

    first.poll_until(lambda: len(first.read) >= 200)
    if broker.kind == "embedded":
        commit_what_was_read(range(4))  # it refuses commits while a group rebalances; a real one takes them
    else:
        first.on_revoked = commit_what_was_read
    assert first.events == [("assigned", (0, 1, 2, 3))]

    second = join(config)
    until(
        lambda: len(first.owned) == 2 and len(second.owned) == 2,
        lambda: (first.poll(0.05), second.poll(0.05)),
    )
    produce(broker, config.topic, [{"value": b"%d" % n, "partition": n % 4} for n in range(200, 240)])
    until(lambda: len(first.read) + len(second.read) >= 240, lambda: (first.poll(0.05), second.poll(0.05)))

    assert committed == {0: 50, 1: 50, 2: 50, 3: 50}
    assert first.events[:2] == [("assigned", (0, 1, 2, 3)), ("revoked", (0, 1, 2, 3))]
    assert first.owned | second.owned == {0, 1, 2, 3}
    assert sorted(first.read + second.read) == [(p, offset) for p in range(4) for offset in range(60)]
    taken = min(second.owned)
    with pytest.raises(CommitFailed, match=rf"partitions \[{taken}\].*no longer assigned"):
        first.consumer.commit({taken: Commit(1)})
    assert second.consumer.committed([taken]).get(taken) == Commit(50)

    second.consumer.close()
    assert second.events[-1][0] == "revoked"
    first.poll_until(lambda: first.owned == {0, 1, 2, 3})


def test_a_member_that_was_put_out_of_the_group_cannot_commit(
    broker: Broker, client: str, join: Callable[..., Member]
) -> None:
    config = config_for(broker, client=client)
    topic_with(broker, config, 4, partitions=2)
    asleep = join(config, max_poll_interval_ms=config.session_timeout_ms)
    asleep.poll_until(lambda: len(asleep.read) == 4)
    awake = join(config)

    awake.poll_until(lambda: awake.owned == {0, 1})  # `asleep` does not poll, so the group goes on without it

    with pytest.raises(CommitFailed):
        asleep.consumer.commit({0: Commit(2)})
    assert awake.consumer.committed([0]).get(0) is None


def test_closing_twice_revokes_once(broker: Broker, client: str, join: Callable[..., Member]) -> None:
    config = config_for(broker, client=client)
    topic_with(broker, config, 1)
    member = join(config)
    member.poll_until(lambda: bool(member.read))

    member.consumer.close()
    member.consumer.close()

    assert member.events == [("assigned", (0,)), ("revoked", (0,))]


def test_messages_arrive_with_key_headers_and_tombstones(
    broker: Broker, client: str, producer_of: Callable[[KafkaConfig], Producer]
) -> None:
    config = config_for(broker, client=client)
    broker.create_topic(config.alerts_topic)
    producer = producer_of(config)

    producer.send(config.alerts_topic, key=b"stream", value=b"{}", headers=[("id", b"1")])
    producer.send(config.alerts_topic, key=b"stream", value=None)
    producer.send(config.alerts_topic, key=None, value=None)
    assert producer.pending == 3
    producer.flush(PATIENCE_S)

    assert producer.pending == 0
    records = consume(broker, config.alerts_topic, 3)
    assert [(r.key, r.value, r.headers) for r in records] == [
        (b"stream", b"{}", [("id", b"1")]),
        (b"stream", None, []),
        (None, b"", []),  # neither key nor value: sent with an empty value
    ]


def test_both_clients_put_a_key_on_the_same_partition(
    broker: Broker, producer_of: Callable[[KafkaConfig], Producer]
) -> None:
    config = config_for(broker)
    broker.create_topic(config.alerts_topic, 4)
    for name in CLIENTS:
        producer = producer_of(config.model_copy(update={"client": name}))
        for number in range(20):
            producer.send(config.alerts_topic, key=b"stream-%d" % number, value=name.encode())
        producer.flush(PATIENCE_S)

    records = consume(broker, config.alerts_topic, 40)

    homes = {name: {r.key: r.partition for r in records if r.value == name.encode()} for name in CLIENTS}
    assert len(homes["confluent"]) == 20
    assert homes["kafka-python"] == homes["confluent"]


def test_a_message_that_can_never_be_sent_is_refused_at_once(
    broker: Broker, client: str, producer_of: Callable[[KafkaConfig], Producer]
) -> None:
    producer = producer_of(config_for(broker, client=client))

    with pytest.raises(DeliveryFailed, match=r"at most 1000000 bytes; got 1000100.*shorten"):
        producer.send("any", key=None, value=b"x" * 1_000_000)

    assert producer.pending == 0


def test_a_topic_that_is_not_there_fails_the_flush_and_the_message_is_kept(
    broker: Broker, client: str, producer_of: Callable[[KafkaConfig], Producer]
) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker makes every topic it is asked for")
    config = config_for(broker, client=client)
    producer = producer_of(config)
    producer.send(config.alerts_topic, key=b"k", value=b"early")

    with pytest.raises(DeliveryFailed, match=config.alerts_topic):
        producer.flush(1.0)
    assert producer.pending == 1

    broker.create_topic(config.alerts_topic)
    producer.flush(PATIENCE_S)
    assert [record.value for record in consume(broker, config.alerts_topic, 1)] == [b"early"]


def test_messages_sent_while_the_broker_is_away_arrive_in_order_when_it_is_back(
    broker: Broker, client: str, producer_of: Callable[[KafkaConfig], Producer]
) -> None:
    config = config_for(broker, client=client, request_timeout_ms=3_000)
    broker.create_topic(config.alerts_topic)
    producer = producer_of(config)
    numbers = iter(range(1_000))

    def send(count: int) -> None:
        for _ in range(count):
            producer.send(config.alerts_topic, key=b"k", value=b"%d" % next(numbers))

    send(10)
    producer.flush(PATIENCE_S)
    try:
        broker.down()
    except NotImplementedError as reason:
        pytest.skip(str(reason))
    try:
        send(10)
        with pytest.raises(DeliveryFailed, match=r"10 of 10 messages.*no connection to .*: refused"):
            producer.flush(0.5)
        assert producer.pending == 10
        send(10)
    finally:
        broker.up()
    producer.flush(PATIENCE_S)

    assert producer.pending == 0
    values = [int(record.value) for record in consume(broker, config.alerts_topic, 30)]
    assert values == list(range(30))


def test_a_consumer_reads_on_after_the_broker_was_away(
    broker: Broker, client: str, join: Callable[..., Member]
) -> None:
    config = config_for(broker, client=client)
    topic_with(broker, config, 5)
    member = join(config)
    member.poll_until(lambda: len(member.read) == 5)
    try:
        broker.down()
    except NotImplementedError as reason:
        pytest.skip(str(reason))
    try:
        assert member.poll(0.3) == []
        with pytest.raises(CommitFailed):
            _bounded(member.consumer, 1_000).commit({0: Commit(5)})
    finally:
        broker.up()
    produce(broker, config.topic, [{"value": b"after"}])

    member.poll_until(lambda: (0, 5) in member.read)

    assert sorted(set(member.read)) == [(0, offset) for offset in range(6)]


def _bounded(consumer: Consumer, timeout_ms: int) -> Consumer:
    """Shorten what kafka-python waits for a commit; librdkafka fails at once when the broker is known to be away."""
    if hasattr(consumer, "_timeout_ms"):
        consumer._timeout_ms = timeout_ms
    return consumer
