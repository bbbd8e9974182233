"""Protobuf messages by schemas of a registry, without generated code.

Not inside: asking the registry (`schema_registry`).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any

from google.protobuf import (  # the types that schemas may import without the registry having them
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from streamer.formats.rejects import MALFORMED, Refused

_KNOWN = {
    module.DESCRIPTOR.name: module.DESCRIPTOR
    for module in (any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
}
_WRAPPERS = frozenset(f"google.protobuf.{name}" for name in wrappers_pb2.DESCRIPTOR.message_types_by_name)
_DEEPEST = 64


def protobuf_reader(schema_id: int, text: str, references: Mapping[str, str]) -> Callable[[bytes], Any]:
    """What reads messages of a schema.

    Args:
        schema_id: Its number, for what is said of bad messages.
        text: A file descriptor, serialized, in base64.
        references: The same of files it imports, by name, those first that others import.

    Raises:
        Exception: It is no such thing.
    """
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(proto: Any) -> None:
        for name in proto.dependency:
            if name in _KNOWN and name not in added:
                known = descriptor_pb2.FileDescriptorProto()
                _KNOWN[name].CopyToProto(known)
                add(known)
        pool.Add(proto)
        added.add(proto.name)

    for name, serialized in references.items():
        add(_file(serialized, name))
    file = _file(text, f"streamer-schema-{schema_id}.proto")
    add(file)
    pool.FindFileByName(file.name)  # raises here and now if the pool cannot make sense of it
    classes: dict[tuple[int, ...], Any] = {}

    def read(value: bytes) -> Any:
        path, start = _message_path(value)
        try:
            made = classes.get(path)
            if made is None:
                made = classes[path] = GetMessageClass(pool.FindMessageTypeByName(_name(file, path)))
            return _plain(made.FromString(value[start:]), 0)
        except (DecodeError, IndexError, ValueError, OverflowError) as error:
            raise Refused(MALFORMED, f"the bytes are not what Protobuf schema {schema_id} says: {error}") from None

    return read


def _file(text: str, name: str) -> Any:
    proto = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    proto.name = name
    return proto


def _message_path(value: bytes) -> tuple[tuple[int, ...], int]:
    """Which message of the file: numbers of messages inside each other, and where the message begins."""
    count, at = _number(value, 0)
    if count == 0:
        return (0,), at  # the first message, as one number
    if not 0 < count <= _DEEPEST:
        raise Refused(MALFORMED, f"wanted the place of a message in its Protobuf file; got {count} numbers")
    path = []
    for _ in range(count):
        number, at = _number(value, at)
        path.append(number)
    return tuple(path), at


def _number(value: bytes, at: int) -> tuple[int, int]:
    """A variable-length number in zigzag order."""
    found = shift = 0
    for byte in value[at : at + 5]:
        at += 1
        found |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return (found >> 1) ^ -(found & 1), at
        shift += 7
    raise Refused(MALFORMED, "wanted the place of a message in its Protobuf file; got too few bytes")


def _name(file: Any, path: tuple[int, ...]) -> str:
    if min(path) < 0:
        raise IndexError("no such message in the file")
    message = file.message_type[path[0]]
    names = [file.package, message.name] if file.package else [message.name]
    for number in path[1:]:
        message = message.nested_type[number]
        names.append(message.name)
    return ".".join(names)


def _plain(message: Message, depth: int) -> Any:
    """Dicts, lists and plain values; a field that is not set and says so is left out."""
    if depth > _DEEPEST:
        raise RecursionError
    kind = message.DESCRIPTOR.full_name
    if kind == "google.protobuf.Timestamp":
        return message.ToDatetime(UTC)
    if kind in _WRAPPERS:
        return message.value
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            nested = field.message_type.fields_by_name["value"].message_type is not None
            value = {str(key): _plain(value[key], depth + 1) if nested else value[key] for key in value}
        elif field.is_repeated:
            value = [_plain(one, depth + 1) for one in value] if field.message_type is not None else list(value)
        elif field.message_type is not None:
            value = _plain(value, depth + 1)
        elif field.enum_type is not None:
            one = field.enum_type.values_by_number.get(value)
            value = one.name if one is not None else value
        found[field.name] = value
    return found
