"""Columns as readings: one metric per row, sequence numbers, zeros that mean absent, exact numbers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from streamer.config import RecordsConfig
from streamer.connectors import files as datafiles
from streamer.connectors.files import reading
from streamer.errors import DataError
from tests.connectors.files.samples import write

LONG = """\
timestamp,device,metric,value
2024-01-01T00:00:00Z,x,heat,1.5
2024-01-01T00:00:00Z,x,status,OK
2024-01-01T00:00:00Z,y,speed,7
2024-01-01T00:00:01Z,x,speed,8
2024-01-01T00:00:01Z,y,heat,
"""
NAN = np.nan


def long(**changes: Any) -> RecordsConfig:
    return RecordsConfig.model_validate(
        {"features": ["heat", "speed"], "stream": "device", "metric": "metric", **changes}
    )


@pytest.mark.parametrize("at_once", [2, 4, 1000])
def test_one_metric_per_row_becomes_rows_with_a_value_in_its_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(reading, "_AT_ONCE", at_once)

    data = datafiles.load([write(tmp_path / "f.csv", LONG)], long())

    np.testing.assert_array_equal(data.values, [[1.5, NAN], [NAN, 7], [NAN, 8], [NAN, NAN]])
    assert [data.names[code] for code in data.stream] == ["x", "y", "x", "y"]


def test_rows_of_other_metrics_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        datafiles.load([write(tmp_path / "f.csv", LONG)], long())

    assert "not in records.features are left out: 1 rows, most of status (1)" in caplog.text


def test_a_metric_that_does_not_occur_is_told_with_the_likely_one(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", LONG)

    with pytest.raises(DataError, match=r"\['heats'\] do not, \['heat', 'status'\] do; did you mean 'heat'\?"):
        datafiles.load([path], long(features=["heats", "speed"]))
    with pytest.raises(DataError, match=r"\['flow'\] do not, \['heat', 'status', 'speed'\] do$"):
        datafiles.load([path], long(features=["flow"]))


def test_the_long_layout_is_read_from_messages_too(tmp_path: Path) -> None:
    text = '{"timestamp": "2024-01-01", "device": "x", "metric": "speed", "value": 7}\n'

    data = datafiles.load([write(tmp_path / "f.jsonl", text)], long())

    np.testing.assert_array_equal(data.values, [[NAN, 7]])


def test_numbers_written_as_text_in_messages_are_numbers_if_the_configuration_says_so(tmp_path: Path) -> None:
    one = '{"timestamp": "1700000000", "device": "x", "metric": "heat", "value": "20.0"}\n'
    other = '{"timestamp": 1700000060, "device": "x", "metric": "speed", "value": 7}\n'
    long_layout = write(tmp_path / "long.jsonl", one + other + one.replace("heat", "status").replace("20.0", "OK"))
    wide = write(tmp_path / "wide.json", '[{"timestamp": "1700000000", "device": "x", "heat": "1e1", "speed": 2}]')
    said: dict[str, Any] = {"timestamp_unit": "s", "text_numbers": True}

    by_metric = datafiles.load([long_layout], long(**said))
    by_field = datafiles.load([wide], long(metric=None, **said))

    np.testing.assert_array_equal(by_metric.values, [[20, NAN], [NAN, 7]])
    np.testing.assert_array_equal(by_field.values, [[10, 2]])
    assert (by_metric.time_ns // 10**9).tolist() == [1_700_000_000, 1_700_000_060]
    assert (by_field.time_ns // 10**9).tolist() == [1_700_000_000]


def test_text_that_is_no_number_is_refused_though_numbers_come_as_text(tmp_path: Path) -> None:
    path = write(
        tmp_path / "f.jsonl", '{"timestamp": "2024-01-01", "device": "x", "metric": "heat", "value": "21,5"}\n'
    )

    with pytest.raises(DataError, match=r"f\.jsonl: row 1: wanted numbers in 'value'; got '21,5'"):
        datafiles.load([path], long(text_numbers=True))


def test_sequence_numbers_stay_with_their_rows(tmp_path: Path) -> None:
    one = write(tmp_path / "1.csv", "timestamp,a,seq\n2024-01-01,1,9007199254740993\n2024-01-03,3,2\n")
    two = write(tmp_path / "2.csv", "timestamp,a,seq\n2024-01-02,2,5\n")

    data = datafiles.load([one, two], RecordsConfig(features=("a",), sequence="seq"))

    assert data.sequence is not None
    assert data.sequence.tolist() == [9007199254740993, 5, 2]
    batches = list(data.batches(2))
    assert [batch.sequence.tolist() for batch in batches if batch.sequence is not None] == [[9007199254740993, 5], [2]]


@pytest.mark.parametrize("bad", ["", "1.5", "one"])
def test_a_sequence_number_that_is_none_names_its_row(tmp_path: Path, bad: str) -> None:
    path = write(tmp_path / "f.csv", f"timestamp,a,seq\n2024-01-01,1,7\n2024-01-02,2,{bad}\n")

    with pytest.raises(DataError, match=r"f\.csv: row 2: wanted a whole number in every row of 'seq'"):
        datafiles.load([path], RecordsConfig(features=("a",), sequence="seq"))


def test_zeros_that_mean_absent_are_absent_unless_the_rows_are_wanted_as_sent(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "timestamp,bid,ask\n2024-01-01,0,14.02\n2024-01-02,13.84,0\n")
    records = RecordsConfig(features=("bid", "ask"), zero_is_missing=("bid",))

    np.testing.assert_array_equal(datafiles.load([path], records).values, [[NAN, 14.02], [13.84, 0]])
    np.testing.assert_array_equal(datafiles.load([path], records, as_sent=True).values, [[0, 14.02], [13.84, 0]])


def test_floats_of_32_bits_are_the_decimals_they_were_made_of_where_exactness_is_asked(tmp_path: Path) -> None:
    decimals = [13.94, 0.1, 1e-7, 123456.7, 16777216.0]
    frame = pd.DataFrame({"timestamp": pd.date_range("2024-01-01", periods=5), "a": np.array(decimals, np.float32)})
    frame.to_parquet(tmp_path / "f.parquet")
    records = RecordsConfig(features=("a",))

    exact = datafiles.load([tmp_path / "f.parquet"], records, exact=True)

    assert exact.values[:, 0].tolist() == decimals
    assert datafiles.load([tmp_path / "f.parquet"], records).values[0, 0] == np.float32(13.94)


def test_batches_give_the_numbers_of_the_file_where_exactness_is_asked(tmp_path: Path) -> None:
    data = datafiles.load(
        [write(tmp_path / "f.csv", "timestamp,a\n2024-01-01,13.94\n")], RecordsConfig(features=("a",))
    )

    (exact,), (narrow,) = data.batches(10, exact=True), data.batches(10)

    assert exact.values.dtype == np.float64
    assert exact.values.tolist() == [[13.94]]
    assert narrow.values.dtype == np.float32


def test_switches_in_files_are_numbers_also_beside_holes(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "timestamp,a,b\n2024-01-01,True,False\n2024-01-02,,True\n")
    pd.read_csv(path).to_parquet(tmp_path / "f.parquet")

    for file in (path, tmp_path / "f.parquet"):
        data = datafiles.load([file], RecordsConfig(features=("a", "b")))

        np.testing.assert_array_equal(data.values, [[1, 0], [NAN, 1]])


def test_fields_inside_structures_of_parquet_are_named_with_dots(tmp_path: Path) -> None:
    frame = pd.DataFrame({"timestamp": ["2024-01-01"], "v": [{"a": 1.0, "w": {"b": 2.0}}]})
    frame.to_parquet(tmp_path / "f.parquet")

    data = datafiles.load([tmp_path / "f.parquet"], RecordsConfig(features=("v.a", "v.w.b")))

    assert data.values.tolist() == [[1, 2]]
