"""Publishing is all or nothing, and versions cannot lead out of the registry."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from models.detector import Detector
from models.errors import ArtifactError
from models.store import bundle
from models.store.registry import Registry
from tests import tiny

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def publish(registry: Registry, detector: Detector, day: int = 0, *, promote: bool = True) -> str:
    return registry.publish(detector, created=CREATED + timedelta(days=day), fingerprint="", promote=promote)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "bundles")


def test_an_empty_registry_has_nothing_and_says_what_to_do(registry: Registry) -> None:
    assert registry.versions() == []
    assert registry.current() is None
    with pytest.raises(ArtifactError, match="no bundle is current; run `streamer retrain` first"):
        registry.load()


def test_a_published_bundle_is_current_and_loads(registry: Registry, tiny_detector: Detector) -> None:
    version = publish(registry, tiny_detector)

    loaded, manifest = registry.load()

    assert registry.current() == version == manifest["version"]
    assert np.array_equal(loaded.line, tiny_detector.line)


def test_publishing_without_promotion_leaves_the_current_one(registry: Registry, tiny_detector: Detector) -> None:
    first = publish(registry, tiny_detector)
    second = publish(registry, tiny_detector, 1, promote=False)

    assert registry.current() == first
    assert registry.versions() == [first, second]


def test_publishing_the_same_again_is_no_error(registry: Registry, tiny_detector: Detector) -> None:
    assert publish(registry, tiny_detector) == publish(registry, tiny_detector)
    assert len(registry.versions()) == 1


def test_nothing_is_left_behind_but_versions_and_the_pointer(registry: Registry, tiny_detector: Detector) -> None:
    version = publish(registry, tiny_detector)

    assert sorted(path.name for path in registry.directory.iterdir()) == sorted([version, "current", "promotions"])


def test_a_failed_publish_shows_no_version_and_keeps_the_current_one(
    registry: Registry, tiny_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish(registry, tiny_detector)

    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle, "save", full)
    with pytest.raises(ArtifactError, match="could not write a bundle; No space left on device"):
        publish(registry, tiny_detector, 1)

    assert registry.versions() == [first] == [registry.current()]
    assert sorted(path.name for path in registry.directory.iterdir()) == sorted([first, "current", "promotions"])


def test_a_crash_before_the_rename_shows_no_version(
    registry: Registry, tiny_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    def crash(*_: object) -> None:
        raise Crash

    monkeypatch.setattr(Path, "rename", crash)
    with pytest.raises(Crash):
        publish(registry, tiny_detector)

    assert registry.versions() == []
    assert registry.current() is None


def test_a_crash_while_promoting_keeps_the_old_pointer(
    registry: Registry, tiny_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    first = publish(registry, tiny_detector)

    def crash(*_: object) -> None:
        raise Crash

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(Crash):
        publish(registry, tiny_detector, 1)

    assert registry.current() == first


def test_promotion_and_rollback_move_the_pointer(registry: Registry, tiny_detector: Detector) -> None:
    versions = [publish(registry, tiny_detector, day) for day in range(3)]

    # first  second  third*
    assert registry.rollback() == versions[1]
    assert registry.rollback() == versions[0]
    with pytest.raises(ArtifactError, match="nothing to roll back to"):
        registry.rollback()
    assert registry.current() == versions[0]
    registry.promote(versions[2])
    assert registry.current() == versions[2]


@pytest.mark.parametrize(
    "version",
    ["", ".", "..", "../other", "/etc", "20260102T030405Z-1a2b3c4d/../..", "20260102T030405Z-1a2b3c4d\n", "current",
     "20260102T030405Z-ffffffff", "\x00"],
)  # fmt: skip
def test_a_version_that_is_none_is_refused_everywhere(
    registry: Registry, tiny_detector: Detector, version: str
) -> None:
    known = publish(registry, tiny_detector)
    outside = registry.directory.parent / "other"
    outside.mkdir()
    bundle.save(tiny_detector, outside, created=CREATED, fingerprint="")

    for use in (registry.promote, registry.manifest, registry.load if version else registry.manifest):
        with pytest.raises(ArtifactError, match="no bundle"):
            use(version)
    assert registry.current() == known


@pytest.mark.parametrize("content", [b"", b"../other", b"\xff\xfe", b"x" * 10_000, b"20260102T030405Z"])
def test_a_pointer_that_holds_no_version_is_refused(registry: Registry, content: bytes) -> None:
    registry.directory.mkdir()
    (registry.directory / "current").write_bytes(content)

    with pytest.raises(ArtifactError, match="wanted a version such as"):
        registry.current()


def test_a_pointer_to_a_bundle_that_is_gone_is_refused(registry: Registry) -> None:
    registry.directory.mkdir()
    (registry.directory / "current").write_text("20260102T030405Z-1a2b3c4d\n")

    with pytest.raises(ArtifactError, match="no bundle '20260102T030405Z-1a2b3c4d'"):
        registry.load()


def test_foreign_entries_in_the_directory_are_not_versions(registry: Registry, tiny_detector: Detector) -> None:
    version = publish(registry, tiny_detector)
    for name in (".incoming-x", "notes.txt", f"{version}.bak"):
        (registry.directory / name).mkdir()

    assert registry.versions() == [version]


def test_versions_are_listed_oldest_first(registry: Registry, tiny_detector: Detector) -> None:
    later = publish(registry, tiny_detector, 5)
    earlier = publish(registry, tiny.with_tables(tiny_detector, line=tiny_detector.line + 1), 1)

    assert registry.versions() == [earlier, later]


def test_a_registry_that_cannot_be_written_says_so(tiny_detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ArtifactError, match="wanted a writable directory; Not a directory"):
        publish(Registry(tmp_path / "file" / "bundles"), tiny_detector)


def test_bundles_are_for_their_owner_alone(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "bundles")
    registry.publish(tiny.fit(epochs=1), created=datetime(2026, 1, 2, tzinfo=UTC), fingerprint="0")

    modes = {path.is_dir(): path.stat().st_mode & 0o777 for path in (tmp_path / "bundles").rglob("*")}
    found = {(path.is_dir(), path.stat().st_mode & 0o777) for path in (tmp_path / "bundles").rglob("*")}

    assert modes
    assert found == {(True, 0o700), (False, 0o600)}
    assert (tmp_path / "bundles").stat().st_mode & 0o777 == 0o700
