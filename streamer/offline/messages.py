"""Readings as messages of the topic, in the format and layout that `records` describes.

One message for each reading; in the long layout for each metric of it. A value stands in it as in the file: the
shortest decimal number that is the same. Not inside: when messages are sent (`replay`).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.config import RecordsConfig, Settings
from streamer.connectors.files import DataSet
from streamer.connectors.kafka import Headers
from streamer.errors import ConfigError, DataError
from streamer.formats.interface import HEADER, KAFKA_TIME, KEY, ROOT
from streamer.formats.timestamps import NS_PER_UNIT

_INFINITE = msgspec.Raw(b"1e999")

Fields = dict[str, Any]  # by dotted path
Write = Callable[[Fields], bytes]


class Record(NamedTuple):
    """One message with all that is sent."""

    key: bytes
    value: bytes
    headers: Headers = ()
    timestamp_ms: int | None = None  # None: when it is sent


def encode(data: DataSet, settings: Settings) -> list[tuple[bytes, bytes]]:
    """Key and value of each message; the key is the stream.

    Raises:
        ConfigError: The format or the layout is one that is not written.
    """
    return [(record.key, record.value) for record in records_of(data, settings)]


def records_of(data: DataSet, settings: Settings) -> list[Record]:
    """Each message with all that is sent; see `encode`."""
    records = settings.records
    write = _writer(records)
    stamps = _stamps(data.time_ns, records)
    names = [_name(name, records) for name in data.names]
    header = records.timestamp.removeprefix(HEADER) if records.timestamp.startswith(HEADER) else None
    in_message = header is None and records.timestamp != KAFKA_TIME
    times_ms = (data.time_ns // 1_000_000).tolist() if records.timestamp == KAFKA_TIME else [None] * len(data)
    numbers = data.sequence.tolist() if data.sequence is not None else [None] * len(data)
    messages = []
    rows = zip(data.stream.tolist(), stamps, times_ms, data.values.tolist(), numbers, strict=True)
    for code, stamp, time_ms, row, number in rows:
        key, fields = names[code]
        headers: Headers = [(header, str(stamp).encode())] if header is not None else ()
        for values in _layout(row, records):
            message = fields | ({records.timestamp: stamp} if in_message else {}) | values
            if number is not None and records.sequence is not None:
                message[records.sequence] = number
            messages.append(Record(key, write(message), headers, time_ms))
    return messages


def require_writable(records: RecordsConfig) -> None:
    """Refuse what is only read, before anything is sent.

    Raises:
        ConfigError: The format is one.
    """
    _writer(records)


def _writer(records: RecordsConfig) -> Write:
    if records.format == "json":
        encoder = msgspec.json.Encoder()
        return lambda message: encoder.encode(_nested(message, records.readings))
    if records.format == "msgpack":
        packer = msgspec.msgpack.Encoder()
        return lambda message: packer.encode(_nested(_plain(message), records.readings))
    if records.format in ("csv", "tsv"):
        return _delimited(records)
    if records.format == "influx":
        return lambda message: _line(message, records)
    raise ConfigError(
        "records.format: replay and simulate write json, msgpack, csv, tsv and influx; got "
        f"{records.format}: send such messages with the program that makes them"
    )


def _delimited(records: RecordsConfig) -> Write:
    delimiter = records.delimiter or ("\t" if records.format == "tsv" else ",")

    def write(message: Fields) -> bytes:
        columns = records.columns or tuple(message)
        text = io.StringIO(newline="")
        rows = csv.writer(text, delimiter=delimiter, lineterminator="\n")
        if not records.columns:
            rows.writerow(columns)
        plain = _plain(message)
        rows.writerow(["" if plain.get(name) is None else plain[name] for name in columns])
        return text.getvalue().rstrip("\n").encode()

    return write


def _line(message: Fields, records: RecordsConfig) -> bytes:
    """A line of the Influx protocol, in which the stream's fields are tags."""
    plain = _plain(message)
    measurement = plain.pop("measurement", "reading")
    time = f" {plain.pop('timestamp')}" if "timestamp" in plain else ""
    tags = "".join(f",{_escaped(name)}={_escaped(plain.pop(name))}" for name in records.stream if name in plain)
    values = [
        f"{_escaped(name)}={_escaped(value) if isinstance(value, str) else repr(value)}{'i' * isinstance(value, int)}"
        for name, value in plain.items()
        if value is not None
    ]
    return f"{_escaped(measurement)}{tags} {','.join(values)}{time}".encode()


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in ",= " else letter for letter in text)


def _layout(row: list[float], records: RecordsConfig) -> Iterator[Fields]:
    """Fields and values of each message that a reading is: one, or in the long layout one for each value."""
    # NaN becomes null. So would infinity, but that is a fault, not a gap: it goes as what no reader takes.
    values = [_INFINITE if math.isinf(value) else None if math.isnan(value) else value for value in row]
    if records.metric is None:
        yield dict(zip(records.features, values, strict=True))
        return
    for feature, value in zip(records.features, values, strict=True):
        if value is not None:
            yield {records.metric: feature, records.value: value}


def _name(name: str, records: RecordsConfig) -> tuple[bytes, Fields]:
    """Message key and fields of a stream's name, which may be made of several.

    The last takes what is left over, should a part have a slash in it.
    """
    parts = name.split("/", len(records.stream) - 1)
    if len(parts) < len(records.stream):
        raise DataError(
            f"records.stream: wanted names of streams made of {len(records.stream)} fields, {list(records.stream)}, "
            f"joined by '/'; got {name!r}"
        )
    fields = dict(zip(records.stream, parts, strict=True))
    return fields.pop(KEY, name).encode(), fields


def _stamps(time_ns: NDArray[np.int64], records: RecordsConfig) -> list[Any]:
    if records.timestamp_unit == "iso8601":
        unit: Literal["ns", "us"] = "ns" if (time_ns % 1000).any() else "us"
        return [f"{text}Z" for text in np.datetime_as_string(time_ns.astype("datetime64[ns]"), unit=unit).tolist()]
    per = NS_PER_UNIT[records.timestamp_unit]
    whole = time_ns % per == 0
    return [t // per if w else t / per for t, w in zip(time_ns.tolist(), whole.tolist(), strict=True)]


def _nested(message: Fields, readings: str | None) -> Any:
    """Fields as nested objects; where a message has an array of readings, as the only one of it."""
    inner: dict[str, Any] = {}
    for path, value in message.items():
        _put(inner, path, value)
    if readings is None:
        return inner
    if readings == ROOT:
        return [inner]
    outer: dict[str, Any] = {}
    _put(outer, readings, [inner])
    return outer


def _plain(message: Fields) -> Fields:
    """The same with infinity as a float."""
    return {name: math.inf if value is _INFINITE else value for name, value in message.items()}


def _put(message: dict[str, Any], path: str, value: Any) -> None:
    *outer, last = path.split(".")
    for part in outer:
        message = message.setdefault(part, {})
    message[last] = value
