"""A file without its stream column: one stream is taken, a mixture of several is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from streamer.config import FilesConfig, RecordsConfig
from streamer.connectors import files as datafiles
from streamer.connectors.files import reading
from streamer.errors import DataError

RECORDS = RecordsConfig(features=("a",), stream=("machine",))
MIDNIGHT_NS = 1_704_067_200_000_000_000


def write(path: Path, seconds: Sequence[float], **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    stamps = pd.to_datetime(MIDNIGHT_NS + (np.asarray(seconds) * 1e9).astype(np.int64), utc=True)
    pd.DataFrame({"timestamp": stamps, "a": np.arange(len(stamps)), **columns}).to_csv(path, index=False)
    return path


def minutes(count: int) -> list[float]:
    return [60.0 * minute for minute in range(count)]


def fleet(*, minute_by_minute: bool) -> tuple[list[float], list[str]]:
    """Five devices for an hour: all of each minute, or one device after another."""
    devices = [f"pump-{i}" for i in range(5)]
    if minute_by_minute:
        return [time for time in minutes(60) for _ in devices], devices * 60
    return minutes(60) * 5, [name for name in devices for _ in range(60)]


@pytest.mark.parametrize(
    ("minute_by_minute", "seen"),
    [
        (True, "of 300 rows, the time of 240 repeats"),
        (False, r"of 300 rows, the time of 4 repeats and times go back 4 times \(rows older than one before .*: 236\)"),
    ],
)
def test_five_devices_without_their_column_are_refused(tmp_path: Path, minute_by_minute: bool, seen: str) -> None:
    times, devices = fleet(minute_by_minute=minute_by_minute)
    path = write(tmp_path / "fleet.csv", times, device=devices, site="north", status=["ok", "idle", "ok"] * 100)

    with pytest.raises(DataError) as told:
        datafiles.load([path], RECORDS)

    message = str(told.value)
    assert "fleet.csv: wanted the column of records.stream, 'machine'" in message
    assert "the file would be one stream 'fleet'" in message
    assert re.search(seen, message), message
    assert "set records.stream: device, of which the times of each of 5 values move forward" in message
    assert "files.one_stream: true" in message
    named = datafiles.load([path], RECORDS.model_copy(update={"stream": ("device",)}))
    assert len(named.names) == 5


def test_a_mixture_is_refused_where_no_column_tells_the_devices_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "fleet.csv", fleet(minute_by_minute=True)[0])

    with pytest.raises(DataError, match=r"240 repeats; name the column of its streams in records\.stream"):
        datafiles.load([path], RECORDS)
    assert datafiles.load([path], RECORDS, files=FilesConfig(one_stream=True)).names == ["fleet"]


def test_what_is_refused_does_not_depend_on_the_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "fleet.csv", fleet(minute_by_minute=True)[0])
    told = set()
    for rows in (1, 2, 3, 7, 100, 1000):
        monkeypatch.setattr(reading, "_AT_ONCE", rows)
        with pytest.raises(DataError) as error:
            list(datafiles.pieces([path], RECORDS))
        told.add(str(error.value))

    assert len(told) == 1


def test_a_clock_that_is_set_back_once_is_no_mixture(tmp_path: Path) -> None:
    times = [300.0 * i for i in range(1000)] + [300.0 * i for i in range(988, 19_000)]

    data = datafiles.load([write(tmp_path / "machine.csv", times)], RECORDS)

    assert (data.names, len(data)) == (["machine"], len(times))


def test_readings_that_are_late_now_and_then_are_no_mixture(tmp_path: Path) -> None:
    times = np.array(minutes(1000))
    rng = np.random.default_rng(0)
    arrival = times + np.where(rng.random(1000) < 0.08, 150.0, 0.0)
    order = np.argsort(arrival, kind="stable")

    data = datafiles.load([write(tmp_path / "late.csv", times[order].tolist())], RECORDS)

    assert data.values[:, 0].tolist() == list(range(1000))  # as they stand in the file
    assert (np.diff(data.time_ns) < 0).sum() > 50
    assert data.sending_order().tolist() == list(range(1000))


def test_a_condition_that_leaves_one_device_leaves_one_stream(tmp_path: Path) -> None:
    times, devices = fleet(minute_by_minute=True)
    path = write(tmp_path / "fleet.csv", times, device=devices)

    assert datafiles.load([path], RECORDS, ["device=pump-3"]).names == ["fleet"]


def test_equal_times_with_sequence_numbers_are_one_stream(tmp_path: Path) -> None:
    path = write(tmp_path / "ticks.csv", [0.0] * 50 + [1.0] * 50, seq=range(100))

    with pytest.raises(DataError, match=r"name it in records\.sequence"):
        datafiles.load([path], RECORDS)
    assert datafiles.load([path], RECORDS.model_copy(update={"sequence": "seq"})).names == ["ticks"]


def test_metrics_of_one_time_are_one_stream(tmp_path: Path) -> None:
    path = write(tmp_path / "pump.csv", [time for time in minutes(60) for _ in "xy"], metric=["heat", "speed"] * 60)
    records = RecordsConfig(features=("heat", "speed"), metric="metric", value="a", stream=("machine",))

    assert datafiles.load([path], records).names == ["pump"]


def test_files_of_a_folder_are_one_stream_if_their_times_follow_each_other(tmp_path: Path) -> None:
    write(tmp_path / "pump" / "1.csv", minutes(100)[:50])
    write(tmp_path / "pump" / "2.csv", minutes(100)[50:])

    assert datafiles.load([tmp_path / "pump"], RECORDS).names == ["pump"]


def test_files_of_a_folder_that_have_the_same_times_are_refused(tmp_path: Path) -> None:
    for name in ("pump-1", "pump-2"):
        write(tmp_path / "pumps" / f"{name}.csv", minutes(100))

    with pytest.raises(DataError, match=r"pumps: wanted a folder of which no two files .* give the files one by one"):
        datafiles.load([tmp_path / "pumps"], RECORDS)
    one_by_one = datafiles.load(sorted((tmp_path / "pumps").iterdir()), RECORDS)
    assert one_by_one.names == ["pump-1", "pump-2"]


def test_a_stream_named_by_several_columns_wants_all_of_them(tmp_path: Path) -> None:
    records = RECORDS.model_copy(update={"stream": ("host", "cpu")})
    path = write(tmp_path / "f.csv", minutes(4), host=["x", "x", "y", "y"], cpu=[0, 1, 0, 1])

    assert datafiles.load([path], records).names == ["x/0", "x/1", "y/0", "y/1"]
    with pytest.raises(DataError, match=r"wanted columns \['cpu'\]"):
        datafiles.load([write(tmp_path / "g.csv", minutes(1), host="x")], records)


def test_devices_that_take_turns_are_refused_though_all_times_move_forward(tmp_path: Path) -> None:
    #           0 s         10 s        20 s
    # press-0   x           x           x
    # press-1    x           x           x
    turns = [(10.0 * step + 0.3 * device, f"press-{device}") for step in range(100) for device in range(5)]
    times, presses = zip(*turns, strict=True)
    numbers = [int(name[-1]) for name in presses]

    for name, values in (("Gerät", presses), ("anlage", numbers), ("device_id", numbers)):
        path = write(tmp_path / "f.csv", times, **{name: values, "status": ["ok", "idle"] * 250, "hour": 7})
        with pytest.raises(DataError, match=f"the 5 values of '{name}' take turns; set records.stream: {name};"):
            datafiles.load([path], RECORDS)
        assert datafiles.load([path], RECORDS, files=FilesConfig(one_stream=True)).names == ["f"]
        assert len(datafiles.load([path], RECORDS.model_copy(update={"stream": (name,)})).names) == 5


def test_devices_that_come_at_random_are_told_by_the_name_of_their_column(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    times, devices = np.cumsum(rng.exponential(5, 300)).tolist(), rng.integers(0, 3, 300)

    with pytest.raises(DataError, match=r"the 3 values of 'machines' take turns; set records.stream: machines"):
        datafiles.load([write(tmp_path / "f.csv", times, machines=devices)], RECORDS)
    assert datafiles.load([write(tmp_path / "g.csv", times, mode=devices)], RECORDS).names == ["g"]


def test_a_device_that_replaced_another_is_the_same_stream(tmp_path: Path) -> None:
    path = write(
        tmp_path / "f.csv", minutes(100), serial=["A1"] * 50 + ["B2"] * 50, split=["train"] * 15 + ["test"] * 85
    )

    assert datafiles.load([path], RECORDS).names == ["f"]


@pytest.mark.parametrize("column", ["@key", "key", "stream"])
def test_a_column_may_stand_for_the_message_key(tmp_path: Path, column: str) -> None:
    path = write(tmp_path / "f.csv", minutes(2), **{column: ["x", "y"]})

    assert datafiles.load([path], RECORDS.model_copy(update={"stream": ("@key",)})).names == ["x", "y"]
