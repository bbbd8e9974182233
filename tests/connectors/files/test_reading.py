"""CSV and Parquet files as readings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from streamer.config import RecordsConfig
from streamer.connectors import files as datafiles
from streamer.connectors.files import DataSet, reading
from streamer.errors import DataError

RECORDS = RecordsConfig(features=("a", "b"))
CSV = """\
timestamp,b,stream,a,ignored
2024-01-01T00:00:00Z,10,x,1,?
2024-01-01 00:01:00,20,y,2.5,?
2024-01-01T02:02:00+02:00,30,x,-3e2,?
"""
MIDNIGHT_NS = 1_704_067_200_000_000_000
MINUTE_NS = 60_000_000_000


def records(**changes: Any) -> RecordsConfig:
    return RECORDS.model_copy(update=changes)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def check(data: DataSet) -> None:
    assert data.names == ["x", "y"]
    assert data.stream.tolist() == [0, 1, 0]
    assert (data.time_ns - MIDNIGHT_NS).tolist() == [0, MINUTE_NS, 2 * MINUTE_NS]
    assert data.values.tolist() == [[1, 10], [2.5, 20], [-300, 30]]


@pytest.mark.parametrize("separator", [",", ";"])
def test_csv_is_read_whatever_separates_it(tmp_path: Path, separator: str) -> None:
    check(datafiles.load([write(tmp_path / "f.csv", CSV.replace(",", separator))], RECORDS))


@pytest.mark.parametrize("suffix", [".parquet", ".pq"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_is_read_whatever_the_resolution_of_its_times(tmp_path: Path, suffix: str, unit: str) -> None:
    times = pd.Series(pd.date_range("2024-01-01", periods=3, freq="min")).to_numpy(f"datetime64[{unit}]")
    frame = pd.DataFrame({"timestamp": times, "stream": ["x", "y", "x"], "a": [1, 2.5, -300], "b": [10, 20, 30]})
    frame.to_parquet(tmp_path / f"f{suffix}")

    check(datafiles.load([tmp_path / f"f{suffix}"], RECORDS))


@pytest.mark.parametrize(("unit", "per"), [("s", 1), ("ms", 1000), ("us", 10**6), ("ns", 10**9), ("iso8601", 1)])
def test_numeric_times_count_from_1970_in_the_configured_unit(tmp_path: Path, unit: str, per: int) -> None:
    path = write(tmp_path / "f.csv", f"timestamp,a,b\n{1_704_067_200 * per},1,2\n{1_704_067_260 * per},1,2\n")

    data = datafiles.load([path], records(timestamp_unit=unit))

    assert (data.time_ns - MIDNIGHT_NS).tolist() == [0, MINUTE_NS]


def test_a_file_without_a_stream_column_is_one_stream_named_as_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "pump-1.csv", "timestamp,a,b\n2024-01-01,1,2\n2024-01-02,3,4\n")

    data = datafiles.load([path], RECORDS)

    assert data.names == ["pump-1"]
    assert data.stream.tolist() == [0, 0]


def test_several_files_are_merged_by_time_and_share_streams(tmp_path: Path) -> None:
    one = write(tmp_path / "one.csv", "timestamp,stream,a,b\n2024-01-01,x,1,0\n2024-01-03,x,3,0\n")
    two = write(tmp_path / "two.csv", "timestamp,stream,a,b\n2024-01-02,y,2,0\n2024-01-04,x,4,0\n")

    data = datafiles.load([one, two], RECORDS)

    assert data.values[:, 0].tolist() == [1, 2, 3, 4]
    assert [data.names[code] for code in data.stream] == ["x", "y", "x", "x"]


def test_one_file_keeps_its_order(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "timestamp,a,b\n2024-01-02,1,0\n2024-01-01,2,0\n")

    assert datafiles.load([path], RECORDS).values[:, 0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("where", "kept"),
    [([], [1, 2.5, -300]), (["stream=x"], [1, -300]), (["stream=x", "b=30"], [-300]), (["ignored=?"], [1, 2.5, -300])],
)
def test_where_keeps_rows_that_meet_all_conditions(tmp_path: Path, where: list[str], kept: list[float]) -> None:
    data = datafiles.load([write(tmp_path / "f.csv", CSV)], RECORDS, where)

    assert data.values[:, 0].tolist() == kept


def test_holes_are_kept_and_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "timestamp,a,b\n2024-01-01,1,\n2024-01-02,inf,0\n2024-01-03,1,2\n")

    data = datafiles.load([path], RECORDS)

    assert len(data) == 3
    assert data.complete.tolist() == [False, False, True]


def test_a_value_beyond_the_models_floats_is_incomplete(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "timestamp,a,b\n2024-01-01,1e39,0\n")

    assert datafiles.load([path], RECORDS).complete.tolist() == [False]


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("timestamp,a\n2024-01-01,1\n", [], r"wanted columns \['b'\]; it has \['timestamp', 'a'\]"),
        ("a,b\n1,2\n", [], r"wanted columns \['timestamp'\]"),
        ("timestamp,a,b\n2024-01-01,one,2\n", [], "f.csv: row 1: wanted numbers in 'a'; got 'one'"),
        ("timestamp,a,b\nsoon,1,2\n", [], "f.csv: row 1: wanted times in 'timestamp'; 'soon' is not ISO 8601"),
        (
            "timestamp,a,b\n2024-01-01,1,2\n,1,2\n",
            [],
            "f.csv: row 2: wanted a time in every row of 'timestamp'; 1 have none",
        ),
        ("timestamp,stream,a,b\n2024-01-01,bad\x07name,1,2\n", [], r"stream name.*got 'bad\\x07name'"),
        ("timestamp,a,b\n", [], "wanted at least one row"),
        ("", [], "wanted CSV or Parquet"),
        (CSV, ["stream"], "--where: wanted COLUMN=VALUE with a column of .*; got 'stream'"),
        (CSV, ["nope=1"], "--where: wanted COLUMN=VALUE .*; got 'nope=1'"),
        (CSV, ["stream=z"], r"wanted at least one row; .* give none where \['stream=z'\]"),
    ],
)
def test_a_file_that_cannot_be_used_says_what_was_wanted(
    tmp_path: Path, text: str, where: list[str], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        datafiles.load([write(tmp_path / "f.csv", text)], RECORDS, where)


@pytest.mark.parametrize("name", ["no.csv", "no.parquet", "folder.csv"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.csv").mkdir()

    with pytest.raises(DataError, match=f"{name}: wanted a readable CSV or Parquet file"):
        datafiles.load([tmp_path / name], RECORDS)


def test_a_parquet_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="wanted CSV or Parquet"):
        datafiles.load([write(tmp_path / "f.parquet", "PAR1 not really")], RECORDS)


def test_a_year_beyond_nanoseconds_is_an_error_of_data(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        datafiles.load([write(tmp_path / "f.csv", "timestamp,a,b\n9999-12-31,1,2\n")], RECORDS)


def test_batches_cover_every_row_once_in_order(tmp_path: Path) -> None:
    data = datafiles.load([write(tmp_path / "f.csv", CSV)], RECORDS)

    parts = list(data.batches(2))

    assert [part.offset.tolist() for part in parts] == [[0, 1], [2]]
    assert np.concatenate([part.values for part in parts]).tolist() == data.values.tolist()
    assert all((part.partition == 0).all() for part in parts)


def test_streams_apart_are_in_time_order(tmp_path: Path) -> None:
    text = "timestamp,stream,a,b\n2024-01-02,x,2,0\n2024-01-01,y,9,0\n2024-01-01,x,1,0\n"

    apart = datafiles.load([write(tmp_path / "f.csv", text)], RECORDS).by_stream()

    assert {name: values[:, 0].tolist() for name, (_, values) in apart.items()} == {"x": [1, 2], "y": [9]}


def test_a_file_read_in_pieces_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f"2024-01-0{1 + i % 9},{i % 3},{i}{'.5' * (i > 6)},{'' if i == 8 else i}\n" for i in range(20))
    csv = write(tmp_path / "f.csv", "timestamp,stream,a,b\n" + rows)
    pd.read_csv(csv, parse_dates=["timestamp"]).to_parquet(tmp_path / "f.parquet")
    for path in (csv, tmp_path / "f.parquet"):
        whole = datafiles.load([path], RECORDS)
        with monkeypatch.context() as patch:
            patch.setattr(reading, "_AT_ONCE", 6)
            parts = list(datafiles.pieces([path], RECORDS))

        assert [len(part) for part in parts] == [3, 3, 3, 3, 3, 3, 2]
        again = datafiles.join(parts)
        assert again.names == whole.names
        for one, other in zip(
            (again.stream, again.time_ns, again.values), (whole.stream, whole.time_ns, whole.values), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_names_and_conditions_are_text_as_it_stands_in_every_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_AT_ONCE", 2)
    path = write(tmp_path / "f.csv", "timestamp,stream,a,b\n2024-01-01,01,1,7\n2024-01-02,x,2,7\n2024-01-03,1,3,7.0\n")

    assert datafiles.load([path], RECORDS).names == ["01", "x", "1"]
    assert datafiles.load([path], RECORDS, ["b=7"]).values.tolist() == [[1, 7], [2, 7]]


def test_a_whole_number_in_parquet_is_the_same_text_beside_a_hole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_AT_ONCE", 4)
    frame = pd.DataFrame({"timestamp": pd.date_range("2024-01-01", periods=4), "a": range(4), "b": range(4)})
    frame["part"] = pd.array([1, 1, 1, None], "Int64")
    frame.to_parquet(tmp_path / "f.parquet")

    assert len(datafiles.load([tmp_path / "f.parquet"], RECORDS, ["part=1"])) == 3


def test_a_row_without_a_stream_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "timestamp,stream,a,b\n2024-01-01,x,1,2\n2024-01-01,,1,2\n")

    with pytest.raises(DataError, match=r"f.csv: row 2: wanted a stream in every row of 'stream'; 1 have none"):
        datafiles.load([path], RECORDS)


def test_a_folder_of_parquet_is_read_with_the_columns_in_its_names(tmp_path: Path) -> None:
    frame = pd.DataFrame({"timestamp": pd.date_range("2024-01-01", periods=2), "a": [1.0, 2.0], "b": [3.0, 4.0]})
    frame["stream"] = ["x", "y"]
    frame.to_parquet(tmp_path / "f.parquet", partition_cols=["stream"])

    data = datafiles.load([tmp_path / "f.parquet"], RECORDS)

    assert (data.names, data.values.tolist()) == (["x", "y"], [[1, 3], [2, 4]])


def test_the_size_of_files_is_what_their_pieces_add_up_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csv = write(tmp_path / "f.csv", CSV)
    pd.read_csv(csv).to_parquet(tmp_path / "f.parquet")
    monkeypatch.setattr(reading, "_AT_ONCE", 2)
    for path in (csv, tmp_path / "f.parquet"):
        sizes = list[int]()

        list(datafiles.pieces([path], RECORDS, done=sizes.append))

        assert sum(sizes) == pytest.approx(datafiles.size_of([path]), abs=len(sizes))


def test_labels_are_read_beside_the_features_and_merged_with_them(tmp_path: Path) -> None:
    one = write(tmp_path / "one.csv", "timestamp,a,b,fault\n2024-01-01,1,0,0\n2024-01-03,3,0,1\n")
    two = write(tmp_path / "two.csv", "timestamp,a,b,fault\n2024-01-02,2,0,1.0\n2024-01-04,4,0,0.0\n")

    data = datafiles.load([one, two], RECORDS, labels="fault")

    assert data.label is not None
    assert data.label.tolist() == [False, True, True, False]
    picked = data.select(np.array([False, True, True, False]))
    assert picked.label is not None
    assert picked.label.all()
    assert datafiles.load([one], RECORDS).label is None


def test_labels_may_be_true_and_false(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "timestamp,a,b,fault\n2024-01-01,1,0,False\n2024-01-03,3,0,True\n")

    label = datafiles.load([path], RECORDS, labels="fault").label

    assert label is not None
    assert label.tolist() == [False, True]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("nope", r"f.csv: --labels: wanted a column 'nope'; it has \['timestamp', 'b', 'stream', 'a', 'ignored'\]"),
        ("ignored", r"f.csv: row 1: --labels: wanted 0 or 1 in every row of 'ignored'; 3 have others, such as '\?'"),
        ("a", "--labels: wanted a column of its own; 'a' is in records of the configuration"),
        ("timestamp", "--labels: wanted a column of its own"),
        ("stream", "--labels: wanted a column of its own"),
    ],
)
def test_labels_that_cannot_be_used_are_told(tmp_path: Path, labels: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        datafiles.load([write(tmp_path / "f.csv", CSV)], RECORDS, labels=labels)


def test_rows_may_be_chosen_by_the_label_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "timestamp,a,b,fault\n2024-01-01,1,0,0\n2024-01-03,3,0,1\n2024-01-04,4,0,0\n")
    pd.read_csv(path, parse_dates=["timestamp"]).to_parquet(tmp_path / "f.parquet")

    for file in (path, tmp_path / "f.parquet"):
        label = datafiles.load([file], RECORDS, ["fault=0"], labels="fault").label

        assert label is not None
        assert label.tolist() == [False, False]


def test_a_row_without_a_label_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "timestamp,a,b,fault\n2024-01-01,1,0,\n2024-01-03,3,0,1\n")

    with pytest.raises(DataError, match="1 have others, such as nan"):
        datafiles.load([path], RECORDS, labels="fault")


def test_rows_with_something_in_them_are_taken_where_gaps_are_filled() -> None:
    nan, inf = np.nan, np.inf
    values = np.array([[1, 2], [1, nan], [nan, nan], [inf, 2], [inf, nan], [1e39, 2]])
    some = DataSet(["a"], np.zeros(6, np.int64), np.arange(6), values)
    refuse = RecordsConfig(features=("x", "y"))

    assert some.admitted(refuse).tolist() == some.complete.tolist() == [True] + [False] * 5
    filling = refuse.model_copy(update={"missing": "fill"})
    assert some.admitted(filling).tolist() == [True, True, False, False, False, False]
