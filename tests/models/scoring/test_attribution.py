"""Shares say which feature made a window anomalous."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.network.architecture import Architecture
from models.scoring import attribution
from models.scoring.errors import Scales

SCALES = Scales.of(Architecture(features=3))


@given(st.integers(0, 2**32 - 1))
def test_shares_are_parts_of_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    beyond = random.normal(scale=20, size=(5, 6, 3)).astype(np.float32)

    shares = attribution.shares(beyond, random.integers(0, 2, 5), SCALES.weights)

    assert shares.min() >= 0
    assert shares.sum(1) == pytest.approx(np.ones(5), abs=1e-5)


def test_the_feature_with_all_the_error_has_nearly_all_the_share() -> None:
    beyond = np.zeros((1, 6, 3), np.float32)
    beyond[:, :, 1] = 5

    assert attribution.shares(beyond, np.zeros(1, np.int64), SCALES.weights)[0].tolist() == pytest.approx(
        [0, 1, 0], abs=1e-3
    )
