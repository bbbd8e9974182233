"""The alert line keeps its budget on clean data, and the tail fit finds tails that are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.fitting import calibration
from models.fitting.calibration import LOWEST_LINE, TailFit

Float64 = NDArray[np.float64]
MINUTES_A_WEEK = 7 * 24 * 60


@given(st.lists(st.floats(0, 10), max_size=40), st.integers(1, 5), st.integers(0, 4), st.floats(0, 10))
def test_the_opening_statistic_is_at_the_line_exactly_when_n_of_m_are(
    values: list[float], n: int, extra: int, line: float
) -> None:
    m = n + extra

    statistic = calibration.opening_statistic(np.array(values), n, m)

    opens = [sum(v >= line for v in values[i : i + m]) >= n for i in range(len(values) - m + 1)]
    assert (statistic >= line).tolist() == opens


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 8))
def test_cluster_peaks_are_those_of_a_plain_walk(values: list[int], run: int) -> None:
    peaks: list[int] = []
    last: int | None = None
    for i, value in enumerate(values):
        if value > 2:
            if last is not None and i - last <= run:
                peaks[-1] = max(peaks[-1], value)
            else:
                peaks.append(value)
            last = i

    assert calibration.cluster_peaks(np.array(values, float), 2.0, run).tolist() == peaks


def spaced_excesses(excess: Float64, every: int = 10) -> Float64:
    """Exceedances of a quiet series, one every so many readings: a cluster each."""
    series = np.zeros(len(excess) * every)
    series[::every] = 10 + excess
    return series


def test_the_fit_finds_a_known_exponential_tail() -> None:
    series = spaced_excesses(np.random.default_rng(1).exponential(2.0, 2000))

    fit = calibration.fit_tail([series], run=5)

    assert fit.shape == pytest.approx(0.0, abs=0.1)
    assert fit.rate == pytest.approx(0.05, rel=0.01)  # clusters above the 95 % quantile
    # Of values above 10 there are 0.1 a reading: P(value > 10 + x) = exp(-x / 2).
    assert fit.level(1e-4) == pytest.approx(10 + 2 * math.log(0.1 / 1e-4), rel=0.1)


def test_the_fit_finds_a_known_heavy_tail() -> None:
    shape, scale = 0.25, 1.0
    uniform = np.random.default_rng(2).uniform(size=20_000)
    series = scale / shape * ((1 - uniform) ** -shape - 1)  # generalised Pareto

    fit = calibration.fit_tail([series], run=0)

    assert fit.shape == pytest.approx(shape, abs=0.1)
    wanted = scale / shape * (1e-4**-shape - 1)
    assert fit.level(1e-4) == pytest.approx(wanted, rel=0.3)


def test_a_bounded_tail_is_believed_only_so_far() -> None:
    values = np.random.default_rng(3).uniform(size=5000)  # ends at 1, which is a shape of -1

    fit = calibration.fit_tail([values], run=0)

    assert -0.3 <= fit.shape < -0.2
    assert 1.0 < fit.level(1e-9) < 1.2


@given(st.floats(0.001, 5), st.floats(0, 0.4), st.floats(1e-8, 1e-2), st.floats(1.01, 100))
def test_a_rarer_rate_is_a_higher_level(scale: float, shape: float, rate: float, factor: float) -> None:
    fit = TailFit(1.0, scale, shape, 0.02, 50, 2500)

    assert fit.level(rate / factor) >= fit.level(rate) >= fit.threshold


@pytest.mark.parametrize("series", [[], [np.empty(0)], [np.zeros(100)], [np.ones(3)]])
def test_too_little_or_too_plain_data_gives_a_finite_line(series: list[Float64]) -> None:
    fit = calibration.fit_tail(series, run=16)

    line = calibration.alert_line(fit, budget_per_week=1, interval_s=60)

    assert math.isfinite(line)
    assert line >= LOWEST_LINE


def test_evidence_near_the_usual_is_never_an_anomaly() -> None:
    fit = calibration.fit_tail([np.full(1000, -5.0) + 1e-3 * np.arange(1000)], run=16)

    assert calibration.alert_line(fit, budget_per_week=1, interval_s=60) == LOWEST_LINE


def independent(random: np.random.Generator, n: int) -> Float64:
    return random.gumbel(0, 0.5, n)


def dependent(random: np.random.Generator, n: int) -> Float64:
    """Evidence of overlapping windows: each value shares 31 of 32 parts with the one before."""
    return np.convolve(random.normal(size=n + 31), np.ones(32) / math.sqrt(32), "valid")


@pytest.mark.parametrize("evidence", [independent, dependent])
@pytest.mark.parametrize("budget_per_week", [7.0, 21.0])
def test_the_realised_rate_on_clean_data_is_near_the_budget(
    evidence: Callable[[np.random.Generator, int], Float64], budget_per_week: float
) -> None:
    random = np.random.default_rng(4)
    held_out = [evidence(random, 5 * 24 * 60) for _ in range(10)]  # five days of ten streams
    fit = calibration.fit_tail([calibration.opening_statistic(values, 3, 5) for values in held_out], run=32)
    line = calibration.alert_line(fit, budget_per_week=budget_per_week, interval_s=60)

    weeks = 40
    fresh = calibration.opening_statistic(evidence(random, weeks * MINUTES_A_WEEK), 3, 5)
    incidents = len(calibration.cluster_peaks(fresh, line, 32))

    assert line > LOWEST_LINE
    assert budget_per_week / 3 <= incidents / weeks <= budget_per_week * 2.5


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.floats(0, 1e6))
def test_shrinking_stays_between_own_and_fleet(own: float, fleet: float, weight: float) -> None:
    shrunk = calibration.shrink_log(np.array([own]), np.array([fleet]), weight)[0]

    assert min(own, fleet) * (1 - 1e-6) <= shrunk <= max(own, fleet) * (1 + 1e-6)


def test_shrinking_trusts_a_stream_the_more_it_has_shown() -> None:
    own, fleet = np.array([10.0]), np.array([1.0])

    shrunk = [calibration.shrink_log(own, fleet, weight)[0] for weight in (0, 1, 10, 1e9)]

    assert shrunk == sorted(shrunk)
    assert shrunk[0] == pytest.approx(1)
    assert shrunk[-1] == pytest.approx(10)
