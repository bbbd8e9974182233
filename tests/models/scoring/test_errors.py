"""Errors are pooled over the newest patches, and have a level even where there are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.network.architecture import Architecture
from models.scoring import errors
from models.scoring.errors import Scales

SCALES = Scales.of(Architecture(features=3))


@given(st.integers(1, 512))
def test_time_scales_grow_from_the_newest_patch_to_all_of_them(steps: int) -> None:
    scales = errors.time_scales(steps)

    assert scales[0] == 1
    assert scales[-1] == steps
    assert list(scales) == sorted(set(scales))
    assert all(k & (k - 1) == 0 for k in scales[:-1])


@pytest.mark.parametrize("window", [8, 16, 24, 64, 128])
@pytest.mark.parametrize("backbone", ["lstm", "gru", "dense"])
def test_every_network_has_both_channels_and_scales_that_fit_its_window(backbone: str, window: int) -> None:
    a = Architecture(features=1, window=window, backbone=backbone)
    scales = Scales.of(a)

    assert scales.weights.shape == (len(scales), errors.CHANNELS)
    assert scales.weights.sum(0) == pytest.approx([1, 1])
    assert max(scales.reconstruction) == a.steps
    assert max(scales.forecast, default=0) in (0, a.steps - 1)
    assert bool(scales.forecast) == (backbone in ("lstm", "gru") and a.steps > 1)


def test_pooled_errors_are_means_over_the_newest_patches() -> None:
    random = np.random.default_rng(0)
    windows, reconstruction = random.normal(size=(2, 2, 64, 3)).astype(np.float32)
    forecast = random.normal(size=(2, 56, 3)).astype(np.float32)

    pooled = errors.pooled_errors(
        torch.from_numpy(windows), torch.from_numpy(reconstruction.copy()), torch.from_numpy(forecast.copy()), SCALES, 8
    ).numpy()

    for column, k in enumerate(SCALES.reconstruction):
        wanted = ((windows - reconstruction)[:, -8 * k :] ** 2).mean(1)
        assert pooled[:, column] == pytest.approx(wanted, rel=1e-5)
    for column, k in enumerate(SCALES.forecast, start=len(SCALES.reconstruction)):
        wanted = ((windows[:, 8:] - forecast)[:, -8 * k :] ** 2).mean(1)
        assert pooled[:, column] == pytest.approx(wanted, rel=1e-5)


def test_an_error_of_zero_has_a_finite_level() -> None:
    assert np.isfinite(errors.log_errors(np.zeros((1, 2, 3), np.float32), np.full((2, 3), 1e-11, np.float32))).all()
