"""How rare a peak is by the fitted tail, and where the tail says no more."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from models.detector import Detector
from models.scoring.alert_line import AlertPolicy
from models.scoring.rarity import Rarities

WEEK_S = 7 * 86_400.0


def report(**tail: Any) -> dict[str, Any]:
    figures = {"threshold": 0.5, "scale": 0.4, "shape": 0.0, "clusters": 30, "stream_days": 700.0}
    return {"tail": {**figures, **tail}, "lines": {"fleet": 1.5}}


def rarities(**tail: Any) -> Rarities:
    found = Rarities.of(report(**tail), AlertPolicy())
    assert found is not None
    return found


def test_a_peak_at_the_line_comes_as_often_as_the_budget_allows() -> None:
    found = Rarities.of(report(), AlertPolicy(budget_per_stream_per_week=7))

    assert found is not None
    assert found.rarity(1.0, unit=2.0).seconds == 86_400


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.3])
def test_higher_peaks_are_rarer_as_the_tail_says(shape: float) -> None:
    # Peaks drawn from the tail itself: as many are above a level as its rarity says.
    rng = np.random.default_rng(5)
    scale_at_line = 0.4 + shape * (1.5 - 0.5)
    u = rng.random(200_000)
    beyond = -np.log(u) * scale_at_line if shape == 0 else (u**-shape - 1) / shape * scale_at_line
    scores = np.exp(beyond * 2.0)

    found = rarities(shape=shape)
    for peak in (1.5, 3.0):
        assert found.rarity(peak, unit=2.0).seconds == pytest.approx(WEEK_S / (scores >= peak).mean(), rel=0.03)


def test_what_is_rarer_than_four_times_the_calibration_data_is_only_bounded() -> None:
    highest = rarities().rarity(1e30, unit=1.0)

    assert (highest.seconds, highest.at_least) == (4 * 700 * 86_400, True)
    assert rarities(shape=-0.3).rarity(1e30, unit=1.0).at_least  # beyond the end of a bounded tail
    few = rarities(stream_days=0.1).rarity(1.2, unit=1.0)
    assert (few.seconds, few.at_least) == (WEEK_S, True)


@pytest.mark.parametrize(
    "wrong",
    [{}, {"tail": None}, {"tail": {"scale": 1.0}}, report(scale=0.0), report(scale="wide"), report(stream_days=0.0),
     report(shape=float("nan")), {"tail": report()["tail"]}],
)  # fmt: skip
def test_a_bundle_without_a_tail_says_nothing(wrong: dict[str, Any]) -> None:
    assert Rarities.of(wrong, AlertPolicy()) is None


def test_a_fitted_detector_can_tell_and_another_budget_tells_otherwise(tiny_detector: Detector) -> None:
    policy = dataclasses.replace(tiny_detector.policy, budget_per_stream_per_week=7)

    weekly, daily = (
        Rarities.of(some.report, some.policy) for some in (tiny_detector, tiny_detector.with_policy(policy))
    )

    assert weekly is not None
    assert daily is not None
    assert (weekly.at_line_s, daily.at_line_s) == (WEEK_S, WEEK_S / 7)
