"""Snapshots in an object store: S3, Google Cloud Storage or Azure, and what speaks their protocols.

    <bucket>/<prefix>/<topic>/<group>-<partition>/<offset>-<random>-<digest>        group: a digest of its name

`obstore` does the talking: it finds credentials as each cloud's own tools do (environment, token files, the machine's
role), retries what may be retried, and shows an object whole or not at all. A marker (`MARKER`) below the prefix tells
a place where state is kept from one that was mistyped. Not inside: a shared folder (`local`).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from streamer.errors import ConfigError, StateError, StateUnavailable
from streamer.runtime.state.interface import MARKER, unmarked

RETRIES = 3
RETRY_FOR_S = 20.0  # from the first request on; the group waits for us meanwhile
PART_BYTES = 8 * 1024 * 1024  # of a large upload
_NAME = re.compile(r"(\d{20})-[0-9a-f]{16}-[0-9a-f]{32}")
_WORDS = 300  # of an error: some answers are whole pages

T = TypeVar("T")
log = logging.getLogger(__name__)


class ObjectStore:
    """A `StateStore` in a bucket.

    Args:
        url: `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.
        topic: Input topic.
        group: Consumer group.

    Raises:
        ConfigError: `obstore` is not installed, or the URL or the environment does not say enough.
    """

    def __init__(self, url: str, topic: str, group: str) -> None:
        try:
            import obstore
            from obstore.exceptions import BaseError
            from obstore.store import from_url
        except ImportError:
            raise ConfigError(
                f"state.store {url} needs the package obstore; run: pip install 'streamer[object-store]'"
            ) from None
        self._obstore, self._errors = obstore, (BaseError, OSError, ValueError)
        self._url = url.rstrip("/")
        self._folder = f"{topic}/{hashlib.sha256(group.encode()).hexdigest()[:12]}"
        self._known: dict[int, set[str]] = {}  # what may be there to be removed, by partition
        self._was_marked = False
        self._silent = False  # that nothing could be removed was said
        try:
            self._store: Any = from_url(
                self._url,
                # A request has 30 s by default and a connection 5 s; to say so here would hide AWS_ALLOW_HTTP.
                retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_FOR_S)},
            )
        except self._errors as error:
            raise ConfigError(f"state.store {url} cannot be used: {_words(error)}; see docs/state.md") from None

    def write(self, partition: int, offset: int, body: Sequence[bytes]) -> str:
        """See `StateStore.write`."""
        digest = hashlib.blake2b(digest_size=16)
        for part in body:
            digest.update(part)
        name = f"{offset:020d}-{secrets.token_hex(8)}-{digest.hexdigest()}"
        path = self._path(partition, name)
        if sum(map(len, body)) <= PART_BYTES:
            self._ask("write", path, lambda: self._obstore.put(self._store, path, b"".join(body), use_multipart=False))
        else:
            self._ask("write", path, lambda: self._obstore.put(self._store, path, _pieces(body), chunk_size=PART_BYTES))
        if not self._was_marked and not self._is_marked("write"):
            content = b"state of streamer is kept here\n"
            self._ask("write", MARKER, lambda: self._obstore.put(self._store, MARKER, content, use_multipart=False))
        self._was_marked = True
        if partition in self._known:
            self._known[partition].add(name)
        return name

    def read(self, partition: int, name: str) -> bytes:
        """See `StateStore.read`."""
        found = _NAME.fullmatch(name)
        if found is None:
            raise StateError(f"{name[:80]!r} is no name of a snapshot in {self._url}: another store wrote it")
        path = self._path(partition, name)
        try:
            content: bytes = self._ask("read", path, lambda: self._obstore.get(self._store, path).bytes().to_bytes())
        except StateError:
            if not self._is_marked("read"):
                raise unmarked(self._url, "is this the place where the replicas keep their state?") from None
            raise
        if hashlib.blake2b(content, digest_size=16).hexdigest() != name[-32:]:
            raise StateError(f"{self._url}/{path}: damaged: its content is not what was written")
        return content

    def names(self, partition: int) -> list[str]:
        """See `StateStore.names`."""
        try:
            return list(reversed(self._list(partition)))
        except StateError as error:
            raise StateUnavailable(str(error)) from None

    def forget(self, partition: int, kept: Sequence[str], gone: Sequence[str] = ()) -> None:
        """See `StateStore.forget`."""
        try:
            known = self._known.get(partition)
            if known is None or not known.issuperset(kept):
                # The first time, or another replica had the partition meanwhile and may have left something.
                known = self._known[partition] = set(self._list(partition))
            # By offset, not by what was written here: a member that was put out may be asleep at this very line, and
            # what its successor has written since is newer.
            oldest = min(kept)[:20]
            old = [name for name in known - set(kept) if name[:20] <= oldest and name[:20] < max(kept)[:20]]
            for name in {*old, *gone}:
                self._remove(self._path(partition, name))
                known.discard(name)
            self._silent = False
        except StateError as error:
            if not self._silent:
                log.warning("superseded snapshots stay until they can be removed: %s", error)
            self._silent = True

    def prepare(self) -> None:
        """See `StateStore.prepare`."""
        self.prove()

    def prove(self) -> str:
        """See `StateStore.prove`."""
        path, content = f"{self._folder}-check/{secrets.token_hex(8)}", secrets.token_bytes(16)
        self._ask("write", path, lambda: self._obstore.put(self._store, path, content, use_multipart=False))
        found: bytes = self._ask("read", path, lambda: self._obstore.get(self._store, path).bytes().to_bytes())
        self._ask("list", path, lambda: list(self._obstore.list(self._store, prefix=f"{self._folder}-check/")))
        self._remove(path)
        if found != content:
            raise StateError(f"{self._url}/{path}: what was read is not what was written")
        return f"state store {self._url} can be written, read, listed and removed from"

    def close(self) -> None:
        """Nothing is open."""

    def _is_marked(self, verb: str) -> bool:
        def look() -> bool:
            with contextlib.suppress(FileNotFoundError):
                self._obstore.head(self._store, MARKER)
                return True
            return False

        return self._ask(verb, MARKER, look)

    def _list(self, partition: int) -> list[str]:
        """Names as they were written, the oldest first; a second apart at least, else by offset."""
        prefix = f"{self._folder}-{partition}/"
        batches = self._ask("list", prefix, lambda: list(self._obstore.list(self._store, prefix=prefix)))
        found = sorted((each["last_modified"], each["path"].rpartition("/")[2]) for batch in batches for each in batch)
        return [name for _, name in found if _NAME.fullmatch(name)]

    def _remove(self, path: str) -> None:
        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):  # S3 does not say so, the others do
                self._obstore.delete(self._store, path)

        self._ask("remove", path, remove)

    def _path(self, partition: int, name: str) -> str:
        return f"{self._folder}-{partition}/{name}"

    def _ask(self, verb: str, path: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except FileNotFoundError as error:
            what = "it is not there" if verb == "read" else f"the bucket is not there ({_words(error)})"
            raise StateError(f"{self._url}/{path}: {what}") from None
        except self._errors as error:
            kind = StateUnavailable if verb == "read" else StateError
            raise kind(f"{self._url}/{path}: could not {verb}: {_words(error)}") from None


def _pieces(body: Sequence[bytes]) -> Iterator[memoryview]:
    for part in body:
        view = memoryview(part)
        for begin in range(0, len(view), PART_BYTES):
            yield view[begin : begin + PART_BYTES]


def _words(error: BaseException) -> str:
    """The first line: the rest is how the library prints its own errors."""
    text = " ".join(str(error).partition("\n\n")[0].split()) or type(error).__name__
    return text if len(text) <= _WORDS else f"{text[:_WORDS]}..."
