"""Readings on disk: ordered as in memory, bounded in memory, gone afterwards."""

from __future__ import annotations

import errno
import os
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from models.fitting.distributed import Ranks
from streamer.connectors.files import DataSet
from streamer.errors import DataError
from streamer.offline import training_store as spool
from streamer.offline.training_store import Spool


def readings(rows: int, streams: int, *, seed: int = 0, holes: bool = True) -> DataSet:
    """Readings of streams in any order, some at equal times, some without a value."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, 3))
    if holes:
        values[random.random(rows) < 0.1, 1] = np.nan
    return DataSet(
        [f"s{i}" for i in range(streams)],
        random.integers(0, streams, rows),
        random.integers(0, max(1, rows // 2), rows),
        values,
    )


def pieces(data: DataSet, size: int) -> Iterator[DataSet]:
    """As a file is read: names become known one after another."""
    for i in range(0, len(data), size):
        part = data.select(slice(i, i + size))
        yield DataSet(data.names[: data.stream[: i + size].max() + 1], part.stream, part.time_ns, part.values)


@hypothesis.given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 30), st.integers(1, 9), st.integers(0, 99))
def test_a_spool_gives_back_what_sorting_in_memory_gives(
    rows: int, streams: int, size: int, at_once: int, seed: int
) -> None:
    data = readings(rows, streams, seed=seed)
    hypothesis.assume(data.complete.any())
    with pytest.MonkeyPatch.context() as patch, Spool(Path(tempfile.gettempdir()), 3) as whole:
        patch.setattr(spool, "_AT_ONCE", at_once)
        whole.fill(pieces(data, size))
        found = whole.series()

        expected = data.select(data.complete).by_stream()
        assert found.keys() == expected.keys()
        for name, (times, values) in expected.items():
            np.testing.assert_array_equal(found[name][0], times)
            np.testing.assert_array_equal(found[name][1], values)


def test_the_fingerprint_is_of_the_readings_not_of_their_pieces(tmp_path: Path) -> None:
    data, other = readings(50, 3), readings(50, 3, seed=1)
    prints = []
    for some in ([data], pieces(data, 7), [other]):
        with Spool(tmp_path, 3) as whole:
            whole.fill(some)
            prints.append(whole.fingerprint)

    assert prints[0] == prints[1] != prints[2]


def test_rows_left_out_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = readings(10, 1, holes=False)
    data.values[3, 1], data.values[4, 0] = np.nan, 1e39  # no 32-bit float

    with Spool(tmp_path, 3) as whole:
        whole.fill([data])

        assert len(whole) == 8
    assert "2 of 10 rows hold values that are no numbers and are left out" in caplog.text


def test_the_files_have_no_name_even_while_they_are_used(tmp_path: Path) -> None:
    with Spool(tmp_path / "new", 3) as whole:
        whole.fill([readings(50, 3)])

        assert list((tmp_path / "new").iterdir()) == []


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_AT_ONCE", 1000)

    def peak(rows: int) -> int:
        """Bytes at most, for streams each in time order."""

        def some() -> Iterator[DataSet]:
            for i in range(0, rows, 1000):
                yield DataSet(["a"], np.zeros(1000, np.int64), np.arange(i, i + 1000), np.zeros((1000, 3)))

        tracemalloc.start()
        try:
            with Spool(tmp_path, 3) as whole:
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
        Spool(tmp_path, 3) as whole,
    ):
        whole.fill([readings(50, 3)])
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DataError, match=r"file/below: training keeps its readings in a file there, and could not"):
        Spool(tmp_path / "file" / "below", 3)


def test_without_a_complete_row_there_is_nothing_to_train_on(tmp_path: Path) -> None:
    data = readings(10, 2)

    with Spool(tmp_path, 3) as whole, pytest.raises(DataError, match="no row is complete"):
        whole.fill([DataSet(data.names, data.stream, data.time_ns, data.values * np.nan)])


def test_machines_that_found_different_readings_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Spool(tmp_path, 3) as whole:
        other = '{"names": ["a"], "counts": [1], "fingerprint": "another"}'
        monkeypatch.setattr(Ranks, "gather", lambda self, text: [text, other])

        with pytest.raises(DataError, match="wanted the same readings on every machine"):
            whole.fill([readings(50, 3)])
