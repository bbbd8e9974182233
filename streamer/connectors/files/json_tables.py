"""JSON files as pieces of tables: one message per line, or any number of objects in an array or one after another.

A message is what `records` describes: fields nested in objects, perhaps an array of readings with fields in common
beside it. Not inside: what the columns mean.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from streamer.connectors.files.paths import JSON_LINES, File, unpacked
from streamer.connectors.files.wanted import Wanted
from streamer.errors import DataError

_AT_ONCE = 1 << 20  # bytes read at once
_ROWS = 1 << 16  # as objects of Python they take many times their columns
_MOST = 1 << 26  # bytes of one message at most
_ABSENT: Any = object()
_BETWEEN = " \t\r\n,"

Messages = Iterator[tuple[int, Any]]
"""Each message with its number in the file, counted from 0."""


def tables(file: File, wanted: Wanted, rows: int) -> Iterator[tuple[pd.DataFrame, int]]:
    """Pieces of a file, about `rows` long, each with the bytes of the file it took; the index counts messages."""
    names = wanted.names
    rows = min(rows, _ROWS)
    met: set[str] = set()
    fields: dict[str, None] = {}
    before = 0
    with unpacked(file) as (stream, tell):
        messages = (_lines if file.kind() == JSON_LINES else objects)(stream, file)
        while some := _readings(messages, file, wanted, rows):
            fields |= dict.fromkeys(name for _, *places in some[:1000] for place in places for name in _paths(place))
            if wanted.everything:
                names = [*dict.fromkeys([*names, *fields])]
            paths = {name: name.split(".") for name in names}
            found = {name: _column(some, parts) for name, parts in paths.items()}
            met |= {name for name, values in found.items() if any(value is not _ABSENT for value in values)}
            known = [*fields, *met, *file.keys]
            columns = wanted.columns(file, [*dict.fromkeys([*known, *wanted.values])])
            index = pd.Index(np.array([number for number, *_ in some], np.int64))
            frame = pd.DataFrame(index=index)
            for name in columns:
                if name in file.keys:
                    frame[name] = file.keys[name]
                else:
                    values = [None if value is _ABSENT else value for value in found[name]]
                    frame[name] = _series(values, index, name in wanted.as_text)
            frame.attrs["strict"] = True
            yield frame, tell() - before
            before = tell()
        if fields:
            wanted.columns(file, [*dict.fromkeys([*fields, *met, *file.keys])])  # a feature that no message has


def _readings(messages: Messages, file: File, wanted: Wanted, rows: int) -> list[tuple[Any, ...]]:
    """The next readings: number of the message, then where fields are looked up, the reading itself first."""
    path = wanted.records.readings
    some: list[tuple[Any, ...]] = []
    for number, message in messages:
        if path is None:
            inside: Any = [message]
        else:
            # An array of readings may be the whole file, whose items are its messages here.
            inside = [message] if path == "@root" and isinstance(message, dict) else message
            inside = inside if path == "@root" else _field(path.split("."), message)
            if not isinstance(inside, list):
                raise DataError(
                    f"{file.path}: row {number + 1}: wanted an array of readings in {path!r} (records.readings); "
                    f"got {_shown(inside)}"
                )
        common = (message,) if path not in (None, "@root") else ()
        for reading in inside:
            if not isinstance(reading, dict):
                raise DataError(f"{file.path}: row {number + 1}: wanted a JSON object; got {_shown(reading)}")
            some.append((number, reading, *common))
        if len(some) >= rows:
            break
    return some


def _column(some: list[tuple[Any, ...]], parts: Sequence[str]) -> list[Any]:
    """What stands at a path in each reading."""
    if len(parts) == 1 and len(some[0]) == 2:
        name = parts[0]
        return [reading.get(name, _ABSENT) for _, reading in some]
    return [_field(parts, *places) for _, *places in some]


def _field(parts: Sequence[str], *places: Any) -> Any:
    """What stands at a path, in the first place that has it."""
    for place in places:
        inside = place
        for part in parts:
            inside = inside.get(part, _ABSENT) if isinstance(inside, dict) else _ABSENT
        if inside is not _ABSENT:
            return inside
    return _ABSENT


def _paths(place: Any, depth: int = 4) -> Iterator[str]:
    """Names of the fields of an object, dotted where they are nested."""
    for name, value in place.items():
        if isinstance(value, dict) and depth:
            yield from (f"{name}.{inner}" for inner in _paths(value, depth - 1))
        else:
            yield name


def _series(values: list[Any], index: pd.Index, as_text: bool) -> pd.Series:
    """A column: of text, whole numbers or floats where all are of the kind, else as they are."""
    kinds = set(map(type, values)) - {type(None)}
    if as_text:
        return pd.Series([v if v is None or type(v) is str else _shown(v) for v in values], index, dtype=object)
    if kinds == {int} and None not in values:
        try:
            return pd.Series(np.array(values, np.int64), index)
        except OverflowError:
            pass
    if kinds <= {int, float}:
        return pd.Series([np.nan if v is None else float(v) for v in values], index, dtype=np.float64)
    return pd.Series(values, index, dtype=object)


def _lines(stream: io.BufferedReader, file: File) -> Messages:
    """Messages that stand in a line each; empty lines are skipped, and counted."""
    decoder = msgspec.json.Decoder()
    number, left = 0, b""
    while True:
        block = stream.read(_AT_ONCE)
        lines = (left + block).split(b"\n")
        left = lines.pop() if block else b""
        if len(left) > _MOST:
            raise DataError(f"{file.path}: row {number + len(lines) + 1}: wanted one message per line; it has no end")
        for line in lines:
            if line.strip(b"\xef\xbb\xbf \t\r"):
                try:
                    yield number, decoder.decode(line.lstrip(b"\xef\xbb\xbf"))
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    raise DataError(
                        f"{file.path}: row {number + 1}: wanted one JSON message per line; {error}"
                    ) from None
            number += 1
        if not block:
            return


def objects(stream: io.BufferedReader, file: File) -> Messages:
    """Messages in an array, or one after another; memory for some at a time."""
    decoder, text, at, number = json.JSONDecoder(), "", 0, 0
    reader = io.TextIOWrapper(stream, encoding="utf-8-sig")
    array = ended = False
    while True:
        while at < len(text) and text[at] in _BETWEEN:
            at += 1
        if at == len(text) and ended:
            break
        if at < len(text) and not number and not array and text[at] == "[":
            array, at = True, at + 1
            continue
        if at < len(text) and array and text[at] == "]":
            array, at = False, at + 1
            continue
        try:
            value, end = decoder.raw_decode(text, at)
            whole = ended or end < len(text)  # a number may go on in what is not read yet
        except (ValueError, RecursionError) as error:
            if ended or not _cut_off(error, len(text)):
                raise DataError(f"{file.path}: row {number + 1}: wanted JSON; {error}") from None
            whole = False
        if whole:
            yield number, value
            at, number = end, number + 1
            continue
        if len(text) - at > _MOST:
            raise DataError(
                f"{file.path}: row {number + 1}: wanted a message of at most {_MOST >> 20} MB; it has no end"
            )
        try:
            more = reader.read(max(_AT_ONCE, len(text) - at))
        except UnicodeDecodeError as error:
            raise DataError(f"{file.path}: wanted JSON in UTF-8; {error}") from None
        text, at, ended = text[at:] + more, 0, not more
    if array:
        raise DataError(f"{file.path}: wanted a whole JSON array; it is cut off after row {number}")


def _cut_off(error: Exception, length: int) -> bool:
    """Whether an error of the decoder may be for want of what is not read yet."""
    return isinstance(error, json.JSONDecodeError) and (error.pos > length - 32 or error.msg.startswith("Unterminated"))


def _shown(value: Any) -> str:
    return "nothing" if value is _ABSENT else json.dumps(value, ensure_ascii=False)[:64]
