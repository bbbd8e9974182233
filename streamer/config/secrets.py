"""Secrets that stand in files, read again whenever they are needed.

Who rotates a password writes the file; the next connection logs in with it, without a restart. Not inside: which
settings are secrets (`schema`), the files of the HTTP port (`observability.reloaded`).
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from pydantic import SecretStr

MAX_BYTES = 1_000_000

log = logging.getLogger(__name__)


class SecretFile(SecretStr):
    """What a file says now; where it cannot be read (any more), what it said before.

    Args:
        path: Read at once.

    Raises:
        OSError, UnicodeDecodeError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(_read(path))
        self.path = path
        self._lock = threading.Lock()
        self._lost = False

    def get_secret_value(self) -> str:
        """The secret."""
        with self._lock:
            try:
                found = _read(self.path)
            except (OSError, UnicodeDecodeError) as error:
                self._tell_lost(error)
            else:
                self._lost = False
                if found:  # a file that is just being written may be empty
                    self._secret_value = found
            return self._secret_value

    def __deepcopy__(self, memo: object) -> SecretFile:
        return self

    def _tell_lost(self, error: Exception) -> None:
        if not self._lost:
            said = getattr(error, "strerror", None) or type(error).__name__
            log.warning("%s cannot be read any more, what it said before stays in use: %s", self.path, said)
        self._lost = True


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MAX_BYTES).decode("utf-8").strip()
