"""Date and time of day that stand in two columns of a file: found, and joined to one field.

Pure. Not inside: which field is the time (`choosing`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from streamer.offline.look.fields import NO_TIME, TEXT, Field, field_of

_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}([.,]\d{1,9})?)?( ?[AaPp]\.?[Mm]\.?)?$")
_DAY_NS = 86_400_000_000_000


def join_time(
    fields: Mapping[str, Field], rows: Sequence[Mapping[str, Any]], declared: Sequence[str], date_format: str | None
) -> tuple[Mapping[str, Field], tuple[str, ...]]:
    """Fields with one in place of date and time of day, and the names of those; fields as they are if there are none.

    Args:
        fields: Of the rows.
        rows: Flat.
        declared: Columns that make up the time, if they are known.
        date_format: Of their texts joined by a space, if it is known.
    """
    names = tuple(declared) if len(declared) > 1 else _found(fields)
    if not names or not all(name in fields for name in names):
        return fields, ()
    values = [" ".join(str(row.get(name) or "") for name in names).strip() or None for row in rows]
    joined = field_of(" ".join(names), values, dates=True, date_format=date_format)
    if joined.times_ns is None and not joined.unclear:
        return fields, ()
    return {joined.name: joined, **{name: field for name, field in fields.items() if name not in names}}, names


def _found(fields: Mapping[str, Field]) -> tuple[str, ...]:
    date = next((field.name for field in fields.values() if _is_date(field)), None)
    clock = next((field.name for field in fields.values() if _is_clock(field)), None)
    return () if date is None or clock is None else (date, clock)


def _is_date(field: Field) -> bool:
    if field.unclear:
        return ":" not in str(field.example)
    if field.times_ns is None or field.texts is None or field.coverage < 0.9:
        return False
    known = field.times_ns[field.times_ns != NO_TIME]
    return len(known) > 0 and not (known % _DAY_NS).any()


def _is_clock(field: Field) -> bool:
    if field.kind != TEXT or field.texts is None or field.coverage < 0.9:
        return False
    return all(_CLOCK.match(str(text).strip()) for text in field.texts if text is not None)
