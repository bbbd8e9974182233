"""CSV files as pieces of tables: which character separates values, which line is the header, what a decimal looks like.

What is not declared is found from the first lines of the file, with the help of the names that are wanted of it.
Not inside: which names those are (`wanted`), what the columns mean.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from streamer.connectors.files.paths import File, unpacked
from streamer.connectors.files.wanted import Wanted
from streamer.errors import DataError

_SAMPLE = 1 << 18  # characters
_LINES = 30  # the header is among the first of them
_SPACE = r"\s+"
_USUAL = (",", ";", "\t", "|")
MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null"),
)
_WITH_COMMA, _WITH_POINT = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?"), re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
_MAY_BE_THOUSANDS = re.compile(r"[+-]?\d{1,3},\d{3}")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a CSV file is written."""

    delimiter: str
    names: tuple[str, ...]  # columns, in the order of the file
    skip: int  # lines up to the first row
    decimal: str
    spaces: bool  # a space follows each delimiter


def tables(file: File, wanted: Wanted, rows: int) -> Iterator[tuple[pd.DataFrame, int]]:
    """Pieces of a file, at most `rows` long, each with the bytes of the file it took; the index counts rows."""
    dialect = dialect_of(file, wanted)
    columns = wanted.columns(file, [*dialect.names, *file.keys])
    kept = [name for name in columns if name not in file.keys]
    as_text = set(wanted.as_text)
    time = wanted.time(columns)
    if wanted.files.date_format or wanted.files.thousands:
        as_text.update(time)  # 07.10.2013 is no number whose thousands are set apart
    options: dict[str, Any] = {"dtype": dict.fromkeys(as_text.intersection(kept), str)}
    if len(dialect.names) > 64 and 4 * len(kept) < len(dialect.names):
        options["usecols"] = kept  # pandas does not tell a row that is too long then
    numbers = {*wanted.values, wanted.labels, wanted.records.sequence} - wanted.as_text
    with unpacked(file) as (stream, tell):
        text = _text(stream, file, wanted)
        before = 0
        try:
            with pd.read_csv(
                text,
                sep=dialect.delimiter,
                header=None,
                names=list(dialect.names),
                skiprows=dialect.skip,
                index_col=False,
                decimal=dialect.decimal,
                thousands=wanted.files.thousands,
                skipinitialspace=dialect.spaces,
                keep_default_na=False,
                na_values={name: (*MISSING, *wanted.files.missing) if name in numbers else ("",) for name in kept},
                chunksize=rows,
                low_memory=False,  # one type for each column of a piece
                **options,
            ) as frames:
                for frame in frames:
                    some = frame[kept].assign(**file.keys)
                    some.attrs = {"decimal": dialect.decimal, "thousands": wanted.files.thousands}
                    yield some, tell() - before
                    before = tell()
        except UnicodeDecodeError as error:
            raise DataError(_encoding(file, error)) from None


def dialect_of(file: File, wanted: Wanted) -> Dialect:
    """How a file is written, from its first lines and the names that are wanted.

    Raises:
        DataError: It is empty, or a comma may be a decimal comma or a separator of thousands.
    """
    with unpacked(file) as (stream, _):
        try:
            sample = _text(stream, file, wanted).read(_SAMPLE)
        except UnicodeDecodeError as error:
            raise DataError(_encoding(file, error)) from None
    if len(sample) == _SAMPLE:
        sample = sample[: sample.rfind("\n") + 1] or sample
    lines = sample.splitlines()
    if not any(line.strip() for line in lines):
        raise DataError(f"{file.path}: wanted CSV or Parquet; it is empty")
    header, delimiter, names = _header(lines, wanted)
    skip = header + 1
    if names is None:
        header, skip, names = -1, 0, list(wanted.records.columns)
    below = list(_rows("\n".join(lines[skip:]), delimiter))
    if below and len(below[0]) == len(names) + 1 and not below[0][-1].strip():
        names.append("")  # every row ends with a delimiter
    return Dialect(
        delimiter,
        tuple(_distinct([name.strip() for name in names])),
        skip,
        wanted.files.decimal or _decimal(file, wanted, below, names, delimiter),
        delimiter != _SPACE and any(name[:1] == " " for name in names),
    )


def _text(stream: io.BufferedReader, file: File, wanted: Wanted) -> io.TextIOWrapper:
    encoding = wanted.files.encoding
    if encoding in (None, "utf-8"):
        marked = stream.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff")
        encoding = "utf-16" if marked else "utf-8-sig"
    return io.TextIOWrapper(stream, encoding=encoding, newline="")


def _encoding(file: File, error: UnicodeDecodeError) -> str:
    return (
        f"{file.path}: wanted text in {error.encoding}; byte {error.object[error.start]:#04x} is none: set "
        "files.encoding, such as cp1252 or latin-1"
    )


def _header(lines: Sequence[str], wanted: Wanted) -> tuple[int, str, list[str] | None]:
    """Line and delimiter that show most of the names wanted; no names if the file has no header."""
    names = set(wanted.names)
    best: tuple[int, int, str, list[str]] | None = None
    for number, line in enumerate(lines[:_LINES]):
        for delimiter in _delimiters(line, wanted):
            found = next(_rows(line, delimiter), [])
            score = len(names.intersection(name.strip() for name in found))
            if best is None or score > best[0]:
                best = score, number, delimiter, found
    assert best is not None
    score, number, delimiter, found = best
    if score:
        return number, delimiter, found
    first = next(number for number, line in enumerate(lines) if line.strip())
    columns = wanted.records.columns
    for delimiter in _delimiters(lines[first], wanted):
        if columns and len(next(_rows(lines[first], delimiter))) == len(columns):
            return first, delimiter, None
    likely = wanted.files.delimiter or max(_USUAL, key=lambda mark: (lines[first].count(mark), mark == ","))
    return first, likely, next(_rows(lines[first], likely))


def _delimiters(line: str, wanted: Wanted) -> list[str]:
    if wanted.files.delimiter is not None:
        return [_SPACE if wanted.files.delimiter == " " else wanted.files.delimiter]
    others = [mark for mark in dict.fromkeys(line) if not mark.isalnum() and mark not in (*_USUAL, *"\"'_.-@ \r\n")]
    return [*_USUAL, *others, _SPACE]


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    if delimiter == _SPACE:
        return (line.split() for line in text.splitlines() if line.strip())
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=False)
    return (row for row in reader if row)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names as pandas tells equal ones apart: `a`, `a.1`."""
    seen: dict[str, int] = {}
    told = []
    for number, name in enumerate(names):
        name = name or f"Unnamed: {number}"
        count = seen[name] = seen.get(name, -1) + 1
        told.append(f"{name}.{count}" if count else name)
    return told


def _decimal(file: File, wanted: Wanted, rows: Sequence[Sequence[str]], names: Sequence[str], delimiter: str) -> str:
    """A comma if numbers of the first rows have one, and none has a point."""
    values = [i for i, name in enumerate(names) if name.strip() in wanted.values]
    cells = [row[i].strip() for row in rows for i in values if i < len(row)]
    commas = [cell for cell in cells if _WITH_COMMA.fullmatch(cell)]
    if not commas or any(map(_WITH_POINT.fullmatch, cells)):
        return "."
    if delimiter == "," and wanted.files.thousands is None and all(map(_MAY_BE_THOUSANDS.fullmatch, commas)):
        raise DataError(
            f"{file.path}: wanted numbers whose comma has one meaning; {commas[0]!r} may have a decimal comma or a "
            'separator of thousands: set files.decimal: "," or files.thousands: ","'
        )
    return "," if wanted.files.thousands != "," else "."
