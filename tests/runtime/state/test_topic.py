"""Snapshots in a topic, with both clients, on the chosen broker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka.admin import ACLOperation, ResourceType

from streamer.config import KafkaConfig
from streamer.connectors.kafka import Entry, RecordBatch, connect_range_reader, connect_topic_admin
from streamer.errors import StateError, StateUnavailable
from streamer.runtime.state import topic as topics
from streamer.runtime.state.topic import TopicStore
from tests.brokers import Broker, SecureKafka, config_for, unique

Open = Callable[..., TopicStore]


@pytest.fixture(params=["kafka-python", "confluent"])
def config(request: pytest.FixtureRequest, broker: Broker) -> KafkaConfig:
    config = config_for(broker, client=request.param)
    broker.create_topic(config.topic, 3)
    return config


@pytest.fixture
def open_store() -> Iterator[Open]:
    stores: list[TopicStore] = []

    def make(config: KafkaConfig, topic: str | None = None) -> TopicStore:
        stores.append(TopicStore(config, topic or f"{config.group}.state"))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "CHUNK_BYTES", 10)


def real(broker: Broker) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker neither compacts nor deletes, nor tells the settings of a topic")


def bounds(config: KafkaConfig, topic: str, partition: int = 0) -> tuple[int, int]:
    reader = connect_range_reader(config.model_copy(update={"topic": topic}))
    try:
        return reader.bounds()[partition]
    finally:
        reader.close()


def living(config: KafkaConfig, topic: str, partition: int = 0) -> set[bytes | None]:
    """Keys that compaction would keep."""
    reader = connect_range_reader(config.model_copy(update={"topic": topic}))
    try:
        found: dict[bytes | None, bool] = {}
        for batch in reader.read({partition: reader.bounds()[partition]}):
            found |= {key: value is not None for key, value in zip(batch.keys, batch.values, strict=True)}
        return {key for key, there in found.items() if there}
    finally:
        reader.close()


def test_the_client_that_restored_state_is_let_go_with_the_next_checkpoint(
    config: KafkaConfig, open_store: Open
) -> None:
    # Nobody polls it, and while the broker is away librdkafka queues a megabyte of errors a minute for who does.
    name = open_store(config).write(0, 1, [b"state"])
    store = open_store(config)
    store.read(0, name)

    store.write(0, 2, [b"newer"])

    assert store._reader is None
    assert store.read(0, name) == b"state"


def test_what_was_written_is_read_by_another_replica(config: KafkaConfig, open_store: Open) -> None:
    body = [b"head", bytes(range(256)) * 10_000, b"", b"tail"]

    name = open_store(config).write(2, 1842, body)

    assert open_store(config).read(2, name) == b"".join(body)
    assert len(name) <= 512
    assert name.isascii()
    assert name.isprintable()


def test_an_empty_snapshot_and_one_that_fills_its_chunks_are_whole(
    config: KafkaConfig, open_store: Open, small_chunks: None
) -> None:
    store = open_store(config)

    for body in (b"", b"0123456789", b"0123456789" * 20, b"0123456789" * 20 + b"0"):
        assert store.read(0, store.write(0, 7, [body])) == body


def test_two_writers_between_each_other_do_not_mix(config: KafkaConfig, open_store: Open, small_chunks: None) -> None:
    evicted, successor = open_store(config), open_store(config)
    first = evicted.write(0, 10, [b"old owner, " * 5])
    names = [first, successor.write(0, 10, [b"new owner, " * 5]), evicted.write(0, 20, [b"still thinks it owns it"])]
    # As if the chunks had come in turn: the range of the whole, the chunks of one.
    begin, end = topics._Place.of(names[0]).first, topics._Place.of(names[2]).last
    spread = [f"0:{begin}-{end}:{name.partition('-')[2].partition(':')[2]}" for name in names]

    assert [successor.read(0, name) for name in spread] == [
        b"old owner, " * 5, b"new owner, " * 5, b"still thinks it owns it"
    ]  # fmt: skip


def test_the_topic_is_made_with_the_partitions_of_the_input_and_keeps_everything(
    broker: Broker, config: KafkaConfig, open_store: Open
) -> None:
    real(broker)
    store = open_store(config)

    store.prepare()

    admin = connect_topic_admin(config)
    settings = admin.settings(store.topic)
    assert admin.partitions(store.topic) == 3
    assert set(settings["cleanup.policy"].split(",")) == {"compact", "delete"}
    assert (settings["retention.ms"], settings["retention.bytes"]) == ("-1", "-1")
    admin.close()


def test_the_topic_grows_with_the_input(broker: Broker, config: KafkaConfig, open_store: Open) -> None:
    real(broker)
    store = open_store(config)
    early = store.write(0, 1, [b"before"])
    admin = connect_topic_admin(config)
    admin.grow(config.topic, 5)

    late = store.write(4, 1, [b"in an added partition"])

    assert store.read(0, early) == b"before"
    assert store.read(4, late) == b"in an added partition"
    assert admin.partitions(store.topic) == 5
    admin.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"cleanup.policy": "delete", "retention.ms": "-1"},
            r"cleanup.policy is delete; .*cleanup.policy=\[compact,del",
        ),
        ({"cleanup.policy": "compact,delete"}, r"retention.ms is 604800000; .*--add-config retention.ms=-1$"),
        (
            {"cleanup.policy": "compact,delete", "retention.ms": "-1", "retention.bytes": "5000"},
            r"retention.bytes is 5000; .*retention.bytes=-1$",
        ),
        ({"cleanup.policy": "compact", "max.message.bytes": "1000"}, r"max.message.bytes=1000000$"),
    ],
)
def test_a_topic_that_would_lose_state_is_refused_with_the_command_that_mends_it(
    broker: Broker, open_store: Open, settings: dict[str, str], words: str
) -> None:
    real(broker)
    config = config_for(broker)
    broker.create_topic(config.topic)
    topic = f"{config.group}.state"
    admin = connect_topic_admin(config)
    admin.create(topic, 1, settings)
    admin.close()

    with pytest.raises(StateError, match=words) as refused:
        open_store(config).prepare()

    assert f"kafka-configs --bootstrap-server {config.bootstrap_servers} --alter --topic {topic}" in str(refused.value)


def test_superseded_snapshots_and_what_crashed_writers_left_are_removed_from_the_front(
    broker: Broker, config: KafkaConfig, open_store: Open, small_chunks: None
) -> None:
    real(broker)
    store, crashed = open_store(config), open_store(config)
    names = [store.write(0, offset, [b"state " * offset]) for offset in (10, 20)]
    crashed.write(0, 25, [b"never committed"])
    names += [store.write(0, offset, [b"state " * offset]) for offset in (30, 40)]

    store.forget(0, [names[2], names[1]])
    store.forget(0, [names[3], names[2]])

    assert bounds(config, store.topic)[0] == topics._Place.of(names[2]).first
    assert [store.read(0, name) for name in names[2:]] == [b"state " * 30, b"state " * 40]
    with pytest.raises(StateError, match=r"is not there: .* records were deleted"):
        store.read(0, names[0])


def test_all_whole_snapshots_of_a_partition_are_found_the_newest_first(
    config: KafkaConfig, open_store: Open, small_chunks: None
) -> None:
    store, other = open_store(config), open_store(config)
    store.prepare()
    nothing = store.names(0)
    names = [store.write(0, 900, [b"an earlier topic"]), other.write(0, 10, [b"after it, in more than one part"])]
    place = topics._Place.of(store.write(0, 20, [b"crashed before the last part"]))
    store._append(0, [Entry(place.keys[-1], None)])
    store.write(1, 5, [b"another partition"])

    assert nothing == []
    assert other.names(0) == names[::-1]


def test_a_removal_that_comes_late_from_an_evicted_owner_takes_nothing_of_its_successor(
    broker: Broker, config: KafkaConfig, open_store: Open
) -> None:
    real(broker)
    evicted, successor = open_store(config), open_store(config)
    a0, a1 = evicted.write(0, 10, [b"a0"]), evicted.write(0, 20, [b"a1"])  # committed; asleep before it removes
    b1, b2 = successor.write(0, 30, [b"b1"]), successor.write(0, 40, [b"b2"])
    successor.forget(0, [b2, b1])
    evicted.write(0, 25, [b"awake"])

    evicted.forget(0, [a1, a0])

    assert [successor.read(0, name) for name in (b1, b2)] == [b"b1", b"b2"]


def test_without_the_permission_to_delete_tombstones_do_and_it_is_said_once(
    secure_kafka: SecureKafka, open_store: Open, small_chunks: None, caplog: pytest.LogCaptureFixture
) -> None:
    for client in ("kafka-python", "confluent"):
        topic, group = unique("input"), unique("group")
        secure_kafka.create_topic(topic)
        secure_kafka.grant(
            "partial",
            {
                (ResourceType.TOPIC, topic): [ACLOperation.READ],
                (ResourceType.TOPIC, f"{group}.state"): [
                    ACLOperation.CREATE, ACLOperation.READ, ACLOperation.WRITE, ACLOperation.DESCRIBE_CONFIGS
                ],
            },
        )  # fmt: skip
        config = KafkaConfig(
            bootstrap_servers=secure_kafka.bootstrap_servers, topic=topic, group=group, client=client,
            **secure_kafka.security("partial"),
        )  # fmt: skip
        store, crashed = open_store(config), open_store(config)
        names = [store.write(0, 10, [b"state " * 10])]
        crashed.write(0, 15, [b"never committed " * 3])
        names += [store.write(0, offset, [b"state " * 10]) for offset in (20, 30, 40)]

        with caplog.at_level(logging.WARNING):
            store.forget(0, [names[1], names[0]])
            store.forget(0, [names[2], names[1]])
            store.forget(0, [names[3], names[2]])

        assert living(config, store.topic) == {
            key for name in names[2:] for key in topics._Place.of(name).keys
        }  # fmt: skip
        (said,) = [record.getMessage() for record in caplog.records if "tombstones" in record.getMessage()]
        assert f"--allow-principal User:partial --operation Delete --topic {group}.state" in said
        caplog.clear()


def test_a_user_who_may_not_make_the_topic_is_told_how_it_is_made(secure_kafka: SecureKafka, open_store: Open) -> None:
    topic = unique("input")
    secure_kafka.create_topic(topic, 2)
    secure_kafka.grant("reader", {(ResourceType.TOPIC, topic): [ACLOperation.READ]})
    config = KafkaConfig(
        bootstrap_servers=secure_kafka.bootstrap_servers, topic=topic, **secure_kafka.security("reader")
    )

    with pytest.raises(StateError, match=r"kafka-topics .* --create --topic mine --partitions 2 .*retention.ms=-1"):
        open_store(config, "mine").prepare()


@pytest.mark.parametrize("name", ["", "0:1-2:1:ab:cd", "../../etc/passwd", f"0:0-0:99999:{'0' * 16}:{'0' * 32}"])
def test_a_name_that_is_not_ours_is_refused(broker: Broker, open_store: Open, name: str) -> None:
    with pytest.raises(StateError, match="is no name of a snapshot in a topic"):
        open_store(config_for(broker)).read(0, name)


def test_a_snapshot_that_is_damaged_or_of_another_partition_is_refused(
    config: KafkaConfig, open_store: Open, small_chunks: None
) -> None:
    store = open_store(config)
    name = store.write(0, 1, [b"0123456789" * 3])
    place = topics._Place.of(name)
    fewer = f"0:{place.first}-{place.last - 1}:3:{place.nonce}:{place.digest}"
    other = f"0:{place.first}-{place.last}:3:{place.nonce}:{'0' * 32}"

    with pytest.raises(StateError, match="1 of 3 parts are gone or damaged"):
        store.read(0, fewer)
    with pytest.raises(StateError, match="its content is not what was written"):
        store.read(0, other)
    with pytest.raises(StateError, match="is the state of partition 0, not 1"):
        store.read(1, name)


def test_a_broker_that_is_away_is_not_taken_for_state_that_is_gone(open_store: Open) -> None:
    for client in ("kafka-python", "confluent"):
        config = KafkaConfig(
            bootstrap_servers="127.0.0.1:9", client=client, request_timeout_ms=1000, delivery_timeout_s=1
        )
        store = open_store(config, "state")

        with pytest.raises(StateUnavailable, match="state of partition 0 cannot be read"):
            store.read(0, f"0:0-0:1:{'0' * 16}:{'0' * 32}")
        with pytest.raises(StateError, match="topic state, for state"):
            store.write(0, 1, [b"x"])


def test_the_check_leaves_the_state_of_a_running_group_alone(
    broker: Broker, config: KafkaConfig, open_store: Open
) -> None:
    real(broker)
    running = open_store(config)
    name = running.write(0, 1, [b"state"])

    open_store(config).prove()

    assert running.read(0, name) == b"state"
    assert living(config, running.topic) == set(topics._Place.of(name).keys)


def test_the_check_of_a_topic_that_is_not_there_makes_none(
    broker: Broker, config: KafkaConfig, open_store: Open
) -> None:
    real(broker)
    store = open_store(config)

    with pytest.raises(StateError, match=f"topic {store.topic}, for state, does not exist; .*--partitions 3"):
        store.prove()

    admin = connect_topic_admin(config)
    assert admin.partitions(store.topic) == 0
    admin.close()


def test_a_snapshot_written_while_snapshots_are_listed_does_not_take_the_reader_away(
    config: KafkaConfig, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(config)
    store.prepare()
    names = [store.write(0, 1, [b"state"])]
    records = store._records

    def while_written(partition: int, *place: Any) -> Iterator[RecordBatch]:
        for batch in records(partition, *place):
            store.write(1, 7, [b"of a partition given back a moment ago"])
            yield batch

    monkeypatch.setattr(store, "_records", while_written)

    assert store.names(0) == names
