"""A real PostgreSQL for tests, where one is installed: Debian's package `postgresql`, or `initdb` on PATH.

It listens on loopback, lives in a folder of its own and is gone with the tests. PostgreSQL refuses to run as root, so
root starts it as another user.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Self

PATIENCE_S = 60.0
USER = "tests"
_PORTS = 3  # tried
_numbers = itertools.count()


def programs() -> Path | None:
    """The folder with `initdb` and `postgres`; None: it is not installed."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "postgres").exists() and (place / "initdb").exists()), None)


class PostgresServer:
    """One server, from `start` to `stop`."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="streamer-postgresql-"))
        self._user = (
            next((name for name in ("postgres", "nobody") if _exists(name)), None) if os.getuid() == 0 else None
        )
        self.password = secrets.token_hex(8)
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        secret = self._folder / "password"
        secret.write_text(self.password)
        if self._user is not None:
            for path in (self._folder, secret):
                shutil.chown(path, self._user)
        data = self._folder / "data"
        command = [str(self._programs / "initdb"), "--pgdata", str(data), "--username", USER, "--pwfile", str(secret)]
        command += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=self._user, cwd=self._folder)
        for _ in range(_PORTS):
            self.port = _free_port()
            if self._starts(data):
                return self
        raise AssertionError(f"PostgreSQL does not start: {(self._folder / 'log').read_text(errors='replace')}")

    def _starts(self, data: Path) -> bool:
        """Whether it does on this port, which another program may have taken meanwhile."""
        options = ["listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories=", "fsync=off"]
        options += ["shared_buffers=16MB", "max_connections=40"]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", data, *(part for option in options for part in ("-c", option))],
                stdout=log,
                stderr=subprocess.STDOUT,
                user=self._user,
                cwd=self._folder,
            )
        return self._answers()

    def url(self, database: str = "postgres") -> str:
        """Without the password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of an empty one."""
        name = f"incidents_{next(_numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return self.url(name)

    def run(self, statement: str, url: str | None = None) -> list[tuple[object, ...]]:
        """What a statement finds, as the owner of all."""
        import psycopg

        with psycopg.connect(url or self.url(), password=self.password, autocommit=True, connect_timeout=10) as db:
            found = db.execute(statement.encode())
            return list(found.fetchall()) if found.description else []

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            self._process.kill()
            self._process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        import psycopg

        assert self._process is not None
        pause = threading.Event()
        for _ in range(int(PATIENCE_S / 0.1)):
            if self._process.poll() is not None:
                return False
            try:
                self.run("SELECT 1")
                return True
            except psycopg.OperationalError:
                pause.wait(0.1)
        raise AssertionError(f"PostgreSQL did not answer within {PATIENCE_S:g} s")


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
        return True
    except KeyError:
        return False


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
