"""Folders of Parquet: several files, with columns in the names of folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from streamer.config import RecordsConfig
from streamer.connectors import files as datafiles
from streamer.errors import DataError

RECORDS = RecordsConfig(features=("a", "b"))
MIDNIGHT_NS = 1_704_067_200_000_000_000
MINUTE_NS = 60_000_000_000


def parquet(path: Path, times: list[int], **columns: Any) -> None:
    """A file of readings at some minutes; the value is the minute."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stamps = pd.to_datetime(MIDNIGHT_NS + np.array(times) * MINUTE_NS, utc=True)
    pd.DataFrame({"timestamp": stamps, "a": times, "b": 0, **columns}).to_parquet(path)


def test_the_files_of_a_folder_are_merged_by_time(tmp_path: Path) -> None:
    parquet(tmp_path / "f" / "stream=x" / "0.parquet", [0, 2, 4])
    parquet(tmp_path / "f" / "stream=y" / "0.parquet", [1, 3, 5])

    data = datafiles.load([tmp_path / "f"], RECORDS)

    assert data.values[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert [data.names[code] for code in data.stream] == ["x", "y"] * 3


def test_names_of_folders_are_decoded_and_stay_text(tmp_path: Path) -> None:
    parquet(tmp_path / "f" / "stream=pump%201" / "day=01" / "0.parquet", [0])
    parquet(tmp_path / "f" / "stream=a%2Fb" / "day=1" / "0.parquet", [1])

    assert datafiles.load([tmp_path / "f"], RECORDS).names == ["a/b", "pump 1"]
    assert datafiles.load([tmp_path / "f"], RECORDS, ["day=01"]).names == ["pump 1"]
    assert datafiles.load([tmp_path / "f"], RECORDS, ["stream=a/b"]).values.tolist() == [[1, 0]]


def test_a_folder_that_a_condition_leaves_out_is_not_read(tmp_path: Path) -> None:
    parquet(tmp_path / "f" / "day=1" / "0.parquet", [0])
    (tmp_path / "f" / "day=2").mkdir()
    (tmp_path / "f" / "day=2" / "0.parquet").write_text("no Parquet")
    read: list[int] = []

    parts = list(datafiles.pieces([tmp_path / "f"], RECORDS, ["day=1"], read.append))

    assert [len(part) for part in parts] == [1]
    assert sum(read) == pytest.approx(datafiles.size_of([tmp_path / "f"]), abs=1)


def test_rows_of_a_folder_for_those_without_a_stream_are_refused(tmp_path: Path) -> None:
    parquet(tmp_path / "f" / "stream=__HIVE_DEFAULT_PARTITION__" / "0.parquet", [0, 1])

    with pytest.raises(DataError, match=r"0\.parquet: row 1: wanted a stream in every row of 'stream'; 2 have none"):
        datafiles.load([tmp_path / "f"], RECORDS)
