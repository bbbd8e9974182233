"""Data files as readings: which rows, which streams, what times and numbers.

Not inside: how a file becomes tables (`csv_tables`, `json_tables`, `parquet_tables`), what a column means (`columns`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streamer.config import FilesConfig, RecordsConfig
from streamer.connectors.files import csv_tables, json_tables, parquet_tables
from streamer.connectors.files.columns import Columns, joined
from streamer.connectors.files.data_set import DataSet, join, newest_sent
from streamer.connectors.files.one_stream import Watch, columns_that_take_turns, likely_columns, overlap
from streamer.connectors.files.paths import CSV, PARQUET, File, files_of
from streamer.connectors.files.wanted import Wanted, did_you_mean
from streamer.errors import DataError

log = logging.getLogger(__name__)

_AT_ONCE = 1 << 21  # values in one piece of a file
_SAMPLE = 20_000  # rows looked at for the column that names the stream

Done = Callable[[int], None]


def load(
    paths: Sequence[Path],
    records: RecordsConfig,
    where: Sequence[str] = (),
    labels: str | None = None,
    *,
    files: FilesConfig | None = None,
    exact: bool = False,
    as_sent: bool = False,
) -> DataSet:
    """Read files whose columns or fields are named as in `records`.

    Args:
        paths: CSV, Parquet, JSON lines, JSON, compressed or not, or folders of these. What has no stream column is
            one stream, named as the file or folder.
        records: Names of columns and the unit of numeric times.
        where: Conditions `COLUMN=VALUE`; only rows that meet all are kept.
        labels: Column with 1 inside a known anomaly and 0 elsewhere; no feature.
        files: What is to be known of the files that cannot be found in them.
        exact: Floats of 32 bits are the decimal numbers that they were made of: 13.94, not 13.9399995803833.
        as_sent: Exact, and zeros stay where they mean absent.

    Returns:
        One file in its own order, which is the order of arrival; several, also those of a folder, merged by the newest
        time that each had sent: what is late in its file stays late.

    Raises:
        DataError: Says which file and row, what was wanted and what came.
    """
    taken = (records.timestamp, *records.stream, records.metric, records.sequence)
    if labels is not None and labels in (*taken, *([records.value] if records.metric else records.features)):
        raise DataError(
            f"--labels: wanted a column of its own; {labels!r} is in records of the configuration: a model that is "
            "given the answer proves nothing"
        )
    wanted = _wanted(records, where, labels, files, exact, as_sent)
    by_file: dict[int, list[DataSet]] = {}
    for number, piece in _numbered(paths, wanted, lambda size: None):
        by_file.setdefault(number, []).append(piece)
    whole = join(chain.from_iterable(by_file.values()))
    if len(by_file) > 1:
        sent = []
        for parts in by_file.values():
            one = join(parts)
            sent.append(newest_sent(one.stream, one.time_ns))
        whole = whole.select(np.argsort(np.concatenate(sent), kind="stable"))
    return whole


def pieces(
    paths: Sequence[Path],
    records: RecordsConfig,
    where: Sequence[str] = (),
    done: Done = lambda size: None,
    labels: str | None = None,
    *,
    files: FilesConfig | None = None,
    exact: bool = False,
    as_sent: bool = False,
) -> Iterator[DataSet]:
    """The same readings as `load`, file after file and never more than a piece of one in memory.

    Args:
        done: Called with the bytes of file that each piece is about.
        labels: See `load`, as for the others.
    """
    wanted = _wanted(records, where, labels, files, exact, as_sent)
    return (dataclasses.replace(piece, file=number) for number, piece in _numbered(paths, wanted, done))


def size_of(paths: Sequence[Path]) -> int:
    """Bytes of all files, for `pieces` to count down."""
    return sum(file.size for path in paths for file in files_of(path))


def _wanted(
    records: RecordsConfig,
    where: Sequence[str],
    labels: str | None,
    files: FilesConfig | None,
    exact: bool,
    as_sent: bool,
) -> Wanted:
    conditions = [_condition(text) for text in where]
    return Wanted(records, files or FilesConfig(), conditions, labels, exact or as_sent, as_sent)


def _condition(text: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not equals:
        raise DataError(f"--where: wanted COLUMN=VALUE with a column of the data; got {text!r}")
    return column, value


def _numbered(paths: Sequence[Path], wanted: Wanted, done: Done) -> Iterator[tuple[int, DataSet]]:
    """Pieces of all files, each with the number of its file."""
    names: dict[str, int] = {}
    metrics: dict[str, int] = {}
    rows = number = 0
    for path in paths:
        watches: list[Watch] = []
        for file in _files(path):
            watch = Watch(repeats_are_data=wanted.records.sequence is not None)
            columns = Columns(file, wanted, names, metrics, lambda first=file: _times(first, paths, wanted))  # type: ignore[misc]
            for frame, size in _tables(file, wanted):
                if frame is not None:
                    piece = columns.read(frame)
                    rows += len(piece)
                    if columns.one_stream and not wanted.files.one_stream:
                        watch.look(piece.time_ns, _metric(piece.values, wanted))
                    yield number, piece
                done(size)
            if watch.rows and (not watches or watch.mixed(by_a_column=True)):
                _refuse_mixture(file, wanted, watch, columns)
            watches.append(watch)
            number += 1
        if len(watches) > 1 and overlap(watches):
            raise DataError(
                f"{path}: wanted a folder of which no two files have the same times, as it has no column "
                f"{list(wanted.records.stream)} and would be one stream {_files(path)[0].name!r}; name the column in "
                "records.stream, or give the files one by one (--data FOLDER/*) for a stream each, or, if it is one "
                "stream, set files.one_stream: true"
            )
    _say_metrics(metrics, wanted)
    if not rows:
        conditions = [f"{column}={value}" for column, value in wanted.where]
        raise DataError(f"wanted at least one row; {', '.join(map(str, paths))} give none where {conditions or 'all'}")


def _files(path: Path) -> list[File]:
    try:
        files = files_of(path)
    except OSError as error:
        raise DataError(f"{path}: {_READABLE}; {error.strerror or error}") from None
    if not files:
        raise DataError(f"{path}: {_READABLE}; it holds none")
    return files


_READABLE = "wanted a readable CSV or Parquet file, JSON lines or JSON, or a folder of such"


def _tables(file: File, wanted: Wanted, rows: int | None = None) -> Iterator[tuple[pd.DataFrame | None, int]]:
    """Pieces of a file, each with the bytes it took; no table where no row can be wanted."""
    rows = rows or max(1, _AT_ONCE // len(wanted.records.features))
    kind = "CSV or Parquet"
    try:
        if not wanted.may_hold(file):
            yield None, file.size
            return
        found = file.kind()
        module = {CSV: csv_tables, PARQUET: parquet_tables}.get(found, json_tables)
        kind = found if module is json_tables else kind
        yield from module.tables(file, wanted, rows)
    except OSError as error:
        raise DataError(f"{file.given}: {_READABLE}; {error.strerror or error}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{file.path}: wanted {kind}; {error}") from None


def _times(first: File, paths: Sequence[Path], wanted: Wanted) -> Iterator[pd.Series]:
    """The column of times of a file, then of all others, in pieces."""
    others = [file for path in paths for file in _files(path) if file.path != first.path]
    for file in (first, *others):
        for frame, _ in _tables(file, wanted):
            if frame is not None:
                yield joined(frame, wanted.time(list(frame.columns)))


def _metric(values: NDArray[np.float64], wanted: Wanted) -> NDArray[np.int64] | None:
    """Which feature each row has, where rows have one each."""
    return None if wanted.records.metric is None else np.argmax(~np.isnan(values), axis=1)


def _refuse_mixture(file: File, wanted: Wanted, watch: Watch, columns: Columns) -> None:
    """Raises a `DataError` for a file that would be one stream, and holds several."""
    suspect = watch.mixed(by_a_column=True)
    names = list(wanted.records.stream)
    frame, times = _head(file, wanted, columns)
    likely = likely_columns(frame, times, wanted.names) if suspect else []
    turns = [] if likely else columns_that_take_turns(frame, times, wanted.names, names)
    seen, advice = watch.seen, "name the column of its streams in records.stream"
    if likely:
        advice = (
            f"set records.stream: {_named(likely)}, of which the times of each of {likely[0][1]} values move forward"
        )
    elif turns:
        seen = f"the {turns[0][1]} values of {turns[0][0]!r} take turns"
        advice = f"set records.stream: {_named(turns)}"
    elif not watch.mixed(by_a_column=False):
        return
    numbers = "; if equal times are told apart by a sequence number, name it in records.sequence" * bool(watch.repeated)
    raise DataError(
        f"{file.path}: wanted the column of records.stream, {'/'.join(names)!r}, or times of one stream; without it "
        f"the file would be one stream {file.name!r}, and {seen}; {advice}{numbers}; if it is one stream all the same, "
        "set files.one_stream: true"
    )


def _named(columns: Sequence[tuple[str, int]]) -> str:
    """The first of some columns, and the others."""
    others = ", ".join(repr(name) for name, _ in columns[1:4])
    return columns[0][0] + (f" (or {others})" if others else "")


def _head(file: File, wanted: Wanted, columns: Columns) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """The first rows of a file with all their columns, and their times."""
    whole = Wanted(wanted.records, wanted.files, wanted.where, wanted.labels, everything=True)
    for frame, _ in _tables(file, whole, _SAMPLE):
        if frame is not None:
            kept = columns.kept(frame)
            return kept, columns.times(kept)
    return pd.DataFrame(), np.empty(0, np.int64)


def _say_metrics(metrics: dict[str, int], wanted: Wanted) -> None:
    """Say which metrics were met that no feature is, and refuse what looks like a slip of the pen."""
    if wanted.records.metric is None or not metrics:
        return
    features = wanted.records.features
    others = {name: rows for name, rows in metrics.items() if name not in features}
    missing = [name for name in features if name not in metrics]
    hint = did_you_mean(missing, list(others))
    if missing and (hint or len(missing) == len(features)):
        raise DataError(
            f"records.features: wanted metrics that occur in {wanted.records.metric!r}; {missing} do not, "
            f"{list(others)[:20]} do{hint}"
        )
    if others:
        most = sorted(others, key=lambda name: -others[name])[:5]
        log.info(
            "rows of metrics that are not in records.features are left out: %d rows, most of %s",
            sum(others.values()),
            ", ".join(f"{name} ({others[name]})" for name in most),
        )
