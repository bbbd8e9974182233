"""An SQLite file with the incidents, or a database in memory.

Write-ahead log, so that readers and the writer do not wait for each other; readable by its owner alone. A damaged file
is set aside under another name, and a new one takes its place. Not inside: what stands in the tables (`store`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from streamer.connectors.incident_store.interface import Execute, StoreDamaged, StoreEmpty, StoreUnavailable
from streamer.connectors.incident_store.store import TABLES, VERSION

MEMORY = Path(":memory:")
APPLICATION = 0x5354524D  # says that a file is one of these
BUSY_MS = 5_000
_FREED_PAGES = 1_000  # given back at once
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BESIDE = ("-wal", "-shm")

log = logging.getLogger(__name__)


class SqliteDatabase:
    """A `Database` in a file.

    Args:
        path: Made if it is not there, with its folder; `MEMORY`: no file.
        read_only: It must be there, and nothing is changed.

    Raises:
        StoreDamaged: It is no database any more.
        StoreUnavailable: It cannot be opened, or is of another program or a later version.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        with self._explained():
            if path == MEMORY:
                self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            else:
                if not read_only:
                    _make_private(path)
                mode = "ro" if read_only else "rw"
                self._connection = sqlite3.connect(
                    f"{path.absolute().as_uri()}?mode={mode}",
                    uri=True,
                    timeout=BUSY_MS / 1000,
                    isolation_level=None,
                    check_same_thread=False,
                )
        try:
            with self._explained():
                self._prepare(read_only)
        except BaseException:
            self._connection.close()
            raise

    @classmethod
    def mended(cls, path: Path) -> SqliteDatabase:
        """Open the file; a damaged one is set aside under another name first.

        Raises:
            StoreUnavailable: It cannot be opened.
        """
        try:
            return cls(path)
        except StoreDamaged as error:
            aside = _set_aside(path)
            log.error("%s; it is kept as %s, and a new one is made from the topics", error, aside.name)
            return cls(path)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Execute]:
        """See `Database.transaction`."""
        connection = self._connection
        with self._explained():
            connection.execute("BEGIN" if self._read_only else "BEGIN IMMEDIATE")
            try:
                yield connection.execute
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # some faults have rolled it back already
                    connection.execute("ROLLBACK")
                raise

    def shrink(self) -> None:
        """See `Database.shrink`."""
        with self._explained():
            self._connection.execute(f"PRAGMA incremental_vacuum({_FREED_PAGES})").fetchall()

    def close(self) -> None:
        """See `Database.close`."""
        self._connection.close()

    def _prepare(self, read_only: bool) -> None:
        do = self._connection.execute
        self._read_only = read_only
        application, version = (do(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        tables = do("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        if (tables or application) and application != APPLICATION:
            raise StoreUnavailable(f"{self._path} is a database of another program; name another file")
        if version > VERSION:
            raise StoreUnavailable(
                f"{self._path} was written by a later version of streamer (tables {version}, known here {VERSION}); "
                "upgrade, or name another file"
            )
        do("PRAGMA foreign_keys = ON")
        if read_only:
            if version == 0:
                raise StoreEmpty(f"{self._path} holds nothing yet")
            return
        if self._path != MEMORY:
            if version == 0:
                do("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table
            do("PRAGMA journal_mode = WAL")
            do("PRAGMA synchronous = NORMAL")  # what a power cut takes, its positions with it, is read again
            found = do("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise StoreDamaged(f"{self._path} is damaged: {str(found)[:200]}")
        if version == 0:
            with self.transaction() as execute:
                if execute("PRAGMA user_version").fetchone()[0] == 0:  # nobody was faster
                    for statement in TABLES:
                        execute(statement)
                    execute(f"PRAGMA application_id = {APPLICATION}")
                    execute(f"PRAGMA user_version = {VERSION}")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of SQLite and of the file system in our words."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
                raise StoreDamaged(f"{self._path} is damaged: {error}") from error
            raise StoreUnavailable(f"{self._path}: {error}") from error
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"{self._path}: {getattr(error, 'strerror', None) or error}") from error


def _make_private(path: Path) -> None:
    """The file is there, and of its owner alone; SQLite makes those beside it with the same permissions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        # Not opened: closing it would let go of the locks that this process may have on it.
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _set_aside(path: Path) -> Path:
    moment = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    aside = path.with_name(f"{path.name}.damaged-{moment}")
    try:
        path.rename(aside)
        for suffix in _BESIDE:
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    except OSError as error:
        raise StoreUnavailable(f"{path} is damaged and cannot be set aside: {error.strerror}") from error
    return aside
