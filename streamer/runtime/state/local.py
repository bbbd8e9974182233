"""Snapshots as files on this machine, or in a folder that all replicas share.

    <directory>/<topic>/<group>-<partition>/<offset>-<random>.snapshot        group: a digest of its name

Each is written aside, synced and renamed, readable by its owner alone. A shared folder has a marker besides
(`MARKER`): a share that is not mounted is an empty folder, not state that is gone. Not inside: what is in a snapshot
(`snapshots`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from models.store.files import remove_stale, write_atomically
from streamer.errors import StateError, StateUnavailable
from streamer.runtime.state.interface import MARKER, unmarked

UNTOUCHED_S = 60.0  # an unfinished snapshot of a living process is locked, and written to all the time
_NAME = re.compile(r"(\d{20})-[0-9a-f]{16}")
_SUFFIX = ".snapshot"


class LocalStore:
    """A `StateStore` of files.

    Args:
        directory: Made when the first snapshot is written.
        topic: Input topic.
        group: Consumer group.
        shared: The directory may be a mount point: what is not there may be there when it is mounted.
    """

    def __init__(self, directory: Path, topic: str, group: str, *, shared: bool = False) -> None:
        self._root, self._directory = directory, directory / topic
        self._shared, self._was_marked = shared, False
        self._group = hashlib.sha256(group.encode()).hexdigest()[:12]
        self._tidied: set[int] = set()

    def prepare(self) -> None:
        """Folders are made when they are written to; whether a share is mounted is remembered."""
        self._is_marked()

    def prove(self) -> str:
        """See `StateStore.prove`."""
        content = secrets.token_bytes(16)
        path = self._directory / f"check-{secrets.token_hex(8)}"
        if not self._directory.exists():
            # Who checks need not be the user who runs: what it made, that user could not write to.
            above = next(parent for parent in self._directory.absolute().parents if parent.exists())
            if not os.access(above, os.W_OK | os.X_OK):
                raise StateError(f"{self._directory}: it is not there, and {above} cannot be written to")
            return f"state directory {self._directory} is not there yet; `run` makes it{self._doubt()}"
        try:
            try:
                write_atomically(path, [content], mode=0o600)
                if path.read_bytes() != content:
                    raise StateError(f"{path}: what was read is not what was written")
            finally:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StateError(
                f"{self._directory}: snapshots cannot be written, read and removed there; {error.strerror or error}"
            ) from None
        return f"state directory {self._directory} can be written, read and removed from{self._doubt()}"

    def write(self, partition: int, offset: int, body: Sequence[bytes]) -> str:
        """See `StateStore.write`."""
        name = f"{offset:020d}-{secrets.token_hex(8)}"
        folder = self._folder(partition)
        try:
            marked = self._is_marked()
            if self._was_marked and not marked:
                raise self._unmarked()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(folder / f"{name}{_SUFFIX}", body, mode=0o600)
            if self._shared and not marked:
                write_atomically(self._root / MARKER, [b"state of streamer is kept here\n"], mode=0o600)
                self._was_marked = True
        except StateUnavailable as error:
            raise StateError(str(error)) from None
        except OSError as error:
            raise StateError(f"{folder}: could not write a snapshot; {error.strerror or error}") from None
        return name

    def read(self, partition: int, name: str) -> bytes:
        """See `StateStore.read`."""
        if not _NAME.fullmatch(name):
            raise StateError(f"{name[:80]!r} is no name of a snapshot in {self._directory}: another store wrote it")
        path = self._folder(partition) / f"{name}{_SUFFIX}"
        try:
            return path.read_bytes()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StateUnavailable(f"{path}: {error.strerror or error}") from None
        if not self._shared:
            raise StateError(f"{path} is not there: another replica wrote it to a directory of its own")
        if not self._is_marked():
            raise self._unmarked()
        raise StateError(f"{path}: it is not there")

    def names(self, partition: int) -> list[str]:
        """See `StateStore.names`."""
        try:
            found = [(path.stat().st_mtime_ns, path.stem) for path in self._folder(partition).glob(f"*{_SUFFIX}")]
        except OSError as error:  # one was removed just now, by another owner
            raise StateUnavailable(f"{self._folder(partition)}: {error.strerror or error}") from None
        return [name for _, name in sorted(found, reverse=True) if _NAME.fullmatch(name)]

    def forget(self, partition: int, kept: Sequence[str], gone: Sequence[str] = ()) -> None:
        """See `StateStore.forget`."""
        folder = self._folder(partition)
        if partition not in self._tidied:
            self._tidied.add(partition)
            remove_stale(folder, untouched_s=UNTOUCHED_S)
        # By offset, not by what was written here: a member that was put out may be asleep at this very line, and what
        # its successor has written since is newer.
        oldest = min(kept)[:20]
        with contextlib.suppress(OSError):
            for path in folder.iterdir():
                name = path.name.removesuffix(_SUFFIX)
                older = name[:20] <= oldest and name[:20] < max(kept)[:20]
                if _NAME.fullmatch(name) and name not in kept and (older or name in gone):
                    path.unlink()

    def close(self) -> None:
        """Nothing is open."""

    def _is_marked(self) -> bool:
        if not self._shared:
            return False
        try:
            (self._root / MARKER).stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StateUnavailable(f"{self._root / MARKER}: {error.strerror or error}") from None
        self._was_marked = True
        return True

    def _doubt(self) -> str:
        return "" if not self._shared or self._is_marked() else "; no state has been kept there yet: is it mounted?"

    def _unmarked(self) -> StateUnavailable:
        return unmarked(str(self._root), "is the folder mounted?")

    def _folder(self, partition: int) -> Path:
        return self._directory / f"{self._group}-{partition}"
