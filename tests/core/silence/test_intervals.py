"""How long a stream may take follows from its own steps, not from one outage, and not from the batches."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.grouping import group
from streamer.core.keyed_state import KeyedState
from streamer.core.silence.intervals import BLOCK, IRREGULAR_NS, LONGEST_TIMES, MAXIMA, MEDIANS, Intervals

SECOND = 1_000_000_000


def learned(arrivals: list[tuple[int, int]], cuts: list[int] | None = None, *, factor: float = 30.0) -> list[int]:
    """The limit after each arrival (stream, step)."""
    state = KeyedState()
    intervals = Intervals(state, factor)
    intervals.seed_ns = 30 * SECOND
    edges = sorted({0, len(arrivals), *(cut for cut in cuts or () if cut < len(arrivals))})
    limits: list[int] = []
    for a, b in itertools.pairwise(edges):
        codes, steps = (np.array(column, np.int64) for column in zip(*arrivals[a:b], strict=True))
        state.reach(codes)
        groups = group(codes)
        after = np.empty(len(codes), np.int64)
        after[groups.order] = intervals.step(groups, steps[groups.order], np.ones(len(codes), bool))
        intervals.keep()
        assert intervals.limit_ns(groups.codes).tolist() == [after[codes == code][-1] for code in groups.codes]
        limits += after.tolist()
    return limits


def plainly(steps: list[int], factor: float = 30.0, seed: int = 30 * SECOND) -> int:
    """The limit after some steps of one stream, as the module says it."""
    blocks = [sorted(steps[i : i + BLOCK]) for i in range(0, len(steps) - BLOCK + 1, BLOCK)]
    if blocks:
        maxima = sorted(block[-1] for block in blocks[-MAXIMA:])
        longest = maxima[-2] if len(maxima) > 1 else blocks[0][-2]
        medians = sorted(block[BLOCK // 2] for block in blocks[-MEDIANS:])
        usual = medians[(len(medians) - 1) // 2]
        base = factor * usual if usual else seed
    else:
        longest = sorted(steps)[-2] if len(steps) > 1 else 0
        usual, base = -1, seed
    pause = LONGEST_TIMES * longest
    return int(max(pause, IRREGULAR_NS) if pause > base or (usual == 0 and longest > 0) else base)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0, 1, 2, 5, 20, 300])), min_size=1, max_size=400),
    st.lists(st.integers(1, 399), max_size=6),
    st.integers(1, 3),
)
def test_limits_agree_with_a_plain_reference_in_any_batches(
    arrivals: list[tuple[int, int]], cuts: list[int], repeat: int
) -> None:
    told = [(code, step * SECOND) for code, step in arrivals] * repeat

    limits = learned(told, cuts)

    sent: dict[int, list[int]] = {}
    for (code, step), limit in zip(told, limits, strict=True):
        sent.setdefault(code, []).append(step)
        assert limit == int(np.float32(plainly(sent[code]))) or abs(limit - plainly(sent[code])) < 1e-6 * limit


def test_a_regular_stream_is_silent_after_so_many_of_its_own_intervals() -> None:
    assert learned([(0, 5 * SECOND)] * BLOCK)[-1] == 150 * SECOND


def test_one_outage_is_not_taken_for_a_habit() -> None:
    steps = [(0, SECOND)] * 100 + [(0, 3600 * SECOND)] + [(0, SECOND)] * 100

    assert set(learned(steps)) == {30 * SECOND}


def test_a_bursty_stream_is_measured_by_its_own_pauses() -> None:
    bursts = [(0, 2_000_000)] * 15 + [(0, 40 * SECOND)]

    assert learned(bursts * 10)[-1] == 120 * SECOND
