"""Who may read `/metrics`: users with passwords, bearers of tokens, holders of certificates.

The file is that of Prometheus' exporters where it can be (`basic_auth_users`: name to bcrypt hash), see docs/http.md.
bcrypt is slow on purpose, so nobody may make us compute it at will: a login that was right is remembered until the
file changes and one that was wrong for a minute, one is checked at a time, and wrong ones are counted, for each user by
itself: an address may be that of a proxy with many behind it. Not inside: HTTP (`web`).
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bcrypt
import yaml

from streamer.config import HttpConfig
from streamer.errors import ConfigError
from streamer.observability.reloaded import Reloaded

MIN_COST, MAX_COST = 8, 14  # of bcrypt; one more takes twice as long, 14 about a second
MAX_FILE_BYTES = 1_000_000
MOST_WRONG = 5  # different passwords for one user from one address ...
MOST_WRONG_OF_ALL = 30  # ... and from all; names that are no user's count as one user
WRONG_S = 60.0  # within this time; more are not checked
_MOST_PASSWORD_BYTES = 72  # bcrypt reads no more
_MOST_REMEMBERED = 64
_HASH = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Verdict(enum.Enum):
    """What came of asking who is there."""

    KNOWN = "known"
    NOBODY = "no login came"
    WRONG = "the login is wrong"
    BUSY = "too many wrong logins; later"
    NO_CERTIFICATE = "no client certificate came"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the file says."""

    users: Mapping[str, bytes] = field(default_factory=dict)  # bcrypt hashes
    tokens: tuple[bytes, ...] = ()  # SHA-256 of each


def read_credentials(path: Path) -> Credentials:
    """The file of users and tokens.

    Raises:
        ConfigError: It cannot be used; never says what stands in it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ConfigError(f"http.auth_file {path}: wanted at most {MAX_FILE_BYTES} bytes")
        found = yaml.safe_load(content)
    except OSError as error:
        raise ConfigError(f"http.auth_file {path}: wanted a readable file; {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"http.auth_file {path}: wanted YAML, see docs/http.md") from None
    if not isinstance(found, dict) or set(found) - {"basic_auth_users", "bearer_tokens"}:
        raise ConfigError(f"http.auth_file {path}: wanted basic_auth_users, bearer_tokens or both, and nothing else")
    users, tokens = _entries(path, found, "basic_auth_users"), _entries(path, found, "bearer_tokens")
    for name, hashed in users.items():
        shape = _HASH.fullmatch(hashed)
        if ":" in name or shape is None:
            raise ConfigError(f"http.auth_file {path}: user {name!r}: wanted a bcrypt hash, $2b$12$...")
        if not MIN_COST <= int(shape[1]) <= MAX_COST:
            raise ConfigError(
                f"http.auth_file {path}: user {name!r}: wanted bcrypt of cost {MIN_COST} to {MAX_COST}; got {shape[1]}"
            )
    for name, digest in tokens.items():
        if not _DIGEST.fullmatch(digest):
            raise ConfigError(f"http.auth_file {path}: token {name!r}: wanted its SHA-256, 64 hexadecimal digits")
    if not users and not tokens:
        raise ConfigError(f"http.auth_file {path}: nobody could log in; wanted a user or a token")
    return Credentials(
        {name: hashed.encode() for name, hashed in users.items()}, tuple(bytes.fromhex(one) for one in tokens.values())
    )


def _entries(path: Path, found: Mapping[str, Any], key: str) -> dict[str, str]:
    entries = found.get(key) or {}
    if not isinstance(entries, dict) or not all(isinstance(part, str) for pair in entries.items() for part in pair):
        raise ConfigError(f"http.auth_file {path}: {key}: wanted names, each with the hash of its secret")
    return entries


class Access:
    """Judges requests; used from many threads.

    Args:
        config: What is asked for.
        clock: Seconds.

    Raises:
        ConfigError: The file of users and tokens cannot be used.
    """

    def __init__(self, config: HttpConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        path = config.auth_file
        self.on, self._needs_certificate = config.guarded, config.tls_client_cafile is not None
        self._credentials = None if path is None else Reloaded([path], lambda: read_credentials(path), clock=clock)
        self._passwords = _Passwords(clock)

    @property
    def schemes(self) -> list[str]:
        """For `WWW-Authenticate`."""
        known = self._credentials() if self._credentials else Credentials()
        return ['Basic realm="streamer", charset="UTF-8"'] * bool(known.users) + ["Bearer"] * bool(known.tokens)

    def judge(self, authorization: str | None, *, address: str, has_certificate: bool) -> Verdict:
        """Who is there.

        Args:
            authorization: The header's content.
            address: Of the client.
            has_certificate: Whether a certificate of the client was verified.
        """
        if self._needs_certificate and not has_certificate:
            return Verdict.NO_CERTIFICATE
        if self._credentials is None:
            return Verdict.KNOWN
        credentials = self._credentials()
        scheme, _, rest = (authorization or "").partition(" ")
        if not scheme:
            return Verdict.NOBODY
        if scheme.lower() == "bearer":
            return Verdict.KNOWN if _is_token(credentials, rest.strip()) else Verdict.WRONG
        user, password = _basic(rest) if scheme.lower() == "basic" else (None, b"")
        if user is None or len(password) > _MOST_PASSWORD_BYTES or b"\0" in password or not credentials.users:
            return Verdict.WRONG
        return self._passwords.judge(credentials, user, password, address)


class _Passwords:
    """Checks passwords at a bounded cost."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)  # what is remembered is of no use to anybody else
        self._lock, self._slot = threading.Lock(), threading.Lock()
        self._right: OrderedDict[bytes, bytes] = OrderedDict()  # login to the hash it was right for
        # Login and the hash it was wrong for: when, for which user and from where, the newest minute.
        self._wrong: dict[tuple[bytes, bytes | None], tuple[float, str | None, str]] = {}

    def judge(self, credentials: Credentials, user: str, password: bytes, address: str) -> Verdict:
        hashed = credentials.users.get(user)
        login = hmac.digest(self._key, user.encode() + b"\0" + password, "sha256")
        whose = None if hashed is None else user
        if (verdict := self._without_check(login, hashed, whose, address)) is not None:
            return verdict
        if not self._slot.acquire(timeout=2.0):
            return Verdict.BUSY
        try:
            if (verdict := self._without_check(login, hashed, whose, address)) is not None:
                return verdict  # by what was checked meanwhile
            # As long for users that do not exist.
            try:
                right = bcrypt.checkpw(password, hashed or max(credentials.users.values(), key=lambda one: one[4:6]))
            except ValueError:  # a hash that only looks like one
                right = False
            with self._lock:
                if not right or hashed is None:
                    self._wrong[login, hashed] = self._clock(), whose, address
                    return Verdict.WRONG
                self._right[login] = hashed
                while len(self._right) > _MOST_REMEMBERED:
                    self._right.popitem(last=False)
            return Verdict.KNOWN
        finally:
            self._slot.release()

    def _without_check(self, login: bytes, hashed: bytes | None, whose: str | None, address: str) -> Verdict | None:
        """What can be said of a login without computing anything."""
        with self._lock:
            if hashed is not None and self._right.get(login) == hashed:
                self._right.move_to_end(login)
                return Verdict.KNOWN
            since_s = self._clock() - WRONG_S
            self._wrong = {key: about for key, about in self._wrong.items() if about[0] > since_s}
            if (login, hashed) in self._wrong:
                return Verdict.WRONG
            where = [from_ for _, name, from_ in self._wrong.values() if name == whose]
            flooded = where.count(address) >= MOST_WRONG or len(where) >= MOST_WRONG_OF_ALL
            return Verdict.BUSY if flooded else None


def _is_token(credentials: Credentials, token: str) -> bool:
    digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
    return sum(hmac.compare_digest(digest, one) for one in credentials.tokens) > 0  # all are compared


def _basic(text: str) -> tuple[str | None, bytes]:
    try:
        user, colon, password = base64.b64decode(text.strip(), validate=True).partition(b":")
        return (user.decode() if colon else None), password
    except (binascii.Error, ValueError):
        return None, b""
