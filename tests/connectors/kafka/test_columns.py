"""Record batches to columns: the same records that kafka-python makes of them, one object each."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.errors import CorruptRecordError
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.legacy_records import LegacyRecordBatchBuilder
from kafka.record.util import calc_crc32c

from streamer.connectors.kafka.kafka_python.columns import UNREADABLE, Malformed, Records, of, unpack
from streamer.connectors.kafka.kafka_python.fetching import BoundedPartition, Taken
from streamer.connectors.kafka.kafka_python.unpacking import BoundedBatch

TP = TopicPartition("readings", 3)

texts = st.none() | st.binary(max_size=200)
headers = st.lists(st.tuples(st.text(max_size=10), st.none() | st.binary(max_size=10)), max_size=3)
messages = st.lists(st.tuples(st.integers(0, 2**45), texts, texts, headers), min_size=1, max_size=20)


def batch(records: Sequence[Any], base: int = 0, *, codec: int = 0, appended_ms: int | None = None) -> bytearray:
    """Bytes as the broker keeps them; each record is time, key, value, headers."""
    builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 1 << 20)
    for place, record in enumerate(records):
        builder.append(place, *record)
    found = bytearray(builder.build())
    struct.pack_into(">q", found, 0, base)
    if appended_ms is not None:
        attributes = struct.unpack_from(">h", found, 21)[0] | DefaultRecordBatch.TIMESTAMP_TYPE_MASK
        struct.pack_into(">h", found, 21, attributes)
        struct.pack_into(">q", found, 35, appended_ms)
    return found


class Batch(BoundedBatch):
    __slots__ = ()
    most_bytes = 1 << 20


def with_checksum(raw: bytearray) -> bytearray:
    struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    return raw


def opened(raw: bytes | bytearray) -> BoundedBatch:
    found = cast("BoundedBatch", Batch(raw))
    assert [each.timestamp for each in found] == [found]
    return found


def one_by_one(raw: bytes | bytearray) -> Records:
    return of(opened(raw).records())


def plain(count: int, base: int = 0) -> bytearray:
    return batch([(1000 + i, b"k%d" % (base + i), b"v%d" % (base + i), []) for i in range(count)], base)


def as_rows(records: Records) -> list[tuple[Any, ...]]:
    return list(
        zip(
            records.offsets.tolist(),
            records.timestamps_ms.tolist(),
            records.keys,
            records.values,
            map(list, records.headers),
            strict=True,
        )
    )


@given(st.lists(st.tuples(messages, st.sampled_from([0, 1]), st.none() | st.integers(0, 2**45)), max_size=4))
def test_columns_hold_what_kafka_python_reads(batches: list[Any]) -> None:
    raw = [
        batch(records, base=50 * number, codec=codec, appended_ms=appended_ms)
        for number, (records, codec, appended_ms) in enumerate(batches)
    ]

    found = unpack([opened(each) for each in raw])

    assert as_rows(found) == [row for each in raw for row in as_rows(one_by_one(each))]
    assert found.sizes.min(initial=100) >= 100


def test_damaged_batches_are_refused_or_read_as_kafka_python_reads_them() -> None:
    chance = random.Random(0)
    read = refused = 0
    for _ in range(2000):
        records = [
            (
                chance.randrange(2**45),
                chance.choice([None, b"key"]),
                chance.choice([None, b"", b"value" * chance.randrange(30)]),
                [("name", b"x"), ("", None)][: chance.randrange(3)],
            )
            for _ in range(chance.randrange(1, 5))
        ]
        raw = batch(records)
        for _ in range(chance.randrange(1, 4)):
            raw[chance.randrange(DefaultRecordBatch.HEADER_STRUCT.size, len(raw))] = chance.randrange(256)
        try:
            found = as_rows(unpack([opened(raw)]))
        except Malformed:
            refused += 1
            continue
        read += 1
        assert found == as_rows(one_by_one(raw))
    assert min(read, refused) > 500


def test_a_header_name_that_is_not_utf8_leaves_its_record_without_headers() -> None:
    raw = batch([(1, b"k", b"v", [("name", b"x")]), (2, None, b"w", [("other", b"y")])])
    raw[raw.index(b"name")] = 0xFF

    found = unpack([opened(raw)])

    assert found.headers == [UNREADABLE, [("other", b"y")]]
    assert found.values == [b"v", b"w"]


def test_a_number_of_records_that_is_not_true_is_refused() -> None:
    for claimed in (-1, 0, 2, 4, 2**31 - 1):
        raw = plain(3)
        struct.pack_into(">i", raw, 57, claimed)

        with pytest.raises(Malformed):
            unpack([opened(raw)])


class Part:
    """What one fetch brought, taken bit by bit."""

    def __init__(
        self, *raw: bytes | bytearray, at: int = 0, check_crcs: bool = False, poll_bytes: int = 1 << 20
    ) -> None:
        self.fetcher = cast("Any", SimpleNamespace(batch_kind=Batch, left_bytes=poll_bytes))
        self.poll_bytes, self.drained = poll_bytes, 0
        records = MemoryRecords(b"".join(map(bytes, raw)))
        self.part = BoundedPartition(self.fetcher, at, TP, records, check_crcs=check_crcs, on_drain=self._drained)

    def _drained(self, _: object) -> None:
        self.drained += 1

    def take(self, n: int) -> list[int]:
        self.fetcher.left_bytes = self.poll_bytes
        taken = self.part.take(n)
        assert isinstance(taken, Taken)
        offsets: list[int] = [offset for records in taken for offset in records.offsets.tolist()]
        assert len(taken) == len(offsets)
        return offsets


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 50), st.integers(0, 20))
def test_a_fetch_is_handed_out_in_order_however_much_is_asked_for(sizes: list[int], n: int, at: int) -> None:
    begins = np.cumsum([0, *sizes])[:-1].tolist()
    part = Part(*(plain(size, begin) for size, begin in zip(sizes, begins, strict=True)), at=at)
    found: list[int] = []

    while part.part:
        assert part.part.next_fetch_offset == (found[-1] + 1 if found else at)
        taken = part.take(n)
        assert len(taken) <= n
        found += taken

    assert found == list(range(at, sum(sizes)))
    assert part.part.next_fetch_offset == max(at, sum(sizes)) or at > sum(sizes)
    assert part.drained == 1


def test_behind_a_compacted_batch_reading_goes_on_where_the_next_one_begins() -> None:
    raw = plain(3)
    struct.pack_into(">i", raw, 23, 9)  # its last offset was removed
    part = Part(raw)

    assert part.take(10) == [0, 1, 2]
    assert part.part.next_fetch_offset == 10


def test_records_before_a_damaged_batch_are_handed_out_first() -> None:
    damaged = with_checksum(plain(3, 5))
    damaged[-3] ^= 0xFF
    part = Part(with_checksum(plain(5)), damaged, check_crcs=True)

    assert part.take(100) == [0, 1, 2, 3, 4]
    with pytest.raises(CorruptRecordError):
        part.take(100)


def test_records_before_a_malformed_batch_are_handed_out_first() -> None:
    malformed = plain(3, 5)
    struct.pack_into(">i", malformed, 57, 4)
    part = Part(plain(5), malformed)

    assert part.take(100) == [0, 1, 2, 3, 4]
    assert part.part
    assert part.part.next_fetch_offset == 5
    with pytest.raises(CorruptRecordError):
        part.take(100)


def test_a_poll_ends_when_its_bytes_are_used_up_and_the_next_goes_on() -> None:
    part = Part(plain(100), poll_bytes=1000)
    found: list[int] = []

    while part.part:
        taken = part.take(5000)
        assert len(taken) <= 10
        found += taken

    assert found == list(range(100))


def test_messages_in_the_format_of_old_brokers_are_read() -> None:
    builder = LegacyRecordBatchBuilder(1, 0, 1 << 20)
    for place in range(3):
        builder.append(place, 1000 + place, b"k", b"v%d" % place)
    part = Part(builder.build())

    (found,) = part.part.take(10)

    assert as_rows(found) == [(i, 1000 + i, b"k", b"v%d" % i, []) for i in range(3)]
