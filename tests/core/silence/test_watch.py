"""A stream is silent when others of its partition go on without it, whatever the batches."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.config import SessionsConfig
from streamer.core.events import Event
from streamer.core.keyed_state import NO_STREAM, ExportedState, KeyedState
from streamer.core.sessions import Sessions
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


# -- many at once -----------------------------------------------------------------------------------------------


SECOND = 1_000_000_000


def in_turn(streams: Sequence[int], begin: int, end: int) -> list[tuple[int, int]]:
    """Each stream sends once a second, one shortly after the other."""
    return [(code, at * SECOND + place) for at in range(begin, end) for place, code in enumerate(streams)]


def storms(watch: SilenceWatch, arrivals: list[tuple[int, int]], cuts: Sequence[int] = ()) -> list[Event]:
    edges = sorted({0, len(arrivals), *(cut for cut in cuts if 0 < cut < len(arrivals))})
    found = []
    for a, b in itertools.pairwise(edges):
        codes, times = (np.array(column, np.int64) for column in zip(*arrivals[a:b], strict=True))
        events = watch.step(codes, times, np.zeros(len(codes), np.int64))
        found += [dataclasses.replace(event, row=event.row + a) for event in events]
    return found


ALL, HALF = list(range(30)), list(range(20, 30))
GATEWAY = [
    *in_turn(ALL, 0, 60),
    *in_turn(HALF, 60, 180),  # twenty fall silent together
    *in_turn(ALL[5:], 180, 400),  # five never return
]


def test_streams_that_fall_silent_together_are_one_incident_and_the_rest_get_their_own() -> None:
    state = KeyedState([f"meter-{code:02}" for code in ALL])
    watch = SilenceWatch(state, 30 * SECOND)

    events = storms(watch, GATEWAY)

    told = [(event.event, event.scope, event.code) for event in events]
    assert told[:2] == [("open", "partition", -1), ("resolve", "partition", -1)]
    assert sorted(told[2:]) == [("open", "stream", code) for code in range(5)]
    names = "meter-00, meter-01, meter-02, meter-03, meter-04 and 15 more"
    assert events[0].details == {"partition": 0, "streams": 20, "active": 30, "names": names}
    # Half a limit after they stopped, but not before one of them had been gone for a whole one.
    assert 30 <= events[0].at_ns // SECOND - 59 <= 32
    assert events[1].at_ns // SECOND == 180
    assert [event.onset_ns // SECOND for event in events[2:]] == [59] * 5
    assert watch.is_silent.sum() == 5


def test_ten_streams_of_a_hundred_are_told_one_by_one() -> None:
    watch = SilenceWatch(KeyedState(), 30 * SECOND)
    everyone = list(range(100))

    events = storms(watch, [*in_turn(everyone, 0, 40), *in_turn(everyone[10:], 40, 100)])

    assert sorted((event.event, event.scope, event.code) for event in events) == [
        ("open", "stream", code) for code in range(10)
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, len(GATEWAY) - 1), max_size=12))
def test_an_incident_of_many_does_not_depend_on_the_batches(cuts: list[int]) -> None:
    names = [f"meter-{code:02}" for code in ALL]

    together = storms(SilenceWatch(KeyedState(names), 30 * SECOND), GATEWAY)
    apart = storms(SilenceWatch(KeyedState(names), 30 * SECOND), GATEWAY, cuts)

    assert apart == together


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 14), st.integers(1, 25), st.integers(0, 2), st.booleans()), min_size=1, max_size=25
    ),
    st.lists(st.integers(1, 1000), max_size=10),
)
def test_no_storm_depends_on_the_batches(spells: list[tuple[int, int, int, bool]], cuts: list[int]) -> None:
    arrivals, now = [], 0
    for gone, seconds, late, skewed in spells:
        streams = [code for code in range(15) if code >= gone or (skewed and code % 3 == 0)]
        arrivals += [(code, at - late * SECOND * (code % 2)) for code, at in in_turn(streams, now, now + seconds)]
        now += seconds

    together = storms(SilenceWatch(KeyedState(), 8 * SECOND, factor=8), arrivals)
    apart = storms(SilenceWatch(KeyedState(), 8 * SECOND, factor=8), arrivals, cuts)

    assert apart == together
    depth: dict[int, int] = {}
    for event in together:
        depth[event.code] = depth.get(event.code, 0) + (1 if event.event == "open" else -1)
        assert depth[event.code] in (0, 1)


def test_silence_goes_on_from_an_export_in_the_middle_of_a_storm() -> None:
    names = [f"meter-{code:02}" for code in ALL]
    whole = storms(SilenceWatch(KeyedState(names), 30 * SECOND), GATEWAY)
    cut = 60 * 30 + 80 * 10
    first, second = KeyedState(names), KeyedState(names)
    one, other = SilenceWatch(first, 30 * SECOND), SilenceWatch(second, 30 * SECOND)
    before = storms(one, GATEWAY[:cut])

    exported = first.export(first.held())
    values = json.loads(json.dumps(exported.values))
    second.restore(ExportedState(exported.columns, values))
    after = storms(other, GATEWAY[cut:])

    assert [*before, *(dataclasses.replace(event, row=event.row + cut) for event in after)] == whole


# -- market hours -----------------------------------------------------------------------------------------------

HOURS = Sessions(np.array([0, 86_400]) * SECOND, np.array([3600, 90_000]) * SECOND)


def test_a_closed_market_is_not_silence_and_a_pause_of_an_open_one_is() -> None:
    watch = SilenceWatch(KeyedState(), 30 * SECOND, sessions=HOURS)
    first = [(0, at * SECOND) for at in range(3000, 3600)]
    second = [(0, at * SECOND) for at in range(86_400, 86_600)]
    pause = [(0, at * SECOND) for at in range(86_780, 86_800)]

    assert storms(watch, [*first, *second]) == []
    told = [(e.event, e.scope, e.onset_ns // SECOND, e.at_ns // SECOND) for e in storms(watch, pause)]

    # Eight readings make sure that the one that ends the pause is no mistake.
    assert told == [("open", "stream", 86_599, 86_787), ("resolve", "stream", 86_599, 86_787)]


def test_a_pause_of_several_streams_is_one_of_the_partition() -> None:
    watch = SilenceWatch(KeyedState(), 30 * SECOND, sessions=HOURS)

    events = storms(watch, [*in_turn([0, 1], 0, 100), *in_turn([0, 1], 300, 310)])

    assert [(event.event, event.scope) for event in events] == [("open", "partition"), ("resolve", "partition")]
    assert events[0].details["pause_s"] == pytest.approx(201, abs=4)  # told by the eighth reading after it


# -- trades as they are -------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[3]
TICKS = ROOT.parent / "shared" / "data" / "ticks"


def trades() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if not TICKS.is_dir():
        pytest.skip(f"{TICKS} is not there: the data is not part of the project")
    frame = pd.concat([pd.read_parquet(TICKS / f"{symbol}-trades.parquet") for symbol in ("aig", "bac")])
    frame = frame.sort_values("timestamp", kind="stable")
    times = frame["timestamp"].to_numpy("datetime64[ns]").astype(np.int64)
    return (frame["symbol"] == "BAC").to_numpy().astype(np.int64), times


def opened(codes: NDArray[np.int64], times_ns: NDArray[np.int64], market: Sessions | None) -> list[Event]:
    watch = SilenceWatch(KeyedState(["AIG", "BAC"]), 60_000_000, sessions=market)
    events = watch.step(codes, times_ns, np.zeros(len(codes), np.int64))
    return [event for event in events if event.event == "open"]


def test_raw_trades_of_two_symbols_give_no_storm_of_silences() -> None:
    codes, times = trades()

    raw = opened(codes, times, None)

    # Two days; before and after market hours AIG does not trade for many minutes while BAC does.
    assert len(raw) <= 40
    assert {event.code for event in raw} == {0}


def test_in_market_hours_only_a_gap_of_the_feed_is_silence() -> None:
    pytest.importorskip("exchange_calendars", reason="needs streamer[sessions]")
    codes, times = trades()
    market = SessionsConfig(calendar="XNYS").build()
    assert market is not None
    inside = market.is_open(times)
    codes, times = codes[inside], times[inside]
    begin = int(times[len(times) // 3])
    kept = (codes == 0) | (times < begin) | (times >= begin + 120 * SECOND)

    assert opened(codes, times, market) == []
    assert [event.code for event in opened(codes[kept], times[kept], market)] == [1]


def test_streams_that_expire_in_a_storm_end_it_when_none_is_left() -> None:
    state = KeyedState([f"meter-{code:02}" for code in ALL])
    watch = SilenceWatch(state, 30 * SECOND)
    storms(watch, [*in_turn(ALL, 0, 60), *in_turn(HALF, 60, 120)])
    gone = np.arange(20)

    first = watch.close(gone[:19], gone[:19], np.full(19, 999 * SECOND))
    last = watch.close(gone[19:], gone[19:], np.full(1, 999 * SECOND))

    assert first == []
    assert [(event.event, event.scope, event.reason) for event in last] == [("resolve", "partition", "expired")]


def test_a_partition_that_was_away_is_watched_again_from_its_beginning() -> None:
    state = KeyedState(["a", "b"])
    watch = SilenceWatch(state, 8)
    hear(watch, [*steadily(0, 0, 10_000), *steadily(1, 0, 10_000)])
    state.forget_partition(0)
    for name in ("a", "b"):
        state.add(name)

    told = hear(watch, [(0, 20_000), (1, 20_000), *steadily(1, 20_001, 20_100)])

    assert told == [("open", 0, 20_000, 20_009)]


def test_late_readings_are_a_sign_of_life() -> None:
    watch = SilenceWatch(KeyedState(), 8)
    backlog = [(0, at - 5000) for at in range(60)]
    live = steadily(1, 0, 59)

    assert hear(watch, [reading for pair in zip(backlog, live, strict=True) for reading in pair]) == []


BACKLOG = [(0, 0), (1, 0), *steadily(1, 1, 20), (0, -5), *steadily(1, 21, 40), (0, 0), *steadily(1, 41, 160), (0, 161)]


def test_a_stream_that_sends_old_readings_and_stops_again_is_silent_since_it_was_heard() -> None:
    told = storms(SilenceWatch(KeyedState(), 8 * SECOND), [(code, at * SECOND) for code, at in BACKLOG])

    silences = [event.onset_ns // SECOND for event in told if event.event == "open"]
    assert silences == [0, 20, 40]  # what it sent at 20 and 40 was no newer than before
    assert [event.onset_ns // SECOND for event in told if event.event == "resolve"] == silences


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([0, 0, 70, 500, -3000]), st.integers(0, 90)),
        min_size=2,
        max_size=12,
    ),
    st.integers(1, 9),
    st.lists(st.integers(1, 500), max_size=8),
)
def test_no_two_silences_of_a_stream_have_the_same_onset_whatever_comes_late(
    spells: list[tuple[int, int, int]], after: int, cuts: list[int]
) -> None:
    arrivals, now = [], 1000
    for code, late, others in spells:
        arrivals += [(code, (now - late) * SECOND), *((2, (now + i) * SECOND) for i in range(others))]
        now += others

    together = storms(SilenceWatch(KeyedState(), after * SECOND), arrivals)
    apart = storms(SilenceWatch(KeyedState(), after * SECOND), arrivals, cuts)

    assert apart == together
    onsets = [(event.code, event.onset_ns) for event in together if event.event == "open"]
    assert len(set(onsets)) == len(onsets)


def test_old_readings_of_a_stream_whose_clock_was_ahead_end_silences_of_different_onsets() -> None:
    watch = SilenceWatch(KeyedState(), 8 * SECOND)
    pairs = [(code, at * SECOND) for at in range(40) for code in (0, 1)]
    others = [[(1, (at + begin) * SECOND) for at in range(200)] for begin in (40, 240, 440)]
    old = (0, 0)

    told = storms(watch, [*pairs, (0, 3000 * SECOND), *others[0], old, *others[1], old, *others[2], old])

    onsets = [event.onset_ns // SECOND for event in told if event.event == "open"]
    assert onsets == [3000, 239, 439]


def test_how_long_a_silence_was_is_told_unless_it_ends_with_readings_from_before_its_end() -> None:
    second = [(code, at * SECOND) for code, at in BACKLOG]
    kept = [*steadily(0, 0, 0), *steadily(1, 0, 100), (0, 1)]

    ends = [event for event in storms(SilenceWatch(KeyedState(), 8 * SECOND), second) if event.event == "resolve"]
    late = [event for event in storms(SilenceWatch(KeyedState(), 8), kept) if event.event == "resolve"]

    assert [event.details for event in ends] == [{"late_s": 25.0}, {"late_s": 40.0}, {}]
    assert [event.details for event in late] == [{"late_s": 99e-9}]


def test_a_gateway_that_returns_with_a_backlog_and_fails_again_is_another_incident() -> None:
    state = KeyedState([f"meter-{code:02}" for code in ALL])
    again = [(code, 59 * SECOND + place) for place, code in enumerate(ALL[:20])]  # their last readings, once more
    arrivals = [*in_turn(ALL, 0, 60), *in_turn(HALF, 60, 180), *again, *in_turn(HALF, 180, 400)]

    events = storms(SilenceWatch(state, 30 * SECOND), arrivals)

    assert [(event.event, event.scope) for event in events] == [
        ("open", "partition"),
        ("resolve", "partition"),
        ("open", "partition"),
    ]
    assert events[0].onset_ns == events[1].onset_ns < events[2].onset_ns
    assert "late_s" in events[1].details


def test_a_slow_stream_beside_fast_ones_has_its_own_interval() -> None:
    watch = SilenceWatch(KeyedState(), 30 * SECOND)  # the bundle's streams send once a second
    fast = [(0, at * SECOND) for at in range(6000)]
    slow = [(1, at * SECOND + 1) for at in range(0, 6000, 60)]
    arrivals = sorted([*fast, *slow], key=lambda reading: reading[1])

    told = storms(watch, arrivals)

    # Until it has sent two of its minutes, nobody can know.
    assert len([event for event in told if event.event == "open"]) <= 2
    assert max(event.at_ns for event in told) < 200 * SECOND


def one_after_another(stopping: int, going: int) -> list[tuple[int, int]]:
    """Streams that send in each step; one of them stops with every step, from the fortieth on."""
    steps = range(40 + stopping + 60)
    return [(code, at) for at in steps for code in range(stopping + going) if code >= stopping or at < 40 + code]


def test_a_flood_of_silences_is_a_hundred_incidents_and_then_one() -> None:
    told = hear(SilenceWatch(KeyedState(), 8), one_after_another(110, 130))

    single = [code for event, code, _, _ in told if code != NO_STREAM]
    assert single == list(range(100))
    assert [event for event, code, _, _ in told if code == NO_STREAM] == ["open"]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 40_000), max_size=12))
def test_a_flood_is_the_same_in_any_batches(cuts: list[int]) -> None:
    arrivals = one_after_another(104, 120)
    edges = sorted({0, len(arrivals), *(cut for cut in cuts if cut < len(arrivals))})
    watch = SilenceWatch(KeyedState(), 8)

    told = [event for a, b in itertools.pairwise(edges) for event in hear(watch, arrivals[a:b])]

    assert told == hear(SilenceWatch(KeyedState(), 8), arrivals)
