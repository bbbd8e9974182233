"""Snapshots in a Kafka topic of the group's own: nothing is needed that is not there already.

    topic       as many partitions as the input; the state of input partition 3 lies in its partition 3
    snapshot    chunks, each a record with a key of its own; one after the other, perhaps with another writer's between
    name        where they lie (first and last offset), how many they are, and a digest of all

A snapshot is found by offset, not by key: the group's commit names it, and only its range is read. What is superseded
is removed from the front (DeleteRecords); where the broker does not grant that, by tombstones and compaction. Not
inside: making and checking the topic (`topic_settings`), any Kafka client (`connectors.kafka`).
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from streamer.config import KafkaConfig
from streamer.connectors.kafka import (
    AdminRefused,
    Entry,
    RangeReader,
    RecordBatch,
    connect_log_writer,
    connect_range_reader,
    connect_topic_admin,
)
from streamer.errors import BrokerError, DeliveryFailed, StateError, StateUnavailable
from streamer.runtime.state.topic_settings import StateTopic

FORMAT = b"1"
CHUNK_BYTES = 900_000  # with key and headers below a broker's default max.message.bytes
TOGETHER = 8  # chunks on their way at a time: the memory that writing takes
HEADER = "streamer.state"  # format, number of the chunk, number of chunks, CRC-32
_MAX_CHUNKS = 1 << 16
_NAME = re.compile(r"(\d{1,9}):(\d{1,18})-(\d{1,18}):(\d{1,5}):([0-9a-f]{16}):([0-9a-f]{32})")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Place:
    """What a name says."""

    partition: int
    first: int
    last: int
    count: int
    nonce: str
    digest: str

    @classmethod
    def of(cls, name: str) -> _Place:
        found = _NAME.fullmatch(name)
        if found is None or not 0 < int(found[4]) <= _MAX_CHUNKS:
            raise StateError(f"{name[:80]!r} is no name of a snapshot in a topic: another store wrote it")
        return cls(int(found[1]), int(found[2]), int(found[3]), int(found[4]), found[5], found[6])

    def __str__(self) -> str:
        return f"{self.partition}:{self.first}-{self.last}:{self.count}:{self.nonce}:{self.digest}"

    @property
    def keys(self) -> list[bytes]:
        return [_key(self.partition, self.nonce, number) for number in range(self.count)]


class _Growing:
    """A snapshot whose name is not known, as its chunks come."""

    def __init__(self, partition: int, nonce: str) -> None:
        self._partition, self._nonce = partition, nonce
        self._offsets: list[int] = []
        self._whole, self._digest = False, hashlib.blake2b(digest_size=16)

    def add(self, offset: int, key: bytes | None, value: bytes, about: bytes) -> None:
        number, (count, *_) = len(self._offsets), (*about.split(b" ")[2:3], b"")
        known = key == _key(self._partition, self._nonce, number) and count.isdigit()
        if known and _whole(about, number, int(count), value):
            self._offsets.append(offset)
            self._digest.update(value)
            self._whole = len(self._offsets) == int(count)

    def place(self) -> _Place | None:
        """Where it lies; None if it is not whole."""
        if not self._whole:
            return None
        first, last = self._offsets[0], self._offsets[-1]
        return _Place(self._partition, first, last, len(self._offsets), self._nonce, self._digest.hexdigest())


class TopicStore:
    """A `StateStore` in a topic.

    Args:
        config: Connection, input topic and client.
        topic: Of snapshots; belongs to one group and one input topic.
    """

    def __init__(self, config: KafkaConfig, topic: str) -> None:
        # The reader takes the topic from its settings.
        self._config, self.topic = config.model_copy(update={"topic": topic}), topic
        self._timeout_s = config.delivery_timeout_s
        self._writer = connect_log_writer(config)
        self._admin = connect_topic_admin(config)
        self._asking, self._reading = threading.Lock(), threading.Lock()  # two threads use the admin client, the reader
        self._settings = StateTopic(self._admin, topic, config)
        self._reader: RangeReader | None = None
        self._partitions = 0  # of the topic, as far as known
        self._front: dict[int, int] = {}  # before which everything is removed, by partition
        self._written: dict[int, list[_Place]] = {}  # here, and not removed
        self._offsets: dict[int, list[int]] = {}  # of all records written here and not removed
        self._may_delete = True

    def prepare(self, at_least: int = 1) -> None:
        """See `StateStore.prepare`: the topic is made, grown or checked."""
        with self._asking:
            self._partitions = self._settings.prepare(at_least)
        self._writer.close()  # it remembers how many partitions there were

    def write(self, partition: int, offset: int, body: Sequence[bytes]) -> str:
        """See `StateStore.write`."""
        # Nobody polls the reader once restoring is over; in an outage librdkafka queues a megabyte of errors a minute.
        if self._reading.acquire(blocking=False):
            try:
                self._close_reader()
            finally:
                self._reading.release()
        if partition >= self._partitions:
            try:
                self.prepare(partition + 1)
            except StateUnavailable as error:
                raise StateError(str(error)) from None
        digest = hashlib.blake2b(digest_size=16)
        for part in body:
            digest.update(part)
        nonce, count = secrets.token_hex(8), max(1, -(-sum(map(len, body)) // CHUNK_BYTES))
        if count > _MAX_CHUNKS:
            raise StateError(f"a snapshot of {count * CHUNK_BYTES:,} bytes is too large for a topic")
        offsets: list[int] = []
        entries: list[Entry] = []
        for number, chunk in enumerate(_chunks(body)):
            about = b" ".join((FORMAT, b"%d" % number, b"%d" % count, b"%d" % zlib.crc32(chunk)))
            entries.append(Entry(_key(partition, nonce, number), chunk, [(HEADER, about)]))
            if len(entries) == TOGETHER:
                offsets += self._append(partition, entries)
                entries = []
        offsets += self._append(partition, entries)
        place = _Place(partition, min(offsets), max(offsets), count, nonce, digest.hexdigest())
        self._written.setdefault(partition, []).append(place)
        return str(place)

    def read(self, partition: int, name: str) -> bytes:
        """See `StateStore.read`."""
        place = _Place.of(name)
        if place.partition != partition:
            raise StateError(f"{name} is the state of partition {place.partition}, not {partition}")
        found: dict[int, bytes] = {}
        with self._reading:
            for key, value, about in self._read(partition, place):
                number = _number(key, place)
                if number is not None and value is not None and _whole(about, number, place.count, value):
                    found[number] = value
        where = f"{self.topic}[{partition}]@{place.first}-{place.last}"
        if len(found) < place.count:
            raise StateError(f"{where}: {place.count - len(found)} of {place.count} parts are gone or damaged")
        content = b"".join(found[number] for number in range(place.count))
        if hashlib.blake2b(content, digest_size=16).hexdigest() != place.digest:
            raise StateError(f"{where}: damaged: its content is not what was written")
        return content

    def names(self, partition: int) -> list[str]:
        """See `StateStore.names`: what is superseded has been removed, so that there are few."""
        growing: dict[str, _Growing] = {}  # by nonce; the chunks of one are in order, those of others between
        with self._reading:  # what is written meanwhile must not close the reader
            for batch in self._records(partition):
                rows = zip(batch.offsets.tolist(), batch.keys, batch.values, batch.headers, strict=True)
                for offset, key, value, headers in rows:
                    nonce = (key or b"").decode(errors="replace").partition("/")[2].partition("/")[0]
                    if value is None:
                        growing.pop(nonce, None)
                    else:
                        about = dict(headers).get(HEADER, b"")
                        growing.setdefault(nonce, _Growing(partition, nonce)).add(offset, key, value, about)
        places = [place for each in growing.values() if (place := each.place()) is not None]
        return [str(place) for place in sorted(places, key=lambda place: place.last, reverse=True)]

    def forget(self, partition: int, kept: Sequence[str], gone: Sequence[str] = ()) -> None:
        """See `StateStore.forget`; what is `gone` lies before what is kept."""
        try:
            places = [_Place.of(name) for name in kept]
            front = min(place.first for place in places)
            if front <= self._front.get(partition, 0):
                return
            if self._may_delete:
                self._delete(partition, front)
            if not self._may_delete:
                self._bury(partition, front)
            self._front[partition] = front
            self._written[partition] = [each for each in self._written.get(partition, ()) if each.last >= front]
            self._offsets[partition] = [offset for offset in self._offsets.get(partition, ()) if offset >= front]
        except (StateError, BrokerError) as error:
            log.warning("superseded state of partition %d stays until it can be removed: %s", partition, error)

    def prove(self) -> str:
        """See `StateStore.prove`."""
        with self._asking:
            self._partitions = self._settings.look()
        content = secrets.token_bytes(16)
        name = self.write(0, 0, [content])
        if self.read(0, name) != content:
            raise StateError(f"{self.topic}: what was read is not what was written")
        # Not from the front: there lies the state of a group that is running.
        self._append(0, [Entry(key, None) for key in _Place.of(name).keys])
        return f"state topic {self.topic} can be written and read, and keeps what is written"

    def close(self) -> None:
        """See `StateStore.close`."""
        self._writer.close()
        self._admin.close()
        self._close_reader()

    def _append(self, partition: int, entries: Sequence[Entry]) -> list[int]:
        if not entries:
            return []
        try:
            offsets = self._writer.append(self.topic, partition, entries, timeout_s=self._timeout_s)
            self._offsets.setdefault(partition, []).extend(offsets)
            return offsets
        except DeliveryFailed as error:
            raise StateError(f"state could not be written: {error}; {self._settings.advice(str(error))}") from None

    def _read(self, partition: int, place: _Place) -> Iterator[tuple[bytes | None, bytes | None, bytes]]:
        """Key, value and header of each record in the range of a snapshot."""
        for batch in self._records(partition, place):
            for key, value, headers in zip(batch.keys, batch.values, batch.headers, strict=True):
                yield key, value, dict(headers).get(HEADER, b"")

    def _records(self, partition: int, place: _Place | None = None) -> Iterator[RecordBatch]:
        """The records in the range of a snapshot, or all that are there."""
        try:
            if self._reader is None:
                self._reader = connect_range_reader(self._config)
            bounds = self._reader.bounds([partition])
            if partition not in bounds:  # added since the reader asked
                self._close_reader()
                self._reader = connect_range_reader(self._config)
                bounds = self._reader.bounds([partition])
            first, end = bounds.get(partition, (0, 0))
            if place is None:
                place = _Place(partition, first, end - 1, 0, "", "")
            if place.first < first or place.last >= end:
                raise StateError(
                    f"{self.topic}[{partition}]@{place.first}-{place.last} is not there: the partition holds "
                    f"{first}..{end}; its records were deleted or the topic made anew"
                )
            if place.first <= place.last:
                yield from self._reader.read({partition: (place.first, place.last + 1)})
        except BrokerError as error:
            self._close_reader()
            raise StateUnavailable(f"state of partition {partition} cannot be read: {error}") from None

    def _close_reader(self) -> None:
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.close()

    # Removing what is superseded.

    def _delete(self, partition: int, front: int) -> None:
        try:
            with self._asking:
                self._admin.delete_records(self.topic, partition, front)
        except AdminRefused as error:
            log.warning(
                "superseded state in %s is removed by tombstones, which takes the broker longer, because DELETE on the "
                "topic is not granted: %s; %s",
                self.topic, error, self._settings.grant_delete(),
            )  # fmt: skip
            self._may_delete = False

    def _bury(self, partition: int, front: int) -> None:
        """Write tombstones for what lies before `front`."""
        known, buried = self._written.get(partition, ()), self._front.get(partition)
        mine = sum(offset < front for offset in self._offsets.get(partition, ()))
        if buried is not None and buried + mine == front:
            keys = [key for each in known if each.last < front for key in each.keys]
        else:
            # The first time, or somebody else has written between: a replica that crashed, or was put out.
            keys = self._living(partition, buried, front)
        for begin in range(0, len(keys), 1000):
            self._append(partition, [Entry(key, None) for key in keys[begin : begin + 1000]])

    def _living(self, partition: int, begin: int | None, front: int) -> list[bytes]:
        """Keys of the records between two offsets that no tombstone there removes; None: from the first record on."""
        reader = connect_range_reader(self._config)  # the other belongs to the thread that restores
        try:
            first = reader.bounds()[partition][0] if begin is None else begin
            living: dict[bytes, None] = {}
            for batch in reader.read({partition: (first, front)}):
                for key, value in zip(batch.keys, batch.values, strict=True):
                    if value is None:
                        living.pop(key or b"", None)
                    elif key:
                        living[key] = None
            return list(living)
        finally:
            reader.close()


def _key(partition: int, nonce: str, number: int) -> bytes:
    return b"%d/%s/%d" % (partition, nonce.encode(), number)


def _number(key: bytes | None, place: _Place) -> int | None:
    """Which chunk of a snapshot a record is; None if it is none of it."""
    before, _, number = (key or b"").rpartition(b"/")
    if before != b"%d/%s" % (place.partition, place.nonce.encode()) or not number.isdigit():
        return None
    return int(number) if int(number) < place.count else None


def _whole(about: bytes, number: int, count: int, value: bytes) -> bool:
    return about == b" ".join((FORMAT, b"%d" % number, b"%d" % count, b"%d" % zlib.crc32(value)))


def _chunks(body: Sequence[bytes]) -> Iterator[bytes]:
    """All bytes in pieces of `CHUNK_BYTES`, the last one smaller; at least one.

    >>> [len(chunk) for chunk in _chunks([b"a" * 1_000_000, b"b" * 900_000])]
    [900000, 900000, 100000]
    """
    pending = bytearray()
    some = False
    for part in body:
        view = memoryview(part)
        while len(view):
            room = CHUNK_BYTES - len(pending)
            pending += view[:room]
            view = view[room:]
            if len(pending) == CHUNK_BYTES:
                yield bytes(pending)
                some = True
                pending.clear()
    if pending or not some:
        yield bytes(pending)
