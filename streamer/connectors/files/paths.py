"""A path as the data files it stands for: what kind each is, and its bytes, unpacked.

A folder may hold columns in the names of its folders (`stream=pump-1/part-0.parquet`). Compression is known by the
first bytes of a file, its kind by its name, or else by its first character. Not inside: rows and columns.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow

from streamer.errors import DataError

CSV, PARQUET, JSON_LINES, JSON = "CSV", "Parquet", "JSON lines", "JSON"

_SUFFIXES = {".parquet": PARQUET, ".pq": PARQUET, ".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".json": JSON}
_IN_FOLDERS = (*_SUFFIXES, ".csv", ".tsv")
_PACKED = (".gz", ".zst", ".bz2", ".xz")
_NULL = "__HIVE_DEFAULT_PARTITION__"  # the folder of rows without a value

_UNPACK: Mapping[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda raw: gzip.GzipFile(fileobj=raw),
    b"\x28\xb5\x2f\xfd": lambda raw: pyarrow.CompressedInputStream(raw, "zstd"),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
_OTHERS = {b"PK\x03\x04": "a zip archive or an Excel workbook", b"\xd0\xcf\x11\xe0": "an old Excel workbook"}


@dataclass(frozen=True, slots=True)
class File:
    """One file of a path that a user gave."""

    path: Path
    given: Path  # the file itself, or the folder that holds it
    keys: Mapping[str, str | None] = field(default_factory=dict)  # columns in the names of its folders

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def name(self) -> str:
        """The name of the stream where no column has one: `pump-1` of `pump-1.csv.gz`."""
        return Path(_unpacked_name(self.given)).stem

    def kind(self) -> str:
        """What the file is: `CSV`, `PARQUET`, `JSON_LINES` or `JSON`."""
        known = _SUFFIXES.get(Path(_unpacked_name(self.path)).suffix.lower())
        if known:
            return known
        with unpacked(self) as (stream, _):
            begin = stream.read(4096)
        if begin[:4] == b"PAR1":
            return PARQUET
        return JSON if begin.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[") else CSV


def files_of(path: Path) -> list[File]:
    """A file, or the data files of a folder; names that begin with a dot or an underscore are left out."""
    if not path.is_dir():
        return [File(path, path)]
    inside = [part for part in sorted(path.rglob("*")) if _is_data(part.relative_to(path)) and part.is_file()]
    return [File(part, path, _keys(part.relative_to(path).parts[:-1])) for part in inside]


def _is_data(path: Path) -> bool:
    return Path(_unpacked_name(path)).suffix.lower() in _IN_FOLDERS and not any(
        part[0] in "._" for part in path.parts if "=" not in part
    )


def _unpacked_name(path: Path) -> str:
    return path.stem if path.suffix.lower() in _PACKED else path.name


def _keys(folders: Sequence[str]) -> dict[str, str | None]:
    """Columns in names of folders, in which special characters are encoded as in a URL.

    >>> _keys(["stream=pump%201", "day=01", "other"])
    {'stream': 'pump 1', 'day': '01'}
    """
    pairs = [name.split("=", 1) for name in folders if "=" in name]
    return {unquote(key): None if value == _NULL else unquote(value) for key, value in pairs}


@contextlib.contextmanager
def unpacked(file: File) -> Iterator[tuple[io.BufferedReader, Callable[[], int]]]:
    """The bytes of a file, and how many of its own have been read.

    Raises:
        DataError: It is cut off or damaged; or an archive.
    """
    with file.path.open("rb") as raw:
        begin = raw.read(6)
        raw.seek(0)
        for mark, what in _OTHERS.items():
            if begin.startswith(mark):
                raise DataError(
                    f"{file.path}: wanted CSV, JSON or Parquet; it is {what}: export it as CSV, or unpack it"
                )
        unpack = next((unpack for mark, unpack in _UNPACK.items() if begin.startswith(mark)), None)
        yield io.BufferedReader(_Guarded(unpack(raw) if unpack else raw, file.path), 1 << 18), raw.tell


class _Guarded(io.RawIOBase):
    """A stream whose every fault is an error of data."""

    def __init__(self, inner: Any, path: Path) -> None:
        self._inner, self._path = inner, path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            found = self._inner.read(len(buffer))
        except (EOFError, OSError, zlib.error, lzma.LZMAError, pyarrow.ArrowException) as error:
            raise DataError(
                f"{self._path}: wanted a whole compressed file; it is cut off or damaged: {error}"
            ) from None
        buffer[: len(found)] = found
        return len(found)
