"""Compressed files, folders of all kinds of files, and what is no data file at all."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from streamer.config import RecordsConfig
from streamer.connectors import files as datafiles
from streamer.errors import DataError
from tests.connectors.files.samples import PACK, write

RECORDS = RecordsConfig(features=("a",))


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_a_compressed_file_that_is_cut_off_says_so(tmp_path: Path, suffix: str) -> None:
    text = "timestamp,a\n" + "".join(f"2024-01-01T00:00:00.{i * 7919 % 10**6:06d},{i * i}\n" for i in range(5000))
    path = tmp_path / f"f.csv{suffix}"
    whole = PACK[suffix](text.encode())
    path.write_bytes(whole[: len(whole) // 2])

    with pytest.raises(DataError, match=rf"f\.csv{suffix}: wanted a whole compressed file; it is cut off or damaged"):
        datafiles.load([path], RECORDS)


def test_the_stream_of_a_compressed_file_has_its_plain_name(tmp_path: Path) -> None:
    path = write(tmp_path / "pump-1.csv.gz", "timestamp,a\n2024-01-01,1\n")

    assert datafiles.load([path], RECORDS).names == ["pump-1"]


def test_compression_and_kind_are_known_by_content_where_the_name_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(PACK[".zst"](b"timestamp,a\n2024-01-01,1\n"))
    (tmp_path / "two").write_bytes(PACK[".gz"](b'{"timestamp": "2024-01-02", "a": 2}'))
    pd.DataFrame({"timestamp": ["2024-01-03"], "a": [3]}).to_parquet(tmp_path / "three")

    data = datafiles.load([tmp_path / "one", tmp_path / "two", tmp_path / "three"], RECORDS)

    assert data.names == ["one", "two", "three"]
    assert data.values[:, 0].tolist() == [1, 2, 3]


def test_a_folder_may_hold_files_of_all_kinds(tmp_path: Path) -> None:
    write(tmp_path / "f" / "stream=x" / "2.csv", "timestamp,a\n2024-01-02,2\n")
    write(tmp_path / "f" / "1.jsonl.xz", '{"timestamp": "2024-01-01", "a": 1, "stream": "y"}\n')
    write(tmp_path / "f" / "README.md", "no data")
    write(tmp_path / "f" / "_SUCCESS", "")
    write(tmp_path / "f" / ".hidden.csv", "nothing")
    pd.DataFrame({"timestamp": ["2024-01-03"], "a": [3], "stream": "y"}).to_parquet(tmp_path / "f" / "3.parquet")

    data = datafiles.load([tmp_path / "f"], RECORDS)

    assert data.values[:, 0].tolist() == [1, 2, 3]
    assert [data.names[code] for code in data.stream] == ["y", "x", "y"]


@pytest.mark.parametrize(("begin", "what"), [(b"PK\x03\x04", "a zip archive or an Excel workbook"), (b"", "empty")])
def test_a_file_that_is_no_data_says_what_it_is(tmp_path: Path, begin: bytes, what: str) -> None:
    (tmp_path / "f.csv").write_bytes(begin)

    with pytest.raises(DataError, match=rf"f\.csv: wanted CSV.*; it is {what}"):
        datafiles.load([tmp_path / "f.csv"], RECORDS)


def test_progress_counts_the_bytes_of_the_compressed_file(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv.gz", "timestamp,a\n" + "2024-01-01,1\n" * 3)
    sizes: list[int] = []

    list(datafiles.pieces([path], RECORDS, done=sizes.append))

    assert sum(sizes) == path.stat().st_size
