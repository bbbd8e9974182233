"""Why a message is no reading, in plain words: which field, what was wanted, what came, what may help.

Only rejects are looked at, so nothing here needs to be fast. Not inside: finding out which messages are rejects.
"""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Any

import msgspec

from streamer.formats.interface import FormatOptions
from streamer.formats.nearest import nearest
from streamer.formats.shapes import fields_of, stream_fields
from streamer.formats.timestamps import NS_PER_UNIT

ABSENT = object()
_YEAR_1990_NS, _YEAR_2100_NS = 631_152_000_000_000_000, 4_102_444_800_000_000_000
_SHOWN = 64  # characters of a value
_NAMED = 12  # fields of a message


def explain(document: Any, options: FormatOptions, *, several: bool = False, lax: bool = False) -> str | None:
    """What does not fit in a parsed message, or in one element of its array; None if nothing is found.

    Args:
        document: As parsed: dicts, lists and plain values.
        options: What was wanted.
        several: It is an element of an array; what it lacks may stand beside the array.
        lax: Values are text, which may be a number.
    """
    if not isinstance(document, dict):
        return f"a reading is an object with named fields; got {kind_of(document)}"
    fill = options.missing == "fill"
    for name in fields_of(options):
        value, where = walk(document, name)
        if value is ABSENT:
            if where is not None:
                return where
            if not several and not (fill and name in options.features):
                return missing_field(document, name)
        elif problem := _problem(name, _number_in(value) if lax else value, options, lax=lax):
            return problem
    return None


def missing_field(document: Any, name: str) -> str:
    """A field that is not there, and those that are."""
    names = [str(key) for key in document][: 10 * _NAMED] if isinstance(document, dict) else []
    text = f"field {name!r} is missing"
    meant = _meant(name, tuple(one for one in names if len(one) <= _SHOWN))
    if meant is not None:
        return f"{text}; did you mean {meant!r}?"
    shown = ", ".join(_short(repr(key)) for key in names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return f"{text}; there is {shown}" if shown else text


@functools.lru_cache(maxsize=256)
def _meant(name: str, names: tuple[str, ...]) -> str | None:
    """The name that is most like one that is not there. Of a flood of messages most have the same fields."""
    return nearest(name, names)


def walk(document: Any, path: str) -> tuple[Any, str | None]:
    """The value at a dotted path, or ABSENT and, if something else stands in its way, what."""
    inside, been = document, ""
    for part in path.split("."):
        if not isinstance(inside, dict):
            return ABSENT, f"field {been!r} must be an object that holds {path!r}; got {kind_of(inside)}"
        if part not in inside:
            return ABSENT, None
        inside, been = inside[part], f"{been}.{part}" if been else part
    return inside, None


def _number_in(text: Any) -> Any:
    try:
        return msgspec.convert(text, int | float | None, strict=False)
    except msgspec.ValidationError:
        return text


def _problem(name: str, value: Any, options: FormatOptions, *, lax: bool) -> str | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if lax and (name in stream_fields(options) or name == options.metric):
        return None
    if name in stream_fields(options) or name == options.metric:
        text = isinstance(value, str) or (number and isinstance(value, int))
        return None if text else f"field {name!r} must be text, a name; got {kind_of(value)}"
    if name == options.timestamp:
        if lax and options.timestamp_unit == "iso8601":
            return None
        return wrong_time_kind(name, value, options.timestamp_unit)
    if name == options.sequence:
        whole = number and isinstance(value, int)
        return None if whole else f"field {name!r} must be a whole number; got {kind_of(value)}"
    if number or (options.metric is not None) or (value is None and options.missing == "fill"):
        return None
    return f"field {name!r} must be a number; got {kind_of(value)}"


def wrong_time_kind(name: str, value: Any, unit: str) -> str | None:
    """A number where text was wanted, or the other way round; None if it is neither."""
    if isinstance(value, datetime):
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if unit == "iso8601" and not isinstance(value, str):
        if number:
            return f"field {name!r} holds {kind_of(value)}, not ISO 8601 text{_unit_hint(value, unit)}"
        return f"field {name!r} must be ISO 8601 text; got {kind_of(value)}"
    if unit != "iso8601" and not number:
        hint = "; records.timestamp_unit: iso8601?" if isinstance(value, str) else ""
        return f"field {name!r} must be a number of {unit} since 1970; got {kind_of(value)}{hint}"
    if unit == "ns" and isinstance(value, float):
        return f"field {name!r} must be a whole number of ns since 1970; got {kind_of(value)}{_unit_hint(value, unit)}"
    return None


def say_time(raw: Any, unit: str) -> str:
    """A time that cannot be read, or lies before 1970 or after 2200."""
    got = _short(repr(raw))
    if unit == "iso8601":
        return f"wanted ISO 8601 between 1970 and 2200; got {got}{_unit_hint(raw, unit)}"
    hint = _unit_hint(raw, unit) or ": is records.timestamp_unit right?"
    return f"wanted {unit} since 1970, before 2200; got {got}{hint}"


def _unit_hint(value: Any, unit: str) -> str:
    found = likely_unit(value)
    return f"; records.timestamp_unit: {found}?" if found is not None and found != unit else ""


def likely_unit(value: Any) -> str | None:
    """The unit in which a number, or its text, is a time of our days; None if there is none.

    >>> [likely_unit(n) for n in (1_700_000_000, 1_700_000_000_123, "1700000000123456", 12.5)]
    ['s', 'ms', 'us', None]
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return next((unit for unit, per in NS_PER_UNIT.items() if _YEAR_1990_NS <= number * per < _YEAR_2100_NS), None)


def kind_of(value: Any) -> str:
    """What came, for people.

    >>> kind_of("on"), kind_of(None), kind_of(True), kind_of(3), kind_of({})
    ("text 'on'", 'null', 'true', 'number 3', 'an object')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"text {_short(repr(value[: 2 * _SHOWN]))}"
    if isinstance(value, (int, float)):
        return "an integer of many digits" if isinstance(value, int) and abs(value) >> 200 else f"number {value!r}"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "bytes"
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "an array"
    return f"a value of another kind ({type(value).__name__})"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
