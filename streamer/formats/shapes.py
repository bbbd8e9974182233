"""The shape of a message, as types that msgspec decodes or converts into.

Inside: dotted field names to nested types, where each field's value is found, and the same for a message that holds
an array of readings. Not inside: what the values mean, and what becomes of messages that do not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from streamer.formats.interface import HEADER, KAFKA_TIME, KEY, ROOT, FormatOptions

OPTIONAL = float | None
NAME = str | int  # of a stream or a metric

Getter = Callable[[Any], Any]


def build_struct(name: str, kinds: dict[str, Any]) -> tuple[type, dict[str, str]]:
    """A msgspec type for dotted field names, and the attribute path of each.

    A field that may be missing is None or UNSET then, and so are all fields of an object that may be missing.

    Field names come from the configuration and may be no Python names, so attributes
    are numbered and the names are given to msgspec as aliases.
    """
    fields: list[Any] = []
    aliases: dict[str, str] = {}
    paths: dict[str, str] = {}
    groups: dict[str, dict[str, Any]] = {}
    for field, kind in kinds.items():
        head, dot, rest = field.partition(".")
        if dot:
            groups.setdefault(head, {})[rest] = kind
        else:
            attribute = f"f{len(fields)}"
            fields.append((attribute, kind, _default(kind)) if _may_miss(kind) else (attribute, kind))
            aliases[attribute] = field
            paths[field] = attribute
    for head, inside in groups.items():
        shape, inner = build_struct(f"{name}_{len(fields)}", inside)
        attribute = f"f{len(fields)}"
        optional = all(map(_may_miss, inside.values()))
        fields.append((attribute, shape, msgspec.field(default_factory=shape)) if optional else (attribute, shape))
        aliases[attribute] = head
        paths |= {f"{head}.{rest}": f"{attribute}.{path}" for rest, path in inner.items()}
    # No cycles can arise from messages, so the garbage collector need not track readings.
    return msgspec.defstruct(name, fields, rename=aliases, gc=False, kw_only=True), paths


def _may_miss(kind: Any) -> bool:
    return kind is OPTIONAL or UnsetType in getattr(kind, "__args__", ())


def _default(kind: Any) -> Any:
    return None if kind is OPTIONAL else UNSET


class Layout:
    """Where in a message the fields of its readings are.

    Args:
        options: Names of the fields.
        time: Type of the event time.
        several: Whether a message is an array of readings, whatever `options.readings` says.
    """

    def __init__(self, options: FormatOptions, *, time: Any, several: bool = False) -> None:
        self.options = options
        self.path = ROOT if several else options.readings  # of the array of readings
        self.several = self.path is not None
        self.any_time = time is Any
        self.long = options.metric is not None
        wanted = fields_of(options)
        kinds = {name: _kind(name, options, time) for name in wanted}
        if self.several:
            kinds = {name: _or_unset(kind) for name, kind in kinds.items()}
        self.element, paths = build_struct("Reading", kinds)
        self.message: Any = self.element
        self.getters: dict[str, Getter] = {name: attrgetter(path) for name, path in paths.items()}
        self.values_of: Getter | None = None
        if not self.several and not self.long:
            self.values_of = attrgetter(*(paths[name] for name in options.features))
        self.common: dict[str, Getter] = {}  # of what stands beside the array
        self.array: Getter = _whole
        if self.path == ROOT:
            self.message = list[self.element]  # type: ignore[name-defined]
        elif self.path is not None:
            beside = {n: k for n, k in kinds.items() if not (n + ".").startswith(self.path + ".")}
            self.message, paths = build_struct("Message", beside | {self.path: list[self.element]})  # type: ignore[name-defined]
            self.array = attrgetter(paths.pop(self.path))
            self.common = {name: attrgetter(path) for name, path in paths.items()}


def fields_of(options: FormatOptions) -> list[str]:
    """All fields that readings are made of, without those that are no fields of the message."""
    names = list(stream_fields(options))
    if options.timestamp != KAFKA_TIME and not options.timestamp.startswith(HEADER):
        names.append(options.timestamp)
    names += [options.metric, options.value] if options.metric is not None else options.features
    return names + ([options.sequence] if options.sequence is not None else [])


def stream_fields(options: FormatOptions) -> Sequence[str]:
    """Fields that make up the name of the stream; none if the key does."""
    return tuple(name for name in options.stream if name != KEY)


def time_kind(options: FormatOptions) -> Any:
    """Type of the event time in formats whose values are text and numbers."""
    return {"iso8601": str, "ns": int}.get(options.timestamp_unit, int | float)


def _kind(name: str, options: FormatOptions, time: Any) -> Any:
    if name in stream_fields(options) or name == options.metric:
        return NAME
    if name == options.timestamp:
        return time
    if name == options.sequence:
        return int
    if options.metric is not None:
        return Any  # a metric that is not configured may be anything
    return OPTIONAL if options.missing == "fill" else float


def _or_unset(kind: Any) -> Any:
    # With Any in it, msgspec takes a union for Any, but the default tells what is absent all the same.
    return kind | UnsetType if kind is not Any else _ANY


def _whole(message: Any) -> Any:
    return message


_ANY = Any | UnsetType
