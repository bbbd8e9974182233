"""Drift is followed slowly, the same whatever the batches, and never hides a single feature or a shift of all."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.scoring import adaptation
from models.scoring.baseline import Baseline

Float32 = NDArray[np.float32]
SCALES, FEATURES, STREAMS = 2, 3, 4


def baseline() -> Baseline:
    shapes = Baseline.shapes(1 + STREAMS, SCALES, FEATURES)
    return Baseline(**{name: np.full(s, 1.0 if name == "spread" else 0.0, np.float32) for name, s in shapes.items()})


class Followed:
    """The state of `STREAMS` streams."""

    def __init__(self) -> None:
        self.levels = np.zeros((STREAMS, SCALES, FEATURES), np.float32)
        self.windows = np.zeros(STREAMS, np.int64)

    def push(self, log_errors: Float32, streams: NDArray[np.int64], stride: int = 1) -> Float32:
        found = adaptation.follow(log_errors, streams + 1, streams, self.levels, self.windows, baseline(), stride)
        return np.zeros_like(log_errors) if found is None else found


def one_stream(log_errors: Float32, stride: int = 1) -> Float32:
    return Followed().push(log_errors, np.zeros(len(log_errors), np.int64), stride)


def shifted(windows: int, features: list[int], by: float = 5.0) -> Float32:
    log_errors = np.zeros((windows, SCALES, FEATURES), np.float32)
    log_errors[:, :, features] = by
    return log_errors


def test_a_feature_that_stays_shifted_is_taken_off_in_time() -> None:
    found = one_stream(shifted(4000, [1]))

    assert (found[: adaptation.EVERY] == 0).all()
    assert 0 < found[200, 0, 1] < 1  # an incident of some hundred readings still stands out
    assert found[-1, :, 1] == pytest.approx(np.full(SCALES, 5.0), abs=0.2)
    assert (found[:, :, [0, 2]] == 0).all()


def test_what_was_learned_is_forgotten_faster_once_the_feature_is_back() -> None:
    followed = Followed()
    streams = np.zeros(2000, np.int64)
    followed.push(shifted(2000, [1]), streams)

    found = followed.push(shifted(1000, []), streams[:1000])

    assert found[0, 0, 1] > 3
    assert found[-1, 0, 1] == 0


def test_a_shift_of_all_features_is_never_taken_off() -> None:
    assert (one_stream(shifted(4000, [0, 1, 2])) == 0).all()


def test_a_single_feature_is_never_taken_off() -> None:
    shapes = Baseline.shapes(1, 1, 1)
    tables = Baseline(**{name: np.ones(shape, np.float32) for name, shape in shapes.items()})
    zeros = np.zeros(3000, np.int64)

    found = adaptation.follow(
        np.full((3000, 1, 1), 9, np.float32),
        zeros,
        zeros,
        np.zeros((1, 1, 1), np.float32),
        np.zeros(1, np.int64),
        tables,
    )

    assert found is None


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, STREAMS - 1), min_size=1, max_size=300),
    st.lists(st.integers(1, 299), max_size=5),
    st.sampled_from([1, 3, 16, 50]),
)
def test_any_split_into_batches_gives_the_same_bits(seed: int, codes: list[int], cuts: list[int], stride: int) -> None:
    streams = np.array(codes)
    log_errors = np.random.default_rng(seed).normal(1, 2, (len(codes), SCALES, FEATURES)).astype(np.float32)
    whole = Followed()
    together = whole.push(log_errors, streams, stride)

    followed = Followed()
    edges = sorted({0, len(codes), *(cut for cut in cuts if cut < len(codes))})
    parts = [followed.push(log_errors[a:b], streams[a:b], stride) for a, b in itertools.pairwise(edges)]

    assert np.array_equal(np.concatenate(parts), together)
    assert np.array_equal(followed.levels, whole.levels)
    assert np.array_equal(followed.windows, whole.windows)


def test_the_pace_is_in_readings_whatever_the_stride() -> None:
    # 3,200 readings: 3,200 windows, or 400 of every eighth reading
    fine, coarse = one_stream(shifted(3200, [0]), 1), one_stream(shifted(400, [0]), 8)

    assert coarse[-1] == pytest.approx(fine[-1], abs=0.1)


def test_levels_stay_within_what_the_errors_reach() -> None:
    followed = Followed()

    for _ in range(20):
        followed.push(shifted(2000, [2], by=3.0), np.zeros(2000, np.int64))

    assert followed.levels.max() < 3.1
