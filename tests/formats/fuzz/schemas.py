"""Messages in the Confluent wire format, by schemas that are good, odd, or not there."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import random
from collections.abc import Callable
from typing import Any

import fastavro
from confluent_kafka.schema_registry import Schema, SchemaRegistryError
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

from streamer.config import RecordsConfig, SchemaRegistryConfig
from streamer.connectors.kafka.schema_registry import SchemaRegistry
from tests.formats.fuzz.messages import OBJECTS, MessageTarget, Write, write_json
from tests.formats.fuzz.mutations import ODD, bent, broken
from tests.registries import framed

_GOOD = range(1, 6)  # numbers of schemas
_ODD = range(100, 400)  # of schemas that are bent; all others are unknown

LAYOUTS: list[dict[str, Any]] = [
    {"features": ["a", "more.b"], "timestamp": "t", "timestamp_unit": "ms"},
    {"features": ["a", "more.b"], "timestamp": "t", "timestamp_unit": "ms", "missing": "fill", "sequence": "n"},
    {"features": ["a"], "timestamp": "t", "timestamp_unit": "ms", "readings": "rows", "zero_is_missing": ["a"]},
    {"features": ["heat", "cold"], "metric": "metric", "value": "a", "timestamp": "t", "timestamp_unit": "ms"},
    {"features": ["a"], "timestamp": "@kafka", "stream": "@key", "text_numbers": True},
]


def _record(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": key, "type": kind} for key, kind in fields.items()]}


_TIME = {"type": "long", "logicalType": "timestamp-millis"}
_ROW = {"stream": "string", "t": _TIME, "a": ["null", "double", "string"]}
AVRO = [
    _record("A", **_ROW, more={"type": "map", "values": ["long", "float", "boolean"]}, n="long", metric="string"),
    _record("B", **_ROW, rows={"type": "array", "items": _record("R", **_ROW)}),
    _record("C", **_ROW, more=_record("More", b=["null", {"type": "bytes", "logicalType": "decimal", "precision": 6}])),
    _record("D", stream=["int", "string"], t={"type": "long", "logicalType": "timestamp-micros"}, a="float", n="int"),
    _record(
        "E",
        stream={"type": "enum", "name": "Who", "symbols": ["x", "y"]},
        t=["null", {"type": "int", "logicalType": "date"}, {"type": "string", "logicalType": "uuid"}],
        a={"type": "fixed", "name": "F", "size": 4},
        metric="string",
    ),
]


class _Client:
    """The registry's client, without a registry."""

    def __init__(self, make: Callable[[int], tuple[str, str] | None]) -> None:
        self._make = make

    def get_schema(self, number: int, fmt: str | None = None) -> Any:
        made = self._make(number)
        if made is None:
            raise SchemaRegistryError(404, 40403, f"Schema {number} not found")
        return Schema(made[0], made[1])


def _target(name: str, kind: str, layouts: list[dict[str, Any]], make: Callable[[int], Any], write: Write) -> Any:
    registry = SchemaRegistry(SchemaRegistryConfig(url="http://127.0.0.1:1"), kind, clock=lambda: 0.0)
    registry._client = _Client(make)  # type: ignore[assignment]
    return MessageTarget(name, layouts, write, registry)


def _framed(rng: random.Random, number: int, message: bytes) -> bytes:
    if rng.random() < 0.15:
        number = rng.choice((rng.choice(_ODD), rng.choice(_GOOD), 0, 2**32 - 1, 10**6))
    return framed(number, message)


# ---------------------------------------------------------------------------------------------------------------- Avro


def avro_target() -> Any:
    parsed = [fastavro.parse_schema(one) for one in AVRO]

    def make(number: int) -> tuple[str, str] | None:
        if number in _GOOD:
            return json.dumps(AVRO[number - 1]), "AVRO"
        if number not in _ODD:
            return None
        rng = random.Random(number)
        odd = bent(rng, AVRO[rng.randrange(len(AVRO))])
        text = json.dumps(odd)
        return (text if number % 3 else broken(rng, text.encode(), [text.encode()]).decode("utf-8", "replace")), "AVRO"

    def write(rng: random.Random, config: RecordsConfig) -> bytes:
        number = rng.choice(_GOOD)
        while True:
            out = io.BytesIO()
            with contextlib.suppress(ValueError):  # a value that no branch of a union takes
                fastavro.schemaless_writer(out, parsed[number - 1], _avro_value(rng, AVRO[number - 1]))
                return _framed(rng, number, out.getvalue())

    return _target("avro", "AVRO", LAYOUTS, make, write)


def _avro_value(rng: random.Random, schema: Any) -> Any:
    if isinstance(schema, list):
        return _avro_value(rng, rng.choice(schema))
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        return {field["name"]: _avro_value(rng, field["type"]) for field in schema["fields"]}
    if kind == "array":
        return [_avro_value(rng, schema["items"]) for _ in range(rng.choice((0, 1, 3)))]
    if kind == "map":
        return {key: _avro_value(rng, schema["values"]) for key in rng.sample(("b", "", "c"), rng.randrange(3))}
    if kind == "enum":
        return rng.choice(schema["symbols"])
    if kind == "fixed":
        return rng.randbytes(4)
    if kind == "bytes":
        return rng.randbytes(rng.randrange(3))
    if kind == "string":
        return (
            "00000000-0000-0000-0000-00000000000a" if isinstance(schema, dict) else rng.choice(("s1", "heat", "", "3"))
        )
    numbers: dict[str, tuple[Any, ...]] = {
        "null": (None,),
        "boolean": (True, False),
        "int": (1, -1, 20_000, 2**31 - 1),
        "long": (1_760_000_000_000, 0, 2**63 - 1, -(2**63)),
        "float": (1.5, 0.0, float("nan"), float("inf")),
        "double": (1.5, 0.0, 1e300, float("nan"), 2.25),
    }
    return rng.choice(numbers[kind])


# ------------------------------------------------------------------------------------------------------------ Protobuf


_PLACES = [b"\x02\x00", b"\x02\x02", b"\x04\x00\x00", b"\x01", b"\xff" * 6]  # of a message in its file


def protobuf_target() -> Any:
    file = _file()
    text = file.SerializeToString()
    pool = descriptor_pool.DescriptorPool()
    times = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(times)
    pool.Add(times)
    pool.Add(file)
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("p.Reading"))

    def make(number: int) -> tuple[str, str] | None:
        if number in _GOOD:
            return base64.b64encode(text).decode(), "PROTOBUF"
        if number not in _ODD:
            return None
        return base64.b64encode(broken(random.Random(number), text, [text])).decode(), "PROTOBUF"

    def write(rng: random.Random, config: RecordsConfig) -> bytes:
        message = made(stream=rng.choice(("s1", "s2", "")), a=rng.choice((1.5, 2.0, 0.0, 1e300, float("nan"))))
        message.t.seconds = rng.choice((1_760_000_000, 1_760_000_001, 0, -1, 2**40, -(2**63)))
        message.t.nanos = rng.choice((0, 5, 6, 7, -1, 2**31 - 1))
        message.more.b = rng.choice((0, 1, -(2**63)))
        message.metric = rng.choice(("heat", "cold", "other"))
        message.kind = rng.choice((0, 1, 77))
        message.numbers["x"] = 1.0
        inside = message
        for _ in range(rng.choice((0, 0, 1, 3, 70))):
            inside = inside.rows.add(stream="s3", a=2.0)
            inside.t.seconds = 1_760_000_000
        place = b"\x00" if rng.random() < 0.8 else rng.choice(_PLACES)
        return _framed(rng, rng.choice(_GOOD), place + message.SerializeToString())

    return _target("protobuf", "PROTOBUF", LAYOUTS, make, write)


def _file() -> Any:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="readings.proto", package="p", syntax="proto3", dependency=["google/protobuf/timestamp.proto"]
    )
    reading = file.message_type.add(name="Reading")
    fields: list[tuple[str, int, int, str]] = [
        ("stream", kinds.TYPE_STRING, kinds.LABEL_OPTIONAL, ""),
        ("a", kinds.TYPE_DOUBLE, kinds.LABEL_OPTIONAL, ""),
        ("t", kinds.TYPE_MESSAGE, kinds.LABEL_OPTIONAL, ".google.protobuf.Timestamp"),
        ("more", kinds.TYPE_MESSAGE, kinds.LABEL_OPTIONAL, ".p.Reading.More"),
        ("rows", kinds.TYPE_MESSAGE, kinds.LABEL_REPEATED, ".p.Reading"),
        ("metric", kinds.TYPE_STRING, kinds.LABEL_OPTIONAL, ""),
        ("kind", kinds.TYPE_ENUM, kinds.LABEL_OPTIONAL, ".p.Kind"),
        ("n", kinds.TYPE_INT64, kinds.LABEL_OPTIONAL, ""),
        ("numbers", kinds.TYPE_MESSAGE, kinds.LABEL_REPEATED, ".p.Reading.NumbersEntry"),
        ("raw", kinds.TYPE_BYTES, kinds.LABEL_REPEATED, ""),
    ]
    for number, (name, kind, label, of) in enumerate(fields, 1):
        reading.field.add(name=name, number=number, type=kind, label=label, type_name=of or None)
    more = reading.nested_type.add(name="More")
    more.field.add(name="b", number=1, type=kinds.TYPE_SINT64, label=kinds.LABEL_OPTIONAL)
    entry = reading.nested_type.add(name="NumbersEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=kinds.TYPE_DOUBLE, label=kinds.LABEL_OPTIONAL)
    enum = file.enum_type.add(name="Kind")
    enum.value.add(name="NONE", number=0)
    enum.value.add(name="SOME", number=1)
    return file


# --------------------------------------------------------------------------------------------------------- JSON Schema


def json_schema_target() -> Any:
    def make(number: int) -> tuple[str, str] | None:
        if number in _ODD:
            return json.dumps(random.Random(number).choice(ODD)), "JSON"
        return (json.dumps({"type": "object"}), "JSON" if number < 5 else "AVRO") if number in _GOOD else None

    def write(rng: random.Random, config: RecordsConfig) -> bytes:
        return _framed(rng, rng.choice(_GOOD), write_json(rng, config))

    return _target("json-schema", "JSON", OBJECTS, make, write)
