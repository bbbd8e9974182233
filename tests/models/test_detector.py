"""Laws every detector obeys: a fitted one scores anomalous windows high, clean ones low, and always the same."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.detector import FLEET, Detector, deviations
from models.errors import ShapeError, TrainingError
from models.fitting.fit import fit
from models.fitting.training import EpochReport, TrainingOptions
from models.network.architecture import Architecture
from models.scoring.alert_line import AlertPolicy
from tests import tiny
from tests.tiny import FEATURES, LENGTH

Float32 = NDArray[np.float32]


def windows(some: Detector, values: Float32, row: int = 1) -> tuple[Float32, NDArray[np.int64]]:
    """Every window of one stream's readings, in model units, and the row of each."""
    inputs = some.prepare(values, np.full(len(values), row))
    cut = np.lib.stride_tricks.sliding_window_view(inputs, LENGTH, axis=0).transpose(0, 2, 1).copy()
    return cut, np.full(len(cut), row)


def test_a_score_and_an_error_for_each_window(tiny_detector: Detector) -> None:
    score, error = tiny_detector.score(*windows(tiny_detector, tiny.wave(40, seed=5)))

    assert score.shape == error.shape == (25,)
    assert score.dtype == error.dtype == np.float32
    assert (score > 0).all()


def test_no_windows_give_no_scores(tiny_detector: Detector) -> None:
    score, error = tiny_detector.score(np.empty((0, LENGTH, 2), np.float32), np.empty(0, np.int64))

    assert len(score) == len(error) == 0


def test_clean_windows_lie_below_the_line_and_their_error_is_usual(tiny_detector: Detector) -> None:
    score, error = tiny_detector.score(*windows(tiny_detector, tiny.wave(500, seed=5)))

    assert (score < 1).mean() > 0.98
    assert np.median(error) == pytest.approx(1, rel=0.3)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("spike", lambda v: v[-1].__iadd__([5, 0])),
        ("level", lambda v: v[-8:].__iadd__([0, 4])),
        ("stuck", lambda v: v[-12:].__setitem__(slice(None), v[-12].copy())),
        ("tie broken", lambda v: v[-12:, 1].__imul__(-1)),
        ("sentinel", lambda v: v[-1].__iadd__([1e30, 0])),
    ],
)
def test_an_obvious_fault_crosses_the_line(tiny_detector: Detector, name: str, fault: object) -> None:
    values = tiny.wave(LENGTH, seed=5)
    broken = values.copy()
    fault(broken)  # type: ignore[operator]

    clean, _ = tiny_detector.score(*windows(tiny_detector, values))
    anomalous, _ = tiny_detector.score(*windows(tiny_detector, broken))

    assert clean[0] < 1 < anomalous[0]


def test_a_bigger_fault_scores_higher(tiny_detector: Detector) -> None:
    values = np.stack([tiny.wave(LENGTH, seed=5)] * 6)
    values[:, -1, 0] += [0, 2, 8, 80, 8000, 8e8]

    scores = [float(tiny_detector.score(*windows(tiny_detector, one))[0][0]) for one in values]

    assert scores == sorted(set(scores))


def test_the_same_windows_score_the_same_twice(tiny_detector: Detector) -> None:
    cut, rows = windows(tiny_detector, tiny.wave(100, seed=5))

    assert np.array_equal(tiny_detector.score(cut, rows)[0], tiny_detector.score(cut, rows)[0])


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(1, 599), max_size=4), fault=st.booleans())
def test_scores_do_not_depend_on_the_batch(tiny_detector: Detector, cuts: list[int], fault: bool) -> None:
    values = tiny.wave(615, seed=5)
    if fault:
        values[300:310] += 6
    cut, rows = windows(tiny_detector, values)
    whole, _ = tiny_detector.score(cut, rows)

    edges = [0, *sorted(set(cuts)), len(cut)]
    parts = [tiny_detector.score(cut[a:b], rows[a:b])[0] for a, b in itertools.pairwise(edges)]

    assert np.concatenate(parts) == pytest.approx(whole, rel=1e-5)


def test_scores_differ_by_less_than_a_millionth_whatever_the_batch(tiny_detector: Detector) -> None:
    values = tiny.wave(400, seed=9)
    values[200] += [0, 8]
    cut, rows = windows(tiny_detector, values)

    together, _ = tiny_detector.score(cut, rows)
    alone = np.concatenate([tiny_detector.score(cut[i : i + 1], rows[i : i + 1])[0] for i in range(len(cut))])

    assert alone == pytest.approx(together, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_windows_that_are_not_finite_are_refused_and_counted(tiny_detector: Detector, bad: float) -> None:
    cut, rows = windows(tiny_detector, tiny.wave(20, seed=5))
    cut[2, 3, 1] = bad

    with pytest.raises(ShapeError, match="finite; 1 of 5 are not"):
        tiny_detector.score(cut, rows)


def test_windows_of_another_shape_are_refused(tiny_detector: Detector) -> None:
    with pytest.raises(ShapeError, match=r"windows must be \(batch, 16, 2\)"):
        tiny_detector.score(np.zeros((1, LENGTH, 3), np.float32), np.ones(1, np.int64))


def test_known_streams_have_rows_of_their_own_and_unknown_ones_the_fleets(tiny_detector: Detector) -> None:
    assert tiny_detector.rows(["b", "never seen", "a"]).tolist() == [2, FLEET, 1]


def test_a_cold_stream_is_scored_on_the_fleets_row(tiny_detector: Detector) -> None:
    values = tiny.wave(30, seed=5)
    fleets, own = (tiny_detector.score(*windows(tiny_detector, values, row))[0] for row in (FLEET, 1))

    assert np.isfinite(fleets).all()
    assert not np.allclose(fleets, own)


def test_a_cold_stream_like_the_others_lies_below_the_line(tiny_detector: Detector) -> None:
    row = int(tiny_detector.rows(["never seen"])[0])

    score, _ = tiny_detector.score(*windows(tiny_detector, tiny.wave(100, seed=5, level=5), row))

    assert np.isfinite(score).all()
    assert np.median(score) < 1


def test_an_explanation_shows_raw_units_and_blames_the_feature_at_fault(tiny_detector: Detector) -> None:
    values = tiny.wave(LENGTH, seed=5)
    broken = values.copy()
    broken[-4:, 1] += 8
    cut, _ = windows(tiny_detector, broken)

    why = tiny_detector.explain(cut[0], 1)

    assert why.observed == pytest.approx(broken, rel=1e-3, abs=1e-3)
    assert why.shares.sum() == pytest.approx(1, abs=1e-5)
    assert why.shares[1] > 0.7
    assert np.abs(why.expected[-4:, 1] - values[-4:, 1]).mean() < 4


def test_readings_of_clean_data_lie_in_their_band_and_broken_ones_outside(tiny_detector: Detector) -> None:
    cut, _ = windows(tiny_detector, tiny.wave(300, seed=5))
    clean = [tiny_detector.explain(window, 1) for window in cut]
    broken = tiny.wave(LENGTH, seed=5)
    broken[-4:, 1] += 8
    why = tiny_detector.explain(windows(tiny_detector, broken)[0][0], 1)

    inside = np.mean([(each.lower <= each.observed) & (each.observed <= each.upper) for each in clean])
    assert 0.97 < inside < 1
    assert all((each.lower < each.expected).all() and (each.expected < each.upper).all() for each in clean)
    assert (why.observed[-4:, 1] > why.upper[-4:, 1]).all()
    assert ((why.deviation > 1) == ((why.observed < why.lower) | (why.observed > why.upper))).all()


def test_windows_looked_at_together_deviate_as_each_by_itself(tiny_detector: Detector) -> None:
    values = tiny.wave(60, seed=5)
    values[::7, 0] = np.nan
    cut, rows = windows(tiny_detector, values)

    together = deviations(tiny_detector, cut, rows)

    assert np.isnan(together).any()
    for n in (1, 3, 9):
        assert np.array_equal(deviations(tiny_detector, cut[:n], rows[:n]), together[:n], equal_nan=True)
    alone = np.stack([tiny_detector.explain(window, 1).deviation for window in cut])
    assert alone == pytest.approx(together, rel=1e-3, abs=1e-4, nan_ok=True)


def test_a_fit_with_the_same_seed_scores_the_same(tiny_detector: Detector) -> None:
    again = tiny.fit()
    values = tiny.wave(50, seed=5)

    assert np.array_equal(
        again.score(*windows(again, values))[0], tiny_detector.score(*windows(tiny_detector, values))[0]
    )
    assert np.array_equal(again.line, tiny_detector.line)


def test_the_line_rises_as_the_budget_shrinks() -> None:
    lines = []
    for per_week in (1e6, 1.0, 1e-12):
        fitted = fit(
            {"a": tiny.wave(300)},
            FEATURES,
            Architecture(features=2, window=LENGTH, patch=4, hidden=4, latent=2),
            interval_s=60,
            options=TrainingOptions(epochs=1, steps_per_epoch=1, batch_size=16),
            policy=AlertPolicy(per_week),
        )
        lines.append(fitted.line.tolist())

    assert lines == sorted(lines)
    assert all(low < high for low, high in zip(lines[0], lines[-1], strict=True))


def test_a_fit_reports_progress_and_how_it_went() -> None:
    told: list[EpochReport] = []

    fitted = tiny.fit(epochs=2, on_epoch=told.append)

    assert len(told) == fitted.report["epochs"] == 2
    assert fitted.report["held_out_windows"] == 300
    assert fitted.report["budget_per_stream_per_week"] == 1.0


def quick_fit(series: dict[str, Float32], **changes: object) -> Detector:
    architecture = dataclasses.replace(Architecture(features=2, window=LENGTH, patch=4, hidden=4, latent=2), **changes)  # type: ignore[arg-type]
    options = TrainingOptions(epochs=1, steps_per_epoch=1, batch_size=4)
    return fit(series, FEATURES, architecture, interval_s=60, options=options)


def test_streams_too_short_to_train_are_left_to_the_fleets_row() -> None:
    fitted = quick_fit({"long": tiny.wave(100), "short": tiny.wave(10)})

    assert fitted.streams == ("long",)


def test_without_a_long_stream_the_error_says_how_much_is_wanted_and_there() -> None:
    with pytest.raises(TrainingError, match=r"at least 19 readings .*; the longest of 2 has 12"):
        quick_fit({"a": tiny.wave(12), "b": tiny.wave(3)})


def test_the_length_named_as_enough_is_enough() -> None:
    assert quick_fit({"a": tiny.wave(19)}).streams == ("a",)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((50, 2), np.nan, np.float32), "stream 'a': readings must be finite"),
        (np.zeros((50, 3), np.float32), r"stream 'a': wanted \(rows, 2\); got \(50, 3\)"),
        (np.zeros(50, np.float32), r"stream 'a': wanted \(rows, 2\); got \(50,\)"),
    ],
)
def test_readings_that_cannot_be_learned_are_refused(values: Float32, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        quick_fit({"a": values})


def test_constant_streams_train_and_score() -> None:
    fitted = quick_fit({"a": np.full((60, 2), 7, np.float32)})

    score, _ = fitted.score(*windows(fitted, np.full((LENGTH, 2), 7, np.float32)))

    assert np.isfinite(score).all()
    assert score[0] <= 1
