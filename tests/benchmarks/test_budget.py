"""The alert budget is kept: on clean readings that trained nothing, incidents open about as often as was allowed."""

from __future__ import annotations

import numpy as np
import pytest

from models.detector import Detector
from models.fitting.fit import fit
from models.fitting.training import TrainingOptions
from models.network.architecture import Architecture
from models.scoring.alert_line import AlertPolicy
from streamer.core.events import OPEN
from streamer.core.pipeline import Pipeline
from tests import tiny
from tests.tiny import FEATURES, LENGTH, PATCH, VERSION

STREAMS, WEEK = 4, 7 * 24 * 60  # readings


@pytest.fixture(scope="module")
def fitted() -> Detector:
    """Calibrated for 40 incidents a week; a pipeline of another budget computes its own line."""
    return fit(
        {f"s{i}": tiny.wave(WEEK, seed=i, level=5.0 * i) for i in range(STREAMS)},
        FEATURES,
        Architecture(features=2, window=LENGTH, patch=PATCH, hidden=16, latent=4),
        interval_s=60,
        options=TrainingOptions(epochs=12, steps_per_epoch=30, batch_size=48, learning_rate=1e-2),
        policy=AlertPolicy(40.0),
    )


@pytest.mark.parametrize("per_week", [10.0, 40.0])
def test_the_realised_rate_is_within_a_factor_of_two_of_the_budget(per_week: float, fitted: Detector) -> None:
    alerting = {"resolve_after": LENGTH, "budget_per_stream_per_week": per_week}
    made = Pipeline(tiny.settings(alerting=alerting).pipeline_options(), fitted, VERSION)
    for i in range(STREAMS):
        made.keys.add(f"s{i}")
    fresh = tiny.fleet({i: tiny.wave(WEEK, seed=100 + i, level=5.0 * i) for i in range(STREAMS)})

    opened = sum(
        alert.event == OPEN
        for part in tiny.split(fresh, np.arange(0, len(fresh), 4096).tolist())
        for alert in made.process(part).alerts
    )

    assert per_week / 2 <= opened / STREAMS <= per_week * 2


def test_a_fit_says_what_the_held_out_part_would_have_had_beside_what_is_allowed(
    fitted: Detector,
) -> None:
    report = fitted.report

    assert report["incidents_allowed_in_held_out"] == pytest.approx(0.15 * STREAMS * 40, rel=0.01)
    assert 0.5 < report["incidents_in_held_out"] / report["incidents_allowed_in_held_out"] < 2
