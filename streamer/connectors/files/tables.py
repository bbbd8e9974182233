"""CSV and Parquet files as pieces of tables, only the columns wanted.

A folder of Parquet may hold columns in the names of its folders (`stream=pump-1/part-0.parquet`). Names and conditions
are text as it stands in the file, whatever the rest of the column looks like: `01` stays `01`. Not inside: what the
columns mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pyarrow
import pyarrow.parquet

from streamer.config import RecordsConfig
from streamer.errors import DataError

_PARQUET = (".parquet", ".pq")
_NULL = "__HIVE_DEFAULT_PARTITION__"  # the folder of rows without a value


@dataclass(frozen=True, slots=True)
class File:
    """One file of a path that a user gave."""

    path: Path
    given: Path  # the file itself, or the folder that holds it
    keys: Mapping[str, str | None] = field(default_factory=dict)  # columns in the names of its folders

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which columns and rows of a file are wanted."""

    records: RecordsConfig
    where: Sequence[tuple[str, str]]  # column and value
    labels: str | None

    @property
    def as_text(self) -> set[str]:
        """Columns that are compared as text, whatever they hold."""
        return {self.records.stream_column, *(column for column, _ in self.where)} - {self.records.timestamp}

    def may_hold(self, file: File) -> bool:
        """Whether any row of a file can meet the conditions, as far as its folders tell."""
        return all(file.keys.get(column, value) == value for column, value in self.where)

    def columns(self, file: File, found: Sequence[str]) -> list[str]:
        """Columns to read of those a file has.

        Raises:
            DataError: One is not there.
        """
        for column, value in self.where:
            if column not in found:
                raise DataError(
                    f"--where: wanted COLUMN=VALUE with a column of {file.path}, which has {list(found)}; "
                    f"got '{column}={value}'"
                )
        needed = (self.records.timestamp, *self.records.features)
        if missing := [name for name in needed if name not in found]:
            raise DataError(f"{file.path}: wanted columns {missing}; it has {list(found)}")
        if self.labels is not None and self.labels not in found:
            raise DataError(f"{file.path}: --labels: wanted a column {self.labels!r}; it has {list(found)}")
        stream = [self.records.stream_column] if self.records.stream_column in found else []
        labels = [] if self.labels is None else [self.labels]
        return list(dict.fromkeys([*needed, *stream, *(column for column, _ in self.where), *labels]))


def files_of(path: Path) -> list[File]:
    """A file, or the files of a folder of Parquet."""
    if not path.is_dir():
        return [File(path, path)]
    inside = [part for part in sorted(path.rglob("*")) if part.suffix in _PARQUET and part.is_file()]
    return [File(part, path, _keys(part.relative_to(path).parts[:-1])) for part in inside]


def _keys(folders: Sequence[str]) -> dict[str, str | None]:
    """Columns in names of folders, in which special characters are encoded as in a URL.

    >>> _keys(["stream=pump%201", "day=01", "other"])
    {'stream': 'pump 1', 'day': '01'}
    """
    pairs = [name.split("=", 1) for name in folders if "=" in name]
    return {unquote(key): None if value == _NULL else unquote(value) for key, value in pairs}


def tables(file: File, wanted: Wanted, rows: int) -> Iterator[tuple[pd.DataFrame, int]]:
    """Pieces of one file, at most `rows` long, each with the bytes of the file it took."""
    return (_parquet if file.path.suffix in _PARQUET else _csv)(file, wanted, rows)


def _parquet(file: File, wanted: Wanted, rows: int) -> Iterator[tuple[pd.DataFrame, int]]:
    with pyarrow.parquet.ParquetFile(file.path, memory_map=True, pre_buffer=False) as table:
        columns = wanted.columns(file, [*table.schema_arrow.names, *file.keys])
        as_text = wanted.as_text
        bytes_a_row = file.size / max(1, table.metadata.num_rows)
        for batch in table.iter_batches(rows, columns=[name for name in columns if name not in file.keys]):
            frame = batch.to_pandas(ignore_metadata=True)
            for name in as_text.intersection(frame.columns):
                # pandas would make 1 of a piece without holes "1", of one with holes "1.0".
                if pyarrow.types.is_integer(batch.schema.field(name).type):
                    frame[name] = batch.column(name).cast(pyarrow.string()).to_pandas()
            for name, value in file.keys.items():
                frame[name] = value
            yield frame, round(bytes_a_row * len(frame))


def _csv(file: File, wanted: Wanted, rows: int) -> Iterator[tuple[pd.DataFrame, int]]:
    with file.path.open("rb") as text:
        header = text.readline()
        separator = ";" if header.count(b";") > header.count(b",") else ","
        text.seek(0)
        columns = wanted.columns(file, list(pd.read_csv(file.path, sep=separator, nrows=0).columns))
        # Text as it stands in the file: what pandas would take for a number may look otherwise in another piece.
        kinds = {name: str for name in columns if name in wanted.as_text}
        before = 0
        with pd.read_csv(text, sep=separator, usecols=columns, dtype=kinds, chunksize=rows) as frames:
            for frame in frames:
                yield frame, text.tell() - before
                before = text.tell()
