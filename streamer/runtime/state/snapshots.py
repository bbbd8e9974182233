"""Snapshots: the state of one partition as bytes, and back.

A snapshot is safetensors (columns) with a JSON header (offset, stream names, digest of the settings that shape the
state), compressed as a whole, each part with a checksum. No pickle. Not inside: what is in a snapshot
(`core.keyed_state`), where it is kept (`local`, `topic`, `objects`), which one counts (`pointer`), when to write one
(`runtime.checkpoints`).
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass

import numpy as np
import safetensors
import zstandard
from safetensors.numpy import load as load_columns
from safetensors.numpy import save as save_columns

from streamer.config import Settings
from streamer.core.keyed_state import ExportedState
from streamer.errors import StateError

FORMAT = 6
_TIME = {"lateness", "grid", "bars", "bar_size", "bar_field", "aggregate", "features", "correct"}
_RECORDS = {"format", "readings", "stream", "timestamp", "timestamp_unit", "features", "metric", "value", "sequence"}
_MAGIC = b"streamer snapshot\n"
_COMPRESSION = 1  # level of zstd: windows of floats hardly shrink further, empty columns vanish at any
_MAX_BYTES = 1 << 34


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was known when all records before `offset` had been dealt with."""

    offset: int
    state: ExportedState  # of the partition's streams
    topic_id: str | None = None  # of the topic whose records these were, where the broker tells


def shape_of(settings: Settings) -> str:
    """Digest of the settings that the meaning of a snapshot depends on."""
    records = settings.records.model_dump(mode="json", include=_RECORDS)
    window = settings.window.model_dump(mode="json", include={"length", "patch"})
    time = settings.time.model_dump(mode="json", include=_TIME)
    parts = [settings.kafka.group, records, window, time, settings.context]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Codec:
    """Snapshots of one topic's partitions as bytes.

    Args:
        topic: Input topic.
        shape: Digest of the settings a snapshot depends on; others' are refused.
    """

    def __init__(self, topic: str, shape: str) -> None:
        self.topic, self.shape = topic, shape

    def encode(self, partition: int, snapshot: Snapshot) -> list[bytes]:
        """The bytes of a snapshot, in parts."""
        # Booleans are stored as bytes: not every reader of the format knows them.
        body = save_columns({name: np.ascontiguousarray(column) for name, column in snapshot.state.columns.items()})
        header = json.dumps(
            {
                "format": FORMAT,
                "topic": self.topic,
                "partition": partition,
                "offset": snapshot.offset,
                "shape": self.shape,
                "topic_id": snapshot.topic_id,
                "values": snapshot.state.values,
            }
        ).encode()
        compressor = zstandard.ZstdCompressor(level=_COMPRESSION)
        parts = [compressor.compress(header), compressor.compress(body)]
        sizes = b"".join(
            size.to_bytes(8, "big")
            for raw, part in zip((header, body), parts, strict=True)
            for size in (len(raw), len(part), zlib.crc32(part))
        )
        return [_MAGIC, zlib.crc32(sizes).to_bytes(4, "big"), sizes, *parts]

    def decode(self, partition: int, content: bytes) -> Snapshot:
        """The snapshot in some bytes.

        Raises:
            StateError: They are damaged, of another version, topic or partition, or written with other settings.
        """
        header, body = _parts(content)
        try:
            meta = json.loads(header)
            written, origin, shape = meta["format"], (meta["topic"], meta["partition"]), meta["shape"]
            offset, values = meta["offset"], meta["values"]
            topic_id = meta.get("topic_id")  # not said by earlier versions
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise StateError(f"the header makes no sense: {error!r}") from None
        if written != FORMAT:
            raise StateError(f"written by another version of streamer, in format {written}, not {FORMAT}")
        if origin != (self.topic, partition):
            raise StateError(f"holds the state of {origin[0]}[{origin[1]}]")
        if shape != self.shape:
            raise StateError(
                "written with other settings: kafka.group, records.stream, records.timestamp, records.features, "
                "another key of records, the section time, window.length or window.patch has changed"
            )
        if type(offset) is not int or not isinstance(values, dict) or not isinstance(topic_id, str | None):
            raise StateError("the header makes no sense: wanted an offset, values and maybe the id of a topic")
        try:
            columns = load_columns(body)
        except (safetensors.SafetensorError, ValueError) as error:
            raise StateError(f"the columns are damaged: {error}") from None
        return Snapshot(offset, ExportedState(columns, values), topic_id)


def _parts(content: bytes) -> tuple[bytes, bytes]:
    """Header and columns, whole."""
    begin = len(_MAGIC) + 4 + 48
    sizes = content[len(_MAGIC) + 4 : begin]
    checksum = int.from_bytes(content[len(_MAGIC) : len(_MAGIC) + 4], "big")
    if not content.startswith(_MAGIC) or len(sizes) < 48 or zlib.crc32(sizes) != checksum:
        raise StateError("not a snapshot, or damaged")
    numbers = [int.from_bytes(sizes[at : at + 8], "big") for at in range(0, 48, 8)]
    found = []
    for raw, length, crc in (numbers[:3], numbers[3:]):
        part = content[begin : begin + length]
        begin += length
        if len(part) != length or zlib.crc32(part) != crc or raw > _MAX_BYTES:
            raise StateError("cut short or damaged")
        try:
            if zstandard.frame_content_size(part) != raw:  # what the frame says is what memory is taken for
                raise StateError("damaged: not as large as it says")
            found.append(zstandard.ZstdDecompressor().decompress(part, max_output_size=raw))
        except zstandard.ZstdError as error:
            raise StateError(f"damaged: {error}") from None
        if len(found[-1]) != raw:
            raise StateError("damaged: shorter than it says")
    return found[0], found[1]
