"""A fetcher of kafka-python that hands out columns within bounds, where the library makes an object of every record.

    BoundedPartition    what one fetch brought of a partition; unpacks many batches together
    BoundedFetcher      ends a poll when its bytes are used up

`bound` makes a consumer work so: its `poll` then returns lists of `columns.Records`. Which batches are read, their
checksums, and what is said of those that cannot be read is left to the library.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from typing import Any

import numpy as np
from kafka import KafkaConsumer
from kafka.consumer.fetcher import ExceptionMetadata, Fetcher
from kafka.record.default_records import DefaultRecordBatch

from streamer.config import LimitsConfig
from streamer.connectors.kafka.kafka_python.columns import Malformed, Records, joined, of, unpack
from streamer.connectors.kafka.kafka_python.unpacking import NO_MORE, BoundedBatch


class Taken(list[Records]):
    """What was taken of a partition; its length is the number of records."""

    def __len__(self) -> int:
        return sum(map(len, self))


class _Batches:
    """The batches of one fetch."""

    def __init__(self, fetched: Any, kind: type[BoundedBatch]) -> None:
        self._fetched, self._kind = fetched, kind

    def next_batch(self) -> Any:
        batch = self._fetched.next_batch()
        if type(batch) is DefaultRecordBatch:  # brokers since 0.11 have no others
            batch.__class__ = self._kind
        return batch


class BoundedPartition(Fetcher.PartitionRecords):  # type: ignore[misc]
    """What one fetch brought of a partition."""

    next_fetch_offset: int
    _next_inline_exception: Exception | None

    def __init__(self, fetcher: BoundedFetcher, fetch_offset: int, tp: Any, records: Any, **options: Any) -> None:
        self._fetcher = fetcher
        self._left: Records | None = None  # of what was unpacked last
        self._after = fetch_offset  # where to go on when that has been taken
        super().__init__(fetch_offset, tp, _Batches(records, fetcher.batch_kind), **options)

    def __bool__(self) -> bool:
        return self._left is not None or self._next_inline_exception is not None or bool(super().__bool__())

    def drain(self) -> None:
        self._left = None
        super().drain()

    def take(self, n: int | None = None) -> Taken:
        """At most `n` records, and as many bytes as the poll has left; the last record may go beyond."""
        left = self._left if self._left is not None else self._unpack(n)
        bytes_upto = np.cumsum(left.sizes)
        most = int(np.searchsorted(bytes_upto, self._fetcher.left_bytes)) + 1
        most = most if n is None else min(most, n)
        if len(left) > most:
            taken, self._left = left.rows(slice(most)), left.rows(slice(most, None))
            self.next_fetch_offset = int(taken.offsets[-1]) + 1
        else:
            taken, self._left, self.next_fetch_offset = left, None, self._after
        if not len(taken):
            return Taken()
        self._fetcher.left_bytes -= int(bytes_upto[len(taken) - 1])
        return Taken([taken])

    def _unpack(self, n: int | None) -> Records:
        """The next batches, `n` records if there are so many and the poll has bytes for them; sets `_after`."""
        self._maybe_raise_next_inline_exception()
        begin = self.next_fetch_offset
        found: list[Any] = []
        count = size = 0
        try:
            while self.record_iterator is not None and (n is None or count < n) and size < self._fetcher.left_bytes:
                some = next(self.record_iterator, None)
                if some is None:
                    break
                batch = _batch(some)
                found.append(some)
                count += 1 if batch is None else batch.records_count
                size += len(some.value or b"") if batch is None else len(batch._buffer)
        except Exception as error:
            if not found:
                raise
            self._next_inline_exception = error  # for the next call
        self._after = self.next_fetch_offset
        records = self._columns(found, begin)
        old = int(np.searchsorted(records.offsets, self.fetch_offset))  # the first batch may begin before
        return records.rows(slice(old, None)) if old else records

    def _columns(self, found: list[Any], begin: int) -> Records:
        """Batches, or single records in the format of old brokers, as columns."""
        batches = [batch for batch in map(_batch, found) if batch is not None]
        if len(batches) == len(found):
            try:
                return unpack(batches)
            except Malformed:
                pass
        parts: list[Records] = []
        self.next_fetch_offset = begin
        for some in found:
            try:
                batch = _batch(some)
                parts.append(of([some] if batch is None else batch.records()))
                self.next_fetch_offset = some.offset + 1
            except Exception as error:
                if not parts:
                    raise
                self._next_inline_exception, self._after = error, self.next_fetch_offset
                break
        return joined(parts)


class BoundedFetcher(Fetcher):  # type: ignore[misc]
    """A fetcher whose polls end after so many bytes, too."""

    _next_in_line_exception_metadata: Any
    _next_partition_records: Any
    batch_kind: type[BoundedBatch]
    poll_bytes: int
    left_bytes: int

    def fetched_records(self, max_records: int | None = None, update_offsets: bool = True) -> tuple[Any, bool]:
        """As in the library, but for the bytes."""
        if self._next_in_line_exception_metadata is not None:
            return super().fetched_records(max_records, update_offsets)  # type: ignore[no-any-return]
        drained: dict[Any, list[Any]] = defaultdict(list)
        left, self.left_bytes = max_records or self.config["max_poll_records"], self.poll_bytes
        partition, offset = None, -1
        try:
            while left > 0 and self.left_bytes > 0:
                part = self._next_partition_records
                if part:
                    partition, offset = part.topic_partition, part.next_fetch_offset
                    left -= self._append(drained, part, left, update_offsets)
                elif self._completed_fetches:
                    fetched = self._completed_fetches.popleft()
                    partition, offset = fetched.topic_partition, fetched.fetched_offset
                    self._next_partition_records = self._parse_fetched_data(fetched)
                else:
                    break
        except Exception as error:
            if not drained:
                raise
            self._next_in_line_exception_metadata = ExceptionMetadata(partition, offset, error)
        return dict(drained), bool(self._completed_fetches)


def bound(consumer: KafkaConsumer, limits: LimitsConfig) -> None:
    """Make a new consumer return columns and keep to the limits."""
    fetcher = consumer._fetcher
    fetcher.__class__ = BoundedFetcher
    fetcher.batch_kind = type("BoundedBatch", (BoundedBatch,), {"__slots__": NO_MORE, "most_bytes": limits.batch_bytes})
    fetcher.left_bytes = fetcher.poll_bytes = limits.poll_bytes
    fetcher.PartitionRecords = functools.partial(BoundedPartition, fetcher)


def _batch(some: Any) -> BoundedBatch | None:
    """The batch that stands in a record's place, None for a record."""
    return some.timestamp if isinstance(some.timestamp, BoundedBatch) else None
