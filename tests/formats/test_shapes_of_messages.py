"""Any shape of message: arrays of readings, one metric each, times and names from outside; JSON and MessagePack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.connectors.kafka import Headers
from streamer.core.keyed_state import KeyedState
from streamer.formats import Decoded, FormatOptions, decoder_of
from tests.messages import batch

NOW_NS = 1_760_000_000_000_000_000
NAN = np.nan


def decode(
    messages: Sequence[Any],
    features: Sequence[str] = ("a",),
    *,
    format: str = "json",
    keys: Sequence[bytes | None] | None = None,
    headers: Sequence[Headers] | None = None,
    now_ns: int | None = NOW_NS,
    **options: Any,
) -> tuple[Decoded, list[str]]:
    """What becomes of messages, and the names of the streams; they account for each other."""
    streams = KeyedState()
    made = FormatOptions(tuple(features), **{"timestamp": "t", "timestamp_unit": "s", "format": format} | options)
    values = [value if isinstance(value, bytes) or value is None else encoded(value, format) for value in messages]
    decoded = decoder_of(made, streams).decode(batch(values, keys, headers=headers, now_ns=now_ns))
    found = len(decoded.readings) + len(decoded.rejects) + decoded.ignored
    assert len(messages) + decoded.extra == found
    return decoded, streams.names


def encoded(value: Any, format: str) -> bytes:
    return msgspec.msgpack.encode(value) if format == "msgpack" else json.dumps(value).encode()


def same(values: Any, wanted: Any) -> bool:
    return np.array_equal(np.asarray(values, np.float64), np.array(wanted, np.float64), equal_nan=True)


@pytest.fixture(params=["json", "msgpack"])
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ------------------------------------------------------------------------------------------------------------ arrays


def test_an_array_of_readings_is_as_many_readings(format: str) -> None:
    messages = [
        {"device": "x", "points": [{"t": 1, "a": 1}, {"t": 2, "a": 2.5}]},
        {"device": "y", "points": [{"t": 3, "a": 3}]},
    ]

    decoded, names = decode(messages, format=format, readings="points", stream=("device",))

    readings = decoded.readings
    assert [names[code] for code in readings.stream] == ["x", "x", "y"]
    assert readings.time_ns.tolist() == [10**9, 2 * 10**9, 3 * 10**9]
    assert readings.values.tolist() == [[1], [2.5], [3]]
    assert readings.offset.tolist() == [0, 0, 1]
    assert decoded.extra == 1


def test_what_an_element_lacks_may_stand_beside_the_array_and_its_own_wins(format: str) -> None:
    message = {"device": "x", "t": 7, "b": 5, "in": {"points": [{"a": 1}, {"a": 2, "t": 8, "b": 6, "device": "y"}]}}

    decoded, names = decode([message], ("a", "b"), format=format, readings="in.points", stream=("device",))

    assert names == ["x", "y"]
    assert decoded.readings.time_ns.tolist() == [7 * 10**9, 8 * 10**9]
    assert decoded.readings.values.tolist() == [[1, 5], [2, 6]]


def test_a_message_may_itself_be_an_array(format: str) -> None:
    messages = [[{"stream": "s", "t": 1, "a": 1}, {"stream": "s", "t": 2, "a": 2}], [{"stream": "s", "t": 3, "a": 3}]]

    decoded, _ = decode(messages, format=format, readings="@root")

    assert decoded.readings.values.tolist() == [[1], [2], [3]]


def test_of_an_array_with_bad_elements_the_good_ones_are_taken_and_one_reject_names_the_bad(format: str) -> None:
    points = [{"t": 1, "a": 1}, {"t": 2, "a": "on"}, {"t": 3}, "x", {"t": 5, "a": 5}, {"t": -5, "a": 5}]

    decoded, _ = decode(
        [{"s": "x", "p": points}, {"s": "x", "p": points[:1]}], format=format, readings="p", stream=("s",)
    )

    assert decoded.readings.values.tolist() == [[1], [5], [1]]
    assert decoded.readings.offset.tolist() == [0, 0, 1]
    [reject] = decoded.rejects
    assert (reject.row, reject.reason) == (0, "schema")
    assert reject.detail.startswith("4 of 6 readings refused: [1]: field 'a' must be a number; got text 'on'; ")
    assert "[2]: field 'a' is missing" in reject.detail
    assert "[3]: a reading is an object with named fields; got text 'x'" in reject.detail
    assert "[5]: wanted s since 1970" in reject.detail
    assert decoded.extra == 2 + 1 - 1


def test_an_empty_array_is_ignored_and_an_absent_one_refused(format: str) -> None:
    decoded, _ = decode([{"p": []}, {"q": []}, {"p": 5}, [], "x"], format=format, readings="p")

    assert decoded.ignored == 1
    assert [(r.row, r.reason) for r in decoded.rejects] == [(row, "schema") for row in (1, 2, 3, 4)]
    assert decoded.rejects[0].detail == "field 'p' is missing; there is 'q'"
    assert decoded.rejects[1].detail == "field 'p' must be an array of readings; got number 5"


def test_more_readings_than_the_limit_refuse_the_message(format: str) -> None:
    points = [{"stream": "s", "t": i, "a": i} for i in range(4)]

    decoded, _ = decode([points, points[:3]], format=format, readings="@root", max_readings=3)
    among_bad, _ = decode([[*points, "x"], points[:3]], format=format, readings="@root", max_readings=3)

    for found in (decoded, among_bad):
        assert len(found.readings) == 3
        assert [(r.row, r.reason) for r in found.rejects] == [(0, "too_many")]


def test_what_is_wrong_beside_the_array_refuses_the_message(format: str) -> None:
    decoded, _ = decode([{"stream": ["s"], "p": [{"t": 1, "a": 1}]}], format=format, readings="p")

    assert [(r.reason, r.detail) for r in decoded.rejects] == [
        ("schema", "field 'stream' must be text, a name; got an array")
    ]


# --------------------------------------------------------------------------------------------------- one metric each


def test_one_metric_a_message_is_a_row_with_one_value(format: str) -> None:
    messages = [
        {"device": "x", "metric": "heat", "value": 20.5, "t": 1},
        {"device": "x", "metric": "flow", "value": 3, "t": 1},
        {"device": "y", "metric": "heat", "value": -1, "t": 2},
    ]

    decoded, names = decode(messages, ("flow", "heat"), format=format, metric="metric", stream=("device",))

    assert same(decoded.readings.values, [[NAN, 20.5], [3, NAN], [NAN, -1]])
    assert [names[code] for code in decoded.readings.stream] == ["x", "x", "y"]


def test_a_metric_that_is_not_configured_is_ignored_whatever_it_holds(format: str) -> None:
    messages = [
        {"stream": "s", "metric": "state", "value": "on", "t": 1},
        {"stream": "s", "metric": "a", "value": 1, "t": 2},
    ]

    decoded, _ = decode(messages, format=format, metric="metric")

    assert decoded.ignored == 1
    assert decoded.readings.offset.tolist() == [1]
    assert decoded.rejects == []


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"value": "on"}, "field 'value' must be a number; got text 'on'"),
        ({"value": None}, "field 'value' must be a number; got null"),
        ({"value": True}, "field 'value' must be a number; got true"),
        ({"value": {}}, "field 'value' must be a number; got an object"),
        ({"metric": 1.5}, "field 'metric' must be text, a name; got number 1.5"),
    ],
)
def test_a_configured_metric_needs_a_number(format: str, change: dict[str, Any], detail: str) -> None:
    good = {"stream": "s", "metric": "a", "value": 1, "t": 2}

    decoded, _ = decode([good, good | change, good], format=format, metric="metric")

    assert [(r.row, r.reason, r.detail) for r in decoded.rejects] == [(1, "schema", detail)]


def test_metrics_may_come_in_arrays(format: str) -> None:
    message = {"device": "x", "t": 1, "m": [{"n": "a", "v": 1}, {"n": "b", "v": 2}, {"n": "?", "v": 3}, {"v": 4}]}

    decoded, _ = decode([message], ("a", "b"), format=format, readings="m", metric="n", value="v", stream=("device",))

    assert same(decoded.readings.values, [[1, NAN], [NAN, 2]])
    assert decoded.ignored == 1
    assert decoded.rejects[0].detail == "1 of 4 readings refused: [3]: field 'n' is missing"


# ------------------------------------------------------------------------------------------ names, times and numbers


def test_several_fields_make_up_the_name_and_numbers_are_names(format: str) -> None:
    messages = [
        {"site": "north", "rack": {"no": 7}, "t": 1, "a": 1},
        {"site": "south", "rack": {"no": "b"}, "t": 1, "a": 1},
    ]

    _, names = decode(messages, format=format, stream=("site", "rack.no"))
    _, with_key = decode(messages[:1], format=format, stream=("@key", "rack.no"), keys=[b"k"])

    assert names == ["north/7", "south/b"]
    assert with_key == ["k/7"]


def test_the_records_own_timestamp_can_be_the_event_time(format: str) -> None:
    decoded, _ = decode([{"stream": "s", "a": 1}], format=format, timestamp="@kafka", now_ns=123_000_000)
    without, _ = decode([{"stream": "s", "a": 1}], format=format, timestamp="@kafka", now_ns=None)

    assert decoded.readings.time_ns.tolist() == [123_000_000]
    assert [(r.reason, r.detail) for r in without.rejects] == [
        ("bad_timestamp", "the record has no timestamp of Kafka")
    ]


@pytest.mark.parametrize(("unit", "text"), [("iso8601", b"1970-01-01T00:00:05Z"), ("ms", b"5000"), ("s", b"5.0")])
def test_a_header_can_hold_the_event_time(format: str, unit: str, text: bytes) -> None:
    headers: list[Headers] = [[("at", b"?"), ("at", text)], [("other", text)], [("at", b"soon")]]

    decoded, _ = decode(
        [{"stream": "s", "a": 1}] * 3, format=format, timestamp="@header:at", timestamp_unit=unit, headers=headers
    )

    assert decoded.readings.time_ns.tolist() == [5 * 10**9]
    assert [r.reason for r in decoded.rejects] == ["bad_timestamp"] * 2
    assert decoded.rejects[0].detail == "the record has no header 'at'"
    assert "header 'at': wanted" in decoded.rejects[1].detail


def test_a_sequence_number_comes_with_the_reading(format: str) -> None:
    good = {"stream": "s", "t": 1, "a": 1, "n": 2**62}

    decoded, _ = decode([good, good | {"n": 1 << 63}, good | {"n": 1.5}], format=format, sequence="n")

    assert decoded.readings.sequence is not None
    assert decoded.readings.sequence.tolist() == [2**62]
    assert [r.row for r in decoded.rejects] == [1, 2]
    assert decoded.rejects[0].detail.startswith("field 'n' must fit 64 bits")


def test_zero_can_mean_that_there_is_no_value(format: str) -> None:
    messages = [{"stream": "s", "t": 1, "bid": b, "ask": a} for b, a in ((1, 2), (0, 2), (0, 0))]

    decoded, _ = decode(messages, ("bid", "ask"), format=format, zero_is_missing=("bid", "ask"))

    assert same(decoded.readings.values, [[1, 2], [NAN, 2]])
    assert (decoded.ignored, decoded.rejects) == (1, [])


def test_values_keep_64_bits_where_that_is_asked_for(format: str) -> None:
    exact, _ = decode([{"stream": "s", "t": 1, "a": 0.1}], format=format, exact=True)
    usual, _ = decode([{"stream": "s", "t": 1, "a": 0.1}], format=format)

    assert exact.readings.values.tolist() == [[0.1]]
    assert usual.readings.values.dtype == np.float32


# ------------------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("change", "unit", "detail"),
    [
        ({"t": 1_700_000_000_123}, "iso8601", "not ISO 8601 text; records.timestamp_unit: ms?"),
        ({"t": "2024-01-01"}, "ms", "of ms since 1970; got text '2024-01-01'; records.timestamp_unit: iso8601?"),
        ({"t": 1_700_000_000_123}, "s", "records.timestamp_unit: ms?"),
        ({"t": "1700000000"}, "iso8601", "records.timestamp_unit: s?"),
        ({"a": "1.5"}, "s", "field 'a' must be a number; got text '1.5'"),
        ({"a": None}, "s", "field 'a' must be a number; got null"),
        ({"stream": None}, "s", "field 'stream' must be text, a name; got null"),
    ],
)  # fmt: skip
def test_the_reason_says_what_was_wanted_and_what_may_help(format: str, change: Any, unit: str, detail: str) -> None:
    time = "2024-01-01" if unit == "iso8601" else 1
    message = {"stream": "s", "t": time, "a": 1} | change

    decoded, _ = decode([message], format=format, timestamp_unit=unit)

    assert detail in decoded.rejects[0].detail


def test_a_misspelt_field_is_guessed(format: str) -> None:
    decoded, _ = decode([{"stream": "s", "t": 1, "vibratoin": 1}], ("vibration",), format=format)

    assert decoded.rejects[0].detail == "field 'vibration' is missing; did you mean 'vibratoin'?"


def test_a_value_in_the_way_of_a_path_is_named(format: str) -> None:
    decoded, _ = decode([{"stream": "s", "t": 1, "data": 5}], ("data.x",), format=format)

    assert decoded.rejects[0].detail == "field 'data' must be an object that holds 'data.x'; got number 5"


# ------------------------------------------------------------------------------------------------- MessagePack's own


def test_messagepack_timestamps_need_no_unit() -> None:
    at = datetime(2024, 1, 1, 0, 0, 0, 250_000, UTC)

    decoded, _ = decode([{"stream": "s", "t": at, "a": 1}, {"stream": "s", "t": 5, "a": 1}], format="msgpack")

    assert decoded.readings.time_ns.tolist() == [1_704_067_200_250_000_000, 5 * 10**9]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"\xc1", "malformed"),
        (b"{}", "schema"),  # the number 123
        (msgspec.msgpack.encode({"stream": "s", "t": 1, "a": 1})[:-1], "malformed"),
        (msgspec.msgpack.encode({"stream": "s", "t": 1, "a": 1}) + b"\x01", "malformed"),
        (msgspec.msgpack.encode([1]), "schema"),
        (msgspec.msgpack.encode({"stream": "s", "t": 1}), "schema"),
        (msgspec.msgpack.encode({"stream": "s", "t": 1, "a": float("nan")}), "schema"),
        (msgspec.msgpack.encode({"stream": "s", "t": 1, "a": float("inf")}), "not_finite"),
        (msgspec.msgpack.encode({"stream": "s", "t": 1, "a": b"1"}), "schema"),
        (b"\x91" * 100_000, "schema"),
        (b"\x81\xa1x" * 100_000, "too_deep"),
        (b"\xdd\xff\xff\xff\xff", "schema"),
        (b"x" * 2000, "too_large"),
    ],
)
def test_each_kind_of_bad_messagepack_has_its_reason(value: bytes | None, reason: str) -> None:
    limit = 1000 if reason == "too_large" else 1_000_000

    decoded, _ = decode([value], format="msgpack", max_record_bytes=limit)

    assert [r.reason for r in decoded.rejects] == [reason]


NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 10**9), NUMBERS), max_size=4), max_size=6))
def test_json_and_messagepack_arrays_and_single_messages_say_the_same(arrays: Any) -> None:
    points = [[{"stream": s, "t": t, "a": a} for s, t, a in array] for array in arrays]
    flat = [point for array in points for point in array]

    found = [
        decode(points, format="json", readings="@root"),
        decode(points, format="msgpack", readings="@root"),
        decode(flat, format="json"),
        decode(flat, format="msgpack"),
    ]

    rows = [
        [
            (names[c], t, v)
            for c, t, v in zip(d.readings.stream, d.readings.time_ns, d.readings.values.tolist(), strict=True)
        ]
        for d, names in found
    ]
    assert rows[0] == rows[1] == rows[2] == rows[3]
    assert len(rows[0]) == len(flat)


@given(st.lists(st.binary(max_size=40) | st.just(msgspec.msgpack.encode({"stream": "s", "t": 1, "a": 1})), max_size=6))
def test_any_bytes_are_a_reading_or_refused(values: list[bytes]) -> None:
    for format in ("json", "msgpack"):
        for readings in (None, "@root", "p"):
            decode(values, format=format, readings=readings)


def test_numbers_may_be_written_as_text_where_that_is_allowed(format: str) -> None:
    messages = [
        {"stream": "s", "t": "5", "a": "1.5"},
        {"stream": "s", "t": 6, "a": 2},
        {"stream": "s", "t": 6, "a": "on"},
        {"stream": "s", "t": 6, "a": "nan"},
    ]

    decoded, _ = decode(messages, format=format, text_numbers=True)
    in_array, _ = decode([{"t": "5", "p": messages}], format=format, text_numbers=True, readings="p")

    for found in (decoded, in_array):
        assert found.readings.time_ns.tolist() == [5 * 10**9, 6 * 10**9]
        assert found.readings.values.tolist() == [[1.5], [2]]
    assert [r.reason for r in decoded.rejects] == ["schema", "schema"]
