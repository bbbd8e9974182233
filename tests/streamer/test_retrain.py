"""Retraining stores what it learned as a bundle that fits the settings."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from models.registry import Registry
from streamer.config import Settings
from streamer.datafiles import DataSet
from streamer.errors import DataError
from streamer.pipeline import Pipeline
from streamer.retrain import retrain
from tests import tiny

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def data(rows: int = 200) -> DataSet:
    """Two streams a minute apart, one row incomplete."""
    values = np.stack([tiny.wave(rows, seed=7), tiny.wave(rows, seed=8, level=10)], 1).reshape(-1, 2).astype(np.float64)
    values[7, 0] = np.nan
    times = tiny.START_NS + np.repeat(np.arange(rows), 2) * tiny.MINUTE_NS
    return DataSet(["a", "b"], np.tile([0, 1], rows), times, values)


def quick(directory: Path) -> Settings:
    model = {"directory": directory, "epochs": 1, "steps_per_epoch": 2, "batch_size": 16, "hidden": 4, "latent": 2}
    return tiny.settings(model=model)


def test_retraining_publishes_a_bundle_for_the_settings(tmp_path: Path) -> None:
    settings = quick(tmp_path)

    version = retrain(settings, data(), now=lambda: NOW)

    registry = Registry(tmp_path)
    detector, manifest = registry.load()
    assert registry.current() == version
    assert version.startswith("20260102T030405Z-")
    assert (detector.features, detector.streams, detector.interval_s) == (tiny.FEATURES, ("a", "b"), 60)
    assert manifest["fit"]["budget_per_stream_per_week"] == 1.0
    Pipeline(settings, detector, version)


def test_the_same_data_and_seed_give_the_same_bundle_and_other_data_another_fingerprint(tmp_path: Path) -> None:
    versions = [retrain(quick(tmp_path / name), data(), now=lambda: NOW) for name in "xy"]
    other = retrain(quick(tmp_path / "z"), data(199), now=lambda: NOW)

    fingerprints = [
        Registry(tmp_path / name).manifest(version)["data_fingerprint"]
        for name, version in zip("xyz", [*versions, other], strict=True)
    ]
    assert versions[0] == versions[1]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_retraining_can_leave_the_current_bundle(tmp_path: Path) -> None:
    retrain(quick(tmp_path), data(), promote=False, now=lambda: NOW)

    assert Registry(tmp_path).current() is None


def test_data_without_a_complete_row_cannot_train(tmp_path: Path) -> None:
    some = data(20)

    with pytest.raises(DataError, match="no row is complete"):
        retrain(quick(tmp_path), DataSet(some.names, some.stream, some.time_ns, some.values * np.nan))
