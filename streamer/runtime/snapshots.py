"""Snapshots: one file per partition, written so that a crash at any moment leaves a whole one.

    <directory>/<topic>-<partition>.snapshot          newest
    <directory>/<topic>-<partition>.snapshot.1        the one before
    <directory>/<topic>-<partition>.committed         offset of the newest snapshot whose commit was acknowledged

A file is safetensors (columns) with a JSON header (offset, stream names, digest of the
settings that shape the state). No pickle. Not inside: what is in a snapshot (`core.keyed_state`), when to write
one (`checkpoints`), how a file is written whole (`models.store.files`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import load as load_columns
from safetensors.numpy import save as save_columns

from models.store.files import remove_stale, write_atomically
from streamer.config import Settings
from streamer.core.keyed_state import ExportedState
from streamer.errors import StateError

FORMAT = 4
_TIME = {"lateness", "grid", "bars", "bar_size", "bar_field", "aggregate", "features", "correct"}
_RECORDS = {"format", "readings", "stream", "timestamp", "timestamp_unit", "features", "metric", "value", "sequence"}
UNTOUCHED_S = 60.0  # an unfinished snapshot of a living process is locked, and written to all the time
_MAGIC = b"streamer snapshot\n"
_MAX_HEADER_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was known when all records before `offset` had been dealt with."""

    offset: int
    state: ExportedState  # of the partition's streams
    committed: int | None = None  # the group's offset when this was written
    acknowledged: bool = False  # the commit that follows a snapshot was seen to succeed


def shape_of(settings: Settings) -> str:
    """Digest of the settings that the meaning of a snapshot depends on."""
    records = settings.records.model_dump(mode="json", include=_RECORDS)
    window = settings.window.model_dump(mode="json", include={"length", "patch"})
    time = settings.time.model_dump(mode="json", include=_TIME)
    parts = [settings.kafka.group, records, window, time, settings.context]
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
        body = save_columns({name: np.ascontiguousarray(column) for name, column in snapshot.state.columns.items()})
        header = json.dumps(
            {
                "format": FORMAT,
                "topic": self.topic,
                "partition": partition,
                "offset": snapshot.offset,
                "shape": self.shape,
                "committed": snapshot.committed,
                "values": snapshot.state.values,
                "crc32": zlib.crc32(body),
            }
        ).encode()
        preamble = _MAGIC + len(header).to_bytes(8, "big") + zlib.crc32(header).to_bytes(4, "big")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_atomically(path, [preamble, header, body], keep_as=path.with_name(path.name + ".1"))
        except OSError as error:
            raise StateError(f"{path}: could not write a snapshot; {error.strerror}") from None

    def acknowledge(self, partition: int, offset: int) -> None:
        """Note that the commit after the snapshot at `offset` succeeded.

        Without the note a group moved back by hand looks like a crash between snapshot and commit. It is not worth an
        fsync, nor a failed checkpoint: where it is lost, the crash is assumed.
        """
        with contextlib.suppress(OSError):
            self._acknowledged(partition).write_text(str(offset))

    def remove_stale(self) -> list[Path]:
        """Remove the unfinished files of processes that are gone; those of living replicas stay."""
        return remove_stale(self.directory, untouched_s=UNTOUCHED_S)

    def read(self, partition: int) -> tuple[Snapshot | None, list[str]]:
        """The newest snapshot that is whole and fits, and why others were skipped."""
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

    def _acknowledged(self, partition: int) -> Path:
        return self.directory / f"{self.topic}-{partition}.committed"

    def _is_acknowledged(self, partition: int, offset: int) -> bool:
        try:
            return self._acknowledged(partition).read_bytes() == str(offset).encode()
        except OSError:
            return False

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
        if meta["format"] != FORMAT:
            raise StateError(
                f"{path}: written by another version of streamer, in format {meta['format']}, not {FORMAT}"
            )
        if (meta["topic"], meta["partition"]) != (self.topic, partition):
            raise StateError(f"{path}: holds the state of {meta['topic']}[{meta['partition']}]")
        if meta["shape"] != self.shape:
            raise StateError(
                f"{path}: written with other settings: kafka.group, records.stream, records.timestamp, "
                "records.features, another key of records, the section time, window.length or window.patch has changed"
            )
        body = content[begin + length :]
        if zlib.crc32(body) != meta["crc32"]:
            raise StateError(f"{path}: the columns are damaged")
        try:
            columns = load_columns(body)
        except (safetensors.SafetensorError, ValueError) as error:
            raise StateError(f"{path}: {error}") from None
        committed, offset = meta.get("committed"), int(meta["offset"])
        return Snapshot(
            offset,
            ExportedState(columns, meta["values"]),
            None if committed is None else int(committed),
            self._is_acknowledged(partition, offset),
        )
