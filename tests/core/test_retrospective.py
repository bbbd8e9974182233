"""A settled score is the highest of those that follow, the same whatever the batches."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.core.keyed_state import KeyedState
from streamer.core.retrospective import DELAY, Retrospective

Float32 = NDArray[np.float32]


def settle(
    settling: Retrospective, codes: list[int], score: Float32, fresh: NDArray[np.bool_] | None = None
) -> Float32:
    return settling.step(np.array(codes, np.int64), score, np.zeros(len(codes), bool) if fresh is None else fresh)


def test_a_reading_is_settled_by_the_highest_of_its_own_and_the_next_scores() -> None:
    score = np.random.default_rng(0).exponential(size=50).astype(np.float32)

    settled = settle(Retrospective(KeyedState()), [0] * 50, score)

    assert np.isnan(settled[:DELAY]).all()
    for t in range(50 - DELAY):
        assert settled[t + DELAY] == score[t : t + DELAY + 1].max()


def test_readings_without_a_score_settle_nothing_and_are_not_counted() -> None:
    score = np.arange(60, dtype=np.float32)
    score[::2] = np.nan

    settled = settle(Retrospective(KeyedState()), [0] * 60, score)

    assert np.isnan(settled[::2]).all()
    assert settled[59] == 59
    assert np.isnan(settled[2 * DELAY - 1])
    assert settled[2 * DELAY + 1] == 2 * DELAY + 1


def test_nothing_is_settled_across_a_new_beginning() -> None:
    score = np.ones(60, np.float32)
    fresh = np.zeros(60, bool)
    fresh[30] = True

    settled = settle(Retrospective(KeyedState()), [0] * 60, score, fresh)

    assert np.flatnonzero(~np.isnan(settled)).tolist() == [*range(DELAY, 30), *range(30 + DELAY, 60)]


def test_a_stream_reset_without_a_score_since_forgets_too() -> None:
    settling = Retrospective(KeyedState())
    settle(settling, [0] * 40, np.ones(40, np.float32))
    fresh, nothing = np.array([True, False]), np.full(2, np.nan, np.float32)

    settle(settling, [0, 0], nothing, fresh)

    assert np.isnan(settle(settling, [0] * DELAY, np.ones(DELAY, np.float32))).all()
    assert settle(settling, [0], np.ones(1, np.float32))[0] == 1


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 2), min_size=1, max_size=200),
    st.lists(st.integers(1, 199), max_size=5),
    st.floats(0, 0.05),
)
def test_any_split_into_batches_settles_the_same(seed: int, codes: list[int], cuts: list[int], often: float) -> None:
    random = np.random.default_rng(seed)
    score = random.exponential(size=len(codes)).astype(np.float32)
    score[random.random(len(codes)) < 0.1] = np.nan
    fresh = random.random(len(codes)) < often
    whole = settle(Retrospective(KeyedState()), codes, score, fresh)

    settling = Retrospective(KeyedState())
    edges = sorted({0, len(codes), *(cut for cut in cuts if cut < len(codes))})
    parts = [settle(settling, codes[a:b], score[a:b], fresh[a:b]) for a, b in itertools.pairwise(edges)]

    assert np.array_equal(np.concatenate(parts), whole, equal_nan=True)


def test_no_readings_settle_nothing() -> None:
    assert len(settle(Retrospective(KeyedState()), [], np.empty(0, np.float32))) == 0
