"""The order in which readings were sent: what is late in its file stays late, however many files there are."""

from __future__ import annotations

import tempfile
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest

from streamer.config import FilesConfig, RecordsConfig
from streamer.connectors import files as datafiles
from streamer.connectors.files import DataSet

RECORDS = RecordsConfig(features=("a",))
ONE = FilesConfig(one_stream=True)


def data(*rows: tuple[int, int]) -> DataSet:
    stream, times = np.array(rows, np.int64).T
    return DataSet(["x", "y", "z"], stream, times, np.zeros((len(rows), 1)))


def test_a_file_in_the_order_of_arrival_keeps_it_though_a_stream_lags() -> None:
    # y buffers, and sends what it has ten steps later.
    arrived = [(stream, time - 10 * stream) for time in range(100, 200) for stream in (0, 1)]

    assert data(*arrived).sending_order().tolist() == list(range(200))


@pytest.mark.parametrize("at_once", [1, 5, 20])
def test_a_file_in_the_order_of_arrival_keeps_it_though_the_clock_of_one_stream_is_far_ahead(at_once: int) -> None:
    # Each sends some readings at once, every 20 s; x is 50 minutes ahead.
    ahead = {0: 3000, 1: 0, 2: 0}
    sent = [(stream, begin, step) for begin in range(0, 400, at_once) for stream in ahead for step in range(at_once)]
    arrived = [(stream, 20 * (begin + step) + ahead[stream]) for stream, begin, step in sent]

    assert data(*arrived).sending_order().tolist() == list(range(len(arrived)))


def test_a_long_backlog_in_a_file_in_the_order_of_arrival_stays_where_it_came() -> None:
    together = [(stream, time) for time in range(500) for stream in (0, 1)]
    alone = [(0, time) for time in range(500, 1500)]
    backlog = [(1, time) for time in range(500, 1500)]
    arrived = [*together, *alone, *backlog]

    assert data(*arrived).sending_order().tolist() == list(range(len(arrived)))


def test_streams_of_a_day_after_day_export_are_merged_by_time() -> None:
    rows = [(stream, 1000 * day + step) for day in range(3) for stream in (0, 1, 2) for step in range(500)]

    some = data(*rows)

    assert (np.diff(some.time_ns[some.sending_order()]) >= 0).all()


@hypothesis.settings(deadline=None)
@hypothesis.given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=8), min_size=2, max_size=4))
def test_files_are_merged_by_the_newest_time_each_had_sent(files: list[list[int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.csv" for i in range(len(files))]
        for i, (path, seconds) in enumerate(zip(paths, files, strict=True)):
            stamps = [f"1970-01-01T00:00:{second:02d}" for second in seconds]
            pd.DataFrame({"timestamp": stamps, "a": range(len(seconds)), "stream": f"s{i}"}).to_csv(path, index=False)

        merged = datafiles.load(paths, RECORDS, files=ONE)

    for i in range(len(files)):
        own = merged.select(merged.stream == merged.names.index(f"s{i}"))
        assert own.values[:, 0].tolist() == list(range(len(files[i])))  # in its own order
    newest = {f"s{i}": np.maximum.accumulate(seconds).tolist() for i, seconds in enumerate(files)}
    keys = [newest[merged.names[code]][int(row)] for code, row in zip(merged.stream, merged.values[:, 0], strict=True)]
    assert keys == sorted(keys)
    assert merged.sending_order().tolist() == list(range(len(merged)))
