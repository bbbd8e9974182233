"""Records as the broker keeps them, bytes to columns: many batches at once, no Python objects beside keys and values.

kafka-python makes three objects of every record, which costs more than anything else that happens to it. Here a
record is a row: where it begins is found one by one, everything else for all together. What looks wrong is left to
kafka-python, which then says why.

Not inside: checksums, codecs, which batches are read at all (`unpacking`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import numpy as np
from kafka.record.util import decode_varint
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

RECORD_BYTES = 100  # of a record, beside key, value and headers
NO_HEADERS: list[tuple[str, bytes]] = []
UNREADABLE = ()  # the headers of a record, one of which has a name that is not UTF-8


class Malformed(Exception):
    """What should be records is something else."""


@dataclass(frozen=True, slots=True)
class Records:
    """Records of one partition in offset order, `(n,)` each."""

    offsets: Ints
    timestamps_ms: Ints
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[Any]
    sizes: Ints  # in bytes, with all that is kept of a record

    def __len__(self) -> int:
        return len(self.offsets)

    def rows(self, rows: slice) -> Records:
        """Some of them."""
        return Records(
            self.offsets[rows],
            self.timestamps_ms[rows],
            self.keys[rows],
            self.values[rows],
            self.headers[rows],
            self.sizes[rows],
        )


def unpack(batches: Sequence[Any]) -> Records:
    """The records of some `DefaultRecordBatch`es that are decompressed already.

    Raises:
        Malformed: They are not what the protocol says.
    """
    parts = [memoryview(batch._buffer)[batch._pos :] for batch in batches]
    # A number at the very end may lack its last byte: one more is there to look at, and found out by `ends`.
    buffer = b"".join([*parts, b"\0"])
    counts = [batch.records_count for batch in batches]
    begins = list(accumulate(map(len, parts), initial=0))
    try:
        starts, ends = _boundaries(buffer, begins, counts)
        data = np.frombuffer(buffer, np.uint8)
        if (data[starts] >= 0x80).any():
            raise Malformed  # no attribute is known; kafka-python takes this for more than one byte
        later_ms, at = _varints(data, starts + 1)
        delta, at = _varints(data, at)
        keys, at = _texts(buffer, data, at)
        values, at = _texts(buffer, data, at)
        carried, at = _varints(data, at)
        headers: list[Any] = [NO_HEADERS] * len(starts)
        for row in np.flatnonzero(carried).tolist():
            headers[row], at[row] = _headers(buffer, int(at[row]), int(carried[row]))
    except (IndexError, OverflowError, ValueError) as error:
        raise Malformed from error
    if (at != ends).any():
        raise Malformed
    base = np.repeat(np.array([batch.base_offset for batch in batches], np.int64), counts)
    first_ms = np.repeat(np.array([batch.first_timestamp for batch in batches], np.int64), counts)
    stamps = first_ms + later_ms
    appended = [batch.timestamp_type == batch.LOG_APPEND_TIME for batch in batches]
    if any(appended):
        newest = np.repeat(np.array([batch.max_timestamp for batch in batches], np.int64), counts)
        stamps = np.where(np.repeat(np.array(appended), counts), newest, stamps)
    return Records(base + delta, stamps, keys, values, headers, ends - starts + RECORD_BYTES)


def of(found: Sequence[Any]) -> Records:
    """Records of kafka-python as columns."""
    n = len(found)
    return Records(
        np.fromiter((record.offset for record in found), np.int64, n),
        np.fromiter((record.timestamp for record in found), np.int64, n),
        [record.key for record in found],
        [record.value for record in found],
        [record.headers for record in found],
        np.fromiter((_size(record) for record in found), np.int64, n),
    )


def joined(parts: Sequence[Records]) -> Records:
    """Several as one."""
    if len(parts) == 1:
        return parts[0]
    return Records(
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.timestamps_ms for part in parts]),
        _chained(part.keys for part in parts),
        _chained(part.values for part in parts),
        _chained(part.headers for part in parts),
        np.concatenate([part.sizes for part in parts]),
    )


def _size(record: Any) -> int:
    texts = [record.key, record.value, *(value for _, value in record.headers)]
    return sum(len(text) for text in texts if text) + RECORD_BYTES


def _chained(lists: Iterable[list[Any]]) -> list[Any]:
    return list(chain.from_iterable(lists))


def _boundaries(buffer: bytes, begins: Sequence[int], counts: Sequence[int]) -> tuple[Ints, Ints]:
    """Where each record begins, behind its length, and where it ends."""
    starts: list[int] = []
    ends: list[int] = []
    for begin, end, count in zip(begins, begins[1:], counts, strict=False):
        at = begin
        for _ in range(count):
            low = buffer[at]
            if low < 0x80:
                at += 1
                length = low >> 1
            elif (high := buffer[at + 1]) < 0x80:
                at += 2
                length = (high << 7 | low & 0x7F) >> 1
            else:
                length, at = decode_varint(buffer, at)
                low = length < 0
            if low & 1:
                raise Malformed  # a negative length
            starts.append(at)
            at += length
            ends.append(at)
        if at != end:
            raise Malformed
    return np.array(starts, np.int64), np.array(ends, np.int64)


def _varints(data: Bytes, at: Ints) -> tuple[Ints, Ints]:
    """The number at each place, and the place behind it."""
    found = data[at]
    value = (found & 0x7F).astype(np.int64)
    at = at + 1
    more = np.flatnonzero(found >= 0x80)
    shift = 7
    while len(more):
        if shift > 63:
            raise Malformed
        found = data[at[more]]
        value[more] |= (found & 0x7F).astype(np.int64) << shift
        at[more] += 1
        more = more[found >= 0x80]
        shift += 7
    return (value >> 1 & 0x7FFF_FFFF_FFFF_FFFF) ^ -(value & 1), at


def _texts(buffer: bytes, data: Bytes, at: Ints) -> tuple[list[bytes | None], Ints]:
    """Bytes with their length before them, None where that is negative; and the place behind them."""
    lengths, at = _varints(data, at)
    if len(at) and not -1 <= int(lengths.min()) <= int(lengths.max()) <= len(buffer):
        raise Malformed
    ends = at + np.maximum(lengths, 0)
    found: list[bytes | None] = [buffer[a:b] for a, b in zip(at.tolist(), ends.tolist(), strict=True)]
    for row in np.flatnonzero(lengths < 0).tolist():
        found[row] = None
    return found, ends


def _headers(buffer: bytes, at: int, count: int) -> tuple[Any, int]:
    """The headers of one record, and the place behind them."""
    if count < 0:
        raise Malformed
    headers: list[tuple[str, bytes | None]] = []
    readable = True
    for _ in range(count):
        length, at = decode_varint(buffer, at)
        if length < 0:
            raise Malformed
        name = buffer[at : at + length]
        length_of_value, at = decode_varint(buffer, at + length)
        value = None if length_of_value < 0 else buffer[at : at + length_of_value]
        at += max(0, length_of_value)
        try:
            headers.append((name.decode(), value))
        except UnicodeDecodeError:
            readable = False
    return (headers if readable else UNREADABLE), at
