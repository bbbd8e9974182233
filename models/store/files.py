"""Files that are there whole or not at all, and the remains of processes that died writing one.

A file is written aside in the same directory, synced, and renamed into place; the
directory is synced too. While it is being written its writer holds a lock on it (`flock`), which the
kernel gives up when the process dies, however it dies. That tells the remains of a dead process
from the work of a living one, without process ids, which mean nothing across
containers. Not inside: what the files hold.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

# What is written aside is named so; `readings-0.incoming-1a2b3c4d` is from earlier versions.
TEMPORARY = ("*.incoming-*", ".current-*", ".spool-*")
UNTOUCHED_S = 3600.0


def write_atomically(path: Path, chunks: Iterable[bytes], *, mode: int | None = None) -> None:
    """Write a file so that a reader, also after a crash at any moment, finds the old content or the new.

    Args:
        path: Replaced when all chunks are on disk; its directory exists.
        chunks: The content.
        mode: Permissions; None: as the umask has it.

    Raises:
        OSError: The disk refuses. The old content is there still, nothing is left aside.
    """
    aside = path.with_name(f".incoming-{secrets.token_hex(8)}")  # short: `path` may have the longest name there is
    try:
        with aside.open("xb") as file:
            _lock(file.fileno())
            for chunk in chunks:
                file.write(chunk)
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
            aside.replace(path)
        sync_directory(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


@contextlib.contextmanager
def temporary_directory(parent: Path) -> Iterator[Path]:
    """An empty directory in `parent`, to be filled and renamed into place; removed at the end if it was not.

    Raises:
        OSError: It cannot be made.
    """
    aside = Path(tempfile.mkdtemp(prefix=".incoming-", dir=parent))
    try:
        handle = os.open(aside, os.O_RDONLY)
        try:
            _lock(handle)
            yield aside
        finally:
            os.close(handle)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def sync_directory(directory: Path) -> None:
    """Make renames in a directory survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_stale(directory: Path, *, untouched_s: float = UNTOUCHED_S, now_s: float | None = None) -> list[Path]:
    """Remove what dead processes left aside.

    That is: no process holds its lock, and nothing in it was touched for a while. The lock alone
    does not do: a writer takes it a moment after it makes the file, and a shared
    file system may not pass locks from one machine to another. Should a living writer lose
    its file all the same, its rename fails, which it reports; no file in use is ever touched.
    Where locks cannot be had at all, everything stays.

    Args:
        directory: Need not exist.
        untouched_s: Seconds since it was last written to.
        now_s: Seconds since 1970; the present by default.

    Returns:
        What was removed.
    """
    now_s = time.time() if now_s is None else now_s
    removed = []
    for path in sorted({path for pattern in TEMPORARY for path in _glob(directory, pattern)}):
        with contextlib.suppress(OSError):
            if path.is_symlink() or now_s - _touched_s(path) < untouched_s:
                continue
            # NFS gives the lock only to who may write.
            handle = os.open(path, (os.O_RDONLY if path.is_dir() else os.O_RDWR) | os.O_NOFOLLOW)
            try:
                if not _lock(handle):
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            finally:
                os.close(handle)
            removed.append(path)
    return removed


def _glob(directory: Path, pattern: str) -> list[Path]:
    try:
        return list(directory.glob(pattern))
    except OSError:
        return []


def _touched_s(path: Path) -> float:
    """When a file, or anything in a directory, was last written to."""
    inside = list(path.rglob("*")) if path.is_dir() else []
    return max(each.lstat().st_mtime for each in [path, *inside])


def _lock(handle: int) -> bool:
    """Take the lock if it is free; False if it is not, or there are no locks here."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
