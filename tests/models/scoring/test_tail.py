"""The tail fit finds tails that are known, of one stream or of many, and chance is told from excess."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.scoring import tail
from models.scoring.alert_line import AlertPolicy, alert_line
from models.scoring.tail import LOWEST_LINE, Openings, TailFit

Float64 = NDArray[np.float64]
MINUTES_A_WEEK = 7 * 24 * 60


def openings(values: NDArray[Any], n: int, m: int, stride: int = 1) -> Openings:
    """Those of one stream that was wholly held out."""
    count = np.array([len(values)], np.int64)
    return Openings.of(values.astype(np.float32), count, count, n=n, m=m, stride=stride)


def plain(values: Sequence[float]) -> Openings:
    """Values that are statistics already."""
    zeros = np.zeros(len(values), np.int64)
    return Openings(np.array(values, float), zeros, zeros, np.ones(len(values), bool), 1)


numbers = st.floats(0, 10, width=32)


@given(st.lists(numbers, max_size=40), st.integers(1, 5), st.integers(0, 4), numbers)
def test_the_opening_statistic_is_at_the_line_exactly_when_n_of_m_are(
    values: list[float], n: int, extra: int, line: float
) -> None:
    m = n + extra

    statistic = openings(np.array(values), n, m).values

    opens = [sum(v >= line for v in values[i : i + m]) >= n for i in range(len(values) - m + 1)]
    assert (statistic >= line).tolist() == opens


@given(
    st.lists(st.lists(numbers, max_size=30), min_size=1, max_size=4), st.integers(1, 3), st.integers(1, 5), st.data()
)
def test_a_stride_takes_every_phase_of_every_stream_by_itself(
    streams: list[list[float]], n: int, stride: int, data: st.DataObject
) -> None:
    held_out = [data.draw(st.integers(0, len(values))) for values in streams]
    m, counts = n + 1, np.array([len(values) for values in streams], np.int64)

    found = Openings.of(
        np.array([*itertools.chain(*streams)], np.float32),
        counts,
        np.array(held_out, np.int64),
        n=n,
        m=m,
        stride=stride,
    )

    wanted = [
        (i, i * stride + phase, sorted(values[phase::stride][k : k + m])[m - n], newest >= len(values) - kept)
        for i, (values, kept) in enumerate(zip(streams, held_out, strict=True))
        for phase in range(stride)
        for k in range(len(values[phase::stride]) - m + 1)
        for newest in [phase + stride * (k + m - 1)]
    ]
    columns = found.streams.tolist(), found.series.tolist(), found.values.tolist(), found.held_out.tolist()
    assert list(zip(*columns, strict=True)) == wanted


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

    assert plain(values).clusters(2.0, run)[0].tolist() == peaks


@given(st.lists(st.lists(st.integers(0, 9), max_size=60), min_size=1, max_size=5), st.integers(1, 8))
def test_tails_of_many_streams_at_once_are_those_of_each_by_itself(streams: list[list[int]], run: int) -> None:
    which = np.repeat(np.arange(len(streams)), [len(values) for values in streams])
    every = Openings(np.array([*itertools.chain(*streams)], float), which, which, np.ones(len(which), bool), 1)

    fits = every.fit_each(run, len(streams))

    assert fits == [plain(values).fit(run) for values in streams]


def spaced_excesses(excess: Float64, every: int = 10) -> Float64:
    """Exceedances of a quiet series, one every so many readings: a cluster each."""
    series = np.zeros(len(excess) * every)
    series[::every] = 10 + excess
    return series


def test_the_fit_finds_a_known_exponential_tail() -> None:
    series = spaced_excesses(np.random.default_rng(1).exponential(2.0, 2000))

    fit = tail.fit_tail([series], run=5)

    assert fit.shape == pytest.approx(0.0, abs=0.1)
    assert fit.rate == pytest.approx(0.05, rel=0.01)  # clusters above the 95 % quantile
    # Of values above 10 there are 0.1 a reading: P(value > 10 + x) = exp(-x / 2).
    assert fit.level(1e-4) == pytest.approx(10 + 2 * math.log(0.1 / 1e-4), rel=0.1)


def test_the_fit_finds_a_known_heavy_tail() -> None:
    shape, scale = 0.25, 1.0
    uniform = np.random.default_rng(2).uniform(size=20_000)
    series = scale / shape * ((1 - uniform) ** -shape - 1)  # generalised Pareto

    fit = tail.fit_tail([series], run=0)

    assert fit.shape == pytest.approx(shape, abs=0.1)
    wanted = scale / shape * (1e-4**-shape - 1)
    assert fit.level(1e-4) == pytest.approx(wanted, rel=0.3)


def test_a_bounded_tail_is_believed_only_so_far() -> None:
    values = np.random.default_rng(3).uniform(size=5000)  # ends at 1, which is a shape of -1

    fit = tail.fit_tail([values], run=0)

    assert -0.3 <= fit.shape < -0.2
    assert 1.0 < fit.level(1e-9) < 1.2


@given(st.floats(0.001, 5), st.floats(0, 0.4), st.floats(1e-8, 1e-2), st.floats(1.01, 100))
def test_a_rarer_rate_is_a_higher_level(scale: float, shape: float, rate: float, factor: float) -> None:
    fit = TailFit(1.0, scale, shape, 0.02, 50, 2500)

    assert fit.level(rate / factor) >= fit.level(rate) >= fit.threshold


@pytest.mark.parametrize("series", [[], [np.empty(0)], [np.zeros(100)], [np.ones(3)]])
def test_too_little_or_too_plain_data_gives_a_finite_line(series: list[Float64]) -> None:
    fit = tail.fit_tail(series, run=16)

    line = alert_line(fit, AlertPolicy(1), interval_s=60)

    assert math.isfinite(line)
    assert line >= LOWEST_LINE


def test_evidence_near_the_typical_is_never_an_anomaly() -> None:
    fit = tail.fit_tail([np.full(1000, -5.0) + 1e-3 * np.arange(1000)], run=16)

    assert alert_line(fit, AlertPolicy(1), interval_s=60) == LOWEST_LINE


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
    fit = tail.fit_tail([openings(values, 3, 5).values for values in held_out], run=32)
    line = alert_line(fit, AlertPolicy(budget_per_week), interval_s=60)

    weeks = 40
    fresh = openings(evidence(random, weeks * MINUTES_A_WEEK), 3, 5)
    incidents = len(fresh.clusters(line, 32)[0])

    assert line > LOWEST_LINE
    assert budget_per_week / 3 <= incidents / weeks <= budget_per_week * 2.5


@pytest.mark.parametrize("expected", [1, 100, 745, 746, 10_000, 1_000_000])
def test_as_many_events_as_expected_are_chance_and_many_more_are_not(expected: int) -> None:
    deviation = math.sqrt(expected)

    assert not tail.contradicts(0, expected)
    assert not tail.contradicts(expected, expected)
    assert not tail.contradicts(round(expected + deviation), expected)
    assert tail.contradicts(math.ceil(expected + 3 * deviation), expected)


@given(st.integers(0, 400), st.floats(0, 300))
def test_chance_is_the_sum_of_the_poisson_distribution(count: int, expected: float) -> None:
    below, term = 0.0, math.exp(-expected)
    for k in range(count):
        below += term
        term *= expected / (k + 1)

    if abs(1.0 - below - 0.05) > 1e-9:
        assert tail.contradicts(count, expected) == (1.0 - below < 0.05)
