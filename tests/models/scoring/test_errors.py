"""Errors, levels, heads and shares do what their formulas say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.network.architecture import Architecture
from models.scoring import errors as scores
from models.scoring.errors import Normal, Scales

Float32 = NDArray[np.float32]
SCALES = Scales.of(Architecture(features=3))
ROWS = np.zeros(1, np.int64)


def normal(features: int = 3) -> Normal:
    shapes = Normal.shapes(1, len(SCALES), features)
    blank = {"floor": 0.03, "spread": 1.0, "head_spread": 1.0}
    return Normal(**{name: np.full(shape, blank.get(name, 0.0), np.float32) for name, shape in shapes.items()})


def strange(levels: Float32, tables: Normal) -> float:
    far = scores.beyond(levels, None, tables, ROWS)
    return float(scores.evidence(far, tables, ROWS, SCALES.weights).max())


@given(st.integers(1, 512))
def test_time_scales_grow_from_the_newest_patch_to_all_of_them(steps: int) -> None:
    scales = scores.time_scales(steps)

    assert scales[0] == 1
    assert scales[-1] == steps
    assert list(scales) == sorted(set(scales))
    assert all(k & (k - 1) == 0 for k in scales[:-1])


@pytest.mark.parametrize("window", [8, 16, 24, 64, 128])
@pytest.mark.parametrize("backbone", ["lstm", "gru", "dense"])
def test_every_network_has_both_heads_and_scales_that_fit_its_window(backbone: str, window: int) -> None:
    a = Architecture(features=1, window=window, backbone=backbone)
    scales = Scales.of(a)

    assert scales.weights.shape == (len(scales), scores.HEADS)
    assert scales.weights.sum(0) == pytest.approx([1, 1])
    assert max(scales.rebuilt) == a.steps
    assert max(scales.foreseen, default=0) in (0, a.steps - 1)
    assert bool(scales.foreseen) == (backbone in ("lstm", "gru") and a.steps > 1)


def test_pooled_errors_are_means_over_the_newest_patches() -> None:
    random = np.random.default_rng(0)
    windows, rebuilt = random.normal(size=(2, 2, 64, 3)).astype(np.float32)
    foreseen = random.normal(size=(2, 56, 3)).astype(np.float32)

    pooled = scores.pooled_errors(
        torch.from_numpy(windows), torch.from_numpy(rebuilt.copy()), torch.from_numpy(foreseen.copy()), SCALES, 8
    ).numpy()

    for column, k in enumerate(SCALES.rebuilt):
        wanted = ((windows - rebuilt)[:, -8 * k :] ** 2).mean(1)
        assert pooled[:, column] == pytest.approx(wanted, rel=1e-5)
    for column, k in enumerate(SCALES.foreseen, start=len(SCALES.rebuilt)):
        wanted = ((windows[:, 8:] - foreseen)[:, -8 * k :] ** 2).mean(1)
        assert pooled[:, column] == pytest.approx(wanted, rel=1e-5)


def test_an_error_of_zero_has_a_finite_level() -> None:
    assert np.isfinite(scores.log_errors(np.zeros((1, 2, 3), np.float32), np.full((2, 3), 1e-11, np.float32))).all()


def test_levels_at_the_anchor_are_evidence_zero() -> None:
    tables = dataclasses.replace(normal(), anchor=np.random.default_rng(0).normal(size=(1, 6, 3)).astype(np.float32))

    assert strange(tables.anchor, tables) == pytest.approx(0, abs=1e-6)


@given(st.floats(-8, 8), st.floats(0.1, 4), st.integers(0, 2))
def test_a_larger_error_of_any_feature_is_always_more_evidence(level: float, more: float, feature: int) -> None:
    levels = np.full((1, 6, 3), level, np.float32)
    worse = levels.copy()
    worse[:, :, feature] += more

    assert strange(worse, normal()) > strange(levels, normal())


def test_one_loud_feature_outweighs_many_that_are_a_little_louder() -> None:
    features = 20
    loud, slightly = np.zeros((2, 1, 6, features), np.float32)
    loud[:, :, 0] = 6.0
    slightly += 0.3  # the same sum

    assert strange(loud, normal(features)) > strange(slightly, normal(features)) + 1


def test_a_noisy_feature_needs_a_larger_error() -> None:
    tables = normal()
    noisy = dataclasses.replace(tables, spread=np.full_like(tables.spread, 4.0))
    levels = np.full((1, 6, 3), 2.0, np.float32)

    assert strange(levels, noisy) == pytest.approx(strange(levels, tables) / 2)


def test_a_spike_is_the_fast_heads_and_a_long_fault_the_slow_ones() -> None:
    spike, fault = np.zeros((2, 1, 6, 3), np.float32)
    spike[:, [2, 3]] = 3.0  # newest patches of the forecast
    fault[:, [0, 1]] = 3.0  # the reconstruction's half and whole window

    slow, fast = (scores.heads(far, SCALES.weights)[0] for far in (fault, spike))

    assert slow[0] > slow[1]
    assert fast[1] > fast[0]


def test_drift_is_taken_off_in_spreads() -> None:
    tables = dataclasses.replace(normal(), spread=np.full((1, 6, 3), 4.0, np.float32))
    levels, drift = np.full((1, 6, 3), 8.0, np.float32), np.full((1, 6, 3), 2.0, np.float32)

    assert strange(scores.beyond(levels, drift, tables, ROWS), normal()) == pytest.approx(0, abs=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_shares_are_parts_of_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    far = random.normal(scale=20, size=(5, 6, 3)).astype(np.float32)

    shares = scores.shares(far, random.integers(0, 2, 5), SCALES.weights)

    assert shares.min() >= 0
    assert shares.sum(1) == pytest.approx(np.ones(5), abs=1e-5)


def test_the_feature_with_all_the_error_has_nearly_all_the_share() -> None:
    far = np.zeros((1, 6, 3), np.float32)
    far[:, :, 1] = 5

    assert scores.shares(far, np.zeros(1, np.int64), SCALES.weights)[0].tolist() == pytest.approx([0, 1, 0], abs=1e-3)


def test_the_strangest_window_still_has_a_score() -> None:
    """One calm feature beside wild ones: evidence whose exponential is more than a 32-bit float holds."""
    far = np.full((1, 6, 3), 60.0, np.float32)
    tables = dataclasses.replace(normal(), spread=np.full((1, 6, 3), 9.0, np.float32))

    strangest = scores.score(scores.evidence(far, tables, ROWS, SCALES.weights), tables, ROWS)

    assert np.isfinite(strangest).all()
    assert strangest > 1e30
