"""Times of the newest readings of each stream, against a plain list of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.keyed_state import ExportedState, KeyedState
from streamer.core.times import Times

LENGTH = 4
NAMES = ("a", "b", "c")


@given(st.lists(st.lists(st.integers(0, 2), max_size=14), max_size=8), st.booleans())
def test_a_window_has_the_times_of_its_readings_whatever_the_batches_and_restarts(
    batches: list[list[int]], restart: bool
) -> None:
    state = KeyedState(NAMES)
    times = Times(state, LENGTH)
    seen: dict[int, list[int]] = {code: [] for code in range(3)}
    now = 1_700_000_000_000_000_000
    for batch in batches:
        steps = np.arange(1, len(batch) + 1) * 1_000_000_007
        codes, time_ns = np.array(batch, np.int64), now + steps
        timed = times.look(codes, time_ns)
        for row, code in enumerate(batch):
            seen[code].append(int(time_ns[row]))
            assert timed.window(code, row).tolist() == seen[code][-LENGTH:]
            assert timed.numbers[row] == len(seen[code])
        times.step(timed)
        now += 60_000_000_000
        if restart:
            exported = state.export(np.arange(3))
            state = KeyedState(NAMES)
            times = Times(state, LENGTH)
            state.restore(exported)


def test_times_of_windows_of_another_length_are_refused() -> None:
    one, other = KeyedState(["a"]), KeyedState()
    Times(one, LENGTH)
    Times(other, LENGTH + 1)
    exported = one.export(np.array([0]))

    with pytest.raises(ValueError, match=r"step_ns: wanted \(1, 4\); got \(1, 3\)"):
        other.restore(ExportedState(exported.columns, exported.values))
