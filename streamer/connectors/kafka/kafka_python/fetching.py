"""A fetcher of kafka-python that hands out columns, where the library makes an object of every record.

    ColumnBatch         passes for one record until it is unpacked
    ColumnPartition     what one fetch brought of a partition; unpacks batches together

`use_columns` makes a consumer work so; its `poll` then returns `columns.Records` by partition. Which batches are
read, their checksums and codecs, and what is said of those that cannot be read is left to the library.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.record.default_records import DefaultRecordBatch

from streamer.connectors.kafka.kafka_python.columns import Malformed, Records, joined, of, unpack

_TOGETHER_BYTES = 4 << 20  # no more batches are unpacked together when they have so many bytes


class _Whole:
    """A batch in the place of a record: what the library asks of one, and passes on."""

    __slots__ = ("offset", "timestamp")
    key = value = headers = checksum = None
    timestamp_type = leader_epoch = 0
    size_in_bytes = 1

    def __init__(self, batch: Any) -> None:
        self.offset, self.timestamp = batch.last_offset, batch

    def validate_crc(self) -> bool:
        return True  # that of the batch was


class ColumnBatch(DefaultRecordBatch):  # type: ignore[misc]
    """One batch of records as the broker keeps it."""

    __slots__ = ()

    def __iter__(self) -> Any:
        self._maybe_uncompress()
        return iter((_Whole(self),))


class _Batches:
    """The batches of one fetch."""

    def __init__(self, fetched: Any) -> None:
        self._fetched = fetched

    def next_batch(self) -> Any:
        batch = self._fetched.next_batch()
        if type(batch) is DefaultRecordBatch:  # brokers since 0.11 have no others
            batch.__class__ = ColumnBatch
        return batch


class ColumnPartition(Fetcher.PartitionRecords):  # type: ignore[misc]
    """What one fetch brought of a partition."""

    def __init__(self, fetch_offset: int, tp: Any, records: Any, **options: Any) -> None:
        self._left: Records | None = None  # of what was unpacked last
        self._after = fetch_offset  # where to go on when that has been taken
        super().__init__(fetch_offset, tp, _Batches(records), **options)

    def __bool__(self) -> bool:
        return self._left is not None or self._next_inline_exception is not None or super().__bool__()

    def drain(self) -> None:
        self._left = None
        super().drain()

    def take(self, n: int) -> Taken:
        """At most `n` records."""
        left = self._left if self._left is not None else self._unpack(n)
        if len(left) > n:
            taken, self._left = left.rows(slice(n)), left.rows(slice(n, None))
            self.next_fetch_offset = int(taken.offsets[-1]) + 1
        else:
            taken, self._left, self.next_fetch_offset = left, None, self._after
        return Taken([taken] if len(taken) else [])

    def _unpack(self, n: int) -> Records:
        """The next batches, `n` records if there are so many; sets `_after`."""
        self._maybe_raise_next_inline_exception()
        begin = self.next_fetch_offset
        batches: list[Any] = []
        count = size = 0
        try:
            while count < n and size < _TOGETHER_BYTES and self.record_iterator is not None:
                found = next(self.record_iterator, None)
                if found is not None:
                    batches.append(found)
                    count += _count(found)
                    size += _size(found)
        except Exception as error:
            if not batches:
                raise
            self._next_inline_exception = error  # for the next call
        self._after = self.next_fetch_offset
        records = self._records(batches, begin)
        old = int(np.searchsorted(records.offsets, self.fetch_offset))  # the first batch may begin before
        return records.rows(slice(old, None)) if old else records

    def _records(self, found: list[Any], begin: int) -> Records:
        """Batches, and single records in the format of old brokers, as columns."""
        batches = [each.timestamp for each in found if isinstance(each.timestamp, DefaultRecordBatch)]
        try:
            if len(batches) == len(found):
                return unpack(batches)
        except Malformed:
            pass
        parts: list[Records] = []
        self.next_fetch_offset = begin
        for each in found:
            try:
                batch = each.timestamp if isinstance(each.timestamp, DefaultRecordBatch) else None
                parts.append(of([each] if batch is None else list(iter(batch.__next__, None))))
                self.next_fetch_offset = each.offset + 1
            except Exception as error:
                if not parts:
                    raise
                self._next_inline_exception, self._after = error, self.next_fetch_offset
                break
        return joined(parts)


class Taken(list[Records]):
    """What was taken of a partition; its length is the number of records."""

    def __len__(self) -> int:
        return sum(map(len, self))


def use_columns(consumer: KafkaConsumer) -> None:
    """Make a new consumer return columns."""
    consumer._fetcher.PartitionRecords = ColumnPartition


def _count(found: Any) -> int:
    return found.timestamp.records_count if isinstance(found.timestamp, DefaultRecordBatch) else 1


def _size(found: Any) -> int:
    return len(found.timestamp._buffer) if isinstance(found.timestamp, DefaultRecordBatch) else 0
