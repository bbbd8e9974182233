"""Snapshots: one file per partition, written so that a crash at any moment leaves a whole one.

    <directory>/<topic>-<partition>.snapshot          newest
    <directory>/<topic>-<partition>.snapshot.1        the one before

A file is safetensors (columns) with a JSON header (offset, stream names, digest of the
settings that shape the state). No pickle. Not inside: what is in a snapshot
(`pipeline`), when to write one (`daemon`).
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import load as load_columns
from safetensors.numpy import save as save_columns

from models.store.files import remove_stale, write_atomically
from streamer.config import Settings
from streamer.errors import StateError

FORMAT = 2
UNTOUCHED_S = 60.0  # an unfinished snapshot of a living process is locked, and written to all the time
_MAGIC = b"streamer snapshot\n"
_MAX_HEADER_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was known when all records before `offset` had been dealt with."""

    offset: int
    columns: dict[str, NDArray[Any]]
    rest: dict[str, Any]
    committed: int | None = None  # the group's offset when this was written


def shape_of(settings: Settings) -> str:
    """Digest of the settings that the meaning of a snapshot depends on."""
    records = settings.records.model_dump(mode="json", include={"stream", "timestamp", "timestamp_unit", "features"})
    parts = [settings.kafka.group, records, settings.window.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def open_store(settings: Settings) -> SnapshotStore | None:
    """The snapshots of the input topic; None without `state.directory`."""
    if settings.state.directory is None:
        return None
    return SnapshotStore(settings.state.directory, settings.kafka.topic, shape_of(settings))


class SnapshotStore:
    """Snapshots of one topic's partitions.

    Args:
        directory: Made when the first snapshot is written.
        topic: Input topic.
        shape: Digest of the settings a snapshot depends on; others' are refused.
    """

    def __init__(self, directory: Path, topic: str, shape: str) -> None:
        self.directory, self.topic, self.shape = directory, topic, shape

    def write(self, partition: int, snapshot: Snapshot) -> None:
        """Write aside, fsync, rename; the newest so far becomes the one before.

        Raises:
            StateError: The disk refuses; earlier snapshots are untouched.
        """
        path = self._path(partition)
        # Booleans are stored as bytes: not every reader of the format knows them.
        body = save_columns({name: np.ascontiguousarray(column) for name, column in snapshot.columns.items()})
        header = json.dumps(
            {
                "format": FORMAT,
                "topic": self.topic,
                "partition": partition,
                "offset": snapshot.offset,
                "shape": self.shape,
                "committed": snapshot.committed,
                "rest": snapshot.rest,
                "crc32": zlib.crc32(body),
            }
        ).encode()
        preamble = _MAGIC + len(header).to_bytes(8, "big") + zlib.crc32(header).to_bytes(4, "big")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_atomically(path, [preamble, header, body], keep_as=path.with_name(path.name + ".1"))
        except OSError as error:
            raise StateError(f"{path}: could not write a snapshot; {error.strerror}") from None

    def remove_stale(self) -> list[Path]:
        """Remove the unfinished files of processes that are gone; those of living replicas stay."""
        return remove_stale(self.directory, untouched_s=UNTOUCHED_S)

    def read(self, partition: int) -> tuple[Snapshot | None, list[str]]:
        """The newest snapshot that is whole and fits, and why others were passed over."""
        path = self._path(partition)
        refused: list[str] = []
        for candidate in (path, path.with_name(path.name + ".1")):
            try:
                return self._read(candidate, partition), refused
            except FileNotFoundError:
                continue
            except (StateError, OSError) as error:
                refused.append(str(error))
        return None, refused

    def _path(self, partition: int) -> Path:
        return self.directory / f"{self.topic}-{partition}.snapshot"

    def _read(self, path: Path, partition: int) -> Snapshot:
        content = path.read_bytes()
        begin = len(_MAGIC) + 12
        if not content.startswith(_MAGIC) or len(content) < begin:
            raise StateError(f"{path}: not a snapshot")
        length = int.from_bytes(content[len(_MAGIC) : len(_MAGIC) + 8], "big")
        header = content[begin : begin + min(length, _MAX_HEADER_BYTES)]
        if len(header) != length or zlib.crc32(header) != int.from_bytes(content[begin - 4 : begin], "big"):
            raise StateError(f"{path}: the header is damaged")
        meta = json.loads(header)
        wanted = (FORMAT, self.topic, partition, self.shape)
        got = (meta["format"], meta["topic"], meta["partition"], meta["shape"])
        if wanted != got:
            raise StateError(f"{path}: wanted a snapshot of {wanted}; got {got}: the settings have changed")
        body = content[begin + length :]
        if zlib.crc32(body) != meta["crc32"]:
            raise StateError(f"{path}: the columns are damaged")
        try:
            columns = load_columns(body)
        except (safetensors.SafetensorError, ValueError) as error:
            raise StateError(f"{path}: {error}") from None
        committed = meta.get("committed")
        return Snapshot(int(meta["offset"]), columns, meta["rest"], None if committed is None else int(committed))
