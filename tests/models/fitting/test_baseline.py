"""What is normal is found from a bounded number of windows, whatever the fleet and the width."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.fitting import baseline
from models.fitting.fit import fit
from models.fitting.training import TrainingOptions
from models.network.architecture import Architecture
from models.scoring.errors import Scales
from tests import tiny
from tests.tiny import FEATURES, LENGTH, PATCH


@pytest.mark.parametrize(("streams", "features"), [(1, 8), (1, 1024), (300, 38), (10_000, 8)])
def test_the_windows_looked_at_are_bounded(streams: int, features: int) -> None:
    a = Architecture(features=features)

    each = baseline.most_windows(streams, a)

    assert each >= 2 * a.window
    if each > 2 * a.window:
        assert streams * each <= 200_000
        assert streams * each * len(Scales.of(a)) * features <= 50_000_000


def test_a_stream_has_a_line_of_its_own_as_far_as_its_history_reaches() -> None:
    wild = tiny.wave(6000, seed=4)
    random = np.random.default_rng(5)
    wild[random.choice(6000, 150, replace=False)] += random.exponential(1.5, (150, 2)).astype(np.float32)
    series = {f"calm-{i}": tiny.wave(6000, seed=i) for i in range(3)} | {"long": wild, "short": wild[-40:].copy()}

    fitted = fit(
        series,
        FEATURES,
        Architecture(features=2, window=LENGTH, patch=PATCH, hidden=16, latent=4),
        interval_s=60,
        options=TrainingOptions(epochs=6, steps_per_epoch=30, batch_size=48, learning_rate=1e-2),
    )

    line = dict(zip(fitted.streams, fitted.line[1:].tolist(), strict=True))
    fleet = fitted.report["lines"]["fleet"]
    assert abs(line["short"] - fleet) < 0.2 * abs(line["long"] - fleet)
    assert line["short"] == pytest.approx(fleet, rel=0.05)


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.floats(0, 1e6))
def test_shrinking_stays_between_own_and_fleet(own: float, fleet: float, weight: float) -> None:
    shrunk = baseline.shrink_log(np.array([own]), np.array([fleet]), weight)[0]

    assert min(own, fleet) * (1 - 1e-6) <= shrunk <= max(own, fleet) * (1 + 1e-6)


def test_shrinking_trusts_a_stream_the_more_it_has_shown() -> None:
    own, fleet = np.array([10.0]), np.array([1.0])

    shrunk = [baseline.shrink_log(own, fleet, weight)[0] for weight in (0, 1, 10, 1e9)]

    assert shrunk == sorted(shrunk)
    assert shrunk[0] == pytest.approx(1)
    assert shrunk[-1] == pytest.approx(10)
