"""Scores are the detector's own, whatever the mix of streams and batches."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.detector import Detector
from models.errors import ShapeError
from models.scaling import RobustScaler
from streamer.core.keyed_state import KeyedState
from streamer.core.scoring import Scored, Scorer
from tests import tiny
from tests.tiny import LENGTH

NAMES = ["a", "stranger", "b"]


def make(detector: Detector, version: str = "v") -> Scorer:
    return Scorer(KeyedState(NAMES), detector, stride=1, version=version)


class Scores:
    """What a scorer yields, put together: one row for each reading."""

    def __init__(self, n: int, found: Iterable[Scored]) -> None:
        self.found = list(found)
        self.score, self.error = np.full((2, n), np.nan, np.float32)
        for some in self.found:
            self.score[some.rows], self.error[some.rows] = some.score, some.error
        self.failures = sum(some.failures for some in self.found)


def score(scorer: Scorer, codes: list[int], values: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Scores:
    return Scores(len(codes), scorer.score(np.array(codes, np.int64), values, np.zeros(len(codes), bool)))


def test_a_score_stands_beside_the_reading_that_closed_its_window(tiny_detector: Detector) -> None:
    values = tiny.wave(LENGTH + 2, seed=5)
    inputs = tiny_detector.prepare(values, np.ones(len(values), np.int64))

    scores = score(make(tiny_detector), [0] * len(values), values)

    direct, error = tiny_detector.score(np.stack([inputs[i : i + LENGTH] for i in range(3)]), np.ones(3, np.int64))
    assert np.isnan(scores.score[: LENGTH - 1]).all()
    assert scores.score[LENGTH - 1 :] == pytest.approx(direct, rel=1e-5)
    assert scores.error[LENGTH - 1 :] == pytest.approx(error, rel=1e-5)
    assert scores.failures == 0


@settings(max_examples=20)
@given(st.lists(st.integers(0, 2), min_size=60, max_size=120), st.lists(st.integers(1, 119), max_size=4))
def test_any_split_gives_the_same_scores(tiny_detector: Detector, codes: list[int], cuts: list[int]) -> None:
    values = tiny.wave(len(codes), seed=5)
    whole = score(make(tiny_detector), codes, values)

    scorer = make(tiny_detector)
    edges = sorted({0, len(codes), *(cut for cut in cuts if cut < len(codes))})
    parts = [score(scorer, codes[a:b], values[a:b]) for a, b in itertools.pairwise(edges)]

    assert np.concatenate([part.score for part in parts]) == pytest.approx(whole.score, rel=1e-5, nan_ok=True)


def test_anomalous_windows_come_with_what_explains_them(tiny_detector: Detector) -> None:
    values = tiny.wave(LENGTH, seed=5)
    values[-3:, 1] += 9
    scorer = make(tiny_detector)

    scores = score(scorer, [2] * LENGTH, values + np.array([10, 0], np.float32))

    (some,) = scores.found
    assert some.rows[some.anomalous].tolist() == [LENGTH - 1]
    why = scorer.explain(some.windows[some.anomalous[0]], some.shares[0], 2)
    assert why.observed == pytest.approx(values + np.array([10, 0]), rel=1e-3, abs=1e-3)
    assert why.shares.argmax() == 1


def test_no_readings_give_no_scores(tiny_detector: Detector) -> None:
    scores = score(make(tiny_detector), [], np.empty((0, 2), np.float32))

    assert (len(scores.score), scores.failures) == (0, 0)


def test_a_window_the_model_cannot_score_is_counted_and_others_do_not_suffer(tiny_detector: Detector) -> None:
    anchor = tiny_detector.baseline.anchor.copy()
    anchor[2] = np.nan  # the table row of stream "b"
    broken = tiny.with_tables(tiny_detector, anchor=anchor)
    values = np.repeat(tiny.wave(LENGTH, seed=5), 2, axis=0)

    scores = score(make(broken), [0, 2] * LENGTH, values)

    assert scores.failures == 1
    assert np.isfinite(scores.score[-2])
    assert np.isnan(scores.score[-1])


def test_a_swap_keeps_the_windows(tiny_detector: Detector) -> None:
    values = tiny.wave(2 * LENGTH, seed=5)
    other = dataclasses.replace(
        tiny.with_tables(tiny_detector, line=tiny_detector.line + 1),
        scaler=RobustScaler(tiny_detector.scaler.center + 1, tiny_detector.scaler.width * 2),
    )
    swapped, always = (make(one, "1") for one in (tiny_detector, other))
    score(swapped, [0] * (LENGTH + 3), values[: LENGTH + 3])
    score(always, [0] * (LENGTH + 3), values[: LENGTH + 3])

    swapped.swap(other, "2")

    after = score(swapped, [0] * (LENGTH - 3), values[LENGTH + 3 :])
    assert swapped.version == "2"
    assert not np.isnan(after.score).any()
    assert after.score == pytest.approx(score(always, [0] * (LENGTH - 3), values[LENGTH + 3 :]).score, rel=1e-3)


def test_a_swap_looks_streams_up_again(tiny_detector: Detector) -> None:
    scorer = make(tiny_detector, "1")
    values = tiny.wave(2 * LENGTH, seed=5)
    score(scorer, [1] * LENGTH, values[:LENGTH])
    knows = dataclasses.replace(tiny_detector, streams=("stranger", "b"))

    scorer.swap(knows, "2")

    direct = make(knows, "2")
    score(direct, [1] * LENGTH, values[:LENGTH])
    assert score(scorer, [1], values[LENGTH : LENGTH + 1]).score == pytest.approx(
        score(direct, [1], values[LENGTH : LENGTH + 1]).score, rel=1e-3
    )


def test_a_detector_of_other_features_is_refused(tiny_detector: Detector) -> None:
    scorer = make(tiny_detector, "1")

    with pytest.raises(ShapeError, match=r"features \['heat', 'current'\]; got window 16 and \['x', 'y'\]"):
        scorer.swap(dataclasses.replace(tiny_detector, features=("x", "y")), "2")
    assert scorer.version == "1"
