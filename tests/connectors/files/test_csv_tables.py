"""Delimiters, headers and decimals of CSV files, found or declared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamer.config import FilesConfig, RecordsConfig
from streamer.connectors import files as datafiles
from streamer.errors import DataError
from tests.connectors.files.samples import write

RECORDS = RecordsConfig(features=("a", "b"))
VALUES = [[1.5, 10], [-300, 20]]


@pytest.mark.parametrize(
    "text",
    [
        "# exported on Monday\n# by hand\ntimestamp;a;b\n2024-01-01;1,5;10\n2024-01-02;-300;20\n",
        "sep=;\ntimestamp;a;b\n2024-01-01;1,5;10\n2024-01-02;-300;20\n",
        "\n\ntimestamp, a, b\n2024-01-01, 1.5, 10\n2024-01-02, -300, 20\n",
        "timestamp  a     b\n2024-01-01 1.5   10\n2024-01-02 -3e2  20\n",
        '"timestamp","a","b"\n"2024-01-01","1,5","10"\n"2024-01-02","-300","20"\n',
        "\ufefftimestamp,a,b\r\n2024-01-01,1.5,10\r\n2024-01-02,-300,20\r\n",
        "timestamp,a,b,\n2024-01-01,1.5,10,\n2024-01-02,-300,20,\n",
        "timestamp,a,b\n2024-01-01,1.5,10,\n2024-01-02,-300,20,\n",
        "timestamp!a!b\n2024-01-01!1.5!10\n2024-01-02!-300!20\n",
        "who,timestamp,b,a,a\nx,2024-01-01,10,1.5,7\ny,2024-01-02,20,-300,8",
    ],
)
def test_the_header_and_the_delimiter_are_found(tmp_path: Path, text: str) -> None:
    assert datafiles.load([write(tmp_path / "f.csv", text)], RECORDS).values.tolist() == VALUES


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-8"])
def test_text_with_a_mark_of_its_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "f.txt", "timestamp\tstream\ta\tb\n2024-01-01\tHalle ü\t1,5\t10\n", encoding)

    data = datafiles.load([path], RECORDS)

    assert (data.names, data.values.tolist()) == (["Halle ü"], [[1.5, 10]])


def test_another_encoding_is_declared_and_the_error_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "timestamp;stream;a;b\n2024-01-01;Halle ü;1,5;10\n", "cp1252")

    with pytest.raises(DataError, match=r"f\.csv: wanted text in utf-8; byte 0xfc is none: set files\.encoding"):
        datafiles.load([path], RECORDS)
    assert datafiles.load([path], RECORDS, files=FilesConfig(encoding="cp1252")).names == ["Halle ü"]


def test_rows_without_a_header_have_the_columns_of_the_records(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "x;2024-01-01;1,5;10\nx;2024-01-02;-300;20\n")

    data = datafiles.load([path], RECORDS.model_copy(update={"columns": ("stream", "timestamp", "a", "b")}))

    assert (data.names, data.values.tolist()) == (["x"], VALUES)


def test_what_is_declared_is_not_looked_for(tmp_path: Path) -> None:
    text = "timestamp;a;b\n01/02/2024;1.234,5;10\n02/02/2024;-1.300;20\n"
    declared = FilesConfig(delimiter=";", decimal=",", thousands=".", date_format="%d/%m/%Y")

    data = datafiles.load([write(tmp_path / "f.csv", text)], RECORDS, files=declared)

    assert data.values.tolist() == [[1234.5, 10], [-1300, 20]]
    assert (data.time_ns.astype("datetime64[ns]").astype("datetime64[D]").astype(str)).tolist() == [
        "2024-02-01",
        "2024-02-02",
    ]


def test_a_comma_with_two_meanings_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", 'timestamp,a,b\n2024-01-01,"1,500",10\n')

    with pytest.raises(DataError, match=r"'1,500' may have a decimal comma .*set files\.decimal: .*files\.thousands"):
        datafiles.load([path], RECORDS)
    assert datafiles.load([path], RECORDS, files=FilesConfig(decimal=",")).values.tolist() == [[1.5, 10]]
    assert datafiles.load([path], RECORDS, files=FilesConfig(thousands=",")).values.tolist() == [[1500, 10]]


def test_a_row_with_more_values_than_columns_is_an_error_not_a_shift(tmp_path: Path) -> None:
    text = "timestamp,a,b\n2024-01-01,1,10\n2024-01-02,1,5,10\n"

    with pytest.raises(DataError, match=r"f\.csv: wanted CSV or Parquet; .*Expected 3 fields in line 3, saw 4"):
        datafiles.load([write(tmp_path / "f.csv", text)], RECORDS)


def test_a_decimal_comma_that_comes_late_names_its_row_and_the_remedy(tmp_path: Path) -> None:
    rows = "".join(f"2024-01-01T00:00:00.{i:06d};{i}.5;2\n" for i in range(20_000))
    text = f"timestamp;a;b\n{rows}2024-01-02;1,5;2\n"

    with pytest.raises(DataError, match=r"row 20001: wanted numbers in 'a'; got '1,5' .*files\.decimal"):
        datafiles.load([write(tmp_path / "f.csv", text)], RECORDS)


def test_words_for_a_missing_number_are_none_for_a_stream(tmp_path: Path) -> None:
    text = "timestamp,stream,a,b\n2024-01-01,NA,NA,1\n2024-01-02,null,,2\n"

    data = datafiles.load([write(tmp_path / "f.csv", text)], RECORDS)

    assert data.names == ["NA", "null"]
    assert np.isnan(data.values[:, 0]).all()


def test_a_time_in_two_columns_and_words_for_no_value_are_declared(tmp_path: Path) -> None:
    text = "Date;Time;a;b\n16/12/2006;17:24:00;1.5;10\n16/12/2006;17:25:00;?;20\n"
    path = write(tmp_path / "power.txt", text)
    files = FilesConfig(timestamp=("Date", "Time"), missing=("?",))

    with pytest.raises(DataError, match=r"wanted columns \['timestamp'\]; .*set files\.timestamp: \[Date, Time\]"):
        datafiles.load([path], RECORDS)
    with pytest.raises(DataError, match=r"row 2: wanted numbers in 'a'; got '\?' .* set files\.missing: \['\?'\]"):
        datafiles.load([path], RECORDS, files=files.model_copy(update={"missing": ()}))
    data = datafiles.load([path], RECORDS, files=files)
    assert data.time_ns.astype("datetime64[ns]").astype("datetime64[s]").astype(str).tolist() == [
        "2006-12-16T17:24:00",
        "2006-12-16T17:25:00",
    ]
    np.testing.assert_array_equal(data.values, [[1.5, 10], [np.nan, 20]])


def test_a_wide_file_is_read_by_the_columns_wanted(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(200)]
    text = f"timestamp,{','.join(names)},a,b\n2024-01-01,{','.join(names)},1.5,10\n"

    assert datafiles.load([write(tmp_path / "f.csv", text)], RECORDS).values.tolist() == [[1.5, 10]]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("timestamp,A,b", r"wanted columns \['a'\]; it has \['timestamp', 'A', 'b'\]; did you mean 'A'\?"),
        ("time,a,b", r"wanted columns \['timestamp'\]; .*did you mean 'time'\?"),
        ("timestamp,x,y", r"wanted columns \['a', 'b'\]; it has \['timestamp', 'x', 'y'\]$"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_the_likely_one(tmp_path: Path, header: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        datafiles.load([write(tmp_path / "f.csv", f"{header}\n2024-01-01,1,2\n")], RECORDS)
