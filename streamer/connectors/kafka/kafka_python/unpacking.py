"""Record batches of kafka-python, with bounds: on its own it unpacks whatever a batch holds.

    BoundedBatch        unpacks to so many bytes at most; takes header names that are not UTF-8
    BoundedPartition    hands out records until the bytes of a poll are used up
    BoundedFetcher      ends a poll when they are

`bound` makes a consumer use them. Not inside: what becomes of a batch that is refused (`records.poll_failed`).
"""

from __future__ import annotations

import functools
import itertools
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar

import lz4.frame
import snappy
import zstandard
from kafka import KafkaConsumer
from kafka.codec import _detect_xerial_stream
from kafka.consumer.fetcher import ExceptionMetadata, Fetcher
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.util import decode_varint

from streamer.config import LimitsConfig

UNREADABLE = ()  # the headers of a record, one of which has a name that is not UTF-8

_NO_MORE: tuple[str, ...] = ()  # slots: it takes the place of a batch that is made already
_CHUNK_BYTES = 256 * 1024
_RECORD_BYTES = 100  # of one record, beside key, value and headers
_XERIAL_HEADER_BYTES = 16


class TooLargeUnpacked(Exception):
    """A compressed batch holds more than may be unpacked."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(
            f"it is compressed and unpacks to more than the {most_bytes} bytes that limits.memory_mb allows for a batch"
        )


class BoundedBatch(DefaultRecordBatch):  # type: ignore[misc]
    """One batch of records as the broker keeps it."""

    __slots__ = _NO_MORE
    most_bytes: ClassVar[int]
    _buffer: Any
    _pos: int
    _decompressed: bool

    def _maybe_uncompress(self) -> None:
        codec = self.compression_type
        if not self._decompressed and codec != self.CODEC_NONE:
            self._assert_has_codec(codec)
            unpacked = bytearray()
            for chunk in _CODECS[codec](bytes(memoryview(self._buffer)[self._pos :]), self.most_bytes):
                unpacked += chunk
                if len(unpacked) > self.most_bytes:
                    raise TooLargeUnpacked(self.most_bytes)
            self._buffer, self._pos = unpacked, 0
        self._decompressed = True

    def _read_msg(self) -> Any:
        try:
            return super()._read_msg()
        except UnicodeDecodeError:
            return self._read_without_headers()

    def _read_without_headers(self) -> Any:
        length, start = decode_varint(self._buffer, self._pos)
        _, at = decode_varint(self._buffer, start)  # attributes
        later_ms, at = decode_varint(self._buffer, at)
        offset_delta, at = decode_varint(self._buffer, at)
        key, at = self._bytes(at)
        value, at = self._bytes(at)
        self._pos = start + length
        appended = self.timestamp_type == self.LOG_APPEND_TIME
        return DefaultRecord(
            length,
            self.base_offset + offset_delta,
            self.max_timestamp if appended else self.first_timestamp + later_ms,
            self.timestamp_type,
            key,
            value,
            UNREADABLE,
        )

    def _bytes(self, at: int) -> tuple[bytes | None, int]:
        length, at = decode_varint(self._buffer, at)
        return (None, at) if length < 0 else (bytes(self._buffer[at : at + length]), at + length)


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

    def __init__(self, fetcher: BoundedFetcher, fetch_offset: int, tp: Any, records: Any, **options: Any) -> None:
        self._fetcher = fetcher
        super().__init__(fetch_offset, tp, _Batches(records, fetcher.batch_kind), **options)

    def take(self, n: int | None = None) -> list[Any]:
        self._maybe_raise_next_inline_exception()
        records: list[Any] = []
        left = self._fetcher.left_bytes
        try:
            for record in itertools.islice(self.record_iterator, n):
                records.append(record)
                left -= record[10] + record[11] + record[12] + _RECORD_BYTES  # sizes of key, value and headers
                if left <= 0:
                    break
        except Exception as error:
            if not records:
                raise
            self._next_inline_exception = error  # for the next call
        self._fetcher.left_bytes = left
        return records


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
    """Make a new consumer keep to the limits."""
    fetcher = consumer._fetcher
    fetcher.__class__ = BoundedFetcher
    fetcher.batch_kind = type(
        "BoundedBatch", (BoundedBatch,), {"__slots__": _NO_MORE, "most_bytes": limits.batch_bytes}
    )
    fetcher.left_bytes = fetcher.poll_bytes = limits.poll_bytes
    fetcher.PartitionRecords = functools.partial(BoundedPartition, fetcher)


# Each yields what was unpacked, and stops soon after it is more than `most`.


def _gzip(packed: bytes, most: int) -> Iterator[bytes]:
    while packed:
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        unpacked = member.decompress(packed, most + 1)
        yield unpacked
        if not member.eof:
            raise CorruptRecordError("the gzip data ends too early")
        packed = member.unused_data


def _snappy(packed: bytes, most: int) -> Iterator[bytes]:
    for block in _snappy_blocks(packed) if _detect_xerial_stream(packed) else [packed]:
        if _snappy_length(block) > most:
            raise TooLargeUnpacked(most)
        yield snappy.decompress(block)


def _snappy_blocks(packed: bytes) -> Iterator[bytes]:
    at = _XERIAL_HEADER_BYTES
    while at < len(packed):
        (length,) = struct.unpack_from("!i", packed, at)
        if length < 0:
            raise CorruptRecordError(f"a snappy block of {length} bytes")
        yield packed[at + 4 : at + 4 + length]
        at += 4 + length


def _snappy_length(block: bytes) -> int:
    """What a block unpacks to, as it says at its beginning in groups of 7 bits."""
    length = 0
    for place, byte in enumerate(block[:5]):
        length |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            break
    return length


def _lz4(packed: bytes, most: int) -> Iterator[bytes]:
    while packed:
        frame = lz4.frame.LZ4FrameDecompressor()
        yield frame.decompress(packed, max_length=most + 1)
        if not frame.eof:
            raise CorruptRecordError("the lz4 data ends too early")
        packed = frame.unused_data or b""


def _zstd(packed: bytes, most: int) -> Iterator[bytes]:
    with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
        while chunk := reader.read(_CHUNK_BYTES):
            yield chunk


_CODECS = {
    DefaultRecordBatch.CODEC_GZIP: _gzip,
    DefaultRecordBatch.CODEC_SNAPPY: _snappy,
    DefaultRecordBatch.CODEC_LZ4: _lz4,
    DefaultRecordBatch.CODEC_ZSTD: _zstd,
}
