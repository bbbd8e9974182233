"""A stream is silent when others of its partition go on without it, whatever the batches."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.keyed_state import KeyedState
from streamer.core.silence import SilenceWatch

Heard = list[tuple[str, int, int, int]]


def hear(watch: SilenceWatch, arrivals: Sequence[tuple[int, int]], partition: int = 0) -> Heard:
    """Events as (event, stream, onset, moment) of arrivals (stream, time)."""
    codes, times = (np.array(column, np.int64) for column in zip(*arrivals, strict=True))
    events = watch.step(codes, times, np.full(len(codes), partition, np.int64))
    return [(event.event, event.code, event.onset_ns, event.at_ns) for event in events]


def steadily(code: int, first: int, last: int) -> list[tuple[int, int]]:
    return [(code, at) for at in range(first, last + 1)]


def test_a_stream_that_stops_while_others_go_on_is_silent_until_it_sends_again() -> None:
    watch = SilenceWatch(KeyedState(), 8)

    # stream 0   0                     12
    # stream 1   0 1 2 ...  8 9 10 11 12
    #            |-----8-----| silent from the first reading beyond
    assert hear(watch, [(0, 0), *steadily(1, 0, 8)]) == []
    assert hear(watch, [(1, 9)]) == [("open", 0, 0, 9)]
    assert watch.is_silent.sum() == 1
    assert hear(watch, steadily(1, 10, 11)) == []
    assert hear(watch, [(0, 12), (1, 12)]) == [("resolve", 0, 0, 12)]
    assert watch.is_silent.sum() == 0


def test_when_the_whole_partition_pauses_none_is_silent() -> None:
    watch = SilenceWatch(KeyedState(), 8)
    hear(watch, [(0, 0), (1, 0)])

    assert hear(watch, [(1, 10_000), (0, 10_000)]) == []


def test_one_reading_from_the_future_silences_nobody() -> None:
    watch = SilenceWatch(KeyedState(), 8)
    hear(watch, [(0, 0), (1, 0), (2, 0)])

    assert hear(watch, [(2, 3600), (0, 1), (1, 1), (0, 2), (1, 2)]) == []


def test_partitions_have_clocks_of_their_own() -> None:
    watch = SilenceWatch(KeyedState(), 8)
    hear(watch, [(0, 0)], partition=0)

    assert hear(watch, steadily(1, 0, 100), partition=1) == []


def test_silence_can_be_off() -> None:
    watch = SilenceWatch(KeyedState(), None)

    assert hear(watch, [(0, 0), *steadily(1, 0, 100)]) == []


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60),
    st.integers(1, 12),
    st.lists(st.integers(1, 59), max_size=8),
)
def test_silence_does_not_depend_on_the_batches(steps: list[tuple[int, int]], after_ns: int, cuts: list[int]) -> None:
    times = np.cumsum([step for _, step in steps]).tolist()
    arrivals = [(code, at) for (code, _), at in zip(steps, times, strict=True)]
    edges = sorted({0, len(arrivals), *(cut for cut in cuts if cut < len(arrivals))})

    together = hear(SilenceWatch(KeyedState(), after_ns), arrivals)
    watch = SilenceWatch(KeyedState(), after_ns)
    apart = [event for a, b in itertools.pairwise(edges) for event in hear(watch, arrivals[a:b])]

    assert sorted(together) == sorted(apart)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=80), st.integers(1, 9))
def test_a_silence_opens_before_it_resolves(steps: list[tuple[int, int]], after_ns: int) -> None:
    times = np.cumsum([step for _, step in steps]).tolist()
    silent: dict[int, int] = {}
    watch = SilenceWatch(KeyedState(), after_ns)
    for event, code, onset, at in hear(watch, [(code, at) for (code, _), at in zip(steps, times, strict=True)]):
        if event == "open":
            assert code not in silent
            assert at - onset > after_ns
            silent[code] = onset
        else:
            assert silent.pop(code) == onset
    assert watch.is_silent.sum() == len(silent)


def test_a_stream_that_changes_its_partition_was_not_silent() -> None:
    watch = SilenceWatch(KeyedState(), 8)
    hear(watch, steadily(1, 0, 1000), partition=1)
    hear(watch, steadily(0, 990, 1000), partition=0)

    # partitions were added: stream 0 goes on in another, a nanosecond later
    assert hear(watch, [(0, 1001)], partition=1) == []
