"""The database that `incidents.store` names, opened to be written or read."""

from __future__ import annotations

from streamer.config import Settings
from streamer.connectors.incident_store.interface import Database, StoreEmpty
from streamer.connectors.incident_store.postgresql import PostgresDatabase, require_psycopg
from streamer.connectors.incident_store.sqlite import SqliteDatabase


def check_store(settings: Settings) -> None:
    """Whether the store can be opened at all on this machine.

    Raises:
        ConfigError: It cannot; says what is missing.
    """
    if settings.incidents.url is not None:
        require_psycopg()


def open_to_write(settings: Settings) -> Database:
    """The database, made if it is not there; a damaged file is set aside.

    Raises:
        StoreTaken: Another replica writes.
        StoreUnavailable: It cannot be used now.
    """
    path, url = settings.incidents_file, settings.incidents.url
    if url is not None:
        return PostgresDatabase(url, settings.incidents.secret)
    assert path is not None, "no store is configured"
    return SqliteDatabase.mended(path)


def open_to_read(settings: Settings) -> Database:
    """The database, which must be there.

    Raises:
        StoreEmpty: It is not there yet.
        StoreUnavailable: It cannot be used now.
    """
    path, url = settings.incidents_file, settings.incidents.url
    if url is not None:
        return PostgresDatabase(url, settings.incidents.secret, read_only=True)
    assert path is not None, "no store is configured"
    if not path.exists():
        raise StoreEmpty(f"{path} is not there yet")
    return SqliteDatabase(path, read_only=True)
