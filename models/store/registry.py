"""The directory of bundles and which of them is current.

    bundles/
      20260102T030405Z-1a2b3c4d/   one bundle, never changed once it is here
      current                      a text file with one version in it
      promotions                   which versions were current, and when

Publishing and promoting are atomic (write aside, fsync, rename), so a reader sees the
old bundle or the new one. All of it is for its owner alone (modes 600 and 700): whoever trains
and whoever scores are the same user. A rollback moves `current` back along the promotions. Not
inside: whether a bundle is any good.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.detector import Detector
from models.errors import ArtifactError
from models.store import bundle, promotions
from models.store.files import remove_stale, sync_directory, temporary_directory, write_atomically

_CURRENT, _PROMOTIONS = "current", "promotions"


class Registry:
    """Bundles under one directory; made at the first `publish`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def publish(
        self,
        detector: Detector,
        *,
        created: datetime,
        fingerprint: str,
        trained_on: Mapping[str, Any] | None = None,
        promote: bool = True,
    ) -> str:
        """Store a detector as a new version; make it current if `promote`. The rest is as in `bundle.save`.

        Raises:
            ArtifactError: The directory cannot be written.
        """
        with contextlib.ExitStack() as stack:
            try:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                remove_stale(self.directory)
                aside = stack.enter_context(temporary_directory(self.directory))
            except OSError as error:
                raise ArtifactError(f"{self.directory}: wanted a writable directory; {error.strerror}") from None
            try:
                version = bundle.save(detector, aside, created=created, fingerprint=fingerprint, trained_on=trained_on)
                aside.chmod(0o700)
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

    def history(self) -> list[promotions.Promotion]:
        """Promotions so far, oldest first; the last one that was not withdrawn is of the current version."""
        now, since = self._current_since()
        return promotions.made_good(promotions.read(self.directory / _PROMOTIONS), now, since, _iso(datetime.now(UTC)))

    def promote(self, version: str, *, at: datetime | None = None) -> None:
        """Make `version` current.

        Args:
            version: Of a bundle that is here.
            at: When; the present by default.

        Raises:
            ArtifactError: No such version, or its manifest cannot be read.
        """
        bundle.read_manifest(self._path(version))
        history = self.history()
        if self._current_since()[0] != version:
            history.append(promotions.Promotion(version, _iso(at or datetime.now(UTC))))
        self._move_current(version, history)

    def rollback(self, *, at: datetime | None = None) -> str:
        """Make the version current that was so before this one; returns it.

        Goes back one promotion each time. What was withdrawn by a rollback, or deleted since, is passed over.

        Args:
            at: When; the present by default.

        Raises:
            ArtifactError: No earlier promotion is known, or no bundle of one is left.
        """
        now, history = self.current(), self.history()
        back = promotions.way_back(history, now)
        left = [version for version in back if (self.directory / version).is_dir()]
        if not left:
            raise ArtifactError(self._nothing_to_go_back_to(now, back))
        bundle.read_manifest(self._path(left[0]))
        self._move_current(left[0], promotions.made_good(history, left[0], None, _iso(at or datetime.now(UTC))))
        return left[0]

    def _move_current(self, version: str, history: list[promotions.Promotion]) -> None:
        try:
            write_atomically(self.directory / _CURRENT, [version.encode() + b"\n"], mode=0o600)
        except OSError as error:
            raise ArtifactError(f"{self.directory}: could not move `current`; {error.strerror}") from None
        try:
            promotions.write(self.directory / _PROMOTIONS, history)
        except OSError as error:
            raise ArtifactError(
                f"{self.directory}: {version} is current now, but that could not be recorded for a later rollback; "
                f"{error.strerror}"
            ) from None

    def _current_since(self) -> tuple[str | None, str | None]:
        """The current version and when it became so; None where that cannot be told."""
        try:
            now = self.current()
            written = (self.directory / _CURRENT).stat().st_mtime if now else 0.0
        except (ArtifactError, OSError):
            return None, None
        return now, _iso(datetime.fromtimestamp(written, UTC)) if now else None

    def _nothing_to_go_back_to(self, now: str | None, gone: list[str]) -> str:
        if now is None:
            return (
                f"{self.directory}: no bundle is current, so there is nothing to roll back; see `streamer models list`"
            )
        why = (
            f"the bundles promoted before it are gone: {', '.join(gone[:3])}"
            if gone
            else f"{now} is the first that was promoted"
        )
        others = [version for version in self.versions() if version != now]
        todo = f"; to use another one: streamer models promote {others[-1]}" if others else ""
        return f"{self.directory}: nothing to roll back to: {why}{todo}"

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
            known = self.versions()[-5:]
            hint = f"the newest are: {', '.join(known)}" if known else "there is none yet; run `streamer retrain`"
            raise ArtifactError(f"{self.directory}: no bundle {version[:80]!r}; {hint}")
        return self.directory / version


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
