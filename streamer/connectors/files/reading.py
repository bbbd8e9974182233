"""Pieces of tables as readings: which rows, which streams, what times.

Not inside: how a CSV or Parquet file becomes a table (`tables`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streamer.config import RecordsConfig
from streamer.connectors.files.data_set import DataSet, join
from streamer.connectors.files.tables import File, Wanted, files_of, tables
from streamer.core.stream_names import refusal, valid_stream_name
from streamer.errors import DataError
from streamer.formats.timestamps import NS_PER_UNIT, times_of_floats, times_of_integers, times_of_text

_AT_ONCE = 1 << 21  # values in one piece of a file

Done = Callable[[int], None]


def load(
    paths: Sequence[Path], records: RecordsConfig, where: Sequence[str] = (), labels: str | None = None
) -> DataSet:
    """Read files whose columns are named as the fields of `records`.

    Args:
        paths: `.parquet`, a folder of such files, or CSV separated by `,` or `;`. What has no
            stream column is one stream, named as the file or folder.
        records: Names of columns and the unit of numeric times.
        where: Conditions `COLUMN=VALUE`; only rows that meet all are kept.
        labels: Column with 1 inside a known anomaly and 0 elsewhere; no feature.

    Returns:
        One file in its own order; several, also those of a folder, merged by time.

    Raises:
        DataError: Says which file, what was wanted and what came.
    """
    if labels is not None and labels in (records.timestamp, records.stream_column, *records.features):
        raise DataError(
            f"--labels: wanted a column of its own; {labels!r} is in records of the configuration: a model that is "
            "given the answer proves nothing"
        )
    whole = join(pieces(paths, records, where, labels=labels))
    if sum(len(files_of(path)) for path in paths) > 1:
        whole = whole.select(np.argsort(whole.time_ns, kind="stable"))
    return whole


def pieces(
    paths: Sequence[Path],
    records: RecordsConfig,
    where: Sequence[str] = (),
    done: Done = lambda size: None,
    labels: str | None = None,
) -> Iterator[DataSet]:
    """The same readings as `load`, file after file and never more than a piece of one in memory.

    Args:
        done: Called with the bytes of file that each piece is about.
        labels: See `load`.
    """
    wanted = Wanted(records, [_condition(text) for text in where], labels)
    names: dict[str, int] = {}
    rows = 0
    for path in paths:
        for file, frame, size in _frames(path, wanted):
            if frame is not None:
                piece = _piece(file, frame, wanted, names)
                rows += len(piece)
                yield piece
            done(size)
    if not rows:
        raise DataError(f"wanted at least one row; {', '.join(map(str, paths))} give none where {list(where) or 'all'}")


def size_of(paths: Sequence[Path]) -> int:
    """Bytes of all files, for `pieces` to count down."""
    return sum(file.size for path in paths for file in files_of(path))


def _condition(text: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not equals:
        raise DataError(f"--where: wanted COLUMN=VALUE with a column of the data; got {text!r}")
    return column, value


def _frames(path: Path, wanted: Wanted) -> Iterator[tuple[File, pd.DataFrame | None, int]]:
    """Pieces of the files of a path, each with the bytes it took; no table where no row can be wanted."""
    rows = max(1, _AT_ONCE // len(wanted.records.features))
    try:
        files = files_of(path)
        if not files:
            raise DataError(f"{path}: wanted a readable CSV or Parquet file, or a folder of Parquet; it holds none")
        for file in files:
            if wanted.may_hold(file):
                for frame, size in tables(file, wanted, rows):
                    yield file, frame, size
            else:
                yield file, None, file.size
    except OSError as error:
        raise DataError(f"{path}: wanted a readable CSV or Parquet file; {error.strerror or error}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: wanted CSV or Parquet; {error}") from None


def _piece(file: File, frame: pd.DataFrame, wanted: Wanted, names: dict[str, int]) -> DataSet:
    """The rows that meet all conditions; `names` learns new streams."""
    records, path = wanted.records, file.path
    for column, value in wanted.where:
        frame = frame[frame[column].astype(str) == value]
    try:
        values = frame[list(records.features)].to_numpy(np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: wanted numbers in {list(records.features)}; {error}") from None
    if records.stream_column in frame.columns:
        streams = frame[records.stream_column]
        if streams.isna().any():
            missing = int(streams.isna().sum())
            raise DataError(f"{path}: wanted a stream in every row of {records.stream_column!r}; {missing} have none")
        streams = streams.astype(str)
    else:
        streams = pd.Series([file.given.stem] * len(frame))
    kinds = pd.factorize(streams)
    for name in kinds[1]:
        if name not in names and not valid_stream_name(str(name)):
            raise DataError(f"{path}: {refusal(str(name))}")
    codes = np.array([names.setdefault(str(name), len(names)) for name in kinds[1]], np.int64)
    return DataSet(
        list(names),
        codes[kinds[0]] if len(frame) else np.empty(0, np.int64),
        _times(path, frame[records.timestamp], records.timestamp_unit),
        values,
        None if wanted.labels is None else _labels(path, frame[wanted.labels]),
    )


def _labels(path: Path, column: pd.Series) -> NDArray[np.bool_]:
    # A column that rows are chosen by, too, is text as it stands in the file.
    column = column.replace({"0": 0, "0.0": 0, "False": 0, "1": 1, "1.0": 1, "True": 1})
    odd = column[~column.isin([0, 1])].tolist()
    if odd:
        raise DataError(
            f"{path}: --labels: wanted 0 or 1 in every row of {str(column.name)!r}; {len(odd)} have others, "
            f"such as {odd[0]!r}"
        )
    return column.to_numpy(np.bool_)


def _times(path: Path, column: pd.Series, unit: str) -> NDArray[np.int64]:
    """Event times in ns since 1970 UTC, those that the daemon reads from the same values in a record.

    Times without a zone are UTC. Numbers count seconds if `unit` is that of text.
    """
    if column.isna().any():
        missing = int(column.isna().sum())
        raise DataError(f"{path}: wanted a time in every row of {column.name!r}; {missing} have none")
    counted = "s" if unit == "iso8601" else unit
    form, advice = f"{counted} since 1970, a time", ": is records.timestamp_unit right?"
    if pd.api.types.is_integer_dtype(column):
        times, bad = times_of_integers(column.to_numpy(np.int64), counted)
    elif pd.api.types.is_float_dtype(column):
        times, bad = times_of_floats(column.to_numpy(np.float64), counted)
    elif pd.api.types.is_datetime64_any_dtype(column):
        times, bad = _times_of_stamps(column)
        if unit not in ("iso8601", "ns") and (times % 1000).any():
            # A record has them as floats of the unit.
            times, bad = times_of_floats(times / NS_PER_UNIT[unit], unit)
    else:
        times, bad = times_of_text(column.tolist())
        form, advice = "ISO 8601", ""
    if bad.any():
        wrong = str(column[bad].iloc[0])
        raise DataError(
            f"{path}: wanted times in {column.name!r}; {wrong!r} is not {form} between 1970 and 2200 "
            f"({int(bad.sum())} of {len(column)} rows){advice}"
        )
    return times


def _times_of_stamps(column: pd.Series) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Times of a column that holds times already."""
    stamps = pd.to_datetime(column, utc=True)
    outside = ((stamps.dt.year < 1970) | (stamps.dt.year >= 2200)).to_numpy(np.bool_)
    if outside.any():
        return np.zeros(len(column), np.int64), outside
    return np.asarray(stamps.dt.as_unit("ns").astype(np.int64), np.int64), outside
