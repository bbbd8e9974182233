"""What a configuration says of fields that is not so, each fault with the likely remedy.

Not inside: what the daemon's decoder refuses (`examining`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streamer.config import RecordsConfig
from streamer.formats.nearest import nearest
from streamer.offline.look.choosing import KAFKA, KEY
from streamer.offline.look.fields import NOTHING, NUMBER, NUMBER_IN_TEXT, NUMERIC, TEXT, Field, profile
from streamer.offline.look.looking import Look
from streamer.offline.look.movement import codes_of, movement
from streamer.offline.look.partitions import split_of
from streamer.offline.look.recognising import NAMES
from streamer.offline.look.shapes import flatten

_NAMED = 20  # fields that a message names
_HEADER = "@header:"


@dataclass(frozen=True, slots=True)
class Fit:
    """What does not fit, and what only looks odd."""

    faults: Sequence[str]  # nothing good can come of it
    remarks: Sequence[str]


def compare(records: RecordsConfig, seen: Look) -> Fit:
    """A configuration against what messages look like by themselves."""
    faults: list[str] = []
    remarks: list[str] = []
    if seen.sample.is_file and seen.recognised.format == "influx":
        return Fit(["it is Influx line protocol, which is read from Kafka, not from files"], [])
    if seen.sample.is_file:
        # The rest is for `connectors.files` to say, which knows more of how files are written.
        return Fit(list(_wrong_time(records, seen.fields, seen)), [])
    known = seen.recognised.format
    if known in NAMES and known != records.format:
        return Fit([f"the messages are {NAMES[known]}, not {NAMES[records.format]}: records.format: {known}?"], [])
    fields = dict(seen.fields)
    if records.readings != seen.rows.readings and known not in ("influx", "csv", "tsv"):
        rows = flatten(seen.recognised.documents, records.readings, found=False).rows
        fields = profile(rows)
        wanted = [records.timestamp, *records.features] if records.metric is None else [records.value]
        if not rows:
            faults.append(
                f"no message has an array of readings at {records.readings!r}"
                + (
                    f": records.readings: {seen.rows.readings!r}?"
                    if seen.rows.readings
                    else ": leave records.readings out?"
                )
            )
            return Fit(faults, remarks)
        if records.readings is None and any(name in seen.rows.inside and name not in fields for name in wanted):
            faults.append(
                f"messages hold an array of readings at {seen.rows.readings!r}, with fields "
                f"{_list(sorted(seen.rows.inside))}: records.readings: {seen.rows.readings!r}?"
            )
            return Fit(faults, remarks)
    every = {**fields, **seen.pseudo}
    faults += _absent(records, every, seen)
    faults += _wrong_time(records, every, seen)
    faults += _wrong_values(records, fields)
    remarks += _odd_stream(records, every, seen)
    remarks += _split(records, every, seen)
    return Fit(faults, remarks)


def _absent(records: RecordsConfig, every: Mapping[str, Field], seen: Look) -> Iterator[str]:
    """Fields that no message has."""
    wanted = [("stream", name) for name in records.stream] + [("timestamp", records.timestamp)]
    if records.metric is None:
        wanted += [("features", name) for name in records.features]
    else:
        wanted += [("metric", records.metric), ("value", records.value)]
    wanted += [("sequence", records.sequence)] if records.sequence else []
    fields = [name for name in every if not name.startswith("@")]
    rest = set(fields) - {name for _, name in wanted}
    absent = [(key, name) for key, name in wanted if name not in every or every[name].kind == NOTHING]
    for key, name in absent:
        if name == KEY:
            yield f"no message has a key that is text, and records.stream is {KEY!r}: is it a field? {_list(fields)}"
        elif name == KAFKA or name.startswith(_HEADER):
            yield f"no message has {name}, which records.timestamp names; fields are {_list(fields)}"
        else:
            meant = _meant(key, name, rest, seen)
            yield f"no message has field {name!r} (records.{key}){meant}; fields are {_list(fields)}"
    if records.metric is not None and records.metric in every:
        names = every[records.metric].texts
        found = set() if names is None else {str(name) for name in names if name is not None}
        missing = [name for name in records.features if name not in found]
        if found and len(missing) == len(records.features):
            close = nearest(missing[0], sorted(found), cutoff=0.7)
            hint = f", did you mean {close!r}?" if close else ""
            yield (
                f"no message is of a metric in records.features {_list(missing)}{hint}; field {records.metric!r} names "
                f"{_list(sorted(found))}"
            )


def _meant(key: str, name: str, rest: set[str], seen: Look) -> str:
    """The field that was probably meant: by its name, else by what it holds."""
    chosen = seen.chosen
    close = nearest(name, sorted(rest), cutoff=0.7)
    if close is None and key == "timestamp" and chosen.timestamp != name:
        close = chosen.timestamp
    if close is None and key == "stream" and len(chosen.stream) == 1:
        close = chosen.stream[0]
    if close is None and key == "metric" and chosen.metric is not None:
        close = chosen.metric.name
    if close is None and key == "value" and chosen.value is not None:
        close = chosen.value.name
    return f": did you mean {close!r}?" if close is not None and close != name else ""


def _wrong_time(records: RecordsConfig, every: Mapping[str, Field], seen: Look) -> Iterator[str]:
    """Times that are in another unit, or are none."""
    field = every.get(records.timestamp)
    if field is None or field.kind == NOTHING or records.timestamp == KAFKA or seen.recognised.format == "parquet":
        return
    unit = records.timestamp_unit
    if field.unit is None:
        other = seen.chosen.timestamp
        hint = f"; times are in {other!r}: records.timestamp: {other}?" if other and other != field.name else ""
        if field.kind in NUMERIC and field.range is not None and unit != "iso8601":
            yield f"field {field.name!r} (records.timestamp) holds {_shown(field)}, in no unit a time of our days{hint}"
        elif field.kind not in NUMERIC and not seen.sample.is_file:
            yield f"field {field.name!r} (records.timestamp) holds {_shown(field)}, which is no time in ISO 8601{hint}"
    elif field.unit != unit and not (seen.sample.is_file and field.unit == "s" and unit == "iso8601"):
        what = "ISO 8601" if unit == "iso8601" else f"numbers in {unit}"
        yield (
            f"field {field.name!r} (records.timestamp) holds {_shown(field)}, not {what}: "
            f"records.timestamp_unit: {field.unit}?"
        )


def _wrong_values(records: RecordsConfig, fields: Mapping[str, Field]) -> Iterator[str]:
    """Features that are no numbers."""
    names = records.features if records.metric is None else (records.value,)
    for name in names:
        field = fields.get(name)
        if field is None or field.kind in (NUMBER, NOTHING):
            continue
        if field.kind == NUMBER_IN_TEXT:
            if not records.text_numbers and records.format not in ("csv", "tsv"):
                what = f"field {name!r} (records.features) holds numbers as text, such as {_shown(field)}"
                yield f"{what}: records.text_numbers: true?"
            continue
        others = [other.name for other in fields.values() if other.kind in NUMERIC and other.times_ns is None]
        yield f"field {name!r} (records.features) holds {_shown(field)}, no numbers; numbers are in {_list(others)}"


def _odd_stream(records: RecordsConfig, every: Mapping[str, Field], seen: Look) -> Iterator[str]:
    """A stream field in which times do not move forward, where they do in another."""
    columns = [every[name] for name in records.stream if name in every]
    if not columns or len(columns) < len(records.stream) or len(seen.run) != columns[0].rows:
        return
    if all(column.kind == TEXT for column in columns) and columns[0].distinct > 0.9 * columns[0].rows > 20:
        yield (
            f"almost every message has a stream of its own (records.stream: {'/'.join(records.stream)}, such as "
            f"{_shown(columns[0])}){_instead(records, seen)}"
        )
        return
    time = every.get(records.timestamp)
    if (
        time is None
        or time.times_ns is None
        or not seen.chosen.stream
        or set(seen.chosen.stream) == set(records.stream)
    ):
        return
    metric = every[records.metric].texts if records.metric and records.metric in every else None
    by = [] if metric is None else [list(metric)]
    mine = movement(time.times_ns, codes_of(seen.run, *map(_column, columns), *by))
    other = movement(time.times_ns, codes_of(seen.run, seen.chosen.group, *by))
    if mine.same + mine.back > other.same + other.back + 0.3:
        yield (
            f"{mine.same + mine.back:.0%} of the readings of a stream do not move forward in time (records.stream: "
            f"{'/'.join(records.stream)}){_instead(records, seen)}"
        )


def _split(records: RecordsConfig, every: Mapping[str, Field], seen: Look) -> Iterator[str]:
    """Streams, as configured, that are in several partitions."""
    columns = [_column(every[name]) for name in records.stream if name in every]
    if len(columns) < len(records.stream) or not columns or len(columns[0]) != len(seen.partition):
        return
    names, codes = np.unique(
        np.array(["/".join(map(str, row)) for row in zip(*columns, strict=True)], object), return_inverse=True
    )
    found = split_of(codes.astype(np.int64), [str(name) for name in names], seen.partition)
    if found is not None:
        yield found.words()


def _column(field: Field) -> Sequence[object]:
    column = field.texts if field.texts is not None else field.numbers
    return [] if column is None else list(column)


def _instead(records: RecordsConfig, seen: Look) -> str:
    if not seen.chosen.stream or set(seen.chosen.stream) == set(records.stream):
        return ""
    return f": did you mean {'/'.join(seen.chosen.stream)!r}?"


def _shown(field: Field) -> str:
    text = repr(field.example)
    return text if len(text) <= 60 else text[:57] + "..."


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "") if names else "none"
