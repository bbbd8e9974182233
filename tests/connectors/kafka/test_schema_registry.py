"""Avro, JSON Schema and Protobuf by a schema registry: what is read, what is refused, what waits."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.config import Settings
from streamer.connectors.kafka.decoding import decoder_for
from streamer.connectors.kafka.schema_registry import ASK_AGAIN_S, SchemaRegistry
from streamer.core.keyed_state import KeyedState
from streamer.errors import ConfigError, SchemasUnavailable
from streamer.formats import Decoded, Decoder
from streamer.formats.rejects import Refused
from tests import registries
from tests.messages import batch
from tests.registries import Registry, framed

fastavro = pytest.importorskip("fastavro", reason="needs streamer[schema-registry]")
descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2", reason="needs streamer[schema-registry]")

AT_MS = 1_700_000_000_123
READING = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {"name": "device", "type": "string"},
        {"name": "t", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "a", "type": ["null", "double"]},
        {"name": "more", "type": {"type": "map", "values": "long"}},
    ],
}
GOOD = {"device": "x", "t": datetime.fromtimestamp(AT_MS / 1000, UTC), "a": 1.5, "more": {"b": 7}}


@pytest.fixture
def registry() -> Iterator[Registry]:
    with registries.running() as made:
        made.add(7, READING)
        yield made


def avro(reading: Any, schema: Any = READING, number: int = 7) -> bytes:
    content = io.BytesIO()
    fastavro.schemaless_writer(content, fastavro.parse_schema(schema), reading)
    return framed(number, content.getvalue())


def configured(registry: Registry, format: str = "avro", **changes: Any) -> Settings:
    records = {"format": format, "stream": "device", "timestamp": "t", "features": ["a", "more.b"]} | changes
    return Settings.model_validate({"records": records, "schema_registry": {"url": registry.url}})


def decoder(registry: Registry, format: str = "avro", **changes: Any) -> Decoder:
    return decoder_for(configured(registry, format, **changes), KeyedState())


def decode(some: Decoder, values: Sequence[bytes | None]) -> Decoded:
    decoded = some.decode(batch(values))
    assert len(values) + decoded.extra == len(decoded.readings) + len(decoded.rejects) + decoded.ignored
    return decoded


# -------------------------------------------------------------------------------------------------------------- Avro


def test_an_avro_record_is_a_reading_and_its_logical_time_needs_no_unit(registry: Registry) -> None:
    some = decoder(registry)

    decoded = decode(some, [avro(GOOD), avro(GOOD | {"device": "y"})])

    assert some.streams.names == ["x", "y"]
    assert decoded.readings.time_ns.tolist() == [AT_MS * 1_000_000] * 2
    assert decoded.readings.values.tolist() == [[1.5, 7]] * 2


def test_a_schema_is_asked_for_once(registry: Registry) -> None:
    some = decoder(registry)

    for _ in range(3):
        decode(some, [avro(GOOD)] * 5)

    assert [path.partition("?")[0] for path in registry.asked] == ["/schemas/ids/7"]


ROWS = st.tuples(
    st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(-(2**31), 2**31), st.integers(0, 4 * 10**12)
)


@given(st.lists(ROWS, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_what_avro_writes_is_read_back(registry: Registry, rows: list[tuple[float, int, int]]) -> None:
    stamps = [datetime.fromtimestamp(at // 1000, UTC).replace(microsecond=at % 1000 * 1000) for _, _, at in rows]
    sent = [GOOD | {"a": a, "more": {"b": b}, "t": at} for (a, b, _), at in zip(rows, stamps, strict=True)]

    decoded = decode(decoder(registry), [avro(one) for one in sent])

    assert decoded.readings.time_ns.tolist() == [at * 1_000_000 for _, _, at in rows]
    assert np.array_equal(decoded.readings.values, np.array([row[:2] for row in rows], np.float32).reshape(-1, 2))


def record(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": key, "type": kind} for key, kind in fields.items()]}


def test_avro_arrays_metrics_and_schemas_made_of_others(registry: Registry) -> None:
    point = record("Point", metric="string", value="float") | {"namespace": "n"}
    message = record("M", device="string", t="long", points={"type": "array", "items": "n.Point"})
    registry.add(8, message, references=[{"name": "n.Point", "subject": "point", "version": 2}])
    registry.versions["point", 2] = {"subject": "point", "version": 2, "id": 5, "schema": json.dumps(point)}
    whole = json.loads(json.dumps(message).replace('"n.Point"', json.dumps(point)))
    value = avro({"device": "x", "t": 5, "points": [{"metric": m, "value": 2} for m in ("a", "b", "?")]}, whole, 8)

    decoded = decode(
        decoder(registry, features=["a", "b"], readings="points", metric="metric", timestamp_unit="s"), [value]
    )

    assert np.array_equal(decoded.readings.values, [[2, np.nan], [np.nan, 2]], equal_nan=True)
    assert decoded.ignored == 1


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (None, "empty", "no value"),
        (b"\x00\x00\x00", "malformed", "Confluent wire format"),
        (b'{"a":1}', "malformed", "is records.format right?"),
        (avro(GOOD)[:-3], "malformed", "the message ends before the last field of Avro schema 7"),
        (avro(GOOD) + b"1", "malformed", "1 bytes are left"),
        (framed(7, b"\xff" * 50), "malformed", "not what Avro schema 7 says"),
        (framed(9, b"x"), "unknown_schema", "the schema registry has no schema 9: Schema 9 not found"),
        (avro(GOOD | {"a": None}), "schema", "field 'a' must be a number; got null"),
        (avro(GOOD | {"more": {}}), "schema", "field 'more.b' is missing"),
        (avro(GOOD | {"a": float("inf")}), "not_finite", "'a'"),
        (avro(GOOD | {"device": ""}), "bad_stream", "1 to 256 bytes"),
        (avro(GOOD) + b" " * 100, "too_large", "at most 64 bytes"),
    ],
)
def test_each_kind_of_bad_avro_message_has_its_reason(
    registry: Registry, value: bytes | None, reason: str, detail: str
) -> None:
    decoded = decode(decoder(registry, max_record_bytes=64), [avro(GOOD), value, avro(GOOD)])

    assert decoded.readings.offset.tolist() == [0, 2]
    [reject] = decoded.rejects
    assert (reject.row, reject.reason) == (1, reason)
    assert detail in reject.detail


# ------------------------------------------------------------------------------------------------------- JSON Schema


def test_json_with_a_schema_is_read_as_json(registry: Registry) -> None:
    registry.add(3, {"type": "object"}, "JSON")
    good = framed(3, b'{"device":"x","t":5,"a":1,"more":{"b":2}}')

    wrong = framed(3, b'{"device":"x","t":5,"a":"1","more":{"b":2}}')
    values = [good, framed(3, b"{"), wrong, framed(3, b"[" * 50_000), avro(GOOD)]

    decoded = decode(decoder(registry, "json-schema", timestamp_unit="s"), values)

    assert decoded.readings.values.tolist() == [[1, 2]]
    assert [r.reason for r in decoded.rejects] == ["malformed", "schema", "too_deep", "unknown_schema"]
    assert decoded.rejects[-1].detail == "schema 7 is of type AVRO; records.format says json-schema"


# ---------------------------------------------------------------------------------------------------------- Protobuf


def protobuf_file() -> Any:
    """`message Other {}  message Outer { message Reading { ... } }` in package `plant`."""
    file = descriptor_pb2.FileDescriptorProto(name="default", package="plant", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    file.dependency.append("google/protobuf/wrappers.proto")
    file.message_type.add(name="Other").field.add(name="d", number=1, type=1, label=1)
    reading = file.message_type.add(name="Outer").nested_type.add(name="Reading")
    time, number_or_none = ".google.protobuf.Timestamp", ".google.protobuf.DoubleValue"
    fields = [("device", 9, ""), ("t", 11, time), ("a", 1, ""), ("w", 11, number_or_none), ("n", 3, "")]
    for number, (name, kind, of) in enumerate(fields, 1):
        reading.field.add(name=name, number=number, type=kind, label=1, **({"type_name": of} if of else {}))
    reading.field.add(name="points", number=6, type=11, label=3, type_name=".plant.Other")
    return file


def test_protobuf_is_read_without_generated_code(registry: Registry) -> None:
    registry.add(4, base64.b64encode(protobuf_file().SerializeToString()).decode(), "PROTOBUF")
    # device "x", t {5 s, 250000000 ns}, a 1.5, w {2.5}, n 3
    message = (
        b"\x0a\x01x" + b"\x12\x07\x08\x05\x10\x80\xe5\x9a\x77" + b"\x19" + np.float64(1.5).tobytes()
        + b"\x22\x09\x09" + np.float64(2.5).tobytes() + b"\x28\x03"
    )  # fmt: skip
    place = b"\x04\x02\x00"  # two numbers, in zigzag: message 1, in it message 0
    some = decoder(registry, "protobuf", features=["a", "w", "n"])

    decoded = decode(
        some,
        [
            framed(4, place + message),
            framed(4, place + message[:-1]),
            framed(4, b"\x04\x02\x08" + message),
            framed(4, b"\xff"),
        ],
    )

    assert some.streams.names == ["x"]
    assert decoded.readings.time_ns.tolist() == [5_250_000_000]
    assert decoded.readings.values.tolist() == [[1.5, 2.5, 3]]
    assert [r.reason for r in decoded.rejects] == ["malformed"] * 3


def test_a_protobuf_number_that_is_not_sent_is_zero_and_an_absent_message_is_absent(registry: Registry) -> None:
    registry.add(4, base64.b64encode(protobuf_file().SerializeToString()).decode(), "PROTOBUF")
    message = b"\x0a\x01x" + b"\x12\x02\x08\x05"

    decoded = decode(
        decoder(registry, "protobuf", features=["a", "w"], missing="fill"), [framed(4, b"\x04\x02\x00" + message)]
    )

    assert np.array_equal(decoded.readings.values, [[0, np.nan]], equal_nan=True)


# ------------------------------------------------------------------------------------------------------ the registry


def test_a_registry_that_is_away_raises_and_comes_back(registry: Registry) -> None:
    some = decoder(registry)
    registry.stop()

    with pytest.raises(SchemasUnavailable, match="cannot be reached for schema 7"):
        some.decode(batch([avro(GOOD)]))

    registry.start()
    assert len(decode(some, [avro(GOOD)]).readings) == 1


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_registry_that_refuses_or_fails_is_away_too(registry: Registry, status: int) -> None:
    registry.status = status

    with pytest.raises(SchemasUnavailable, match=f"answered {status}"):
        decoder(registry).decode(batch([avro(GOOD)]))


def test_something_that_is_no_registry_is_away(registry: Registry) -> None:
    made = configured(registry)
    made = made.model_copy(
        update={"schema_registry": made.schema_registry.model_copy(update={"url": registry.url + "/elsewhere"})}
    )

    with pytest.raises(SchemasUnavailable, match="answered 404"):
        decoder_for(made, KeyedState()).decode(batch([avro(GOOD)]))


def test_without_messages_that_need_it_a_registry_is_not_asked(registry: Registry) -> None:
    registry.stop()

    assert [r.reason for r in decode(decoder(registry), [None, b"hello"]).rejects] == ["empty", "malformed"]


def test_an_unknown_schema_is_asked_for_again_after_a_while(registry: Registry) -> None:
    now_s = 0.0
    schemas = SchemaRegistry(configured(registry).schema_registry, "AVRO", clock=lambda: now_s)

    for _ in range(3):
        with pytest.raises(Refused):
            schemas.reader(9)
    registry.add(9, READING)
    now_s += ASK_AGAIN_S

    assert schemas.reader(9)(avro(GOOD)[5:])["device"] == "x"
    assert len(registry.asked) == 2


@pytest.mark.parametrize("text", ["{", '"nonsense"', '{"type":"record"}', json.dumps(record("R", a="n.P"))])
def test_a_schema_that_is_none_is_a_reason_to_refuse(registry: Registry, text: str) -> None:
    registry.add(9, text)

    [reject] = decode(decoder(registry), [framed(9, b"x")]).rejects

    assert (reject.reason, reject.detail[:24]) == ("unknown_schema", "schema 9 cannot be used:")


@given(st.lists(st.binary(max_size=60).map(lambda content: framed(7, content)) | st.binary(max_size=10), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_any_bytes_are_a_reading_or_refused(registry: Registry, values: list[bytes]) -> None:
    decode(decoder(registry), values)


NODE = record("Node", value="double", next=["null", "Node"])
THROUGH = record("A", b=record("B", more={"type": "array", "items": "A"}))
NOTHING = {"type": "array", "items": record("Empty", a="null", b={"type": "fixed", "name": "F", "size": 0})}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (NODE, "Node refers to itself"),
        (THROUGH, "A refers to itself"),
        (record("R", a=NOTHING), "an array whose items take no bytes"),
        (record("R", a={"type": "array", "items": "null"}), "an array whose items take no bytes"),
    ],
)
def test_an_avro_schema_that_a_message_could_crash_the_reader_by_is_refused(
    registry: Registry, schema: Any, said: str
) -> None:
    registry.add(9, schema)

    [reject] = decode(decoder(registry), [framed(9, b"\x02" * 500_000)]).rejects

    assert reject.reason == "unknown_schema"
    assert said in reject.detail


def test_an_avro_type_may_be_used_several_times(registry: Registry) -> None:
    point = record("Point", v="double")
    registry.add(9, record("R", device="string", t="long", a=point, b="Point", c={"type": "array", "items": "Point"}))
    whole = registry.schemas[9]["schema"]
    value = avro({"device": "x", "t": 5, "a": {"v": 1}, "b": {"v": 2}, "c": [{"v": 3}]}, json.loads(whole), 9)

    decoded = decode(decoder(registry, features=["a.v", "b.v"], timestamp_unit="s"), [value])

    assert decoded.readings.values.tolist() == [[1, 2]]


def test_a_schema_beyond_the_limit_is_refused(registry: Registry) -> None:
    registry.add(9, READING | {"doc": "x" * 1_000_000})

    [reject] = decode(decoder(registry), [framed(9, b"x")]).rejects

    assert reject.reason == "unknown_schema"
    assert "schema_registry.max_schema_bytes 1000000" in reject.detail


def test_the_login_is_sent(registry: Registry) -> None:
    made = Settings.model_validate(
        {
            "records": {"format": "avro", "features": ["a"]},
            "schema_registry": {"url": registry.url, "username": "me", "password": "secret"},
        }
    )

    decoder_for(made, KeyedState()).decode(batch([avro(GOOD)]))

    assert registry.logins == ["Basic " + base64.b64encode(b"me:secret").decode()]


def test_certificates_that_cannot_be_read_are_a_configuration_error(registry: Registry) -> None:
    made = configured(registry).schema_registry.model_copy(update={"ca_file": "/nowhere/ca.pem"})

    with pytest.raises(ConfigError, match="schema_registry"):
        SchemaRegistry(made, "AVRO")
