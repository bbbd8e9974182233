"""Errors, pooling and evidence do what their formulas say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import scores
from models.scores import EVIDENCE_KNEE


@given(st.integers(1, 512))
def test_time_scales_grow_from_the_newest_patch_to_the_whole_window(steps: int) -> None:
    scales = scores.time_scales(steps)

    assert scales[0] == 1
    assert scales[-1] == steps
    assert list(scales) == sorted(set(scales))
    assert all(k & (k - 1) == 0 for k in scales[:-1])


@given(st.integers(1, 64))
def test_scale_weights_sum_to_one_and_the_whole_window_counts_twice(steps: int) -> None:
    weights = scores.scale_weights(scores.time_scales(steps)).tolist()

    assert sum(weights) == pytest.approx(1)
    assert all(weight == pytest.approx(weights[-1] / 2) for weight in weights[:-1])


def test_patch_errors_are_the_mean_squared_error_of_each_patch_and_feature() -> None:
    random = np.random.default_rng(0)
    windows, rebuilt = random.normal(size=(2, 3, 8, 2)).astype(np.float32)

    errors = scores.patch_errors(torch.from_numpy(windows), torch.from_numpy(rebuilt), 4)

    for n in range(3):
        for step in range(2):
            part = slice(4 * step, 4 * step + 4)
            assert errors[n, step].numpy() == pytest.approx(((windows - rebuilt)[n, part] ** 2).mean(0), rel=1e-5)


def test_patch_errors_leave_the_windows_as_they_were() -> None:
    windows, rebuilt = torch.ones(1, 4, 1), torch.zeros(1, 4, 1)

    scores.patch_errors(windows, rebuilt, 2)

    assert windows.eq(1).all()
    assert rebuilt.eq(0).all()


@given(st.integers(0, 2**32 - 1))
def test_weighted_errors_are_the_mean_over_features_of_weighted_patch_errors(seed: int) -> None:
    random = np.random.default_rng(seed)
    windows, rebuilt = (torch.from_numpy(x) for x in random.normal(size=(2, 3, 8, 2)).astype(np.float32))
    weights = torch.from_numpy(random.exponential(size=(3, 2)).astype(np.float32))

    plain = (scores.patch_errors(windows, rebuilt.clone(), 4) * weights[:, None] ** 2).mean(2)
    errors = scores.weighted_errors(windows, rebuilt.clone(), 4, weights)

    assert errors.numpy() == pytest.approx(plain.numpy(), rel=1e-4)


@given(st.integers(1, 12))
def test_pooling_takes_means_over_the_newest_patches(steps: int) -> None:
    errors = np.random.default_rng(steps).exponential(size=(2, steps)).astype(np.float32)
    scales = scores.time_scales(steps)

    pooled = (torch.from_numpy(errors) @ scores.pooling(scales)).numpy()

    assert pooled == pytest.approx(np.stack([errors[:, -k:].mean(1) for k in scales], 1), rel=1e-5)


def test_usual_errors_are_evidence_zero() -> None:
    usual = torch.tensor([[0.5, 1.0, 2.0]])

    assert scores.evidence(usual.clone(), usual.log(), scores.scale_weights((1, 2, 4))).item() == pytest.approx(
        0, abs=1e-6
    )


@given(st.floats(0.01, 1e9), st.floats(1.01, 100))
def test_more_error_is_always_more_evidence(size: float, factor: float) -> None:
    weights, usual = scores.scale_weights((1, 2)), torch.zeros(1, 2)

    less = scores.evidence(torch.full((1, 2), size), usual, weights)
    more = scores.evidence(torch.full((1, 2), size * factor), usual, weights)

    assert more > less


def test_one_wild_patch_cannot_outvote_the_other_scales() -> None:
    weights, usual = scores.scale_weights((1, 2, 4)), torch.zeros(1, 3)

    wild = scores.evidence(torch.tensor([[1e12, 1.0, 1.0]]), usual, weights).item()

    assert wild < weights[0].item() * (EVIDENCE_KNEE + 4)


def test_an_error_of_zero_is_finite_evidence() -> None:
    evidence = scores.evidence(torch.zeros(1, 2), torch.zeros(1, 2), scores.scale_weights((1, 2)))

    assert evidence.isfinite().all()


@given(st.integers(0, 2**32 - 1))
def test_feature_shares_are_parts_of_one(seed: int) -> None:
    errors = torch.from_numpy(np.random.default_rng(seed).exponential(size=(5, 4, 3)).astype(np.float32))
    scales = scores.time_scales(4)

    shares = scores.feature_shares(errors, scales, scores.scale_weights(scales))

    assert shares.min() >= 0
    assert shares.sum(1).numpy() == pytest.approx(np.ones(5), abs=1e-5)


def test_the_feature_with_all_the_error_has_all_the_share() -> None:
    errors = torch.zeros(1, 4, 3)
    errors[:, :, 1] = 7

    shares = scores.feature_shares(errors, (1, 2, 4), scores.scale_weights((1, 2, 4)))

    assert shares[0].tolist() == pytest.approx([0, 1, 0])
