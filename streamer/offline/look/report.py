"""What a look found, for people and as JSON.

Not inside: what is found (`looking`), what is proposed (`proposing`), what would be refused (`examining`).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from streamer.errors import DataError
from streamer.offline.look.examined import Examined
from streamer.offline.look.fields import Field
from streamer.offline.look.looking import Look
from streamer.offline.look.proposing import Proposal, plain
from streamer.offline.look.spans import say
from streamer.offline.look.writing import check_complete

_FIELDS = 60  # lines of the table
_CELL = 28  # characters of an example


def as_text(seen: Look, proposal: Proposal, examined: Examined | None, *, width: int = 118) -> str:
    """Tables and sentences for a terminal."""
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False, soft_wrap=False)
    sample, found = seen.sample, seen.recognised
    console.print(_origin(seen), markup=False)
    unreadable = len(found.failed) + found.empty
    detail = f", {found.why}" if found.why and found.schema_ids else ""
    console.print(f"format     {found.title}{detail}", markup=False)
    console.print(f"kind       {seen.features.kind}: {seen.features.kind_why}", markup=False)
    if seen.rows.readings:
        console.print(
            f"readings   an array at {seen.rows.readings}: {len(seen.rows.rows)} in {len(found.documents)} messages",
            markup=False,
        )
    if unreadable:
        first = f"; e.g. {_at(seen, found.failed[0][0])}: {found.failed[0][1]}" if found.failed else ""
        console.print(f"unreadable {unreadable} of {len(sample.messages)} messages{first}", markup=False)
    console.print()
    console.print(_field_table(seen))
    for label, lines in (
        ("when", _when(seen)),
        ("proposed", _proposed(proposal)),
        ("refused", _refused(seen, examined)),
    ):
        console.print()
        for i, line in enumerate(lines):
            console.print(f"{label if not i else '':<10} {line}", markup=False, soft_wrap=True)
    return out.getvalue().rstrip() + "\n"


def as_json(seen: Look, proposal: Proposal, examined: Examined | None) -> dict[str, Any]:
    """The same for programs."""
    timing, chosen = seen.timing, seen.chosen
    return {
        "origin": seen.sample.origin,
        "messages": {"looked_at": len(seen.sample.messages) or len(seen.rows.rows), "total": seen.sample.total},
        "readings": len(seen.rows.rows),
        "format": seen.recognised.format,
        "kind": seen.features.kind,
        "unreadable": {"messages": len(seen.recognised.failed), "empty": seen.recognised.empty},
        "fields": [_field(field, seen) for field in (*seen.fields.values(), *seen.pseudo.values())],
        "stream": {"fields": list(chosen.stream), "why": chosen.stream_why},
        "timestamp": {"field": chosen.timestamp, "unit": chosen.timestamp_unit, "why": chosen.timestamp_why},
        "metric": None if chosen.metric is None else chosen.metric.name,
        "features": [{"name": each.name, "why": each.why, "counter": each.counter} for each in seen.features.taken],
        "not_features": {each.name: each.why for each in seen.features.left},
        "streams": timing.streams,
        "in_several_partitions": None
        if seen.split is None
        else {"streams": seen.split.streams, "why": seen.split.words()},
        "readings_per_stream": dict(zip(("fewest", "median", "most"), timing.per_stream, strict=True)),
        "first": _date(timing.first_ns) if timing.readings else None,
        "last": _date(timing.last_ns) if timing.readings else None,
        "interval_s": timing.interval_s,
        "interval_quantiles_s": {str(q): value for q, value in timing.interval_quantiles_s},
        "late": timing.late,
        "late_quantiles_s": {str(q): value for q, value in timing.late_quantiles_s},
        "same_time": timing.same_time,
        "duplicates": timing.duplicates,
        "ahead": timing.ahead,
        "proposed": plain(proposal),
        "refused": None if examined is None else examined.as_json(),
    }


def _origin(seen: Look) -> str:
    sample = seen.sample
    if sample.is_file:
        return f"{sample.origin}: {len(seen.rows.rows)} rows looked at, of about {sample.total}"
    partitions = f"{sample.partitions} partition(s)"
    return f"{sample.origin}: {len(sample.messages)} of {sample.total} messages looked at, {partitions}"


def _at(seen: Look, row: int) -> str:
    message = seen.sample.messages[row]
    if seen.sample.is_file:
        return f"row {message.offset}"
    return f"[{message.partition}]@{message.offset}"


def _field_table(seen: Look) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("field", "type", "in", "different", "range or example", "taken as"):
        table.add_column(name, justify="right" if name in ("in", "different") else "left", overflow="fold")
    roles = _roles(seen)
    every = [*seen.fields.values(), *seen.pseudo.values()]
    for field in every[:_FIELDS]:
        table.add_row(
            field.name,
            _kind(field),
            f"{field.coverage:.1%}",
            str(field.distinct),
            _range(field),
            roles.get(field.name, ""),
        )
    if len(every) > _FIELDS:
        table.add_row(f"and {len(every) - _FIELDS} more", "", "", "", "", "")
    return table


def _kind(field: Field) -> str:
    if field.times_ns is not None:
        return "ISO 8601 time" if field.unit == "iso8601" else f"{field.kind}, time in {field.unit}"
    return f"{field.kind} (decimal comma)" if field.comma else field.kind


def _range(field: Field) -> str:
    if field.times_ns is not None:
        known = field.times_ns[field.times_ns != np.iinfo(np.int64).min]
        return f"{_date(int(known.min()))} to {_date(int(known.max()))}" if len(known) else ""
    if field.range is not None:
        return f"{field.range[0]:g} to {field.range[1]:g}"
    text = str(field.example) if field.example is not None else ""
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return clean if len(clean) <= _CELL else clean[: _CELL - 3] + "..."


def _roles(seen: Look) -> dict[str, str]:
    chosen = seen.chosen
    roles = {each.name: f"- {each.why}" for each in seen.features.left}
    roles |= dict.fromkeys(chosen.stream, "stream")
    if chosen.timestamp:
        roles[chosen.timestamp] = f"time, {chosen.timestamp_why}"
    for each in seen.features.taken:
        roles[each.name] = "feature, its rate" if each.counter else "feature"
    if chosen.metric is not None and chosen.value is not None:
        roles |= {chosen.metric.name: "metric", chosen.value.name: "value of the metric"}
    if seen.features.sequence is not None:
        roles[seen.features.sequence.name] = "sequence number"
    return roles


def _when(seen: Look) -> list[str]:
    timing = seen.timing
    if not timing.readings:
        return [seen.chosen.timestamp_why]
    fewest, middle, most = timing.per_stream
    top = ", ".join(f"{name} {count}" for name, count in timing.largest)
    lines = [] if seen.split is None else [f"WARNING: {seen.split.words()}"]
    lines += [
        f"{_date(timing.first_ns)} to {_date(timing.last_ns)}",
        f"{timing.streams} stream(s), {fewest} to {most} readings each, median {middle}: {top}",
    ]
    if timing.interval_s is not None:
        spread = ", ".join(f"{q:.0%} {say(value)}" for q, value in timing.interval_quantiles_s)
        word = "regular" if timing.regular else "irregular"
        whose = "of a metric" if seen.chosen.metric else "of a stream"
        lines.append(f"a reading {whose} every {say(timing.interval_s)}, {word} ({spread})")
    late = "none is older than its stream's newest"
    if timing.late:
        spread = ", ".join(f"{q:.1%} {say(value)}" for q, value in timing.late_quantiles_s)
        late = f"{timing.late:.2%} are older than their stream's newest, by up to ({spread})"
    lines.append(late)
    same = f"{timing.same_time:.2%} at a time at which their stream has another"
    lines.append(f"{same}, {timing.duplicates:.2%} equal in every field")
    if timing.ahead:
        lines.append(f"{timing.ahead:.2%} more than an hour ahead of the broker's clock")
    return lines


def _proposed(proposal: Proposal) -> list[str]:
    lines = []
    for section, settings in proposal.items():
        for setting in settings:
            value = ", ".join(map(str, setting.value)) if isinstance(setting.value, list) else setting.value
            if isinstance(value, dict):
                value = "; ".join(f"{name}: {text}" for name, text in value.items())
            lines.append(f"{section}.{setting.key}: {value}" + (f"  ({setting.seen})" if setting.seen else ""))
    return lines


def _refused(seen: Look, examined: Examined | None) -> Sequence[str]:
    if examined is None:
        try:
            check_complete(seen)
        except DataError as error:
            return [f"not tried: {error}"]
        return ["not tried"]
    return [line for line in examined.lines() if seen.split is None or line != seen.split.words()]


def _field(field: Field, seen: Look) -> dict[str, Any]:
    return {
        "name": field.name,
        "type": field.kind,
        "coverage": field.coverage,
        "distinct": field.distinct,
        "range": field.range,
        "time_unit": field.unit,
        "example": str(field.example)[:200],
        "taken_as": _roles(seen).get(field.name, ""),
    }


def _date(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
