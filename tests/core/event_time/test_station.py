"""The station against a plain reference that takes one reading at a time, and the properties it promises."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.event_time.options import TimeOptions, parse_feature
from streamer.core.event_time.station import EventTime
from streamer.core.keyed_state import KeyedState
from streamer.core.readings import Readings
from streamer.core.sessions import Sessions

FIELDS = ("price", "size")
S = 1_000_000_000
START = 1_700_000_000 * S

Sent = tuple[int, int, float, float]  # stream, second, price, size


def options(lateness_s: float = 0, grid_s: float = 0, **other: Any) -> TimeOptions:
    features = other.pop("features", {"price": "last(price)", "size": "sum(size)"} if grid_s else {})
    return TimeOptions(
        fields=FIELDS,
        lateness_ns=int(lateness_s * S),
        grid_ns=int(grid_s * S),
        features=tuple(parse_feature(name, text, FIELDS) for name, text in features.items()),
        **other,
    )


def readings(rows: list[Sent], first_offset: int = 0) -> Readings:
    n = len(rows)
    return Readings(
        np.array([row[0] for row in rows], np.int64),
        np.array([START + int(row[1] * S) for row in rows], np.int64),
        np.array([row[2:] for row in rows], np.float64).reshape(n, 2),
        np.zeros(n, np.int64),
        np.arange(first_offset, first_offset + n),
    )


@dataclass
class Out:
    """What came out of some batches, stream by stream."""

    rows: dict[int, list[tuple[Any, ...]]] = field(default_factory=lambda: defaultdict(list))
    late: list[int] = field(default_factory=list)
    triggers: list[tuple[int, int, int]] = field(default_factory=list)  # stream, time, offset
    duplicates: int = 0
    taken: int = 0
    overflow: int = 0

    def add(self, admitted: Any, offsets: np.ndarray) -> None:
        made = admitted.readings
        for i in range(len(made)):
            values = tuple(None if math.isnan(v) else round(float(v), 5) for v in made.values[i])
            second = (int(made.time_ns[i]) - START) / S
            self.rows[int(made.stream[i])].append((second, *values, bool(admitted.fresh[i])))
            if len(offsets):
                self.triggers.append((int(made.stream[i]), int(made.time_ns[i]), int(offsets[admitted.rows[i]])))
        self.late += offsets[admitted.late_rows].tolist() if len(offsets) else []
        self.duplicates += admitted.duplicates
        self.taken += len(made) if admitted.taken is None else admitted.taken
        self.overflow += admitted.overflow


def run(opts: TimeOptions, rows: list[Sent], cuts: Sequence[int] = (), *, restart: bool = False, **more: Any) -> Out:
    """Rows in batches that end at `cuts`; with `restart`, the state moves to another process at each cut."""
    out, state = Out(), KeyedState([str(stream) for stream in range(4)])
    station = EventTime(state, opts, **more)
    ends = [*sorted(set(cuts)), len(rows)]
    begin = 0
    for end in ends:
        part = readings(rows[begin:end], begin)
        admitted, _ = station.take(part)
        out.add(admitted, part.offset)
        state.assign(np.unique(part.stream), 0)
        begin = end
        if restart:
            exported = state.export(np.arange(4))
            state = KeyedState([str(stream) for stream in (3, 2, 1, 0)][::-1])
            station = EventTime(state, opts, **more)
            state.restore(exported)
    everything, _ = station.release(np.arange(4), 0)
    out.add(everything, np.empty(0, np.int64))
    return out


def slowly(opts: TimeOptions, rows: list[Sent]) -> Out:
    """The same by the letter: one reading at a time, lists and dictionaries."""
    out = Out()
    newest: dict[int, int] = {}
    frontier: dict[int, int] = {}
    seen_at: dict[int, int] = {}
    waiting: dict[int, list[tuple[int, float, float]]] = defaultdict(list)
    bars: dict[int, tuple[int, float | None]] = {}
    clock = 0
    top: int | None = None
    far: list[int] = []  # readings far ahead, in a row
    leap = max(60 * S, 10 * (opts.lateness_ns + opts.grid_ns))
    pause, grid = max(1, opts.lateness_ns + opts.grid_ns), opts.grid_ns

    def floor(time: int) -> int:
        return time - time % grid if grid else time

    def past(time: int) -> int:
        return floor(time) + grid if grid else time + 1

    def release(stream: int, before: int) -> None:
        going = sorted((row for row in waiting[stream] if row[0] < before), key=lambda row: row[0])
        waiting[stream] = [row for row in waiting[stream] if row[0] >= before]
        if not grid:
            for time, price, size in going:
                if out.rows[stream] and out.rows[stream][-1][0] == (time - START) / S:
                    out.duplicates += 1
                else:
                    out.rows[stream].append(((time - START) / S, round(price, 5), round(size, 5), False))
            return
        for bar in sorted({floor(time) for time, _, _ in going}):
            inside = [row for row in going if floor(row[0]) == bar]
            fresh = False
            if stream in bars:
                last, carried = bars[stream]
                empty = (bar - last) // grid - 1
                fresh = empty > opts.gap_limit
                for number in range(0 if fresh else empty):
                    at = last + (number + 1) * grid
                    out.rows[stream].append(((at - START) / S, carried, 0.0, False))
            bars[stream] = bar, round(inside[-1][1], 5)
            total = round(sum(size for _, _, size in inside), 5)
            out.rows[stream].append(((bar - START) / S, round(inside[-1][1], 5), total, fresh))

    for offset, (stream, second, price, size) in enumerate(rows):
        time = START + int(second * S)
        # Before this reading, the clock had left behind who paused.
        for other in list(seen_at):
            if clock - seen_at[other] > pause and waiting[other]:
                frontier[other] = max(frontier.get(other, 0), past(newest[other]))
                release(other, frontier[other])
        top = time if top is None else top
        was = top
        if far and time >= far[0] - leap:
            far.append(time)
            if len(far) == 8:
                top, far = max(top, *far[1:]), []
        elif time > top + leap:
            far = [time]
        elif time > top:
            top, far = time, far[:1]
        clock += min(top - was, max(1, pause // 4))
        if time < frontier.get(stream, 0):
            out.late.append(offset)
        else:
            waiting[stream].append((time, price, size))
        newest[stream] = max(newest.get(stream, 0), time)
        seen_at[stream] = clock
        frontier[stream] = max(frontier.get(stream, 0), floor(newest[stream] - opts.lateness_ns))
        release(stream, frontier[stream])
    for stream in list(waiting):
        release(stream, 1 << 62)
    return out


seconds = st.one_of(st.integers(0, 60), st.sampled_from([61, 300, 301, 3000]))
row = st.tuples(st.integers(0, 3), seconds, st.integers(1, 50).map(float), st.integers(0, 9).map(float))
arrivals = st.lists(row, max_size=60)


@given(arrivals, st.sampled_from([(3, 0), (0, 5), (4, 5), (11, 2)]))
@settings(max_examples=300)
def test_the_station_agrees_with_one_reading_at_a_time(rows: list[Sent], kind: tuple[int, int]) -> None:
    opts = options(*kind, gap_limit=3)

    fast, slow = run(opts, rows), slowly(opts, rows)

    assert {k: v for k, v in fast.rows.items() if v} == {k: v for k, v in slow.rows.items() if v}
    assert fast.late == slow.late
    assert fast.duplicates == slow.duplicates


@given(arrivals, st.lists(st.integers(0, 60), max_size=6), st.booleans())
@settings(max_examples=200)
@pytest.mark.parametrize(
    "opts",
    [
        options(3),
        options(0, 5),
        options(4, 5, gap_limit=3, gap="interpolate"),
        options(2, features={"vwap": "vwap(price, size) | log_return", "n": "count"}, bars="ticks", bar_size=3.0),
        options(2, features={"high": "max(price) | diff"}, bars="volume", bar_size=7.0, bar_field=1),
        options(2, 3, features={"growth": "last(price) | rate", "q": "quantile(price, 0.3)"}),
        options(2, 3, max_held=2),
    ],
)
def test_no_cut_into_batches_and_no_restart_shows(
    opts: TimeOptions, rows: list[Sent], cuts: list[int], restart: bool
) -> None:
    whole = run(opts, rows)
    cut = run(opts, rows, [c for c in cuts if c <= len(rows)], restart=restart)

    assert cut.rows == whole.rows
    assert (cut.late, cut.duplicates, cut.overflow, cut.taken) == (
        whole.late,
        whole.duplicates,
        whole.overflow,
        whole.taken,
    )
    assert sorted(cut.triggers) == sorted(whole.triggers)


@given(st.lists(row, max_size=50), st.randoms(), st.sampled_from([0, 5]))
@settings(max_examples=200)
def test_any_order_within_the_lateness_gives_the_same(rows: list[Sent], random: Any, grid: int) -> None:
    lateness = 7
    # One reading of a stream each second; each arrives up to the lateness after its time.
    once = {(stream, second): (stream, second, price, size) for stream, second, price, size in rows}
    in_order = sorted(once.values(), key=lambda each: each[1])
    disordered = sorted(in_order, key=lambda each: each[1] + random.random() * lateness)
    opts = options(lateness, grid)

    first, second = run(opts, in_order), run(opts, disordered)

    assert second.late == []
    assert {k: v for k, v in second.rows.items() if v} == {k: v for k, v in first.rows.items() if v}


@given(st.lists(row, max_size=40), st.lists(st.tuples(st.integers(0, 39), st.integers(1, 30)), max_size=20))
@pytest.mark.parametrize("grid", [0, 5])
def test_readings_sent_twice_change_nothing_where_they_can_be_told_apart(
    grid: int, rows: list[Sent], again: list[tuple[int, int]]
) -> None:
    # Without bars equal times are duplicates; in bars a sequence number tells.
    distinct = {(each[0], each[1]): each for each in rows}
    once = sorted(distinct.values(), key=itemgetter(1))
    order = [(place, place) for place in range(len(once))]
    order += [(place + behind, place) for place, behind in again if place < len(once)]
    order.sort(key=itemgetter(0))
    numbers = np.array([1 + place for _, place in order], np.int64)
    twice = readings([once[place] for _, place in order])
    twice = replace(twice, sequence=numbers if grid else None)
    single = replace(readings(once), sequence=np.arange(1, len(once) + 1) if grid else None)

    def rows_of(given: Readings) -> Out:
        station, out = EventTime(KeyedState(["0", "1", "2", "3"]), options(6, grid)), Out()
        out.add(station.take(given)[0], given.offset)
        out.add(station.release(np.arange(4), 0)[0], np.empty(0, np.int64))
        return out

    plain, doubled = rows_of(single), rows_of(twice)

    assert doubled.rows == plain.rows
    assert doubled.duplicates + len(doubled.late) == len(order) - len(once)


@given(arrivals)
def test_every_reading_is_accounted_for(rows: list[Sent]) -> None:
    ticks = options(2, features={"last": "last(price)"}, bars="ticks", bar_size=3.0)
    for opts in (options(3), options(0, 5), options(2, 5, max_held=2), ticks):
        station, out = EventTime(KeyedState([str(stream) for stream in range(4)]), opts), Out()
        for begin in range(0, len(rows), 7):
            part = readings(rows[begin : begin + 7], begin)
            out.add(station.take(part)[0], part.offset)
            so_far = min(begin + 7, len(rows))

            assert out.taken + out.duplicates + len(out.late) + out.overflow + station.holding == so_far


def test_a_backlog_of_one_device_is_behind_and_not_late() -> None:
    live = [(0, second, 1.0, 1.0) for second in range(100)]
    backlog = [(1, second, 2.0, 1.0) for second in range(50)]

    out = run(options(2, 10), live + backlog)

    assert out.late == []
    assert [second for second, *_ in out.rows[1]] == [0.0, 10.0, 20.0, 30.0, 40.0]


def test_one_reading_of_the_far_future_makes_no_other_stream_late() -> None:
    rows = [(stream, second, 1.0, 1.0) for second in range(40) for stream in (0, 1)]
    rows.insert(21, (2, 3000, 1.0, 1.0))

    out = run(options(2, 10), rows)

    assert out.late == []


def test_a_quiet_stream_holds_nothing_back() -> None:
    rows = [(1, 3, 7.0, 1.0)] + [(0, second, 1.0, 1.0) for second in range(60)]
    state = KeyedState(["0", "1"])
    station = EventTime(state, options(0, 10))

    admitted, _ = station.take(readings(rows))

    assert 1 in admitted.readings.stream


def test_readings_at_one_time_are_data_in_a_bar_unless_a_sequence_number_says_otherwise() -> None:
    rows = [(0, 1, 5.0, 2.0), (0, 1, 5.0, 2.0), (0, 1, 5.0, 2.0), (0, 20, 5.0, 1.0)]
    numbered = readings(rows)
    numbered = Readings(
        numbered.stream, numbered.time_ns, numbered.values, numbered.partition, numbered.offset, np.array([7, 7, 8, 9])
    )

    plain, _ = EventTime(KeyedState(["0"]), options(0, 10)).take(readings(rows))
    told, _ = EventTime(KeyedState(["0"]), options(0, 10)).take(numbered)

    assert (plain.readings.values[0].tolist(), plain.duplicates) == ([5.0, 6.0], 0)
    assert (told.readings.values[0].tolist(), told.duplicates) == ([5.0, 4.0], 1)


def test_the_sequence_number_0_is_a_number_like_any_other() -> None:
    sent = readings([(0, 1, 5.0, 2.0), (0, 1, 5.0, 2.0), (0, 20, 5.0, 1.0)])

    admitted, _ = EventTime(KeyedState(["0"]), options(0, 10)).take(replace(sent, sequence=np.array([0, 0, 1])))

    assert (admitted.readings.values[0].tolist(), admitted.duplicates) == ([5.0, 2.0], 1)


def test_no_bar_joins_two_sessions() -> None:
    halves = Sessions(np.array([START, START + 30 * S]), np.array([START + 20 * S, START + 90 * S]))
    rows = [(0, second, float(second), 1.0) for second in range(50)]

    out = run(options(0, 5, gap_limit=10), rows, sessions=halves)

    assert [(second, fresh) for second, *_, fresh in out.rows[0]] == [
        (0, False), (5, False), (10, False), (15, False), (30, True), (35, False), (40, False), (45, False)
    ]  # fmt: skip


DAYS = Sessions(START + np.array([0, 86400]) * S, START + np.array([3600, 90000]) * S)


@pytest.mark.parametrize("lateness", [0, 1])
@pytest.mark.parametrize("cuts", [(), (1, 2, 3, 4)])
def test_without_bars_a_window_begins_anew_with_each_session(lateness: int, cuts: Sequence[int]) -> None:
    rows = [(0, second, 1.0, 1.0) for second in (0, 3599, 86400, 86401, 86410)]

    out = run(options(lateness), rows, cuts, sessions=DAYS, restart=bool(cuts))

    assert [second for second, *_, fresh in out.rows[0] if fresh] == [86400]


def test_a_late_reading_of_the_session_before_begins_nothing_anew() -> None:
    rows = [(0, second, 1.0, 1.0) for second in (0, 86400, 3599, 86401)]

    assert [fresh for *_, fresh in run(options(), rows, sessions=DAYS).rows[0]] == [False, True, False]


def test_a_session_that_opens_inside_a_bar_begins_one_window() -> None:
    hour = 3600
    midnight = START - START % (86400 * S)
    opens = midnight + np.array([9.5 * hour, 33.5 * hour]).astype(np.int64) * S
    market = Sessions(opens, opens + int(6.5 * hour) * S)
    rows = [(0, (at - START) // S, 1.0, 1.0) for day in opens for at in range(day, day + int(6.5 * hour) * S, 600 * S)]

    out = run(options(0, hour, gap_limit=100), rows, sessions=market)

    assert len(out.rows[0]) == 14
    assert [place for place, (*_, fresh) in enumerate(out.rows[0]) if fresh] == [7]
