"""A PostgreSQL database with the incidents, shared by replicas.

One replica at a time writes: the one that holds an advisory lock, which the server takes back when its connection ends.
Not inside: what stands in the tables (`store`).
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from streamer.connectors.incident_store.interface import (
    Execute,
    Rows,
    StoreEmpty,
    StoreTaken,
    StoreUnavailable,
)
from streamer.connectors.incident_store.store import TABLES, VERSION
from streamer.errors import ConfigError

if TYPE_CHECKING:
    import psycopg

SCHEMA = "streamer"  # the tables' own; made if it is not there
LOCK = 0x5354524D  # of the writer
CONNECT_S = 10
# Set for each session, so that a writer that is cut off gives up its lock soon, and nothing waits without end.
_OPTIONS = (
    f"-c search_path={SCHEMA} -c statement_timeout=60s -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s "
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
)


class PostgresDatabase:
    """A `Database` on a server.

    Args:
        url: Server, user and database; no password.
        password: Asked for with each connection.
        read_only: Nothing is changed, and no lock is taken.

    Raises:
        StoreTaken: Another replica writes.
        StoreEmpty: To be read only, and nothing is there yet.
        StoreUnavailable: It cannot be used.
        ConfigError: psycopg is not installed.
    """

    def __init__(self, url: str, password: Callable[[], str | None], *, read_only: bool = False) -> None:
        require_psycopg()
        import psycopg
        from psycopg.conninfo import make_conninfo

        self._error: type[Exception] = psycopg.Error
        with self._explained():
            settings: dict[str, Any] = {
                "connect_timeout": CONNECT_S,
                "options": _OPTIONS,
                "application_name": "streamer",
            }
            if (secret := password()) is not None:
                settings["password"] = secret
            self._connection: psycopg.Connection = psycopg.connect(make_conninfo(url, **settings), autocommit=True)
        try:
            with self._explained():
                self._prepare(read_only)
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Execute]:
        """See `Database.transaction`."""
        with self._explained(), self._connection.transaction():
            yield self._execute

    def shrink(self) -> None:
        """See `Database.shrink`: autovacuum does it."""

    def close(self) -> None:
        """See `Database.close`; the lock is free once this returns, not only when the server notices."""
        with contextlib.suppress(self._error):
            self._execute("SELECT pg_advisory_unlock_all()")
        self._connection.close()

    def _execute(self, statement: str, values: Sequence[Any] = (), /) -> Rows:
        return self._connection.execute(statement.replace("?", "%s").encode(), values)

    def _prepare(self, read_only: bool) -> None:
        do = self._execute
        if read_only:
            do("SET default_transaction_read_only = on")
        elif not do("SELECT pg_try_advisory_lock(?)", (LOCK,)).fetchone()[0]:
            raise StoreTaken("another replica keeps the store of incidents up to date")
        there = do("SELECT to_regclass(?)", (f"{SCHEMA}.about",)).fetchone()[0] is not None
        if not there and read_only:
            raise StoreEmpty("the database holds nothing yet")
        if not there:
            with self.transaction() as execute:
                execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
                for statement in TABLES:
                    execute(statement)
                execute("CREATE TABLE about (version BIGINT NOT NULL)")
                execute("INSERT INTO about (version) VALUES (?)", (VERSION,))
        version = do("SELECT version FROM about").fetchone()[0]
        if version > VERSION:
            raise StoreUnavailable(
                f"the tables were made by a later version of streamer ({version}, known here {VERSION}); upgrade"
            )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of the client in our words."""
        try:
            yield
        except self._error as error:
            text = " ".join(str(error).split())[:300]
            raise StoreUnavailable(f"PostgreSQL: {text or type(error).__name__}") from error


def require_psycopg() -> None:
    """Whether the client is installed.

    Raises:
        ConfigError: It is not.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise ConfigError("incidents.store postgresql:// needs psycopg; run: pip install 'streamer[postgresql]'")
