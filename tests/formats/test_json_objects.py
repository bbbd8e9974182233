"""Bytes to columns: each message is a reading or one reject, whatever lies beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.core.keyed_state import KeyedState
from streamer.core.readings import Readings
from streamer.formats import Decoder, FormatOptions, decoder_of
from streamer.formats.rejects import REASONS, Reject
from tests.messages import batch

NOW_NS = 1_760_000_000_000_000_000
GOOD = b'{"stream":"s","t":"2024-01-01T00:00:00Z","a":1.5}'
GOOD_NS = 1_704_067_200_000_000_000


def decoder(
    unit: str = "iso8601",
    *,
    features: Sequence[str] = ("a",),
    stream: str = "stream",
    streams: KeyedState | None = None,
    **limits: Any,
) -> Decoder:
    options = FormatOptions(tuple(features), (stream,), timestamp="t", timestamp_unit=unit, **limits)
    return decoder_of(options, KeyedState() if streams is None else streams)


def decode(
    some: Decoder, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None, now_ns: int = NOW_NS
) -> tuple[Readings, list[Reject]]:
    decoded = some.decode(batch(values, keys, first=100, partition=3, now_ns=now_ns))
    assert (decoded.ignored, decoded.extra) == (0, 0)
    return decoded.readings, decoded.rejects


def reason(value: bytes | None, some: Decoder | None = None, key: bytes | None = None) -> str:
    """Why one message is refused; "" if it is a reading. The same alone and between good neighbours."""
    some = some or decoder()
    readings, rejects = decode(some, [value], [key])
    assert len(readings) + len(rejects) == 1
    _, among = decode(some, [GOOD, value, GOOD], [b"k", key, b"k"])
    assert [(r.reason, r.detail) for r in among if r.row == 1] == [(r.reason, r.detail) for r in rejects]
    return rejects[0].reason if rejects else ""


def time_of(text: str, unit: str) -> int:
    """Event time that a JSON literal in `t` gives."""
    readings, rejects = decode(decoder(unit), [b'{"stream":"s","t":%s,"a":1}' % text.encode()])
    assert not rejects, rejects
    return int(readings.time_ns[0])


# ------------------------------------------------------------------------------------------------ one good message


def test_a_reading_has_its_columns() -> None:
    some = decoder(features=("b", "a"))

    readings, rejects = decode(some, [b'{"a":1,"more":[{}],"b":-2.5,"t":"2024-01-01T00:00:00Z","stream":"x/1"}'])

    assert rejects == []
    assert some.streams.names == ["x/1"]
    assert readings.stream.tolist() == [0]
    assert readings.time_ns.tolist() == [GOOD_NS]
    assert readings.values.tolist() == [[-2.5, 1.0]]
    assert readings.values.dtype == np.float32
    assert (readings.partition.tolist(), readings.offset.tolist()) == ([3], [100])


def test_no_messages_give_no_readings() -> None:
    readings, rejects = decode(decoder(features=("a", "b")), [])

    assert (len(readings), rejects) == (0, [])
    assert readings.values.shape == (0, 2)


def test_dots_reach_into_nested_objects() -> None:
    some = decoder_of(FormatOptions(("data.x", "data.deep.y", "z"), ("meta.id",), "meta.at", "s"), KeyedState())
    message = {"meta": {"id": "s", "at": 5, "n": 0}, "data": {"x": 1, "deep": {"y": 2}}, "z": 3}

    readings, rejects = decode(some, [json.dumps(message).encode()])

    assert rejects == []
    assert (some.streams.names, readings.time_ns.tolist(), readings.values.tolist()) == (
        ["s"],
        [5 * 10**9],
        [[1, 2, 3]],
    )


@pytest.mark.parametrize("lost", ["meta", "data", "z"])
def test_a_missing_branch_is_a_missing_field(lost: str) -> None:
    some = decoder_of(FormatOptions(("data.x", "z"), ("meta.id",), "meta.at", "s"), KeyedState())
    message = {"meta": {"id": "s", "at": 5}, "data": {"x": 1}, "z": 3}
    del message[lost]

    _, rejects = decode(some, [json.dumps(message).encode()])

    assert [r.reason for r in rejects] == ["schema"]
    assert lost in rejects[0].detail


def test_field_names_need_not_be_python_names() -> None:
    some = decoder(features=("class", "a b", "é", "_x", "0"))
    message = {"stream": "s", "t": "2024-01-01", "class": 1, "a b": 2, "é": 3, "_x": 4, "0": 5}

    readings, _ = decode(some, [json.dumps(message).encode()])

    assert readings.values.tolist() == [[1, 2, 3, 4, 5]]


def test_the_message_key_can_name_the_stream() -> None:
    some = decoder(stream="@key")
    keys = [b"k1", None, b"", b"\xff", b"bad\nname", b"k1"]

    readings, rejects = decode(some, [GOOD] * 6, keys)

    assert readings.offset.tolist() == [100, 105]
    assert some.streams.names == ["k1"]
    assert [(r.row, r.reason) for r in rejects] == [(row, "bad_stream") for row in (1, 2, 3, 4)]


def test_codes_follow_the_order_of_appearance_and_are_shared() -> None:
    streams = KeyedState(["first"])
    values = [GOOD.replace(b'"s"', b'"%s"' % name) for name in (b"z", b"a", b"first", b"z")]

    readings, _ = decode(decoder(streams=streams), values)

    assert readings.stream.tolist() == [1, 2, 0, 1]
    assert streams.names == ["first", "z", "a"]


# ------------------------------------------------------------------------------------------------------ event times


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ('"2024-01-01T00:00:00Z"', GOOD_NS),
        ('"2024-01-01"', GOOD_NS),
        ('"2024-01-01 00:00:00"', GOOD_NS),  # without a zone it is UTC
        ('"2024-01-01T02:00:00+02:00"', GOOD_NS),
        ('"2023-12-31T19:00:00-0500"', GOOD_NS),
        ('"2024-01-01T00:00:00.5Z"', GOOD_NS + 500_000_000),
        ('"2024-01-01T00:00:00.123456789Z"', GOOD_NS + 123_456_789),
        ('"1970-01-01T00:00:00Z"', 0),
    ],
)
def test_iso_times_are_read_as_utc(text: str, time_ns: int) -> None:
    assert time_of(text, "iso8601") == time_ns


@pytest.mark.parametrize(
    ("unit", "text", "time_ns"),
    [
        ("s", "1700000000", 1_700_000_000_000_000_000),
        ("s", "1700000000.25", 1_700_000_000_250_000_000),
        ("s", "1700000000.123456", 1_700_000_000_123_456_000),
        ("s", "1.7e9", 1_700_000_000_000_000_000),
        ("s", "0", 0),
        ("ms", "1700000000123", 1_700_000_000_123_000_000),
        ("ms", "1700000000123.5", 1_700_000_000_123_500_000),
        ("us", "1700000000123456", 1_700_000_000_123_456_000),
        ("us", "1700000000123456.0", 1_700_000_000_123_456_000),
        ("ns", "1700000000123456789", 1_700_000_000_123_456_789),
    ],
)
def test_numeric_times_count_from_1970_in_their_unit(unit: str, text: str, time_ns: int) -> None:
    assert time_of(text, unit) == time_ns


@given(
    st.lists(st.tuples(st.integers(0, 4 * 10**9), st.integers(0, 999_999)), min_size=1, max_size=20),
    st.sampled_from(["iso8601", "s", "ms", "us", "ns"]),
)
def test_times_to_the_microsecond_are_kept_in_every_unit(moments: list[tuple[int, int]], unit: str) -> None:
    def literal(seconds: int, micros: int) -> str:
        if unit == "iso8601":
            return f'"{np.datetime64(seconds * 10**6 + micros, "us")}Z"'
        per = {"s": 10**6, "ms": 10**3, "us": 1}.get(unit)
        total = seconds * 10**6 + micros
        return str(total * 1000) if per is None else str(total // per) if total % per == 0 else repr(total / per)

    values = [b'{"stream":"s","t":%s,"a":0}' % literal(*moment).encode() for moment in moments]

    readings, rejects = decode(decoder(unit), values, now_ns=np.iinfo(np.int64).max // 2)

    assert rejects == []
    assert readings.time_ns.tolist() == [s * 10**9 + us * 1000 for s, us in moments]


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("iso8601", '""'),
        ("iso8601", '"yesterday"'),
        ("iso8601", '"01/02/2024"'),
        ("iso8601", '"2024-13-01"'),
        ("iso8601", '"2024-01-01T25:00:00Z"'),
        ("iso8601", '"1700000000"'),
        ("iso8601", '"NaT"'),
        ("iso8601", '"1969-12-31T23:59:59Z"'),
        ("iso8601", '"2200-01-01T00:00:00Z"'),
        ("s", "-1"),
        ("s", "1700000000000"),  # milliseconds by mistake
        ("s", "1e+300"),
        ("s", "1" + "0" * 30),
        ("ms", "9223372036854775807"),
        ("ns", "9223372036854775808"),
        ("ns", "-9223372036854775808"),
    ],
)
def test_a_time_out_of_range_or_unreadable_is_a_bad_timestamp(unit: str, text: str) -> None:
    value = b'{"stream":"s","t":%s,"a":1}' % text.encode()
    _, rejects = decode(decoder(unit), [value])

    assert [r.reason for r in rejects] == ["bad_timestamp"]
    assert text.strip('"')[:20] in rejects[0].detail


@pytest.mark.parametrize("text", ["9999-12-31T00:00:00Z", "0001-01-01T00:00:00Z", "2262-04-12T00:00:00Z"])
def test_a_year_beyond_nanoseconds_is_a_bad_timestamp(text: str) -> None:
    assert reason(GOOD.replace(b"2024-01-01T00:00:00Z", text.encode())) == "bad_timestamp"


@pytest.mark.parametrize("text", ["now", "today"])
def test_a_word_for_the_clock_is_no_event_time(text: str) -> None:
    assert reason(GOOD.replace(b"2024-01-01T00:00:00Z", text.encode())) == "bad_timestamp"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_an_integer_of_400_digits_is_a_bad_timestamp(unit: str) -> None:
    _, rejects = decode(decoder(unit), [b'{"stream":"s","t":1%s,"a":1}' % (b"0" * 400)])

    assert [r.reason for r in rejects] == ["bad_timestamp"]


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_the_lowest_64_bit_integer_is_a_bad_timestamp(unit: str) -> None:
    _, rejects = decode(decoder(unit), [b'{"stream":"s","t":-9223372036854775808,"a":1}'])

    assert [r.reason for r in rejects] == ["bad_timestamp"]


def test_a_bad_neighbour_does_not_round_nanoseconds() -> None:
    good, bad = b'{"stream":"s","t":1700000000123456789,"a":1}', b'{"stream":"s","t":8000000000000000000,"a":1}'

    readings, _ = decode(decoder("ns"), [good, bad])

    assert readings.time_ns.tolist() == [1_700_000_000_123_456_789]


def test_the_future_is_measured_from_the_brokers_time() -> None:
    some = decoder("s", max_future_ns=10 * 10**9)
    values = [b'{"stream":"s","t":%d,"a":1}' % t for t in (100, 110, 111)]

    readings, rejects = decode(some, values, now_ns=100 * 10**9)

    # broker 100 ........ 110 | 111
    assert readings.time_ns.tolist() == [100 * 10**9, 110 * 10**9]
    assert [(r.row, r.reason) for r in rejects] == [(2, "future")]
    assert "11 s ahead" in rejects[0].detail
    assert "at most 10 s" in rejects[0].detail


def test_readings_say_where_their_records_do_not_vouch_for_the_time() -> None:
    values = [b'{"stream":"s","t":%d,"a":1}' % t for t in (100, 160, 161)]

    vouched, _ = decode(decoder("s"), values[:2], now_ns=100 * 10**9)
    further, _ = decode(decoder("s"), values, now_ns=100 * 10**9)
    without, _ = decode(decoder("s"), values, now_ns=0)  # records have no time

    assert vouched.ahead is None
    assert further.ahead is not None
    assert further.ahead.tolist() == [0, 0, 1]
    assert without.ahead is not None
    assert without.ahead.tolist() == [2, 2, 2]


# -------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, "empty"),  # a tombstone
        (b"", "empty"),
        (b"  ", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"\xef\xbb\xbf" + GOOD, "malformed"),  # a byte-order mark
        (b"not json", "malformed"),
        (GOOD[:-1], "malformed"),
        (b'{"stream":"s', "malformed"),
        (b'{"stream":"', "malformed"),
        (b'{"a":1,"b":[', "malformed"),
        (GOOD + GOOD, "malformed"),
        (GOOD + b"," + GOOD, "malformed"),
        (GOOD + b"\n" + GOOD, "malformed"),
        (GOOD + b",", "malformed"),
        (b"," + GOOD, "malformed"),
        (GOOD + b"]", "malformed"),
        (GOOD + b"],[" + GOOD, "malformed"),
        (GOOD + b"\x00", "malformed"),
        (b"//c\n" + GOOD, "malformed"),
        (GOOD.replace(b"1.5", b"NaN"), "malformed"),
        (GOOD.replace(b"1.5", b"Infinity"), "malformed"),
        (GOOD.replace(b"1.5", b"-"), "malformed"),
        (GOOD.replace(b'"s"', b'"\xff"'), "malformed"),
        (GOOD.replace(b'"s"', b'"\\ud800"'), "malformed"),
        (b"null", "schema"),
        (b"1", "schema"),
        (b"-7", "schema"),
        (b"1.5", "schema"),
        (b"123456789012345678901234567890", "schema"),
        (b"true", "schema"),
        (b'"text"', "schema"),
        (b"[]", "schema"),
        (b"[" + GOOD + b"]", "schema"),
        (b"{}", "schema"),
        (GOOD.replace(b'"a"', b'"A"'), "schema"),
        (GOOD.replace(b"1.5", b"null"), "schema"),
        (GOOD.replace(b"1.5", b"true"), "schema"),
        (GOOD.replace(b"1.5", b'"1.5"'), "schema"),
        (GOOD.replace(b"1.5", b"[1.5]"), "schema"),
        (GOOD.replace(b"1.5", b'{"a":1}'), "schema"),
        (GOOD.replace(b'"s"', b"5.5"), "schema"),
        (GOOD.replace(b'"s"', b"null"), "schema"),
        (GOOD.replace(b'"2024-01-01T00:00:00Z"', b"1704067200"), "schema"),
        (GOOD.replace(b"1.5", b"1e39"), "not_finite"),  # fits a double, not the float the model takes
        (GOOD.replace(b"1.5", b"-1e300"), "not_finite"),
        (GOOD.replace(b'"s"', b'""'), "bad_stream"),
        (GOOD.replace(b'"s"', b'"' + b"x" * 257 + b'"'), "bad_stream"),
        (GOOD.replace(b'"s"', b'"a\\n"'), "bad_stream"),
        (GOOD.replace(b'"s"', b'" s"'), "bad_stream"),
        (GOOD.replace(b'"s"', b'"a\\u202eb"'), "bad_stream"),
        (GOOD[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep"),
        (b'{"x":' * 100_000, "too_deep"),
    ],
)
def test_each_kind_of_bad_message_has_its_reason(value: bytes | None, wanted: str) -> None:
    assert reason(value) == wanted


@pytest.mark.parametrize("literal", [b"1e400", b"-1e400", b"1" + b"0" * 400, b"1" + b"0" * 5000])
def test_a_number_beyond_a_double_is_refused(literal: bytes) -> None:
    assert reason(GOOD.replace(b"1.5", literal)) in ("schema", "not_finite")


@pytest.mark.parametrize("name", ["s", "A-Z_0.9", "a:b/c@d+e", "x" * 256, "Halle 3, Pumpe 1", "é", "泵 1", "<b>"])
def test_a_name_of_printable_characters_and_spaces_is_a_stream(name: str) -> None:
    assert reason(GOOD.replace(b'"s"', json.dumps(name).encode())) == ""


def test_a_message_at_the_size_limit_passes_and_one_byte_more_does_not() -> None:
    some = decoder(max_record_bytes=100)
    at_limit = GOOD + b" " * (100 - len(GOOD))

    assert reason(at_limit, some) == ""
    assert reason(at_limit + b" ", some) == "too_large"
    assert reason(b"x" * 5_000_000, some) == "too_large"


def test_streams_beyond_the_limit_are_refused_and_known_ones_go_on() -> None:
    some = decoder(max_streams=2)
    values = [GOOD.replace(b'"s"', b'"%s"' % name) for name in (b"a", b"b", b"c", b"a", b"c")]

    readings, rejects = decode(some, values)

    assert readings.stream.tolist() == [0, 1, 0]
    assert [(r.row, r.reason) for r in rejects] == [(2, "stream_limit"), (4, "stream_limit")]
    assert len(some.streams) == 2


def test_a_rejected_message_does_not_use_up_the_stream_limit() -> None:
    some = decoder(max_streams=1)
    refused = GOOD.replace(b'"s"', b'"bogus"').replace(b"1.5", b"1e39")

    readings, _ = decode(some, [refused, GOOD])

    assert len(readings) == 1


def test_a_nonce_that_a_message_repeats_is_no_separator(monkeypatch: pytest.MonkeyPatch) -> None:
    # Even a sender who had guessed the number could not pass one message off as two unnoticed.
    monkeypatch.setattr("streamer.formats.json_objects.secrets.randbits", lambda bits: 42)

    readings, rejects = decode(decoder(), [GOOD + b",42," + GOOD, GOOD])

    assert readings.offset.tolist() == [101]
    assert [r.reason for r in rejects] == ["malformed"]


def test_a_message_too_many_and_a_message_torn_in_two_do_not_make_up_for_each_other() -> None:
    # Joined, these are as many values as three messages would be; the separators are not where they went in.
    values = [GOOD + b",5," + GOOD, GOOD[:-1] + b',"x":[1', b"2]}"]

    readings, rejects = decode(decoder(), values)

    assert len(readings) == 0
    assert [r.reason for r in rejects] == ["malformed", "malformed", "schema"]


# -------------------------------------------------------------------------------------- properties of any mix at all

FRAGMENTS = [
    GOOD, GOOD + b" ", GOOD.replace(b'"s"', b'"other"'), None, b"", b"1", b"-3", b"42", b"1.0", b"null", b"{}", b"{",
    b"}", b"[", b"]", b'"', b",", b"{},{}", GOOD + b"," + GOOD, GOOD + b"\n" + GOOD, GOOD[:-1], GOOD[1:],
    b'{"stream":"',
    b'","t":"2024-01-01","a":1}', b"[" + GOOD + b"]", GOOD.replace(b"1.5", b"NaN"), GOOD.replace(b"1.5", b"null"),
    GOOD.replace(b"1.5", b"true"), GOOD.replace(b"1.5", b"1e39"), GOOD.replace(b"1.5", b"1e400"),
    GOOD.replace(b'"s"', b'"bad\\nname"'), GOOD.replace(b"2024", b"1950"), GOOD.replace(b"2024", b"2199"),
    GOOD.replace(b"2024-01-01", b"soon"), b"\xff", GOOD.replace(b'"s"', b'"\xff"'), GOOD[:-1] + b',"x":"\xff"}',
    GOOD + b" " * 1000, b"{" * 2000, b'{"x":[{"y":' + b"[" * 50, b"/*", b"\n", b"\\", b"\x00",
]  # fmt: skip
MESSAGES = st.one_of(
    st.sampled_from(FRAGMENTS),
    st.binary(max_size=12),
    st.builds(lambda a, b: (a or b"") + (b or b""), st.sampled_from(FRAGMENTS), st.sampled_from(FRAGMENTS)),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "t", "stream", "x"]), inner),
        max_leaves=5,
    ).map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda stream, t, a: json.dumps({"stream": stream, "t": t, "a": a}).encode(),
        st.sampled_from(["s", "u", "v/1", "", "a b", "a\n", 5, None]),
        st.datetimes(datetime(1960, 1, 1), datetime(2260, 1, 1)).map(datetime.isoformat)
        | st.sampled_from(["", "x", 7]),
        st.floats() | st.integers() | st.none() | st.booleans(),
    ),
)


def as_rows(readings: Readings, names: Sequence[str]) -> list[tuple[Any, ...]]:
    return [
        (names[code], at, value, offset)
        for code, at, value, offset in zip(
            readings.stream.tolist(),
            readings.time_ns.tolist(),
            readings.values.tolist(),
            readings.offset.tolist(),
            strict=True,
        )
    ]


@given(st.lists(MESSAGES, max_size=12), st.sampled_from(["stream", "@key"]), st.integers(1, 4))
@example([b'{"stream":"', GOOD, b'","t":"2024-01-01","a":1}'], "stream", 3)
@example([b"[", GOOD, b"]"], "stream", 3)
@example([b"1", GOOD, b"2"], "stream", 3)
@example([GOOD + b"," + GOOD, b" "], "stream", 3)
@example([b"/*", GOOD, b"*/"], "stream", 3)
def test_a_batch_decodes_as_its_messages_would_one_by_one(
    values: list[bytes | None], stream: str, max_streams: int
) -> None:
    together, alone = (decoder(stream=stream, max_record_bytes=900, max_streams=max_streams) for _ in range(2))
    keys = [[b"k1", b"k2", None, b"bad\x00key", b"k3", b"k4"][i % 6] for i in range(len(values))]

    readings, rejects = decode(together, values, keys)

    rows: list[tuple[Any, ...]] = []
    refused: list[Reject] = []
    for i, (value, key) in enumerate(zip(values, keys, strict=True)):
        one = alone.decode(batch([value], [key], first=100 + i, now_ns=NOW_NS))
        rows += as_rows(one.readings, alone.streams.names)
        refused += [Reject(i, r.reason, r.detail) for r in one.rejects]
    assert as_rows(readings, together.streams.names) == rows
    assert rejects == refused


@given(st.lists(MESSAGES, max_size=12))
def test_every_message_is_one_reading_or_one_reject_with_a_known_reason(values: list[bytes | None]) -> None:
    readings, rejects = decode(decoder(max_record_bytes=900), values)

    assert sorted([*(readings.offset - 100).tolist(), *(r.row for r in rejects)]) == list(range(len(values)))
    assert {r.reason for r in rejects} <= set(REASONS)
    assert all(r.detail for r in rejects)
    assert [r.row for r in rejects] == sorted(r.row for r in rejects)
    assert np.isfinite(readings.values).all()
    assert ((readings.time_ns >= 0) & (readings.time_ns <= NOW_NS + 3600 * 10**9)).all()


@given(st.lists(st.integers(-(2**62), 2**66) | st.floats(allow_nan=False, allow_infinity=False), max_size=8))
def test_numeric_times_decode_as_they_would_one_by_one(times: list[int | float]) -> None:
    values = [json.dumps({"stream": "s", "t": t, "a": 0}).encode() for t in times]

    for unit in ("s", "ms", "us"):
        readings, rejects = decode(decoder(unit), values)
        alone = [decode(decoder(unit), [value]) for value in values]

        assert readings.time_ns.tolist() == [t for one, _ in alone for t in one.time_ns.tolist()]
        assert [r.reason for r in rejects] == [r.reason for _, no in alone for r in no]


@given(st.text(max_size=25))
def test_any_text_for_a_time_is_read_or_refused(text: str) -> None:
    if text.strip() in ("now", "today"):
        return  # known, see above

    readings, rejects = decode(decoder(), [json.dumps({"stream": "s", "t": text, "a": 0}).encode()])

    assert len(readings) + len(rejects) == 1


def test_taking_rows_takes_every_column() -> None:
    readings, _ = decode(decoder(), [GOOD] * 3)

    taken = readings.take(np.array([2, 0]))

    assert taken.offset.tolist() == [102, 100]
    assert len(taken) == 2


# ------------------------------------------------------------------------------------------------ missing values


def filling(features: Sequence[str] = ("a", "b"), **changes: Any) -> Decoder:
    shape = {"stream": ("stream",), "timestamp": "t", "timestamp_unit": "s", **changes}
    return decoder_of(FormatOptions(tuple(features), **shape, missing="fill"), KeyedState())


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('"a":1,"b":2', [1, 2]),
        ('"a":null,"b":2', [np.nan, 2]),
        ('"a":1', [1, np.nan]),
        ('"b":0', [np.nan, 0]),
    ],
)
def test_a_feature_that_is_null_or_absent_is_missing(text: str, values: list[float]) -> None:
    message = f'{{"stream":"s","t":1,{text}}}'.encode()

    alone, _ = decode(filling(), [message])
    among, rejects = decode(filling(), [message, b"[]", message])

    assert np.array_equal(alone.values, np.array([values], np.float32), equal_nan=True)
    assert np.array_equal(among.values, np.array([values, values], np.float32), equal_nan=True)
    assert [reject.row for reject in rejects] == [1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('"a":null,"b":null', "schema"),
        ('"c":1', "schema"),
        ('"a":"1","b":2', "schema"),
        ('"a":true,"b":2', "schema"),
        ('"a":NaN,"b":2', "malformed"),
        ('"a":1e400,"b":2', "schema"),
        ('"a":1e39,"b":2', "not_finite"),
        ('"a":1e39,"b":null', "not_finite"),
    ],
)
def test_what_is_no_reading_stays_none_where_values_may_be_missing(text: str, why: str) -> None:
    message = f'{{"stream":"s","t":1,{text}}}'.encode()

    readings, rejects = decode(filling(), [b'{"stream":"s","t":1,"a":1}', message])

    assert len(readings) == 1
    assert [(reject.row, reject.reason) for reject in rejects] == [(1, why)]


def test_a_reading_with_nothing_in_it_says_so_and_makes_no_stream_known() -> None:
    some = filling()

    _, rejects = decode(some, [b'{"stream":"s","t":1,"a":null}'])

    assert rejects[0].detail == "a reading has a number in one feature at least; got none"
    assert len(some.streams) == 0


def test_stream_and_time_may_not_be_missing() -> None:
    _, rejects = decode(filling(), [b'{"stream":"s","t":null,"a":1}', b'{"t":1,"a":1}'])

    assert [reject.reason for reject in rejects] == ["schema", "schema"]


def test_an_absent_object_is_all_its_features_missing() -> None:
    some = filling(("x.p", "x.q.r", "y"), stream=("meta.id",), timestamp="meta.t")

    readings, rejects = decode(
        some,
        [
            b'{"meta":{"id":"s","t":1},"y":3}',
            b'{"meta":{"id":"s","t":2},"x":{"p":1},"y":3}',
            b'{"meta":{"id":"s","t":3},"x":{"q":{"r":2}}}',
            b'{"y":3}',
        ],
    )

    nan = np.nan
    assert np.array_equal(readings.values, np.array([[nan, nan, 3], [1, nan, 3], [nan, 2, nan]]), equal_nan=True)
    assert [reject.row for reject in rejects] == [3]
