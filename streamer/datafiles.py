"""CSV and Parquet files as readings, for the offline commands.

Not inside: anything about Kafka, and what the readings are used for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streamer.config import RecordsConfig
from streamer.errors import DataError
from streamer.records import STREAM_NAME, Readings


@dataclass(frozen=True, slots=True)
class DataSet:
    """Readings of some files as columns of equal length, in the order they would be sent."""

    names: list[str]  # stream names
    stream: NDArray[np.int64]  # (n,) index into `names`
    time_ns: NDArray[np.int64]  # (n,)
    values: NDArray[np.float64]  # (n, features); NaN where a file has none
    label: NDArray[np.bool_] | None = None  # (n,) true inside a known anomaly; None: not asked for

    def __len__(self) -> int:
        return len(self.stream)

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Rows in which every feature is a finite number, as the daemon would take it: a 32-bit float."""
        with np.errstate(over="ignore"):
            return np.asarray(np.isfinite(self.values.astype(np.float32)).all(axis=1), np.bool_)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64] | slice) -> DataSet:
        label = None if self.label is None else self.label[rows]
        return DataSet(self.names, self.stream[rows], self.time_ns[rows], self.values[rows], label)

    def batches(self, size: int) -> Iterator[Readings]:
        """Readings in batches; offsets count rows, the partition is 0."""
        for i in range(0, len(self), size):
            some = slice(i, i + size)
            n = len(self.stream[some])
            yield Readings(
                self.stream[some],
                self.time_ns[some],
                self.values[some].astype(np.float32),
                np.zeros(n, np.int64),
                np.arange(i, i + n),
            )

    def by_stream(self) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Times and values of each stream, in time order."""
        order = np.lexsort((self.time_ns, self.stream))
        cuts = np.flatnonzero(np.diff(self.stream[order])) + 1
        parts = [part for part in np.split(order, cuts) if len(part)]
        return {
            self.names[self.stream[part[0]]]: (self.time_ns[part], self.values[part].astype(np.float32))
            for part in parts
        }


def load(
    paths: Sequence[Path], records: RecordsConfig, where: Sequence[str] = (), labels: str | None = None
) -> DataSet:
    """Read files whose columns are named as the fields of `records`.

    Args:
        paths: `.parquet`, or CSV separated by `,` or `;`. A file without a stream
            column is one stream, named as the file.
        records: Names of columns and the unit of numeric times.
        where: Conditions `COLUMN=VALUE`; only rows that meet all are kept.
        labels: Column that is 1 inside a known anomaly, else 0.

    Returns:
        One file in its own order; several merged by time.

    Raises:
        DataError: Says which file, what was wanted and what came.
    """
    if labels is not None and labels in (records.timestamp, records.stream, *records.features):
        raise DataError(
            f"--labels: wanted a column of its own; {labels!r} is in records of the configuration: a model that is "
            "given the answer proves nothing"
        )
    names: dict[str, int] = {}
    parts = [_load(path, records, where, names, labels) for path in paths]
    whole = DataSet(
        list(names),
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        np.concatenate([part[2] for part in parts]),
        None if labels is None else np.concatenate([part[3] for part in parts]),
    )
    if not len(whole):
        raise DataError(f"wanted at least one row; {', '.join(map(str, paths))} give none where {list(where) or 'all'}")
    if len(paths) > 1:
        order = np.argsort(whole.time_ns, kind="stable")
        whole = whole.select(order)
    return whole


def interval_s(times: Sequence[NDArray[np.int64]]) -> float:
    """Usual seconds between readings: the median over streams of each one's median step."""
    steps = [float(np.median(np.diff(t))) for t in times if len(t) > 1]
    usual = float(np.median(steps)) / 1e9 if steps else 0.0
    if usual <= 0:
        raise DataError("wanted readings at different times; every stream has a single one")
    return usual


def _load(
    path: Path, records: RecordsConfig, where: Sequence[str], names: dict[str, int], labels: str | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    frame = _read(path)
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals or column not in frame.columns:
            raise DataError(f"--where: wanted COLUMN=VALUE with a column of {path}; got {condition!r}")
        frame = frame[frame[column].astype(str) == value]
    missing = [name for name in (records.timestamp, *records.features) if name not in frame.columns]
    if missing:
        raise DataError(f"{path}: wanted columns {missing}; it has {list(frame.columns)}")
    try:
        values = frame[list(records.features)].to_numpy(np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: wanted numbers in {list(records.features)}; {error}") from None
    if records.stream in frame.columns:
        streams = frame[records.stream].astype(str)
    else:
        streams = pd.Series([path.stem] * len(frame))
    kinds = pd.factorize(streams)
    for name in kinds[1]:
        if not STREAM_NAME.fullmatch(str(name)):
            raise DataError(f"{path}: a stream name is 1 to 128 of A-Z a-z 0-9 . _ : / @ + -; got {name!r}")
    codes = np.array([names.setdefault(str(name), len(names)) for name in kinds[1]], np.int64)
    return (
        codes[kinds[0]] if len(frame) else np.empty(0, np.int64),
        _times(path, frame[records.timestamp], records),
        values,
        np.empty(0, np.bool_) if labels is None else _labels(path, frame, labels),
    )


def _labels(path: Path, frame: pd.DataFrame, name: str) -> NDArray[np.bool_]:
    if name not in frame.columns:
        raise DataError(f"{path}: --labels: wanted a column {name!r}; it has {list(frame.columns)}")
    column = frame[name]
    odd = column[~column.isin([0, 1])].tolist()
    if odd:
        raise DataError(
            f"{path}: --labels: wanted 0 or 1 in every row of {name!r}; {len(odd)} have others, such as {odd[0]!r}"
        )
    return column.to_numpy(np.bool_)


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix in (".parquet", ".pq"):
            return pd.read_parquet(path)
        with path.open(encoding="utf-8") as file:
            header = file.readline()
        return pd.read_csv(path, sep=";" if header.count(";") > header.count(",") else ",")
    except OSError as error:
        raise DataError(f"{path}: wanted a readable CSV or Parquet file; {error.strerror or error}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: wanted CSV or Parquet; {error}") from None


def _times(path: Path, column: pd.Series, records: RecordsConfig) -> NDArray[np.int64]:
    """Event times in ns since 1970 UTC; times without a zone are UTC."""
    try:
        if pd.api.types.is_numeric_dtype(column):
            unit = "s" if records.timestamp_unit == "iso8601" else records.timestamp_unit
            stamps = pd.to_datetime(column, unit=unit, utc=True)
        elif pd.api.types.is_datetime64_any_dtype(column):
            stamps = pd.to_datetime(column, utc=True)
        else:
            stamps = pd.to_datetime(column, format="ISO8601", utc=True)
        if stamps.isna().any():
            missing = int(stamps.isna().sum())
            raise DataError(f"{path}: wanted a time in every row of {column.name!r}; {missing} have none")
        return np.asarray(stamps.dt.as_unit("ns").astype(np.int64), np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{path}: wanted times in {column.name!r}; {error}") from None
