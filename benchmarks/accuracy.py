"""Scores labelled series with the daemon's pipeline, to be evaluated by any metric.

    python -m benchmarks.accuracy --data FOLDER --out DIR [--seeds 0,1,2] [--sets asd,smd] [--jobs 1]

FOLDER/<set>/<series>.parquet has `timestamp`, a column for each feature, `label` (1 inside an anomaly) and `split`
(`train` or `test`). For every series a bundle is trained on its train rows and all its rows are run through the
daemon's pipeline. The configuration is the product's default, or that of --config, and the same for every series; only
the names of the features differ. Output:

    DIR/seed-<seed>/<set>/<series>.csv   timestamp,score: one row per row of the file, empty where no window was scored
    DIR/seed-<seed>/runs.csv             set,series,rows,train_rows,train_s,score_s,windows_per_s

Existing files are kept, so an interrupted run can be resumed. Labels serve only to select the series: those with
labelled and unlabelled test rows. Not inside: metrics, speed (`python -m benchmarks`).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.errors import ModelError
from models.store.registry import Registry
from streamer import config
from streamer.config import RecordsConfig, Settings
from streamer.connectors import files as datafiles
from streamer.errors import ConfigError, DataError, StreamerError
from streamer.observability import logs
from streamer.offline import backtest
from streamer.offline.progress import progress
from streamer.offline.retrain import retrain

TIMESTAMP, LABEL, SPLIT = "timestamp", "label", "split"
RUNS = ["set", "series", "rows", "train_rows", "train_s", "score_s", "windows_per_s"]


@dataclass(frozen=True, slots=True)
class Series:
    """One file that can be evaluated."""

    path: Path
    features: tuple[str, ...]
    rows: int
    train_rows: int

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"


@dataclass(frozen=True, slots=True)
class Run:
    """Result of one series."""

    score: NDArray[np.float32]  # (rows,) in the file's order; NaN where no window was scored
    train_s: float
    score_s: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Score everything that is missing; returns an exit code."""
    options = _parser().parse_args(arguments)
    logs.configure(config.LogConfig())
    try:
        base = config.load(options.config, {"STREAMER_RECORDS__FEATURES": "named by each file"})
        return score_all(options.data, options.out, options.seeds, options.sets, options.jobs, base)
    except StreamerError as error:
        print(f"benchmarks.accuracy: {error}", file=sys.stderr)
        return 78 if isinstance(error, ConfigError) else 65


def score_all(
    data: Path, out: Path, seeds: Sequence[int], sets: Sequence[str] | None, jobs: int, base: Settings
) -> int:
    """Score every series that can be evaluated, once per seed.

    Args:
        data: Folder of sets.
        out: Where the scores go.
        seeds: Of the training.
        sets: Names of folders in `data`; None: all.
        jobs: Processes; each trains and scores one series at a time, on one thread.
        base: Settings; each series sets its features.

    Returns:
        0; 1 if a series could not be trained on (the others were written).

    Raises:
        DataError: A file or folder is invalid; nothing was done.
    """
    found, skipped = find(data, sets)
    for name, why in skipped:
        print(f"skipped {name}: {why}")
    todo = [(seed, one) for seed in seeds for one in found if not _target(out, seed, one).exists()]
    there = len(seeds) * len(found) - len(todo)
    print(f"{len(found)} series, seeds {list(seeds)}: {len(todo)} runs to do, {there} already there", flush=True)
    failed = []
    with progress("accuracy", len(todo)) as advance:
        for seed, one, run in _runs(todo, base, jobs):
            if isinstance(run, str):
                failed.append(f"failed {one.name}, seed {seed}: {run}")
            else:
                _write(out, seed, one, run)
            advance(1, f"seed {seed} {one.name}")
    for line in failed:
        print(line)
    print(f"written to {out}")
    return 1 if failed else 0


def find(data: Path, sets: Sequence[str] | None) -> tuple[list[Series], list[tuple[str, str]]]:
    """Series that can be evaluated, and the names of the others with the reason.

    Raises:
        DataError: No such folder or set, or an invalid file.
    """
    if not data.is_dir():
        raise DataError(f"--data: wanted a folder of sets, each a folder of Parquet files; {data} is none")
    there = sorted({path.parent.name for path in data.glob("*/*.parquet")})
    unknown = sorted(set(sets or ()) - set(there))
    if unknown or not there:
        raise DataError(f"--data, --sets: wanted sets with Parquet files; {data} has {there}, not {unknown or 'any'}")
    found, skipped = [], []
    for path in sorted(data.glob("*/*.parquet")):
        if sets is not None and path.parent.name not in sets:
            continue
        series, why = _look(path)
        if why:
            skipped.append((series.name, why))
        else:
            found.append(series)
    return found, skipped


def run_series(series: Series, seed: int, base: Settings) -> Run:
    """Train on the train rows, score all rows: the commands `retrain` and `backtest`, in a registry of their own.

    Raises:
        DataError: The file cannot be used.
        ModelError: There is too little in it to train on.
    """
    with tempfile.TemporaryDirectory() as scratch:
        settings = settings_for(series, seed, base, Path(scratch))
        train = datafiles.load([series.path], settings.records, [f"{SPLIT}=train"])
        began = time.perf_counter()
        version = retrain(settings, train)
        train_s = time.perf_counter() - began
        detector, _ = Registry(settings.model.directory).load(version)
        whole = datafiles.load([series.path], settings.records)
        began = time.perf_counter()
        result = backtest.run(settings, detector, version, whole)
        return Run(result.score, train_s, time.perf_counter() - began)


def settings_for(series: Series, seed: int, base: Settings, registry: Path) -> Settings:
    """The same for every series but for the names of its features.

    Raises:
        DataError: A column has a name that no feature can have.
    """
    # "@key": a file is one stream, also if one of its features is called "stream".
    fields = base.records.model_dump() | {"stream": "@key", "timestamp": TIMESTAMP, "features": series.features}
    try:
        records = RecordsConfig.model_validate(fields)
    except ValueError as error:
        raise DataError(f"{series.path}: wanted columns that can be features; {error}") from None
    model = base.model.model_copy(update={"seed": seed, "threads": 1, "directory": registry})
    return base.model_copy(update={"records": records, "model": model})


def _look(path: Path) -> tuple[Series, str | None]:
    """What a file holds, and why it cannot be evaluated, if so."""
    try:
        columns = pq.read_schema(path).names
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: wanted a Parquet file; {error}") from None
    features = tuple(name for name in columns if name not in (TIMESTAMP, LABEL, SPLIT) and not name.startswith("__"))
    missing = {TIMESTAMP, LABEL, SPLIT} - set(columns)
    if missing or not features:
        raise DataError(f"{path}: wanted columns timestamp, label, split and at least one feature; it has {columns}")
    table = pd.read_parquet(path, columns=[LABEL, SPLIT])
    train, test = table[SPLIT] == "train", table[SPLIT] == "test"
    if not (train | test).all() or not table[LABEL].isin([0, 1]).all():
        raise DataError(f"{path}: wanted train or test in every row of split, 0 or 1 in every row of label")
    series = Series(path, features, len(table), int(train.sum()))
    if not series.train_rows:
        return series, "no train rows"
    labelled = int(table.loc[test, LABEL].sum())
    if not 0 < labelled < int(test.sum()):
        return series, f"labels in {labelled} of {int(test.sum())} test rows leave nothing to evaluate"
    return series, None


def _runs(todo: Sequence[tuple[int, Series]], base: Settings, jobs: int) -> Iterator[tuple[int, Series, Run | str]]:
    """Seed, series and what came of it, as they are done."""
    if jobs == 1:  # here: another process would import everything once more
        _start_worker()
        for seed, series in todo:
            yield seed, series, _work(series, seed, base)
        return
    queue = iter(todo)
    # Spawned, not forked: torch has threads by now, and a fork would copy their locks.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker) as pool:
        running: dict[Future[Run | str], tuple[int, Series]] = {}
        try:
            while True:
                for seed, series in queue:
                    running[pool.submit(_work, series, seed, base)] = seed, series
                    if len(running) >= jobs:
                        break
                if not running:
                    return
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    yield *running.pop(done), done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start_worker() -> None:
    logs.configure(config.LogConfig(level="WARNING"))


def _work(series: Series, seed: int, base: Settings) -> Run | str:
    """`run_series` without progress bars of its own, or the error."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return run_series(series, seed, base)
    except (StreamerError, ModelError) as error:
        return str(error)


def _target(out: Path, seed: int, series: Series) -> Path:
    return out / f"seed-{seed}" / series.path.parent.name / f"{series.path.stem}.csv"


def _write(out: Path, seed: int, series: Series, run: Run) -> None:
    """The scores, all at once or not at all, and a line in runs.csv."""
    target = _target(out, seed, series)
    scored = int(np.isfinite(run.score).sum())
    figures = [run.train_s, run.score_s, scored / max(run.score_s, 1e-9)]
    line = [*series.name.split("/", 1), series.rows, series.train_rows, *(f"{figure:.4g}" for figure in figures)]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        table = pd.DataFrame({TIMESTAMP: pd.read_parquet(series.path, columns=[TIMESTAMP])[TIMESTAMP]})
        table["score"] = run.score
        table.to_csv(part, index=False, float_format="%.8g")
        runs = out / f"seed-{seed}" / "runs.csv"
        pd.DataFrame([line], columns=RUNS).to_csv(runs, mode="a", index=False, header=not runs.exists())
        part.replace(target)
    except OSError as error:
        raise DataError(f"--out: wanted a writable directory; {out}: {error.strerror}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="<set>/<series>.parquet")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the scores go")
    parser.add_argument("--seeds", type=_seeds, default=[0, 1, 2], help="of the training (default 0,1,2)")
    parser.add_argument("--sets", type=lambda text: text.split(","), help="only these (default: all)")
    parser.add_argument("--jobs", type=_jobs, default=1, metavar="N", help="processes (default 1)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings other than the defaults, for all series")
    return parser


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"wanted different whole numbers from 0, with commas; got {text}")
    return seeds


def _jobs(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 1 to 256; got {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
