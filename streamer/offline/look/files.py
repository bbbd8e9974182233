"""Some rows of data files, from their beginning, middle and end.

Text is sampled as it stands, line by line, so that what the files are is found out and not assumed; Parquet has its
types. Not inside: reading whole files (`connectors.files`).
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import lzma
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
import pyarrow
import pyarrow.parquet

from streamer.config import FilesConfig
from streamer.connectors.files.json_tables import objects
from streamer.connectors.files.paths import JSON, File, unpacked
from streamer.errors import DataError
from streamer.offline.look.sampling import PLACES, USUAL, Message, Sample

_PARQUET = (".parquet", ".pq")
_PACKED = (".gz", ".bz2", ".xz", ".zst")
_SKIPPED = ("_", ".")  # names of files that are no data
_FILES = 50  # looked at, of a folder that holds more
_LINE = 1_000_000  # bytes


def sample_files(paths: Sequence[Path], wanted: int = USUAL, written: FilesConfig | None = None) -> Sample:
    """Rows from several places of files.

    Args:
        paths: Files and folders.
        wanted: About how many rows.
        written: How the files are written, where that is declared.

    Raises:
        DataError: A file cannot be read, or there is none.
    """
    written = written or FilesConfig()
    files = [file for path in paths for file in _files(path)]
    if not files:
        raise DataError(f"{', '.join(map(str, paths))}: wanted a file, or a folder of files; it holds none")
    chosen = files[:: max(1, len(files) // _FILES)][:_FILES]
    origin = f"{paths[0]}" if len(paths) == 1 else f"{len(paths)} paths"
    each = max(50, wanted // len(chosen))
    try:
        if _is_parquet(chosen[0]):
            found = [part for file in chosen if _is_parquet(file) for part in _parquet(file, each)]
            documents = [row for part in found for row in part]
            runs = [run for run, part in enumerate(found) for _ in part]
            return Sample(origin, [], _rows(files), documents=documents, runs=runs, is_file=True, written=written)
        messages: list[Message] = []
        columns: Sequence[str] = ()
        delimiter = ""
        total = 0
        for number, file in enumerate(chosen):
            lines, header, mark, rows, encoding = _text(file, each, written)
            if encoding != written.encoding:
                written = written.model_copy(update={"encoding": encoding})
            columns, delimiter = (columns, delimiter) if columns else (header, mark)
            total += rows
            messages += [Message(line, run=10 * number + run, offset=i) for i, (line, run) in enumerate(lines)]
    except (OSError, EOFError, lzma.LZMAError, pyarrow.ArrowException) as error:
        raise DataError(f"{origin}: wanted files that can be read; {error}") from None
    total = total * len(files) // len(chosen)
    return Sample(origin, messages, total, columns=columns, delimiter=delimiter, is_file=True, written=written)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = (file for file in path.rglob("*") if file.is_file() and not file.name.startswith(_SKIPPED))
        return sorted(found)
    if not path.is_file():
        raise DataError(f"{path}: wanted a readable file, or a folder of files; there is none")
    return [path]


def _is_parquet(file: Path) -> bool:
    return file.suffix.lower() in _PARQUET


def _rows(files: Sequence[Path]) -> int:
    return sum(pyarrow.parquet.ParquetFile(file).metadata.num_rows for file in files if _is_parquet(file))


def _parquet(file: Path, wanted: int) -> Iterator[list[dict[str, Any]]]:
    whole = pyarrow.parquet.ParquetFile(file)
    rows = whole.metadata.num_rows
    if rows <= wanted:
        yield whole.read().to_pylist()
        return
    size = wanted // PLACES
    for place in range(PLACES):
        yield _slice(whole, (rows - size) * place // (PLACES - 1), size)


def _slice(whole: pyarrow.parquet.ParquetFile, begin: int, size: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    at = 0
    for number in range(whole.num_row_groups):
        count = whole.metadata.row_group(number).num_rows
        if at + count > begin and at < begin + size:
            group = whole.read_row_group(number)
            found += group.slice(max(0, begin - at), begin + size - max(at, begin)).to_pylist()
        at += count
    return found


def _text(
    file: Path, wanted: int, written: FilesConfig
) -> tuple[list[tuple[bytes, int]], Sequence[str], str, int, str | None]:
    """Lines with their run, the header and its delimiter, about how many lines the file has, and its encoding."""
    if File(file, file).kind() == JSON:
        return *_array(file, wanted), written.encoding
    packed = file.suffix.lower() in _PACKED
    size = 0 if packed else file.stat().st_size
    with _unpacked(file) if packed else file.open("rb") as text:
        head = [line for line in _lines(text, wanted if size else 3 * wanted) if line]
        if not head:
            raise DataError(f"{file}: wanted rows; the file is empty")
        found = [(line, 0) for line in head]
        at = sum(map(len, head)) + len(head)
        total = max(len(found), size * len(head) // max(1, at))
        if size > 4 * at:
            found = found[: wanted // 3]
            for run, place in enumerate((size // 2, size - at // 3), start=1):
                text.seek(place)
                text.readline(_LINE)
                found += [(line, run) for line in _lines(text, wanted // 3) if line]
    encoding = written.encoding or (None if all(_is_utf8(line) for line, _ in found) else "cp1252")
    if encoding is not None and not encoding.startswith("utf"):
        found = [(line.decode(encoding, "replace").encode(), run) for line, run in found]
    header, delimiter = _header([line for line, _ in found[:2]], written.delimiter)
    return found[1:] if header else found, header, delimiter, total, encoding


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return len(line) >= _LINE or b"\0" in line  # cut off; or no text at all
    return True


def _array(file: Path, wanted: int) -> tuple[list[tuple[bytes, int]], Sequence[str], str, int]:
    """The first items of an array that is a whole file, or of objects one after another; see `_text`."""
    with unpacked(File(file, file)) as (stream, tell):
        items = itertools.islice(objects(stream, File(file, file)), wanted)
        found = [(msgspec.json.encode(item), 0) for _, item in items]
        total = max(len(found), file.stat().st_size * len(found) // max(1, tell()))
    return found, (), "", total


@contextlib.contextmanager
def _unpacked(file: Path) -> Iterator[IO[bytes]]:
    with unpacked(File(file, file)) as (text, _):
        yield text


def _lines(text: IO[bytes], wanted: int) -> Iterator[bytes]:
    for line in itertools.islice(text, wanted + 1):
        yield line.rstrip(b"\r\n")[:_LINE]


def _header(lines: Sequence[bytes], declared: str | None = None) -> tuple[Sequence[str], str]:
    """Names of columns and what parts them, if the first line has as many cells as the second and none is a number."""
    if len(lines) < 2 or lines[0].lstrip()[:1] in (b"{", b"["):
        return (), ""
    try:
        first, second = lines[0].decode("utf-8-sig"), lines[1].decode()
    except UnicodeDecodeError:
        return (), ""
    for delimiter in (declared,) if declared else (",", ";", "\t", "|"):
        (cells,), (below,) = csv.reader([first], delimiter=delimiter), csv.reader([second], delimiter=delimiter)
        if len(cells) > 1 and len(cells) == len(below) and not any(map(_starts_like_a_number, cells)):
            return [cell.strip() for cell in cells], delimiter
    return (), ""


def _starts_like_a_number(cell: str) -> bool:
    return cell.strip()[:1].isdigit() or cell.strip()[:2].lstrip("-").isdigit()
