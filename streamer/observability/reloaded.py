"""Files that are read again when they change, while the process runs.

A file that can no longer be used is logged once and what was read before stays: half a rotation must not lock
everybody out, nor let everybody in. Not inside: what is in the files (`tls`, `access`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from streamer.errors import ConfigError

LOOK_S = 1.0  # files are looked at no more often

T = TypeVar("T")
_Signature = tuple[tuple[int, int, int] | None, ...]

log = logging.getLogger(__name__)


class Reloaded(Generic[T]):
    """What some files say now.

    Args:
        files: Looked at by time, size and number.
        read: Makes something of them; raises `ConfigError`.
        clock: Seconds.

    Raises:
        ConfigError: They cannot be used the first time.
    """

    def __init__(
        self, files: Sequence[Path], read: Callable[[], T], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._files, self._read, self._clock = files, read, clock
        self._lock = threading.Lock()
        self._signature = self._look()
        self._now = read()
        self._looked_s = clock()

    def __call__(self) -> T:
        """What they say, at most a second old."""
        with self._lock:
            if self._clock() - self._looked_s >= LOOK_S:
                self._looked_s = self._clock()
                signature = self._look()
                if signature != self._signature:
                    self._signature = signature
                    self._read_again()
            return self._now

    def _read_again(self) -> None:
        names = ", ".join(map(str, self._files))
        try:
            self._now = self._read()
        except ConfigError as error:
            log.error("%s; what was read before stays in use", error)
        else:
            log.info("read again: %s", names)

    def _look(self) -> _Signature:
        found: list[tuple[int, int, int] | None] = []
        for file in self._files:
            try:
                about = os.stat(file)
            except OSError:
                found.append(None)
            else:
                found.append((about.st_mtime_ns, about.st_size, about.st_ino))
        return tuple(found)
