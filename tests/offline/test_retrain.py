"""Retraining stores what it learned as a bundle that fits the settings."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from models.errors import TrainingError
from models.fitting.distributed import Ranks
from models.store.registry import Registry
from streamer import cli
from streamer.config import Settings
from streamer.connectors import files as datafiles
from streamer.connectors.files import DataSet, reading
from streamer.core.pipeline import Pipeline
from streamer.errors import ConfigError, DataError
from streamer.observability import logs
from streamer.offline import backtest, training_store
from streamer.offline.retrain import retrain, training_device
from tests import tiny

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def data(rows: int = 200) -> DataSet:
    """Two streams a minute apart, one row incomplete."""
    values = np.stack([tiny.wave(rows, seed=7), tiny.wave(rows, seed=8, level=10)], 1).reshape(-1, 2).astype(np.float64)
    values[7, 0] = np.nan
    times = tiny.START_NS + np.repeat(np.arange(rows), 2) * tiny.MINUTE_NS
    return DataSet(["a", "b"], np.tile([0, 1], rows), times, values)


def quick(directory: Path) -> Settings:
    model = {"directory": directory, "epochs": 1, "steps_per_epoch": 2, "batch_size": 16, "hidden": 4, "latent": 2}
    return tiny.settings(model=model)


def test_retraining_publishes_a_bundle_for_the_settings(tmp_path: Path) -> None:
    settings = quick(tmp_path)

    version = retrain(settings, data(), now=lambda: NOW)

    registry = Registry(tmp_path)
    detector, manifest = registry.load()
    assert registry.current() == version
    assert version.startswith("20260102T030405Z-")
    assert (detector.features, detector.streams, detector.interval_s) == (tiny.FEATURES, ("a", "b"), 60)
    assert manifest["fit"]["budget_per_stream_per_week"] == 1.0
    Pipeline(settings.pipeline_options(), detector, version)


def test_the_same_data_and_seed_give_the_same_bundle_and_other_data_another_fingerprint(tmp_path: Path) -> None:
    versions = [retrain(quick(tmp_path / name), data(), now=lambda: NOW) for name in "xy"]
    other = retrain(quick(tmp_path / "z"), data(199), now=lambda: NOW)

    fingerprints = [
        Registry(tmp_path / name).manifest(version)["data_fingerprint"]
        for name, version in zip("xyz", [*versions, other], strict=True)
    ]
    assert versions[0] == versions[1]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_retraining_can_leave_the_current_bundle(tmp_path: Path) -> None:
    retrain(quick(tmp_path), data(), promote=False, now=lambda: NOW)

    assert Registry(tmp_path).current() is None


def test_data_without_a_complete_row_cannot_train(tmp_path: Path) -> None:
    some = data(20)

    with pytest.raises(DataError, match="no row is complete"):
        retrain(quick(tmp_path), DataSet(some.names, some.stream, some.time_ns, some.values * np.nan))


def sessions(count: int, *, seed: int, faults: bool = False) -> DataSet:
    """A machine that runs for an hour and rests for a day; its level differs from session to session.

    With `faults`, six readings in the middle of each session are disturbed, and labelled.
    """
    level = 10.0 * np.random.default_rng(seed).integers(0, 2, count).repeat(60)
    values = tiny.wave(60 * count, seed=seed).astype(np.float64) + level[:, None]
    minute = np.arange(60 * count) % 60
    label = (minute >= 35) & (minute < 41) & faults
    values[label, 1] += 4
    times = tiny.START_NS + (np.arange(count).repeat(60) * 1440 + minute) * tiny.MINUTE_NS
    return DataSet(["a"], np.zeros(60 * count, np.int64), times, values, label)


def test_a_short_fault_is_caught_where_machines_run_in_sessions(tmp_path: Path) -> None:
    model = {"directory": tmp_path, "epochs": 12, "steps_per_epoch": 30, "hidden": 16, "latent": 4}
    settings = tiny.settings(
        model={**model, "batch_size": 48, "learning_rate": 1e-2},
        window={"max_gap_s": 600},
        alerting={"resolve_after": 5},
    )
    version = retrain(settings, sessions(40, seed=1))

    detector, _ = Registry(tmp_path).load(version)
    live = sessions(20, seed=2, faults=True)
    figures = backtest.summary(backtest.run(settings, detector, version, live), settings)

    # Windows that reach from one session into the next are no example of what is normal: with those among the
    # training windows none of the faults is caught.
    assert (figures["caught"], figures["false_incidents"]) == (20, 0)


def test_what_is_left_out_of_training_is_told_with_the_setting_that_helps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    some = data()
    some.values[9, 1] = np.inf
    some.time_ns[100] = some.time_ns[98]
    short = DataSet(
        ["a", "b", "c"],
        np.array([2] * 5),
        tiny.START_NS + np.arange(5) * tiny.MINUTE_NS,
        tiny.wave(5).astype(np.float64),
    )
    with caplog.at_level("INFO"):
        retrain(quick(tmp_path), [some, short])

    assert [record.getMessage() for record in caplog.records if "left out" in record.getMessage()] == [
        "2 of 405 rows are left out of training: 1 with a feature missing, 1 with a value that is infinite or too "
        "large for a 32-bit float; the daemon rejects records like these: set records.missing: fill to have missing "
        "values filled in",
        "1 row is left out of training: the stream has an earlier reading with the same time, and the first counts",
    ]
    assert "training on 402 readings of 3 streams, one every 60 s" in caplog.text
    assert "too short to train on: 1 stream ('c');" in caplog.text


def test_files_read_in_pieces_give_the_bundle_that_readings_in_memory_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = data()
    frame = pd.DataFrame(some.values, columns=list(tiny.FEATURES))
    frame.insert(0, "timestamp", pd.to_datetime(some.time_ns, utc=True))
    frame.insert(0, "stream", np.array(some.names)[some.stream])
    # In two files of which the later is given first.
    frame = frame.sort_values("timestamp", kind="stable")
    frame[200:].to_parquet(tmp_path / "late.parquet")
    frame[:200].to_csv(tmp_path / "early.csv", index=False)
    monkeypatch.setattr(reading, "_AT_ONCE", 60)
    monkeypatch.setattr(training_store, "_AT_ONCE", 70)

    from_memory = retrain(quick(tmp_path / "x"), some, now=lambda: NOW)
    from_files = retrain(
        quick(tmp_path / "y"),
        datafiles.pieces([tmp_path / "late.parquet", tmp_path / "early.csv"], tiny.settings().records),
        now=lambda: NOW,
    )

    assert from_files == from_memory  # its end is a digest of all weights and tables


@pytest.mark.parametrize("rows", [200, 12])
def test_nothing_but_bundles_is_left_in_the_directory_whether_training_worked_or_not(tmp_path: Path, rows: int) -> None:
    settings = quick(tmp_path / "bundles")

    with contextlib.suppress(TrainingError):
        retrain(settings, data(rows))

    registry = Registry(tmp_path / "bundles")
    left = {path.name for path in (tmp_path / "bundles").iterdir()}
    assert left == ({registry.current(), "current", "promotions"} if rows == 200 else set())


def test_readings_are_kept_where_the_settings_say(tmp_path: Path) -> None:
    model = {**quick(tmp_path).model.model_dump(), "spool_directory": tmp_path / "nowhere" / "file"}
    (tmp_path / "nowhere").write_text("")

    with pytest.raises(DataError, match="nowhere/file: training keeps its readings in a file there"):
        retrain(tiny.settings(model=model), data())


@pytest.mark.parametrize(
    ("wanted", "gpus", "local", "expected"),
    [
        ("auto", 0, 0, "cpu"),
        ("auto", 2, 1, "cuda:1"),
        ("cpu", 2, 0, "cpu"),
        ("cuda", 1, 0, "cuda:0"),
        ("cuda", 0, 0, "wanted a CUDA device for process 1 of this machine; torch sees 0"),
        ("auto", 1, 1, "wanted a CUDA device for process 2 of this machine; torch sees 1: start fewer processes"),
    ],
)
def test_the_device_is_a_gpu_of_ones_own_or_the_processor(
    monkeypatch: pytest.MonkeyPatch, wanted: str, gpus: int, local: int, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(Ranks, "gather", lambda self, text: [text] * self.size)

    try:
        found = training_device(wanted, Ranks(local, max(1, gpus), local))
    except ConfigError as error:
        found = str(error)

    assert expected in found


def test_processes_with_and_without_a_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranks, "gather", lambda self, text: [text, "cuda:0"])

    with pytest.raises(ConfigError, match="one kind of device for all processes; auto found CUDA for some"):
        training_device("cpu", Ranks(0, 2))


def torchrun(settings: Path, *data_files: Path) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launch, "-m", "streamer", "retrain", "--config", settings, "--data", *data_files],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=150,
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A settings file, and beside it `history.csv`."""
    settings = tmp_path / "streamer.yaml"
    settings.write_text(
        "records: {features: [heat, current]}\nwindow: {length: 16, patch: 4}\nmodel: {epochs: 2, hidden: 4, latent: 2}"
    )
    frame = pd.DataFrame(tiny.wave(300), columns=list(tiny.FEATURES))
    frame.insert(0, "timestamp", pd.date_range("2024-01-01", periods=300, freq="min"))
    frame.to_csv(tmp_path / "history.csv", index=False)
    return settings


def test_the_command_gives_the_same_bundle_twice_and_two_processes_one_as_good(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "configure", lambda config: None)  # it would outlive this test
    command = ["retrain", "--config", str(site), "--data", str(site.parent / "history.csv")]
    codes = [cli.main(command), cli.main(command)]
    one, again = capsys.readouterr().out.split()

    ended = torchrun(site, site.parent / "history.csv")

    assert (codes, ended.returncode) == ([0, 0], 0), ended.stderr
    assert one.split("-")[1] == again.split("-")[1]  # a digest of all weights and tables
    registry = Registry(site.parent / "bundles")
    assert ended.stdout.split() == [registry.current()]  # one process speaks
    losses = [registry.manifest(version)["fit"]["held_out_loss"] for version in (one, ended.stdout.strip())]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert ended.stderr.count("training on 300 readings of 1 stream, one every 60 s, 2 processes") == 1
    assert ended.stderr.count("bundle ") == 1


def test_what_fails_in_one_process_ends_all_with_its_message(site: Path) -> None:
    ended = torchrun(site, site.parent / "gone.csv")

    assert ended.returncode != 0
    assert ended.stderr.count("streamer: ") - ended.stderr.count("has lost another") == 1
    assert "streamer: " + str(site.parent / "gone.csv") + ": wanted a readable CSV or Parquet file" in ended.stderr
    assert ended.stdout == ""
