"""What a compressed batch unpacks to is bounded, whatever the codec; below the bound nothing changes."""

from __future__ import annotations

import gzip
import time
from typing import Any

import kafka.codec
import lz4.frame
import pytest
import snappy
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaProducer
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from streamer.config import LimitsConfig
from streamer.connectors.kafka import PoisonedBatch, RecordBatch, connect_consumer
from streamer.connectors.kafka.kafka_python.unpacking import BoundedBatch, TooLargeUnpacked
from tests.brokers import Broker, config_for, produce

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
PATIENCE_S = 20.0
SMALL = LimitsConfig(memory_mb=512)


class AtMost1000(BoundedBatch):
    __slots__ = ()
    most_bytes = 1000


def encoded(codec: str, values: list[bytes]) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=CODECS[codec],
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=10_000_000,
    )
    for number, value in enumerate(values):
        assert builder.append(number, timestamp=number, key=None, value=value, headers=[("h", b"x")]) is not None
    return bytes(builder.build())


def read(kind: type[Any], buffer: bytes) -> list[tuple[int, bytes, list[tuple[str, bytes]]]]:
    batch = kind(buffer)
    records = next(iter(batch)).timestamp.records() if isinstance(batch, BoundedBatch) else batch
    return [(record.offset, record.value, record.headers) for record in records]


@given(codec=st.sampled_from(sorted(CODECS)), values=st.lists(st.binary(max_size=20), min_size=1, max_size=20))
def test_a_batch_within_the_bound_is_read_as_the_library_reads_it(codec: str, values: list[bytes]) -> None:
    buffer = encoded(codec, values)

    assert read(AtMost1000, buffer) == read(DefaultRecordBatch, buffer)


@pytest.mark.parametrize("codec", [name for name in CODECS if name != "none"])
def test_a_batch_beyond_the_bound_is_refused_by_every_codec(codec: str) -> None:
    with pytest.raises(TooLargeUnpacked, match=r"more than the 1000 bytes that limits\.memory_mb allows"):
        read(AtMost1000, encoded(codec, [bytes(5000)]))


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd", "snappy"])
def test_frames_behind_each_other_are_one_batch(codec: str) -> None:
    """As Java and librdkafka may write them."""
    pack: Any = {
        "gzip": gzip.compress,
        "lz4": lz4.frame.compress,
        "zstd": zstandard.ZstdCompressor().compress,
        "snappy": lambda part: snappy.compress(part),
    }[codec]
    plain = encoded("none", [b"a" * 30, b"b" * 30])
    head, records = bytearray(plain[: DefaultRecordBatch.HEADER_STRUCT.size]), plain[61:]
    packed = (
        kafka.codec.snappy_encode(records, xerial_blocksize=40)
        if codec == "snappy"
        else pack(records[:40]) + pack(records[40:])
    )
    head[22] = CODECS[codec]

    values = [value for _, value, _ in read(AtMost1000, bytes(head) + packed)]

    assert values == [b"a" * 30, b"b" * 30]


def bomb(broker: Broker, topic: str, codec: str, megabytes: int) -> None:
    producer = KafkaProducer(
        bootstrap_servers=broker.bootstrap_servers, compression_type=codec, max_request_size=2**30, batch_size=2**30
    )
    producer.send(topic, bytes(megabytes * 2**20)).get(30)
    producer.close(5)


@pytest.mark.parametrize(
    ("client", "codec"), [("kafka-python", "gzip"), ("kafka-python", "zstd"), ("confluent", "zstd")]
)
def test_a_small_record_that_unpacks_to_much_is_named_and_what_came_before_it_was_read(
    broker: Broker, client: str, codec: str
) -> None:
    config = config_for(broker, client=client)
    broker.create_topic(config.topic)
    produce(broker, config.topic, [{"value": b"good"}])
    bomb(broker, config.topic, codec, 40)
    consumer = connect_consumer(config, on_assigned=lambda _: None, on_revoked=lambda _: None, limits=SMALL)
    batches: list[RecordBatch] = []

    def read_on() -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            batches.extend(consumer.poll(0.2))

    with pytest.raises(PoisonedBatch) as caught:
        read_on()
    consumer.close()

    assert [value for batch in batches for value in batch.values] == [b"good"]
    assert (caught.value.partition, caught.value.offset) == (0, 1)


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_poll_of_large_records_brings_few_of_them(broker: Broker, client: str) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker keeps 5 MB of a partition; set KAFKA_HOME")
    config = config_for(broker, client=client)
    broker.create_topic(config.topic)
    produce(broker, config.topic, [{"value": bytes(900_000)} for _ in range(40)])
    consumer = connect_consumer(config, on_assigned=lambda _: None, on_revoked=lambda _: None, limits=SMALL)
    polled: list[int] = []

    deadline_s = time.monotonic() + PATIENCE_S
    while sum(polled) < 40:
        assert time.monotonic() < deadline_s
        polled.append(sum(map(len, consumer.poll(0.2))))
    consumer.close()

    # 8 MiB, the last record beyond; librdkafka has one answer of the broker more.
    assert max(polled) <= (10 if client == "kafka-python" else 20)
