"""A rollback goes back along what was current, and nowhere else."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from models.detector import Detector
from models.errors import ArtifactError
from models.store import promotions
from models.store.registry import Registry

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "bundles")


def publish(registry: Registry, detector: Detector, days: int, promote: str) -> list[str]:
    """One version a day; `promote` has a letter for each, `p` where it is promoted."""
    return [
        registry.publish(detector, created=CREATED + timedelta(days=day), fingerprint="", promote=promote[day] == "p")
        for day in range(days)
    ]


def test_a_rollback_never_goes_to_a_version_that_was_never_promoted(
    registry: Registry, tiny_detector: Detector
) -> None:
    first, tried_out, second = publish(registry, tiny_detector, 3, "p-p")

    assert registry.rollback() == first != tried_out
    assert registry.current() == first
    with pytest.raises(ArtifactError, match=f"nothing to roll back to: {first} is the first that was promoted"):
        registry.rollback()
    assert registry.current() == first
    assert second in registry.versions()


def test_a_rollback_goes_back_in_the_order_of_promotion_not_of_age(registry: Registry, tiny_detector: Detector) -> None:
    a, b, c = publish(registry, tiny_detector, 3, "---")
    for version in (c, a, b):
        registry.promote(version)

    # promoted: c, a, b*
    assert [registry.rollback(), registry.rollback()] == [a, c]


def test_what_a_rollback_led_away_from_is_not_gone_back_to(registry: Registry, tiny_detector: Detector) -> None:
    a, bad, c = publish(registry, tiny_detector, 3, "pp-")
    registry.rollback()
    registry.promote(c)

    # promoted: a, bad (withdrawn), c*
    assert registry.rollback() == a != bad


def test_promoting_the_current_version_again_changes_nothing(registry: Registry, tiny_detector: Detector) -> None:
    a, b = publish(registry, tiny_detector, 2, "pp")
    registry.promote(b)

    assert registry.rollback() == a


def test_a_version_promoted_twice_is_gone_back_to_once_for_each_time(
    registry: Registry, tiny_detector: Detector
) -> None:
    a, b = publish(registry, tiny_detector, 2, "pp")
    registry.promote(a)

    # promoted: a, b, a*
    assert [registry.rollback(), registry.rollback()] == [b, a]


def test_a_deleted_bundle_is_passed_over(registry: Registry, tiny_detector: Detector) -> None:
    a, b, _ = publish(registry, tiny_detector, 3, "ppp")
    (registry.directory / b).rename(registry.directory.parent / "away")

    assert registry.rollback() == a


def test_where_all_bundles_before_are_deleted_that_is_said(registry: Registry, tiny_detector: Detector) -> None:
    a, b = publish(registry, tiny_detector, 2, "pp")
    (registry.directory / a).rename(registry.directory.parent / "away")

    with pytest.raises(ArtifactError, match=f"nothing to roll back to: the bundles promoted before it are gone: {a}$"):
        registry.rollback()
    assert registry.current() == b


def test_without_a_current_bundle_there_is_nothing_to_roll_back(registry: Registry, tiny_detector: Detector) -> None:
    publish(registry, tiny_detector, 2, "--")

    with pytest.raises(ArtifactError, match="no bundle is current, so there is nothing to roll back"):
        registry.rollback()


def test_a_refused_rollback_names_what_could_be_promoted(registry: Registry, tiny_detector: Detector) -> None:
    _, other = publish(registry, tiny_detector, 2, "p-")

    with pytest.raises(ArtifactError, match=f"to use another one: streamer models promote {other}"):
        registry.rollback()


# --------------------------------------------------------------------- registries without a history, or a damaged one


def test_a_registry_of_an_earlier_version_learns_its_history_from_the_next_promotion(
    registry: Registry, tiny_detector: Detector
) -> None:
    before, new = publish(registry, tiny_detector, 2, "p-")
    (registry.directory / "promotions").unlink()
    os.utime(registry.directory / "current", (0, 1_767_000_000))

    registry.promote(new)

    assert [entry.version for entry in registry.history()] == [before, new]
    assert registry.history()[0].promoted == "2025-12-29T09:20:00Z"
    assert registry.rollback() == before


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"{", b"[]\n1\nnull\n", b"[" * 100_000, b'{"version": "../x"}\n'])
def test_a_damaged_history_knows_less_and_fails_nowhere(
    registry: Registry, tiny_detector: Detector, damage: bytes
) -> None:
    a, b = publish(registry, tiny_detector, 2, "pp")
    (registry.directory / "promotions").write_bytes(damage)

    with pytest.raises(ArtifactError, match="nothing to roll back to"):
        registry.rollback()
    registry.promote(a)
    assert registry.rollback() == b


def test_a_damaged_line_costs_that_line_alone(registry: Registry, tiny_detector: Detector) -> None:
    a, _, _ = publish(registry, tiny_detector, 3, "ppp")
    path = registry.directory / "promotions"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], lines[1][:20], lines[2]]))

    assert registry.rollback() == a


def test_a_crash_after_current_was_moved_loses_no_way_back(
    registry: Registry, tiny_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    a, b, c = publish(registry, tiny_detector, 3, "pp-")

    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(promotions, "write", crash)
        with pytest.raises(Crash):
            registry.promote(c)

    # promoted: a, b; current: c
    assert registry.current() == c
    assert [registry.rollback(), registry.rollback()] == [b, a]


def test_a_crash_within_a_rollback_goes_on_from_where_it_led(
    registry: Registry, tiny_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    a, b, _ = publish(registry, tiny_detector, 3, "ppp")

    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(promotions, "write", crash)
        with pytest.raises(Crash):
            registry.rollback()

    # promoted: a, b, c; current: b
    assert registry.current() == b
    assert registry.rollback() == a


def test_a_current_written_by_hand_counts_as_promoted(registry: Registry, tiny_detector: Detector) -> None:
    _, b, c = publish(registry, tiny_detector, 3, "pp-")
    (registry.directory / "current").write_text(c + "\n")

    assert registry.rollback() == b


def test_the_history_is_bounded(registry: Registry, tiny_detector: Detector) -> None:
    a, b = publish(registry, tiny_detector, 2, "--")
    path = registry.directory / "promotions"
    promotions.write(path, [promotions.Promotion(a, None), promotions.Promotion(b, None)] * promotions.MOST)

    registry.promote(a)

    assert len(path.read_bytes().splitlines()) == promotions.MOST


def test_the_history_tells_when_each_version_was_promoted_and_withdrawn(
    registry: Registry, tiny_detector: Detector
) -> None:
    a, b = publish(registry, tiny_detector, 2, "--")
    registry.promote(a, at=CREATED)
    registry.promote(b, at=CREATED + timedelta(hours=1))
    registry.rollback(at=CREATED + timedelta(hours=2))

    assert registry.history() == [
        promotions.Promotion(a, "2026-01-02T03:04:05Z"),
        promotions.Promotion(b, "2026-01-02T04:04:05Z", withdrawn="2026-01-02T05:04:05Z"),
    ]
