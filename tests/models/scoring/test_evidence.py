"""Exceedance, channels and score do what their formulas say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.network.architecture import Architecture
from models.scoring import evidence
from models.scoring.baseline import Baseline
from models.scoring.errors import Scales

Float32 = NDArray[np.float32]
SCALES = Scales.of(Architecture(features=3))
ROWS = np.zeros(1, np.int64)


def baseline(features: int = 3) -> Baseline:
    shapes = Baseline.shapes(1, len(SCALES), features)
    blank = {"floor": 0.03, "spread": 1.0, "channel_spread": 1.0}
    return Baseline(**{name: np.full(shape, blank.get(name, 0.0), np.float32) for name, shape in shapes.items()})


def found(levels: Float32, tables: Baseline) -> float:
    """Evidence of one window."""
    beyond = evidence.exceedance(levels, None, tables, ROWS)
    return float(evidence.evidence(beyond, tables, ROWS, SCALES.weights).max())


def test_levels_at_the_anchor_are_evidence_zero() -> None:
    tables = dataclasses.replace(baseline(), anchor=np.random.default_rng(0).normal(size=(1, 6, 3)).astype(np.float32))

    assert found(tables.anchor, tables) == pytest.approx(0, abs=1e-6)


@given(st.floats(-8, 8), st.floats(0.1, 4), st.integers(0, 2))
def test_a_larger_error_of_any_feature_is_always_more_evidence(level: float, more: float, feature: int) -> None:
    levels = np.full((1, 6, 3), level, np.float32)
    worse = levels.copy()
    worse[:, :, feature] += more

    assert found(worse, baseline()) > found(levels, baseline())


def test_one_feature_far_beyond_outweighs_many_a_little_beyond() -> None:
    features = 20
    large, slightly = np.zeros((2, 1, 6, features), np.float32)
    large[:, :, 0] = 6.0
    slightly += 0.3  # the same sum

    assert found(large, baseline(features)) > found(slightly, baseline(features)) + 1


def test_a_noisy_feature_needs_a_larger_error() -> None:
    tables = baseline()
    noisy = dataclasses.replace(tables, spread=np.full_like(tables.spread, 4.0))
    levels = np.full((1, 6, 3), 2.0, np.float32)

    assert found(levels, noisy) == pytest.approx(found(levels, tables) / 2)


def test_a_spike_shows_in_the_fast_channel_and_a_long_fault_in_the_slow_one() -> None:
    spike, fault = np.zeros((2, 1, 6, 3), np.float32)
    spike[:, [2, 3]] = 3.0  # newest patches of the forecast
    fault[:, [0, 1]] = 3.0  # the reconstruction's half and whole window

    slow, fast = (evidence.channels(beyond, SCALES.weights)[0] for beyond in (fault, spike))

    assert slow[0] > slow[1]
    assert fast[1] > fast[0]


def test_drift_is_taken_off_in_spreads() -> None:
    tables = dataclasses.replace(baseline(), spread=np.full((1, 6, 3), 4.0, np.float32))
    levels, drift = np.full((1, 6, 3), 8.0, np.float32), np.full((1, 6, 3), 2.0, np.float32)

    assert found(evidence.exceedance(levels, drift, tables, ROWS), baseline()) == pytest.approx(0, abs=1e-6)


def test_the_most_anomalous_window_still_has_a_score() -> None:
    """One calm feature beside wild ones: evidence whose exponential is more than a 32-bit float holds."""
    beyond = np.full((1, 6, 3), 60.0, np.float32)
    tables = dataclasses.replace(baseline(), spread=np.full((1, 6, 3), 9.0, np.float32))

    both = evidence.evidence(beyond, tables, ROWS, SCALES.weights)
    score = evidence.score(both, np.zeros(1, np.float32), tables, ROWS)

    assert np.isfinite(score).all()
    assert score > 1e30
