"""Which format messages have: JSON, MessagePack, Influx line protocol, CSV, TSV, or the Confluent wire format.

Every format is tried on some of the messages, and the one that reads most of them is taken. What comes out are plain
documents: dicts, lists and scalars. Not inside: what the fields mean (`choosing`), and the decoders of the daemon
(`formats`), which are strict where this is curious.
"""

from __future__ import annotations

import csv
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from streamer.errors import DataError
from streamer.formats.influx import parse_line
from streamer.formats.rejects import Refused
from streamer.offline.look.sampling import Sample

_TRIED = 200  # messages that each format is tried on
_MAGIC = 0  # first byte of the Confluent wire format
_SCHEMAS = 16  # ids among the messages tried; more are no schema ids
NAMES = {
    "json": "JSON",
    "msgpack": "MessagePack",
    "influx": "Influx line protocol",
    "csv": "CSV",
    "tsv": "TSV",
    "avro": "Avro in the Confluent wire format",
    "protobuf": "Protobuf in the Confluent wire format",
    "json-schema": "JSON with a schema, in the Confluent wire format",
    "confluent": "Confluent wire format",
    "parquet": "Parquet",
}

FromRegistry = Callable[[int, bytes], tuple[str, Any]]
"""Of a schema's id and a body: the format (`avro`, `json-schema`, `protobuf`) and the document."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """The format, and what it makes of the messages."""

    format: str  # the word of `records.format`; "unknown"
    documents: Sequence[Any] = ()
    rows: Sequence[int] = ()  # message of each document
    failed: Sequence[tuple[int, str]] = ()  # message and why; those without a value not among them
    empty: int = 0  # messages without a value
    why: str = ""
    schema_ids: Sequence[int] = ()
    columns: Sequence[str] = ()  # of CSV, made up where there is no header
    delimiter: str = ""
    has_header: bool = False

    @property
    def title(self) -> str:
        return NAMES.get(self.format, self.format)


def recognise(sample: Sample, from_registry: FromRegistry | None = None) -> Recognised:
    """The format of messages and their documents.

    Args:
        sample: The messages.
        from_registry: Decodes a body by its schema; None: no registry is known.

    Raises:
        DataError: There is no message, or none has a value.
    """
    if sample.documents is not None:
        return Recognised("parquet", sample.documents, range(len(sample.documents)))
    values = [message.value for message in sample.messages]
    filled = [(row, value) for row, value in enumerate(values) if value]
    if not filled:
        raise DataError(f"{sample.origin} holds no message with a value among the {len(values)} looked at")
    tried = [value for _, value in filled[:: max(1, len(filled) // _TRIED)]]
    empty = len(values) - len(filled)
    wire = _confluent(tried)
    if wire:
        return _with_schema(filled, empty, wire, from_registry)
    best, share, read = "unknown", 0.0, _READERS["json"]
    for name, reader in _readers(tried, sample.columns, sample.delimiter):
        good = sum(_try(reader, value)[0] for value in tried) / len(tried)
        if good > share + 0.05:
            best, share, read = name, good, reader
    if share < 0.2:
        return Recognised("unknown", failed=[(row, _shown(value)) for row, value in filled], empty=empty)
    documents, rows, failed = [], [], []
    for row, value in filled:
        good, found = _try(read, value)
        if good:
            documents.append(found)
            rows.append(row)
        else:
            failed.append((row, f"no {NAMES[best]}: {found}"))
    delimiter = getattr(read, "delimiter", "")
    return Recognised(
        best,
        documents,
        rows,
        failed,
        empty,
        f"{share:.0%} of the messages tried can be read as {NAMES[best]}",
        columns=getattr(read, "columns", ()),
        delimiter=delimiter,
        has_header=bool(sample.columns),
    )


def _confluent(values: Sequence[bytes]) -> list[int]:
    """Schema ids, if most values begin as the Confluent wire format has it."""
    ids = [struct.unpack(">I", value[1:5])[0] for value in values if len(value) > 5 and value[0] == _MAGIC]
    if len(ids) < 0.5 * len(values) or len(set(ids)) > _SCHEMAS:
        return []
    return [number for number, _ in Counter(ids).most_common()]


def _with_schema(
    filled: Sequence[tuple[int, bytes]], empty: int, ids: Sequence[int], from_registry: FromRegistry | None
) -> Recognised:
    known = ", ".join(map(str, ids))
    documents, rows, failed, kinds = [], [], [], Counter[str]()
    for row, value in filled:
        if len(value) < 6 or value[0] != _MAGIC:
            failed.append((row, f"no magic byte: {_shown(value)}"))
            continue
        try:
            if from_registry is not None:
                kind, document = from_registry(struct.unpack(">I", value[1:5])[0], value)
            else:
                kind, document = "json-schema", msgspec.json.decode(value[5:])
        except (msgspec.DecodeError, ValueError, Refused) as error:
            failed.append((row, str(error)))
            continue
        kinds[kind] += 1
        documents.append(document)
        rows.append(row)
    if kinds:
        why = f"magic byte 0 and schema id {known}"
        return Recognised(kinds.most_common(1)[0][0], documents, rows, failed, empty, why, ids)
    why = f"magic byte 0 and schema id {known}: Avro or Protobuf; name the schema registry (--schema-registry URL)"
    return Recognised("confluent", failed=failed, empty=empty, why=why, schema_ids=ids)


def _json(value: bytes) -> Any:
    found = msgspec.json.decode(value)
    if not isinstance(found, (dict, list)):
        raise ValueError(f"wanted an object; got {_shown(value)}")
    return found


def _msgpack(value: bytes) -> Any:
    found = msgspec.msgpack.decode(value)
    if not isinstance(found, (dict, list)):
        raise ValueError(f"wanted a map; got {_shown(value)}")
    return found


def _influx(value: bytes) -> Any:
    lines = [line.strip() for line in value.decode().splitlines() if line.strip() and not line.startswith("#")]
    found = list(map(parse_line, lines))
    if not found:
        raise ValueError("no line")
    return found[0] if len(found) == 1 else found


class _Separated:
    """Rows of text with a delimiter; `columns` from the header, else made up."""

    def __init__(self, delimiter: str, columns: Sequence[str], width: int) -> None:
        self.delimiter = delimiter
        self.columns = list(columns) or [f"column{i + 1}" for i in range(width)]

    def __call__(self, value: bytes) -> Mapping[str, str]:
        (cells, *more) = csv.reader(value.decode("utf-8-sig").splitlines(), delimiter=self.delimiter)
        if more or len(cells) != len(self.columns):
            raise ValueError(f"wanted {len(self.columns)} columns; got {len(cells)}")
        return {name: cell.strip() for name, cell in zip(self.columns, cells, strict=True) if cell.strip()}


Reader = Callable[[bytes], Any]
_READERS: dict[str, Reader] = {"json": _json, "influx": _influx, "msgpack": _msgpack}


def _readers(tried: Sequence[bytes], columns: Sequence[str], delimiter: str) -> list[tuple[str, Reader]]:
    """What to try, the surest first: a message that two of them read is taken for the earlier."""
    return [*_READERS.items(), *_separated(tried, columns, delimiter)]


def _separated(tried: Sequence[bytes], columns: Sequence[str], known: str) -> list[tuple[str, Reader]]:
    """Delimiters that cut most messages into the same number of cells; if the header shows which it is, that alone."""
    found: list[tuple[float, str, Reader]] = []
    for name, delimiter in (("csv", ","), ("csv", ";"), ("tsv", "\t"), ("csv", "|")):
        if known not in ("", delimiter):
            continue
        widths: Counter[int] = Counter()
        for value in tried:
            try:
                (cells,) = csv.reader([value.decode("utf-8-sig")], delimiter=delimiter)
            except (ValueError, csv.Error):
                continue
            widths[len(cells)] += 1
        width, count = widths.most_common(1)[0] if widths else (0, 0)
        if width > 1 and (not columns or len(columns) == width):
            # More cells, cut alike every time: a comma that is a decimal mark cuts less evenly.
            found.append((count / len(tried) + width / 1000, name, _Separated(delimiter, columns, width)))
    return [(name, reader) for _, name, reader in sorted(found, key=lambda one: -one[0])]


def _try(read: Reader, value: bytes) -> tuple[bool, Any]:
    try:
        return True, read(value)
    except (ValueError, msgspec.DecodeError, RecursionError, csv.Error, Refused) as error:
        return False, str(error)[:120]


def _shown(value: bytes) -> str:
    """The beginning of a value, readable."""
    head = value[:40]
    text = head.decode("utf-8", errors="replace")
    return repr(text) if text.isprintable() else head.hex(" ")
