"""The accuracy benchmark on two tiny series: what it writes, what it leaves out, what it says of odd files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import accuracy
from models.store.registry import Registry
from streamer import config
from streamer.connectors import files as datafiles
from streamer.offline import backtest, retrain
from tests import tiny

pytestmark = pytest.mark.usefixtures("keep_logging")

YAML = """\
records: {features: [put in by each file]}
window: {length: 16, patch: 4}
model: {epochs: 1, steps_per_epoch: 2, batch_size: 16, hidden: 4, latent: 2}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A configuration that trains in no time."""
    (tmp_path / "small.yaml").write_text(YAML)
    return tmp_path / "small.yaml"


def frame(rows: int = 200, *, seed: int = 0, train: int = 120) -> pd.DataFrame:
    table = pd.DataFrame(tiny.wave(rows, seed=seed), columns=["heat", "stream"]).astype("float64")
    table.insert(0, "timestamp", pd.date_range("2024-01-01", periods=rows, freq="min", tz="UTC"))
    table["label"] = (np.arange(rows) // 10 == 17).astype(np.int8)
    table["split"] = np.where(np.arange(rows) < train, "train", "test")
    return table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sets of one series each: one with a hole, a repeated time and a gap; one of other features."""
    (tmp_path / "data" / "pumps").mkdir(parents=True)
    (tmp_path / "data" / "fans").mkdir()
    odd = frame(seed=1)
    odd.loc[150, "heat"] = np.nan
    odd.loc[151, "heat"] = np.inf
    step = np.where(np.arange(200) == 160, 0, np.where(np.arange(200) == 180, 4321, 1))
    odd["timestamp"] = odd["timestamp"].iloc[0] + pd.to_timedelta(np.cumsum(step), unit="min")
    odd.to_parquet(tmp_path / "data" / "pumps" / "one.parquet")
    frame(seed=2).rename(columns={"stream": "current"}).to_parquet(tmp_path / "data" / "fans" / "two.parquet")
    return tmp_path / "data"


def run(data: Path, out: Path, small: Path, *more: str) -> int:
    return accuracy.main(["--data", str(data), "--out", str(out), "--config", str(small), *more])


def test_it_writes_a_row_of_scores_for_each_row_of_every_series(folder: Path, small: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path / "out", small, "--seeds", "3,4", "--jobs", "2") == 0

    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*"))
    assert written == [
        *("seed-3", "seed-3/fans", "seed-3/fans/two.csv", "seed-3/pumps", "seed-3/pumps/one.csv", "seed-3/runs.csv"),
        *("seed-4", "seed-4/fans", "seed-4/fans/two.csv", "seed-4/pumps", "seed-4/pumps/one.csv", "seed-4/runs.csv"),
    ]
    scores = pd.read_csv(tmp_path / "out" / "seed-3" / "pumps" / "one.csv")
    truth = pd.read_parquet(folder / "pumps" / "one.parquet")
    assert list(scores.columns) == ["timestamp", "score"]
    assert pd.to_datetime(scores["timestamp"], utc=True).tolist() == truth["timestamp"].tolist()
    unscored = np.flatnonzero(scores["score"].isna()).tolist()
    assert unscored == [*range(15), 150, 151, 160]  # warming up, not finite, a time that came twice
    other = pd.read_csv(tmp_path / "out" / "seed-4" / "pumps" / "one.csv")
    assert not np.allclose(scores["score"].dropna(), other["score"].dropna())
    runs = pd.read_csv(tmp_path / "out" / "seed-3" / "runs.csv").sort_values("set")
    assert list(runs.columns) == accuracy.RUNS
    assert runs[["set", "series", "rows", "train_rows"]].to_numpy().tolist() == [
        ["fans", "two", 200, 120],
        ["pumps", "one", 200, 120],
    ]
    assert (runs["windows_per_s"] > 0).all()


def test_the_scores_are_those_of_the_commands(folder: Path, small: Path, tmp_path: Path) -> None:
    (series,), _ = accuracy.find(folder, ["fans"])
    base = config.load(small, {})
    settings = base.model_copy(update={"model": base.model.model_copy(update={"directory": tmp_path / "bundles"})})
    settings = settings.model_copy(
        update={"records": base.records.model_copy(update={"features": ("heat", "current"), "stream": "@key"})}
    )

    scored = accuracy.run_series(series, 0, base).score

    version = retrain.retrain_from_files(settings, [series.path], ["split=train"])
    detector, _ = Registry(tmp_path / "bundles").load(version)
    data = datafiles.load([series.path], settings.records)
    assert np.array_equal(scored, backtest.run(settings, detector, version, data).score, equal_nan=True)


def test_a_file_that_is_there_is_not_made_again(
    folder: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "out" / "seed-0" / "fans" / "two.csv"
    kept.parent.mkdir(parents=True)
    kept.write_text("as it was")

    assert run(folder, tmp_path / "out", small, "--seeds", "0") == 0

    assert "1 runs to do, 1 already there" in capsys.readouterr().out
    assert kept.read_text() == "as it was"
    assert (tmp_path / "out" / "seed-0" / "pumps" / "one.csv").exists()


def test_series_without_labels_or_with_too_little_to_train_on_are_named_and_left_out(
    folder: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame().assign(label=0).to_parquet(folder / "fans" / "calm.parquet")
    frame(train=10).to_parquet(folder / "fans" / "young.parquet")

    code = run(folder, tmp_path / "out", small, "--seeds", "0", "--sets", "fans")

    said = capsys.readouterr().out
    assert code == 1
    assert "skipped fans/calm: labels in 0 of 80 test rows leave nothing to evaluate" in said
    assert "failed fans/young, seed 0: training needs a stream of at least 19 readings" in said
    assert [path.stem for path in (tmp_path / "out" / "seed-0" / "fans").iterdir()] == ["two"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="split"), "wanted columns timestamp, label, split and at least one feature"),
        (lambda t: t[["timestamp", "label", "split"]], "at least one feature"),
        (lambda t: t.assign(label=2), "0 or 1 in every row of label"),
        (lambda t: t.assign(split="validation"), "wanted train or test in every row of split"),
    ],
)
def test_an_odd_file_is_told_before_anything_is_trained(
    folder: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: object, words: str
) -> None:
    assert callable(change)
    change(frame()).to_parquet(folder / "pumps" / "zzz.parquet")

    assert run(folder, tmp_path / "out", small) == 65

    said = capsys.readouterr().err
    assert words in said
    assert "zzz.parquet" in said
    assert not (tmp_path / "out").exists()


def test_no_folder_no_set_no_parquet_are_said_plainly(
    folder: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "nowhere", tmp_path / "out", small) == 65
    assert "--data: wanted a folder of sets" in capsys.readouterr().err

    assert run(folder, tmp_path / "out", small, "--sets", "fans,cows") == 65
    assert "['fans', 'pumps'], not ['cows']" in capsys.readouterr().err

    (folder / "fans" / "torn.parquet").write_bytes(b"PAR1")
    assert run(folder, tmp_path / "out", small) == 65
    assert "torn.parquet: wanted a Parquet file" in capsys.readouterr().err
