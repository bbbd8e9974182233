"""The directory of bundles and which of them is current.

    bundles/
      20260102T030405Z-1a2b3c4d/   one bundle, never changed once it is here
      current                      a text file with one version in it

Publishing and promoting are atomic (write aside, fsync, rename), so a reader sees the
old bundle or the new one. Rollback is moving `current`. Not inside: whether a bundle
is any good.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path
from typing import Any

from models.detector import Detector
from models.errors import ArtifactError
from models.store import bundle
from models.store.files import remove_stale, sync_directory, temporary_directory, write_atomically

_CURRENT = "current"


class Registry:
    """Bundles under one directory; made at the first `publish`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def publish(self, detector: Detector, *, created: datetime, fingerprint: str, promote: bool = True) -> str:
        """Store a detector as a new version; make it current if `promote`.

        Raises:
            ArtifactError: The directory cannot be written.
        """
        with contextlib.ExitStack() as stack:
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                remove_stale(self.directory)
                aside = stack.enter_context(temporary_directory(self.directory))
            except OSError as error:
                raise ArtifactError(f"{self.directory}: wanted a writable directory; {error.strerror}") from None
            try:
                version = bundle.save(detector, aside, created=created, fingerprint=fingerprint)
                aside.chmod(0o755)
                with contextlib.suppress(FileExistsError):
                    # The same second and the same content: it is here already.
                    if not (self.directory / version).exists():
                        aside.rename(self.directory / version)
                sync_directory(self.directory)
            except OSError as error:
                raise ArtifactError(f"{self.directory}: could not write a bundle; {error.strerror}") from None
        if promote:
            self.promote(version)
        return version

    def versions(self) -> list[str]:
        """All versions, oldest first."""
        if not self.directory.is_dir():
            return []
        return sorted(path.name for path in self.directory.iterdir() if bundle.VERSION.fullmatch(path.name))

    def current(self) -> str | None:
        """The version in use, or None before the first promotion.

        Raises:
            ArtifactError: The pointer does not hold a version.
        """
        path = self.directory / _CURRENT
        try:
            text = path.read_text(encoding="ascii", errors="replace")[:200].strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ArtifactError(f"{path}: wanted a readable file; {error.strerror}") from None
        if not bundle.VERSION.fullmatch(text):
            raise ArtifactError(f"{path}: wanted a version such as 20260102T030405Z-1a2b3c4d; got {text!r}")
        return text

    def promote(self, version: str) -> None:
        """Make `version` current.

        Raises:
            ArtifactError: No such version, or its manifest cannot be read.
        """
        bundle.read_manifest(self._path(version))
        try:
            write_atomically(self.directory / _CURRENT, [version.encode() + b"\n"], mode=0o644)
        except OSError as error:
            raise ArtifactError(f"{self.directory}: could not move `current`; {error.strerror}") from None

    def rollback(self) -> str:
        """Make the newest version older than the current one current; returns it."""
        now = self.current()
        older = [version for version in self.versions() if now is None or version < now]
        if not older:
            raise ArtifactError(f"{self.directory}: no version older than {now}; nothing to roll back to")
        self.promote(older[-1])
        return older[-1]

    def manifest(self, version: str) -> dict[str, Any]:
        return bundle.read_manifest(self._path(version))

    def load(self, version: str | None = None) -> tuple[Detector, dict[str, Any]]:
        """Load one version, the current one by default.

        Raises:
            ArtifactError: Nothing is current, or the bundle cannot be trusted.
        """
        version = version or self.current()
        if version is None:
            raise ArtifactError(f"{self.directory}: no bundle is current; run `streamer retrain` first")
        return bundle.load(self._path(version))

    def _path(self, version: str) -> Path:
        # A version comes from a command line or a file; it must not lead out of the directory.
        if not bundle.VERSION.fullmatch(version) or not (self.directory / version).is_dir():
            known = ", ".join(self.versions()[-5:]) or "none"
            raise ArtifactError(f"{self.directory}: no bundle {version!r}; the newest are: {known}")
        return self.directory / version
