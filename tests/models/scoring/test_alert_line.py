"""A line keeps its budget under any policy, and is computed from what calibration saw."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.detector import Detector
from models.errors import PolicyError
from models.scoring.alert_line import AlertPolicy, CalibrationEvidence, fit_lines, require_windows
from models.scoring.tail import Openings
from tests import tiny

Float32 = NDArray[np.float32]
WEEK = 7 * 24 * 60  # readings, one a minute
WINDOW = 32


def overlapping(random: np.random.Generator, n: int) -> Float32:
    """Evidence of windows that overlap: each value shares 31 of 32 parts with the one before."""
    return np.convolve(random.normal(size=n + 31), np.ones(32) / math.sqrt(32), "valid").astype(np.float32)


def calibration(streams: int, windows: int, seed: int = 0) -> CalibrationEvidence:
    random = np.random.default_rng(seed)
    return CalibrationEvidence(
        np.concatenate([overlapping(random, windows) for _ in range(streams)]),
        np.full(streams, windows, np.int64),
        np.full(streams, windows // 4, np.int64),
        np.concatenate([overlapping(random, windows // 4) for _ in range(min(streams, 50))]),
        np.full(min(streams, 50), windows // 4, np.int64),
    )


def lines(evidence: CalibrationEvidence, policy: AlertPolicy) -> tuple[Float32, dict[str, Any]]:
    return fit_lines(evidence, policy, window=WINDOW, interval_s=60)


def opened_a_week(evidence: Float32, line: float, policy: AlertPolicy) -> float:
    """Incidents in fresh clean data scored at the policy's stride, whatever its phase."""
    n, m = policy.rule()
    count = np.array([len(evidence)], np.int64)
    fresh = Openings.of(evidence, count, count, n=n, m=m, stride=policy.stride)
    return len(fresh.clusters(line, -(-WINDOW // policy.stride))[0]) / policy.stride / (len(evidence) / WEEK)


@pytest.mark.parametrize("stride", [1, 4, 8, 16])
def test_the_budget_is_kept_at_every_stride(stride: int) -> None:
    evidence = calibration(streams=10, windows=WEEK)
    fresh = overlapping(np.random.default_rng(9), 40 * WEEK)
    policy = AlertPolicy(budget_per_stream_per_week=10, stride=stride)

    found, _ = lines(evidence, policy)

    assert 5 <= opened_a_week(fresh, float(np.median(found[1:])), policy) <= 20


def test_a_line_for_every_reading_would_not_keep_the_budget_of_a_stride() -> None:
    evidence = calibration(streams=10, windows=WEEK)
    every, some = (float(np.median(lines(evidence, AlertPolicy(10, stride=s))[0])) for s in (1, 16))

    assert some != pytest.approx(every, rel=0.01)


def test_n_of_m_is_counted_in_readings() -> None:
    assert [AlertPolicy(stride=s).rule() for s in (1, 2, 3, 4, 5, 16)] == [
        (3, 5),
        (2, 3),
        (1, 2),
        (1, 2),
        (1, 1),
        (1, 1),
    ]
    assert AlertPolicy(open_after=5, open_within=5, stride=2).rule() == (3, 3)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"budget_per_stream_per_week": 0}, "budget_per_stream_per_week must be a number above 0; got 0"),
        ({"budget_per_stream_per_week": math.nan}, "above 0; got nan"),
        ({"open_after": 4, "open_within": 3}, "open_after must be at most open_within; got 4 of 3"),
        ({"open_after": 0}, "open_after must be a whole number of at least 1; got 0"),
        ({"stride": 0}, "stride must be a whole number of at least 1; got 0"),
        ({"stride": 1.5}, "stride must be a whole number of at least 1; got 1.5"),
    ],
)
def test_a_policy_out_of_range_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        AlertPolicy(**settings)


def test_another_budget_takes_effect_without_training(tiny_detector: Detector) -> None:
    """A bundle was calibrated for one incident a week; the settings now say otherwise."""
    strict, lax = (tiny_detector.with_policy(AlertPolicy(budget)) for budget in (0.001, 500.0))

    assert (strict.line > tiny_detector.line).all()
    assert (lax.line < tiny_detector.line).all()
    assert (strict.policy, strict.report["budget_per_stream_per_week"]) == (AlertPolicy(0.001), 0.001)
    assert strict.report["epochs"] == tiny_detector.report["epochs"]


def test_opening_on_a_single_window_raises_the_line(tiny_detector: Detector) -> None:
    single = tiny_detector.with_policy(AlertPolicy(open_after=1, open_within=1))

    assert (single.line > tiny_detector.line).all()


def test_the_same_policy_is_the_same_detector(tiny_detector: Detector) -> None:
    assert tiny_detector.with_policy(AlertPolicy()) is tiny_detector
    there_and_back = tiny_detector.with_policy(AlertPolicy(7)).with_policy(AlertPolicy())
    assert np.array_equal(there_and_back.line, tiny_detector.line)
    assert there_and_back.report == tiny_detector.report


def test_an_old_detector_without_calibration_data_says_which_setting_it_cannot_serve(tiny_detector: Detector) -> None:
    old = dataclasses.replace(tiny_detector, calibration=None)

    assert old.with_policy(AlertPolicy()) is old
    with pytest.raises(PolicyError, match="the settings want stride 4, not 1"):
        old.with_policy(AlertPolicy(stride=4))


def test_a_short_fault_far_above_the_line_opens_an_incident_at_any_stride(tiny_detector: Detector) -> None:
    """Ten readings, every one far off; windows are scored every sixteenth reading."""
    values = tiny.wave(400, seed=5)
    values[200:210] += 20

    for stride in (1, 4, 8, 16):
        some = tiny_detector.with_policy(AlertPolicy(stride=stride))
        inputs = some.prepare(values, np.ones(len(values), np.int64))
        windows = np.lib.stride_tricks.sliding_window_view(inputs, tiny.LENGTH, axis=0).transpose(0, 2, 1)
        n, m = some.policy.rule()
        for phase in range(stride):
            scored = windows[phase::stride].copy()
            above = some.score(scored, np.ones(len(scored), np.int64))[0] >= 1
            opens = [above[max(0, i - m + 1) : i + 1].sum() >= n for i in range(len(above))]
            assert any(opens), f"stride {stride}, phase {phase}"


def evidence_of(windows: int, streams: int = 2) -> CalibrationEvidence:
    rng = np.random.default_rng(3)
    values = rng.gumbel(size=windows * streams).astype(np.float32)
    counts = np.full(streams, windows)
    return CalibrationEvidence(values, counts, np.maximum(1, counts // 6), values[:windows], counts[:1])


def test_an_n_of_m_wider_than_the_history_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"open_within 64 needs 64 scored windows .* keeps at most 55: lower it"):
        require_windows(evidence_of(55), AlertPolicy(open_after=30, open_within=64))


def test_the_budget_counts_however_wide_n_of_m_is() -> None:
    lines = [
        fit_lines(evidence_of(585), AlertPolicy(budget, 3, 64), window=16, interval_s=60)[0][1]
        for budget in (0.001, 1.0, 500.0)
    ]

    assert lines[0] > lines[1] > lines[2]
