"""Snapshots survive crashes, damage and full disks: there is a whole one or none."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.detector import Detector
from streamer.core.keyed_state import ExportedState
from streamer.core.pipeline import Pipeline
from streamer.errors import StateError
from streamer.runtime import snapshots
from streamer.runtime.snapshots import Snapshot, SnapshotStore
from tests import tiny


class Crash(BaseException):
    """The process dies here."""


def store(directory: Path, *, topic: str = "readings", shape: str = "s1") -> SnapshotStore:
    return SnapshotStore(directory, topic, shape)


def snapshot(offset: int) -> Snapshot:
    columns = {
        "wide": np.arange(offset, dtype=np.float32).reshape(-1, 1),
        "flag": np.array([True, False]),
        "bits": np.array([2**63], np.uint64),
        "when": np.array([np.iinfo(np.int64).min]),
        "empty": np.empty((0, 3, 2), np.float32),
    }
    return Snapshot(offset, ExportedState(columns, {"streams": ["a", "é"], "clock": None, "nested": {"x": [1.5]}}))


def offset_of(some: SnapshotStore, partition: int = 0) -> int | None:
    found, _ = some.read(partition)
    return None if found is None else found.offset


def test_a_snapshot_comes_back_as_it_was(tmp_path: Path) -> None:
    written = snapshot(5)

    store(tmp_path).write(3, written)

    found, refused = store(tmp_path).read(3)
    assert found is not None
    assert (found.offset, found.state.values, refused) == (5, written.state.values, [])
    assert set(found.state.columns) == set(written.state.columns)
    for name, column in written.state.columns.items():
        assert found.state.columns[name].dtype == column.dtype
        assert np.array_equal(found.state.columns[name], column)


def test_columns_read_back_can_be_written_to(tmp_path: Path) -> None:
    store(tmp_path).write(0, snapshot(5))
    found, _ = store(tmp_path).read(0)
    assert found is not None

    found.state.columns["wide"][0] = 7

    assert found.state.columns["wide"][0, 0] == 7


def test_without_a_snapshot_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert store(tmp_path / "never made").read(0) == (None, [])


def test_a_pipeline_goes_on_from_the_disk(tiny_detector: Detector, tmp_path: Path) -> None:
    made = [Pipeline(tiny.settings().pipeline_options(), tiny_detector, "v") for _ in range(2)]
    whole = tiny.fleet({0: tiny.wave(40), 1: tiny.wave(40, seed=1, level=10)})
    for one in made:
        one.keys.add("a")
        one.keys.add("b")
    made[0].process(whole.take(np.arange(50)))

    store(tmp_path).write(0, Snapshot(50, made[0].export_partition(0)))
    found, _ = store(tmp_path).read(0)
    assert found is not None
    made[1].restore(found.state)

    rest = whole.take(np.arange(50, 80))
    here, there = (some.process(rest).scores.score for some in made)
    assert np.array_equal(here, there, equal_nan=True)


def test_the_newest_is_read_and_the_one_before_is_kept(tmp_path: Path) -> None:
    some = store(tmp_path)
    for offset in (1, 2, 3):
        some.write(0, snapshot(offset))

    assert offset_of(some) == 3
    (tmp_path / "readings-0.snapshot").unlink()
    assert offset_of(some) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["readings-0.snapshot.1"]


def test_partitions_and_topics_do_not_touch_each_other(tmp_path: Path) -> None:
    store(tmp_path).write(0, snapshot(1))
    store(tmp_path).write(1, snapshot(2))
    store(tmp_path, topic="readings.v2").write(0, snapshot(3))

    assert offset_of(store(tmp_path), 0) == 1
    assert offset_of(store(tmp_path), 1) == 2
    assert offset_of(store(tmp_path, topic="readings.v2"), 0) == 3


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_falls_back_to_the_one_before(tmp_path: Path, where: float, bit: int) -> None:
    some = store(tmp_path)
    some.write(0, snapshot(1))
    some.write(0, snapshot(2))
    path = tmp_path / "readings-0.snapshot"
    damaged = bytearray(path.read_bytes())
    damaged[int(where * len(damaged))] ^= 1 << bit
    path.write_bytes(damaged)

    found, refused = some.read(0)

    assert found is not None
    assert found.offset == 1
    assert len(refused) == 1
    assert str(path) in refused[0]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keep=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_falls_back_to_the_one_before(tmp_path: Path, keep: float) -> None:
    some = store(tmp_path)
    some.write(0, snapshot(1))
    some.write(0, snapshot(2))
    path = tmp_path / "readings-0.snapshot"
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])

    assert offset_of(some) == 1


def test_when_both_are_damaged_there_is_none_and_both_are_told(tmp_path: Path) -> None:
    some = store(tmp_path)
    some.write(0, snapshot(1))
    some.write(0, snapshot(2))
    for path in tmp_path.iterdir():
        path.write_bytes(b"\x80\x04garbage")

    found, refused = some.read(0)

    assert found is None
    assert len(refused) == 2


@pytest.mark.parametrize(
    ("other", "why"),
    [({"shape": "s2"}, "written with other settings"), ({"topic": "elsewhere"}, r"holds the state of readings\[0\]")],
)
def test_a_snapshot_of_other_settings_is_refused(tmp_path: Path, other: dict[str, Any], why: str) -> None:
    store(tmp_path).write(0, snapshot(1))
    reader = store(tmp_path, **other)
    content = (tmp_path / "readings-0.snapshot").read_bytes()
    (tmp_path / f"{reader.topic}-0.snapshot").write_bytes(content)

    found, refused = reader.read(0)

    assert found is None
    assert re.search(why, refused[0])


def test_a_snapshot_of_another_format_says_that_another_version_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "FORMAT", 2)
        store(tmp_path).write(0, snapshot(1))

    found, refused = store(tmp_path).read(0)

    assert found is None
    assert "written by another version of streamer, in format 2" in refused[0]


def test_a_snapshot_of_another_partition_is_refused(tmp_path: Path) -> None:
    store(tmp_path).write(0, snapshot(1))
    (tmp_path / "readings-0.snapshot").rename(tmp_path / "readings-1.snapshot")

    assert offset_of(store(tmp_path), 1) is None


@pytest.mark.parametrize("renames", [0, 1])
def test_a_crash_between_the_renames_leaves_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    some = store(tmp_path)
    some.write(0, snapshot(1))
    some.write(0, snapshot(2))
    rename, done = Path.replace, list[Path]()

    def crash_after(path: Path, target: Path) -> Path:
        if len(done) == renames:
            raise Crash
        done.append(target)
        return rename(path, target)

    # write aside, rename newest to .1, rename aside to newest
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash_after)
        with pytest.raises(Crash):
            some.write(0, snapshot(3))

    assert offset_of(store(tmp_path)) == 2
    some.write(0, snapshot(4))
    assert offset_of(store(tmp_path)) == 4


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_a_full_disk_leaves_the_old_ones_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    some = store(tmp_path)
    some.write(0, snapshot(1))
    some.write(0, snapshot(2))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if call == "fsync":
            patch.setattr(os, "fsync", full)
        else:
            # A device that is always full; the file is opened there instead.
            device = Path("/dev/full")
            if not device.exists():
                pytest.skip("no /dev/full here")
            real = Path.open
            patch.setattr(Path, "open", lambda path, mode: real(device, "wb") if mode == "xb" else real(path, mode))
        with pytest.raises(StateError, match="could not write a snapshot; No space left on device"):
            some.write(0, snapshot(3))

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert offset_of(some) == 2


def test_a_directory_that_cannot_be_made_is_an_error_of_state(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StateError, match="could not write a snapshot; Not a directory"):
        store(tmp_path / "file" / "state").write(0, snapshot(1))
