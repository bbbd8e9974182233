"""How many readings of a stream are held back at most."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.event_time.options import TimeOptions
from streamer.core.event_time.station import EventTime
from streamer.core.keyed_state import KeyedState
from tests import tiny

MOST = 20


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(-30, 60)), min_size=1, max_size=300),
    st.lists(st.integers(1, 299), max_size=6),
)
def test_never_more_than_twice_max_held_of_a_stream(steps: list[tuple[int, int]], cuts: list[int]) -> None:
    state = KeyedState("abc")
    station = EventTime(state, TimeOptions(fields=("x", "y"), lateness_ns=50, max_held=MOST))
    times = np.cumsum([max(jump, -5) // 20 for _, jump in steps]) + 1000 + np.array([jump for _, jump in steps])
    whole = tiny.readings([code for code, _ in steps], times.tolist())

    for part in tiny.split(whole, cuts):
        station.take(part)
        state.assign(np.unique(part.stream), 0)
        assert station.held is not None
        held = station.held.export(np.arange(3))["stream"]
        assert np.bincount(held, minlength=3).max() <= 2 * MOST
