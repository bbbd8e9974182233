"""CSV and Parquet files as readings, for the offline commands: piece by piece, or whole.

Not inside: anything about Kafka, and what the readings are used for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from streamer.config import RecordsConfig
from streamer.core.readings import Readings, admissible
from streamer.core.stream_names import refusal, valid_stream_name
from streamer.errors import DataError

_AT_ONCE = 1 << 21  # values in one piece of a file

Done = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class DataSet:
    """Readings of some files as columns of equal length, in the order they would be sent."""

    names: list[str]  # stream names; of a piece, those met so far
    stream: NDArray[np.int64]  # (n,) index into `names`
    time_ns: NDArray[np.int64]  # (n,)
    values: NDArray[np.float64]  # (n, features); NaN where a file has none
    label: NDArray[np.bool_] | None = None  # (n,) what is known to be an anomaly, for a backtest

    def __len__(self) -> int:
        return len(self.stream)

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Rows in which every feature is a finite number, as the daemon would take it: a 32-bit float."""
        with np.errstate(over="ignore"):
            return np.asarray(np.isfinite(self.values.astype(np.float32)).all(axis=1), np.bool_)

    def admitted(self, records: RecordsConfig) -> NDArray[np.bool_]:
        """Rows the daemon would take: complete ones, with `records.missing: fill` also those with something in them."""
        if records.missing == "refuse":
            return self.complete
        with np.errstate(over="ignore"):
            return admissible(self.values.astype(np.float32))

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
        labels: Column with 1 inside a known anomaly and 0 elsewhere; no feature.

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
    whole = join(pieces(paths, records, where, labels=labels))
    if len(paths) > 1:
        whole = whole.select(np.argsort(whole.time_ns, kind="stable"))
    return whole


def join(parts: Iterable[DataSet]) -> DataSet:
    """Pieces as one data set, in the order they come; there is at least one."""
    found = list(parts)
    return DataSet(
        found[-1].names,
        np.concatenate([part.stream for part in found]),
        np.concatenate([part.time_ns for part in found]),
        np.concatenate([part.values for part in found]),
        None if found[0].label is None else np.concatenate([part.label for part in found if part.label is not None]),
    )


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
    names: dict[str, int] = {}
    rows = 0
    for path in paths:
        for frame, size in _frames(path, records, where, labels):
            piece = _piece(path, frame, records, where, names, labels)
            rows += len(piece)
            yield piece
            done(size)
    if not rows:
        raise DataError(f"wanted at least one row; {', '.join(map(str, paths))} give none where {list(where) or 'all'}")


def size_of(paths: Sequence[Path]) -> int:
    """Bytes of all files, for `pieces` to count down."""
    return sum(part.stat().st_size for path in paths for part in _parts(path) if part.is_file())


def _piece(
    path: Path,
    frame: pd.DataFrame,
    records: RecordsConfig,
    where: Sequence[str],
    names: dict[str, int],
    labels: str | None,
) -> DataSet:
    """The rows that meet `where`; `names` learns new streams."""
    for condition in where:
        column, _, value = condition.partition("=")
        frame = frame[frame[column].astype(str) == value]
    try:
        values = frame[list(records.features)].to_numpy(np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: wanted numbers in {list(records.features)}; {error}") from None
    if records.stream in frame.columns:
        streams = frame[records.stream]
        if streams.isna().any():
            missing = int(streams.isna().sum())
            raise DataError(f"{path}: wanted a stream in every row of {records.stream!r}; {missing} have none")
        streams = streams.astype(str)
    else:
        streams = pd.Series([path.stem] * len(frame))
    kinds = pd.factorize(streams)
    for name in kinds[1]:
        if name not in names and not valid_stream_name(str(name)):
            raise DataError(f"{path}: {refusal(str(name))}")
    codes = np.array([names.setdefault(str(name), len(names)) for name in kinds[1]], np.int64)
    return DataSet(
        list(names),
        codes[kinds[0]] if len(frame) else np.empty(0, np.int64),
        _times(path, frame[records.timestamp], records),
        values,
        None if labels is None else _labels(path, frame[labels]),
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


def _frames(
    path: Path, records: RecordsConfig, where: Sequence[str], labels: str | None
) -> Iterator[tuple[pd.DataFrame, int]]:
    """Pieces of one file, the columns wanted alone, each with the bytes it took."""
    rows = max(1, _AT_ONCE // len(records.features))
    try:
        for part in _parts(path):
            frames = _parquet if path.suffix in (".parquet", ".pq") else _csv
            yield from frames(part, path, records, where, labels, rows)
    except OSError as error:
        raise DataError(f"{path}: wanted a readable CSV or Parquet file; {error.strerror or error}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: wanted CSV or Parquet; {error}") from None


def _parts(path: Path) -> list[Path]:
    """A file, or the files of a folder of Parquet."""
    if path.suffix in (".parquet", ".pq") and path.is_dir():
        return [part for part in sorted(path.rglob("*")) if part.suffix in (".parquet", ".pq") and part.is_file()]
    return [path]


def _wanted(
    path: Path, columns: Sequence[str], records: RecordsConfig, where: Sequence[str], labels: str | None
) -> list[str]:
    """Columns to read of those a file has."""
    chosen = []
    for condition in where:
        column, equals, _ = condition.partition("=")
        if not equals or column not in columns:
            raise DataError(f"--where: wanted COLUMN=VALUE with a column of {path}; got {condition!r}")
        chosen.append(column)
    needed = (records.timestamp, *records.features)
    if missing := [name for name in needed if name not in columns]:
        raise DataError(f"{path}: wanted columns {missing}; it has {list(columns)}")
    if labels is not None and labels not in columns:
        raise DataError(f"{path}: --labels: wanted a column {labels!r}; it has {list(columns)}")
    stream = [records.stream] if records.stream in columns else []
    return list(dict.fromkeys([*needed, *stream, *chosen, *([] if labels is None else [labels])]))


def _as_text(records: RecordsConfig, where: Sequence[str]) -> set[str]:
    """Columns that are compared as text, whatever they hold."""
    return {records.stream, *(condition.partition("=")[0] for condition in where)} - {records.timestamp}


def _parquet(
    part: Path, path: Path, records: RecordsConfig, where: Sequence[str], labels: str | None, rows: int
) -> Iterator[tuple[pd.DataFrame, int]]:
    # A folder may hold a column in its names: stream=pump-1/part-0.parquet.
    folders = part.relative_to(path).parts[:-1]
    keys: Mapping[str, str] = dict(name.split("=", 1) for name in folders if "=" in name)
    with pyarrow.parquet.ParquetFile(part, memory_map=True, pre_buffer=False) as file:
        columns = [*file.schema_arrow.names, *keys]
        wanted = _wanted(part, columns, records, where, labels)
        as_text = _as_text(records, where)
        bytes_a_row = part.stat().st_size / max(1, file.metadata.num_rows)
        for batch in file.iter_batches(rows, columns=[name for name in wanted if name not in keys]):
            frame = batch.to_pandas(ignore_metadata=True)
            for name in as_text.intersection(frame.columns):
                # pandas would make 1 of a piece without holes "1", of one with holes "1.0".
                if pyarrow.types.is_integer(batch.schema.field(name).type):
                    frame[name] = batch.column(name).cast(pyarrow.string()).to_pandas()
            for name in keys:
                frame[name] = keys[name]
            yield frame, round(bytes_a_row * len(frame))


def _csv(
    part: Path, path: Path, records: RecordsConfig, where: Sequence[str], labels: str | None, rows: int
) -> Iterator[tuple[pd.DataFrame, int]]:
    with part.open("rb") as file:
        header = file.readline()
        separator = ";" if header.count(b";") > header.count(b",") else ","
        file.seek(0)
        wanted = _wanted(path, list(pd.read_csv(part, sep=separator, nrows=0).columns), records, where, labels)
        # Text as it stands in the file: what pandas would take for a number may look otherwise in another piece.
        kinds = {name: str for name in wanted if name in _as_text(records, where)}
        before = 0
        with pd.read_csv(file, sep=separator, usecols=wanted, dtype=kinds, chunksize=rows) as frames:
            for frame in frames:
                yield frame, file.tell() - before
                before = file.tell()


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
