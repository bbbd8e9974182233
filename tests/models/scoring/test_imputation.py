"""A missing value is filled for the network and never makes a window anomalous."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.detector import Detector
from models.fitting.fit import fit
from models.fitting.training import TrainingOptions
from models.network.architecture import Architecture
from models.scoring import adaptation, imputation
from tests import tiny
from tests.tiny import LENGTH, PATCH

Float32 = NDArray[np.float32]
NOTHING = np.float32(-np.inf)


def windows(some: Detector, values: Float32) -> tuple[Float32, NDArray[np.int64]]:
    """Every window of one stream's readings, in model units, and the row of each."""
    inputs = some.prepare(values, np.ones(len(values), np.int64))
    cut = np.lib.stride_tricks.sliding_window_view(inputs, LENGTH, axis=0).transpose(0, 2, 1).copy()
    return cut, np.ones(len(cut), np.int64)


def with_missing(some: Detector, rows: int = 60, part: float = 0.2, seed: int = 0) -> tuple[Float32, NDArray[np.int64]]:
    """Windows of a clean stream with values missing at random."""
    values = tiny.wave(rows, seed=5)
    values[np.random.default_rng(seed).random(values.shape) < part] = np.nan
    return windows(some, values)


def judged(some: Detector, log_errors: Float32, rows: NDArray[np.int64]) -> Float32:
    n = len(rows)
    levels, seen = np.zeros((n, *log_errors.shape[1:]), np.float32), np.zeros(n, np.int64)
    return some.judge(log_errors, rows, np.arange(n), levels, seen).score


def test_a_gap_is_bridged_by_a_straight_line_and_an_open_end_by_its_neighbour() -> None:
    nan = np.nan
    x = np.array([[nan, nan, 1, nan, nan, 4, nan, nan], [nan] * 8, [7] + [nan] * 7], np.float32)

    guess = imputation.interpolate(x[:, :, None])[:, :, 0]

    # .  .  1  .  .  4  .  .
    assert guess.tolist() == [[1, 1, 1, 2, 3, 4, 4, 4], [0] * 8, [7] * 8]
    assert np.isnan(x).sum() == 21  # the windows given are left as they are


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_what_is_there_stays_and_nothing_stays_missing(seed: int, part: float) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=(3, 8, 2)).astype(np.float32)
    x[random.random(x.shape) < part] = np.nan

    guess = imputation.interpolate(x)

    there = ~np.isnan(x)
    assert np.array_equal(guess[there], x[there])
    assert np.isfinite(guess).all()
    assert np.abs(guess).max() <= np.abs(x[there]).max(initial=0)


def test_filled_values_are_near_those_that_were_lost(tiny_detector: Detector) -> None:
    values = tiny.wave(200, seed=5)
    whole, _ = windows(tiny_detector, values)
    lost = np.random.default_rng(1).random(values.shape) < 0.2
    values[lost] = np.nan
    cut, _ = windows(tiny_detector, values)

    filled = tiny_detector.fill(cut)

    absent = np.isnan(cut)
    assert np.array_equal(filled[~absent], whole[~absent])
    assert np.abs(filled - whole)[absent].mean() < 0.3 * np.abs(whole).mean()


def test_a_window_without_gaps_is_measured_the_same_either_way(tiny_detector: Detector) -> None:
    cut, rows = windows(tiny_detector, tiny.wave(60, seed=5))

    for plain, careful in zip(
        tiny_detector.measure(cut, rows), tiny_detector.measure(cut, rows, has_missing=True), strict=True
    ):
        assert np.array_equal(plain, careful)


def test_a_missing_value_counts_as_typical_and_takes_from_what_is_beyond(
    tiny_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imputation, "PASSES", 0)
    cut, rows = with_missing(tiny_detector)
    scales, baseline = tiny_detector.scales, tiny_detector.baseline

    log_errors, _ = tiny_detector.measure(cut, rows, has_missing=True)

    filled = imputation.interpolate(cut)
    with torch.inference_mode():
        reconstruction, forecast = tiny_detector.network.reconstruct_and_forecast(torch.from_numpy(filled))
    assert forecast is not None
    typical, floor = np.exp(baseline.typical[1]) - baseline.floor[1], baseline.floor[1]
    for scale, k in enumerate((*scales.reconstruction, *scales.forecast)):
        made = reconstruction.numpy() if scale < len(scales.reconstruction) else forecast.numpy()
        newest = slice(-k * PATCH, None)
        gone = np.isnan(cut[:, newest])
        counted = np.where(gone, typical[scale], (made[:, newest] - filled[:, newest]) ** 2).mean(1)
        share = np.isnan(cut).mean((1, 2))[:, None]
        errors = np.minimum(counted, (1 - share) * counted + share * typical[scale])
        wanted = np.where(gone.all(1), NOTHING, np.log(errors + floor[scale]))
        assert log_errors[:, scale] == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_another_pass_only_lowers_what_is_measured(tiny_detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    cut, rows = with_missing(tiny_detector, part=0.4)
    before = np.full((len(cut), len(tiny_detector.scales), 2), np.inf)

    for passes in range(6):
        monkeypatch.setattr(imputation, "PASSES", passes)
        log_errors, _ = tiny_detector.measure(cut, rows, has_missing=True)
        assert (log_errors <= before).all()
        before = log_errors


def test_what_nothing_was_measured_of_says_nothing(tiny_detector: Detector) -> None:
    cut, rows = windows(tiny_detector, tiny.wave(LENGTH, seed=5))
    log_errors, _ = tiny_detector.measure(cut, rows)
    silent = log_errors.copy()
    silent[:, :, 1] = NOTHING
    typical = log_errors.copy()
    typical[:, :, 1] = tiny_detector.baseline.typical[1, :, 1]

    assert judged(tiny_detector, silent, rows) == pytest.approx(judged(tiny_detector, typical, rows), rel=1e-6)


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(1, 399), max_size=4), seed=st.integers(0, 99))
def test_the_same_bits_whatever_the_batch(tiny_detector: Detector, cuts: list[int], seed: int) -> None:
    cut, rows = with_missing(tiny_detector, rows=415, seed=seed)
    whole, error = tiny_detector.measure(cut, rows, has_missing=True)

    edges = [0, *sorted(set(cuts)), len(cut)]
    parts = [tiny_detector.measure(cut[a:b], rows[a:b], has_missing=True) for a, b in itertools.pairwise(edges)]

    assert np.array_equal(np.concatenate([part for part, _ in parts]), whole)
    assert np.array_equal(np.concatenate([part for _, part in parts]), error)


@pytest.mark.parametrize("backbone", ["gru", "dense", "conv"])
def test_other_backbones_fill_too(backbone: str) -> None:
    some = fit(
        {name: tiny.wave(600, seed=i, level=10.0 * i) for i, name in enumerate(tiny.STREAMS)},
        tiny.FEATURES,
        Architecture(features=2, window=LENGTH, patch=PATCH, hidden=16, latent=4, backbone=backbone),
        interval_s=tiny.INTERVAL_S,
        options=TrainingOptions(epochs=12, steps_per_epoch=30, batch_size=48, learning_rate=1e-2),
    )
    values = tiny.wave(200, seed=5)
    whole, rows = windows(some, values)
    values[np.random.default_rng(1).random(values.shape) < 0.2] = np.nan
    cut, _ = windows(some, values)
    faulty = cut.copy()
    faulty[:, -6:, 1] += 4

    complete, clean, anomalous = (
        judged(some, some.measure(w, rows, has_missing=True)[0], rows) for w in (whole, cut, faulty)
    )

    assert (clean >= 1).mean() <= (complete >= 1).mean() + 0.01
    assert (anomalous >= 1).mean() > 0.9


def test_drift_does_not_move_while_nothing_is_measured(tiny_detector: Detector) -> None:
    baseline, n = tiny_detector.baseline, 10 * adaptation.EVERY
    levels, seen = np.full((1, len(tiny_detector.scales), 2), 2, np.float32), np.zeros(1, np.int64)
    high = baseline.typical[1] + 9 * baseline.spread[1]
    high[:, 1] = NOTHING

    zeros = np.zeros(n, np.int64)
    adaptation.follow(np.repeat(high[None], n, 0), zeros + 1, zeros, levels, seen, baseline)

    assert (levels[0, :, 0] > 2).all()
    assert (levels[0, :, 1] == 2).all()


def test_a_feature_of_which_the_window_holds_nothing_has_no_share(tiny_detector: Detector) -> None:
    values = tiny.wave(LENGTH, seed=5)
    values[-3:, 0] += 9
    values[:, 1] = np.nan
    cut, _ = windows(tiny_detector, values)

    why = tiny_detector.explain(cut[0], 1)

    assert why.shares.tolist() == [1, 0]
    assert np.isnan(why.observed[:, 1]).all()
    assert np.isfinite(why.expected).all()
