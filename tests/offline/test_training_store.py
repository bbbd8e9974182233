"""Readings on disk: ordered as in memory, bounded in memory, gone afterwards."""

from __future__ import annotations

import dataclasses
import errno
import os
import tempfile
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from models.detector import Detector
from models.fitting.distributed import Ranks
from models.fitting.windows import runs_of
from streamer.connectors.files import DataSet
from streamer.core.event_time.station import EventTime
from streamer.core.keyed_state import KeyedState
from streamer.core.options import PipelineOptions
from streamer.core.ordering import Ordering
from streamer.core.readings import Readings
from streamer.core.resets import Resets
from streamer.core.sessions import Sessions
from streamer.core.windows import Windower
from streamer.errors import DataError
from streamer.offline import training_store
from streamer.offline.backtest import running
from streamer.offline.training_store import LeftOut, TrainingStore
from tests import tiny


def shape(features: int, max_gap_s: float | None = None) -> PipelineOptions:
    names = tuple(f"f{i}" for i in range(features))
    gap_ns = None if max_gap_s is None else int(max_gap_s * 1e9)
    return PipelineOptions(topic="readings", features=names, window=8, patch=1, fields=names, max_gap_ns=gap_ns)


def readings(rows: int, streams: int, *, seed: int = 0, holes: bool = True) -> DataSet:
    """Readings of streams in time order, some at equal times, some without a value."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, 3))
    if holes:
        values[random.random(rows) < 0.1, 1] = np.nan
    return DataSet(
        [f"s{i}" for i in range(streams)],
        random.integers(0, streams, rows),
        np.sort(random.integers(0, max(1, rows // 2), rows)),
        values,
    )


NAMES = ("a", "b", "c")
SECOND_NS = 1_000_000_000


@st.composite
def worlds(draw: st.DrawFn) -> Readings:
    """Readings of several streams, each in time order, with gaps and repeated times."""
    steps = draw(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0, 1, 1, 2, 3, 9])), min_size=1, max_size=40))
    clocks = [0] * len(NAMES)
    times = []
    for code, step in steps:
        clocks[code] += step
        times.append(clocks[code] * SECOND_NS)
    return tiny.readings([code for code, _ in steps], times, np.arange(len(steps))[:, None])


def pieces(data: DataSet, size: int) -> Iterator[DataSet]:
    """As a file is read: names become known one after another."""
    for i in range(0, len(data), size):
        part = data.select(slice(i, i + size))
        yield DataSet(data.names[: data.stream[: i + size].max() + 1], part.stream, part.time_ns, part.values)


@hypothesis.given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 30), st.integers(1, 9), st.integers(0, 99))
def test_a_store_gives_back_what_each_stream_sent(rows: int, streams: int, size: int, at_once: int, seed: int) -> None:
    data = readings(rows, streams, seed=seed)
    hypothesis.assume(data.complete.any())
    with pytest.MonkeyPatch.context() as patch, TrainingStore(Path(tempfile.gettempdir()), shape(3)) as whole:
        patch.setattr(training_store, "_AT_ONCE", at_once)
        whole.fill(pieces(data, size))
        found = whole.series()

        expected = data.select(data.complete).by_stream()
        assert found.keys() == expected.keys()
        for name, (times, values) in expected.items():
            first = np.unique(times, return_index=True)[1]  # of readings at the same time the first counts
            np.testing.assert_array_equal(found[name][0], times[first])
            np.testing.assert_array_equal(found[name][1], values[first])


def test_the_fingerprint_is_of_the_readings_not_of_their_pieces(tmp_path: Path) -> None:
    data, other = readings(50, 3), readings(50, 3, seed=1)
    prints = []
    for some in ([data], pieces(data, 7), [other]):
        with TrainingStore(tmp_path, shape(3)) as whole:
            whole.fill(some)
            prints.append(whole.fingerprint)

    assert prints[0] == prints[1] != prints[2]


def test_rows_left_out_are_counted_by_reason(tmp_path: Path) -> None:
    data = readings(10, 1, holes=False)
    data.time_ns[:] = [0, 1, 2, 3, 4, 5, 6, 7, 7, 9]
    data.values[3, 1], data.values[4, 0] = np.nan, 1e39  # no 32-bit float

    with TrainingStore(tmp_path, shape(3)) as whole:
        whole.fill([data])

        assert len(whole) == 7
        assert whole.left_out == LeftOut(rows=10, missing=1, not_finite=1, duplicate=1)


def series(*columns: tuple[str, Sequence[int]]) -> DataSet:
    """Readings of streams at some seconds; the value is the row."""
    names = [name for name, _ in columns]
    stream = np.concatenate([np.full(len(times), code) for code, (_, times) in enumerate(columns)])
    time_ns = np.concatenate([np.array(times, np.int64) for _, times in columns]) * SECOND_NS
    return DataSet(names, stream, time_ns, np.arange(len(stream))[:, None].astype(np.float64))


def test_of_readings_at_the_same_time_the_first_is_kept_as_in_the_daemon(tmp_path: Path) -> None:
    with TrainingStore(tmp_path, shape(1)) as store:
        store.fill([series(("a", [0, 1, 1, 2, 1]), ("b", [1, 1]))])

        assert store.series()["a"][1][:, 0].tolist() == [0, 1, 3]
        assert store.series()["b"][1][:, 0].tolist() == [5]


def test_a_stream_breaks_where_it_pauses_longer_than_the_gap_allowed(tmp_path: Path) -> None:
    some = series(("a", [0, 10, 20, 200, 210, 999]), ("b", [0, 10]), ("c", [0, 90, 110, 111]))

    with TrainingStore(tmp_path, shape(1, 60)) as store:
        store.fill([some])
        breaks = store.breaks()

    assert {name: rows.tolist() for name, rows in breaks.items()} == {"a": [3, 5], "c": [1]}


def test_without_a_gap_setting_nothing_breaks(tmp_path: Path) -> None:
    with TrainingStore(tmp_path, shape(1)) as store:
        store.fill([series(("a", [0, 10, 10**6]))])

        assert store.breaks() == {}


@hypothesis.given(worlds(), st.integers(1, 9), st.integers(1, 9), st.sampled_from([None, 1.0, 2.0, 5.0]))
def test_training_uses_exactly_the_windows_the_daemon_cuts(
    world: Readings, size: int, at_once: int, max_gap_s: float | None
) -> None:
    length = 3
    state = KeyedState()
    ordering = Ordering(state, Resets(None if max_gap_s is None else int(max_gap_s * 1e9)))
    windower = Windower(state, length, 1, 1)
    live: dict[str, list[list[float]]] = {name: [] for name in NAMES}
    for part in tiny.split(world, range(0, len(world), size)):
        admitted = ordering.admit(part)
        kept = admitted.readings
        for cut in windower.push(kept.stream, kept.values, admitted.fresh):
            for row, window in zip(cut.rows.tolist(), cut.take(slice(None))[..., 0].tolist(), strict=True):
                live[NAMES[kept.stream[row]]].append(window)

    data = DataSet(list(NAMES), world.stream, world.time_ns, world.values.astype(np.float64))
    trained: dict[str, list[list[float]]] = {name: [] for name in NAMES}
    with (
        pytest.MonkeyPatch.context() as patch,
        TrainingStore(Path(tempfile.gettempdir()), shape(1, max_gap_s)) as store,
    ):
        patch.setattr(training_store, "_AT_ONCE", at_once)
        store.fill(data.select(slice(i, i + size)) for i in range(0, len(data), size))
        breaks = store.breaks()
        for name, (_, values) in store.series().items():
            begins, ends = runs_of(len(values), breaks.get(name, np.zeros(0, np.int64)), length)
            for begin, end in zip(begins, ends, strict=True):
                trained[name] += [values[i : i + length, 0].tolist() for i in range(begin, end)]

    assert {name: sorted(windows) for name, windows in live.items()} == {
        name: sorted(windows) for name, windows in trained.items()
    }


MARKET = Sessions(np.array([0, 86400]) * SECOND_NS, np.array([3600, 90000]) * SECOND_NS)


@pytest.mark.parametrize(
    ("time", "interval_s"),
    [({}, 60), ({"lateness": "1s"}, 60), ({"bars": "ticks", "bar_size": 4}, 20), ({"grid": "60s"}, 20)],
)
def test_training_windows_begin_anew_with_each_session_as_the_daemons_do(
    tmp_path: Path, time: dict[str, object], interval_s: int
) -> None:
    options = dataclasses.replace(tiny.settings(time=time).pipeline_options(), sessions=MARKET)
    times = np.concatenate([np.arange(0, 3600, interval_s), np.arange(86400, 90000, interval_s)]) * SECOND_NS
    n = len(times)
    data = DataSet(["a"], np.zeros(n, np.int64), times, np.ones((n, len(options.fields))))
    station = EventTime(KeyedState(["a"]), options.time, options.max_gap_ns, sessions=MARKET)
    live = [station.take(each)[0] for each in data.batches(7, exact=True)]
    live.append(station.release(np.zeros(1, np.int64), 0)[0])
    fresh = np.concatenate([admitted.fresh for admitted in live])

    with TrainingStore(tmp_path, options) as store:
        store.fill([data])
        breaks = store.breaks()

    assert fresh.sum() == 1
    assert breaks["a"].tolist() == np.flatnonzero(fresh).tolist()


def interval(directory: Path, *columns: tuple[str, Sequence[int]], max_gap_s: float | None = None) -> float:
    with TrainingStore(directory, shape(1, max_gap_s)) as store:
        store.fill([series(*columns)])
        return store.interval_s()


def test_the_interval_is_the_median_of_the_streams(tmp_path: Path) -> None:
    slow, fast, with_gap = ("a", [0, 60, 120]), ("b", [0, 10, 20]), ("c", [0, 60, 120, 9000])

    assert interval(tmp_path, slow, fast, with_gap) == 60


def test_the_interval_is_that_between_gaps_and_without_repeated_times(tmp_path: Path) -> None:
    in_pairs = ("a", [0, 10, 500, 510, 1000, 1010, 1500])
    each_thrice = ("b", [0, 0, 0, 10, 10, 10, 20, 20, 20])

    assert interval(tmp_path, in_pairs, max_gap_s=60) == 10
    assert interval(tmp_path, each_thrice) == 10


@pytest.mark.parametrize("times", [[5], [5, 5]])
def test_without_two_times_there_is_no_interval(tmp_path: Path, times: list[int]) -> None:
    with pytest.raises(DataError, match="wanted a stream with readings at different times"):
        interval(tmp_path, ("a", times))


def test_a_gap_setting_below_the_interval_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"at most window\.max_gap_s \(5 s\) apart; .*raise it"):
        interval(tmp_path, ("a", [0, 60, 120]), max_gap_s=5)


def test_the_files_have_no_name_even_while_they_are_used(tmp_path: Path) -> None:
    with TrainingStore(tmp_path / "new", shape(3)) as whole:
        whole.fill([readings(50, 3)])

        assert list((tmp_path / "new").iterdir()) == []


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_store, "_AT_ONCE", 1000)

    def peak(rows: int) -> int:
        """Bytes at most, for streams each in time order."""

        def some() -> Iterator[DataSet]:
            for i in range(0, rows, 1000):
                yield DataSet(["a"], np.zeros(1000, np.int64), np.arange(i, i + 1000), np.zeros((1000, 3)))

        tracemalloc.start()
        try:
            with TrainingStore(tmp_path, shape(3)) as whole:
                whole.fill(some())
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1000)  # what is imported and cached once

    assert peak(100_000) < 1.5 * peak(10_000) < 100_000 * 12


def test_a_full_disk_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)

    with (
        pytest.raises(DataError, match=r"No space left on device; make room, or name .* in model\.spool_directory"),
        TrainingStore(tmp_path, shape(3)) as whole,
    ):
        whole.fill([readings(50, 3)])
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DataError, match=r"file/below: training keeps its readings in a file there, and could not"):
        TrainingStore(tmp_path / "file" / "below", shape(3))


def test_without_a_complete_row_there_is_nothing_to_train_on(tmp_path: Path) -> None:
    data = readings(10, 2)

    with TrainingStore(tmp_path, shape(3)) as whole, pytest.raises(DataError, match="no row is complete"):
        whole.fill([DataSet(data.names, data.stream, data.time_ns, data.values * np.nan)])


def test_machines_that_found_different_readings_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TrainingStore(tmp_path, shape(3)) as whole:
        other = '{"names": ["a"], "counts": [1], "fingerprint": "another", "rows": 1, "breaks": []}'
        monkeypatch.setattr(Ranks, "gather", lambda self, text: [text, other])

        with pytest.raises(DataError, match="wanted the same readings on every machine"):
            whole.fill([readings(50, 3)])


@pytest.mark.parametrize("time", [{"grid": "10s"}, {"lateness": "5s"}])
@pytest.mark.parametrize(
    ("records", "kept"),
    [
        ({}, 3),
        ({"missing": "fill"}, 4),
        ({"metric": "metric"}, 4),
        ({"zero_is_missing": ["current"]}, 4),
        ({"zero_is_missing": ["heat"]}, 3),
    ],
)
def test_bars_are_trained_and_backtested_on_the_rows_that_the_daemon_takes(
    tmp_path: Path, tiny_detector: Detector, time: dict[str, str], records: dict[str, object], kept: int
) -> None:
    settings = tiny.settings(time=time, records=records)
    values = np.array([[1.0, 2.0], [99.0, np.nan], [3.0, 4.0], [np.nan, np.nan], [5.0, np.inf], [7.0, 8.0]])
    data = DataSet(["a"], np.zeros(6, np.int64), np.arange(6) * 10 * SECOND_NS, values)

    with TrainingStore(tmp_path, settings.pipeline_options()) as store:
        store.fill([data])
        left_out = store.left_out
    result = running.run(settings, tiny_detector, tiny.VERSION, data)

    assert left_out.missing + left_out.not_finite == 6 - kept
    assert result.skipped == 6 - kept


@pytest.mark.parametrize("time", [{}, {"lateness": "30s"}])
def test_streams_that_come_later_in_a_file_may_go_back_to_a_day_before_too(
    tmp_path: Path, time: dict[str, str]
) -> None:
    """Files of two days, the later one first, in which one stream stands after another."""

    def piece(file: int, code: int, day: int) -> DataSet:
        times = (np.arange(100) * 60 + day * 86400) * SECOND_NS
        return DataSet(["a", "b"], np.full(100, code), times, np.ones((100, 2)), file=file)

    with TrainingStore(tmp_path, tiny.settings(time=time).pipeline_options()) as store:
        store.fill([piece(0, 0, 2), piece(0, 1, 2), piece(1, 0, 1), piece(1, 1, 1)])

        assert (len(store), store.left_out.late) == (400, 0)
        assert [len(times) for times, _ in store.series().values()] == [200, 200]


def test_a_feature_that_most_bars_lack_is_named_with_the_share_of_bars_and_what_to_do(tmp_path: Path) -> None:
    settings = tiny.settings(time={"grid": "10s", "gap_limit": 2}, records={"missing": "fill"})
    values = np.tile([1.0, 2.0], (100, 1))
    values[np.arange(100) % 20 != 0, 1] = np.nan
    data = DataSet(["a"], np.zeros(100, np.int64), np.arange(100) * 10 * SECOND_NS, values)

    with TrainingStore(tmp_path, settings.pipeline_options()) as store:
        store.fill([data])

        name = settings.features[1]
        assert store.lacking() == f"{name} is missing in 85% of the bars: leave it out, or raise time.gap_limit"
