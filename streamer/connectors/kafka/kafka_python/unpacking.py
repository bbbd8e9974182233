"""Record batches of kafka-python, with bounds: on its own it unpacks whatever a batch holds.

Not inside: its records as columns (`columns`), what becomes of a batch that is refused (`records.poll_failed`).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, ClassVar

import lz4.frame
import snappy
import zstandard
from kafka.codec import _detect_xerial_stream
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.util import decode_varint

from streamer.connectors.kafka.kafka_python.columns import UNREADABLE

NO_MORE: tuple[str, ...] = ()  # slots: it takes the place of a batch that is made already

_CHUNK_BYTES = 256 * 1024
_XERIAL_HEADER_BYTES = 16


class TooLargeUnpacked(Exception):
    """A compressed batch holds more than may be unpacked."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(
            f"it is compressed and unpacks to more than the {most_bytes} bytes that limits.memory_mb allows for a batch"
        )


class Whole:
    """A batch in the place of a record: what the library asks of one, and passes on."""

    __slots__ = ("offset", "timestamp")
    key = value = headers = checksum = None
    timestamp_type = 0
    size_in_bytes = 1  # the library asks whether there was anything

    def __init__(self, batch: BoundedBatch) -> None:
        self.offset, self.timestamp = batch.last_offset, batch

    def validate_crc(self) -> bool:
        return True  # that of the batch was


class BoundedBatch(DefaultRecordBatch):  # type: ignore[misc]
    """One batch of records as the broker keeps it. It is its only record, until somebody wants `records`."""

    __slots__ = NO_MORE
    most_bytes: ClassVar[int]
    _buffer: Any
    _pos: int
    _decompressed: bool

    def __iter__(self) -> Any:
        self._maybe_uncompress()
        return iter((Whole(self),))

    def records(self) -> list[Any]:
        """Its records, as kafka-python reads them."""
        return list(iter(self.__next__, None))

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
