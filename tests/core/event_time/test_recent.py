"""Readings kept for corrections: the same as of a plain table, whatever other streams do."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.event_time.held import Held, Rows
from streamer.core.event_time.recent import Recent
from streamer.core.keyed_state import KeyedState

SPAN_NS = 10


def rows(sent: list[tuple[int, int]], first: int) -> Rows:
    code, at = (np.array(column, np.int64) for column in zip(*sent, strict=True))
    n = len(sent)
    return Rows(code, at, np.zeros((n, 1)), np.arange(first, first + n), np.zeros(n, np.int64))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 3), st.integers(-50, 400)), min_size=1, max_size=8),
            st.sets(st.integers(0, 3), min_size=1),
            st.integers(-60, 420),
        ),
        max_size=8,
    )
)
def test_what_is_forgotten_and_found_is_what_a_table_that_looks_at_everything_says(
    steps: list[tuple[list[tuple[int, int]], set[int], int]],
) -> None:
    state = KeyedState(["a", "b", "c", "d"])
    recent, plain = Recent(state, 1, SPAN_NS), Held(1, SPAN_NS)
    everyone = np.arange(4)
    for number, (sent, streams, before) in enumerate(steps):
        codes = np.array(sorted(streams))
        for table in (recent, plain):
            table.add(rows(sent, 100 * number))
        gone, wanted = (
            recent.forget(codes, np.full(len(codes), before)),
            plain.release(codes, np.full(4, before)[codes], 4),
        )
        assert gone.offset.tolist() == wanted.offset.tolist()
        assert recent.count == plain.count
        left = plain.export(everyone)
        for code, some in enumerate(recent.of_each(everyone, np.full(4, 400))):
            assert some.offset.tolist() == left["offset"][left["stream"] == code].tolist()
