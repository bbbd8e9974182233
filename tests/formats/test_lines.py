"""Messages of text lines: rows of CSV and TSV, Influx line protocol."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.keyed_state import KeyedState
from streamer.formats import Decoded, FormatOptions, decoder_of
from tests.messages import batch

NAN = np.nan
COLUMNS = ("t", "stream", "a", "b")
NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=8)
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def decode(
    format: str, values: Sequence[bytes | None], features: Sequence[str] = ("a", "b"), **options: Any
) -> tuple[Decoded, list[str]]:
    streams = KeyedState()
    made = FormatOptions(tuple(features), **{"timestamp": "t", "timestamp_unit": "s", "format": format} | options)
    decoded = decoder_of(made, streams).decode(batch(values))
    assert len(values) + decoded.extra == len(decoded.readings) + len(decoded.rejects) + decoded.ignored
    return decoded, streams.names


def same(values: Any, wanted: Any) -> bool:
    return np.array_equal(np.asarray(values, np.float64), np.array(wanted, np.float64), equal_nan=True)


# -------------------------------------------------------------------------------------------------------- CSV and TSV


def test_a_row_is_a_reading_with_the_columns_that_are_configured() -> None:
    decoded, names = decode("csv", [b"1,pump,1.5,-2e3\r\n", b'2, "pump, left",7,8'], columns=COLUMNS)

    assert names == ["pump", "pump, left"]
    assert decoded.readings.time_ns.tolist() == [10**9, 2 * 10**9]
    assert decoded.readings.values.tolist() == [[1.5, -2000], [7, 8]]


def test_without_configured_columns_the_first_line_of_a_message_names_them() -> None:
    value = b"\xef\xbb\xbfb;stream;t;a\n2;x;1;1\n4;x;2;3\n"

    decoded, _ = decode("csv", [value, b"b;stream;t;a\n"], delimiter=";")

    assert decoded.readings.values.tolist() == [[1, 2], [3, 4]]
    assert decoded.readings.offset.tolist() == [0, 0]
    assert (decoded.extra, decoded.ignored) == (1, 1)  # a message with a header alone holds nothing


def test_tabs_part_the_cells_of_tsv() -> None:
    decoded, names = decode("tsv", [b"1\ta b\t1\t2"], columns=COLUMNS)

    assert names == ["a b"]
    assert decoded.readings.values.tolist() == [[1, 2]]


def test_an_empty_cell_is_absent() -> None:
    refused, _ = decode("csv", [b"1,x,,2"], columns=COLUMNS)
    filled, _ = decode("csv", [b"1,x,,2", b"1,x,,"], columns=COLUMNS, missing="fill")

    assert [r.reason for r in refused.rejects] == ["schema"]
    assert refused.rejects[0].detail == "field 'a' is missing"
    assert same(filled.readings.values, [[NAN, 2]])
    assert [r.row for r in filled.rejects] == [1]


def test_good_rows_are_taken_and_the_bad_ones_named() -> None:
    value = b"1,x,1,1\n2,x,on,2\n3,x,3\n4,x,nan,4\nsoon,x,5,5\n6,x,6,6"

    decoded, _ = decode("csv", [value], columns=COLUMNS)

    assert decoded.readings.values.tolist() == [[1, 1], [6, 6]]
    [reject] = decoded.rejects
    assert reject.detail.startswith("4 of 6 readings refused: [1]: field 'a' must be a number; got text 'on'")
    assert "[2]: a row has 4 columns (t, stream, a, b); got 3 cells with delimiter ','" in reject.detail
    assert "[3]: field 'a' must be a number; got NaN" in reject.detail
    assert "[4]: field 't' must be a number of s since 1970; got text 'soon'" in reject.detail


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"\xff\xfe1,x", "malformed"),
        (b'1,"x,1,1', "malformed"),
        (b'1,x,"1"1,1', "malformed"),
        (b"1,x,1e39,1", "not_finite"),
        (b"1,x,inf,1", "not_finite"),
        (b"1,,1,1", "schema"),
        (b"1,a\x00b,1,1", "bad_stream"),
        (b"-1,x,1,1", "bad_timestamp"),
        (b"1" * 300_000, "malformed"),
        (b"1,x,1,1\n" * 11, "too_many"),
        (b"1,x,1,1\n" * 1000, "too_large"),
    ],
)
def test_each_kind_of_bad_row_has_its_reason(value: bytes | None, reason: str) -> None:
    most = 7000 if reason == "too_large" else 1_000_000

    decoded, _ = decode("csv", [value], columns=COLUMNS, max_readings=10, max_record_bytes=most)

    assert [r.reason for r in decoded.rejects] == [reason]


def test_iso_times_in_rows_are_text_and_numbers_there_get_a_hint() -> None:
    decoded, _ = decode("csv", [b"1970-01-01,x,1,1", b"1700000000123,x,1,1"], columns=COLUMNS, timestamp_unit="iso8601")

    assert decoded.readings.time_ns.tolist() == [0]
    assert decoded.rejects[0].detail.endswith("records.timestamp_unit: ms?")


def test_rows_may_hold_one_metric_each() -> None:
    value = b"t,stream,metric,value\n1,x,a,1\n1,x,b,2\n1,x,state,on\n1,x,b,on"

    decoded, _ = decode("csv", [value], metric="metric")

    assert same(decoded.readings.values, [[1, NAN], [NAN, 2]])
    assert decoded.ignored == 1
    assert decoded.rejects[0].detail == "1 of 4 readings refused: [3]: field 'value' must be a number; got text 'on'"


def test_a_quoted_cell_may_hold_a_line_break() -> None:
    decoded, _ = decode("csv", [b'1,x,1,1,"two\nlines"\n2,x,2,2,one'], columns=(*COLUMNS, "note"))

    assert decoded.readings.values.tolist() == [[1, 1], [2, 2]]


def test_column_names_may_have_dots() -> None:
    decoded, _ = decode("csv", [b"1,x,5,6"], ("m.a", "m.b"), columns=("t", "stream", "m.a", "m.b"))

    assert decoded.readings.values.tolist() == [[5, 6]]


@given(
    st.lists(st.tuples(st.integers(0, 10**9), NAMES, NUMBERS, NUMBERS), min_size=1, max_size=6),
    st.sampled_from(",;\t|"),
)
def test_rows_that_the_csv_module_writes_are_read_back(
    rows: list[tuple[int, str, float, float]], delimiter: str
) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)

    decoded, names = decode("csv", [text.getvalue().encode()], columns=COLUMNS, delimiter=delimiter)

    readings = decoded.readings
    assert readings.time_ns.tolist() == [row[0] * 10**9 for row in rows]
    assert [names[code] for code in readings.stream] == [row[1] for row in rows]
    assert same(readings.values, [row[2:] for row in rows])


# ----------------------------------------------------------------------------------------------- Influx line protocol


def influx(
    values: Sequence[bytes | None], features: Sequence[str] = ("a", "b"), **options: Any
) -> tuple[Decoded, list[str]]:
    return decode(
        "influx", values, features, **{"stream": ("host",), "timestamp": "timestamp", "timestamp_unit": "ns"} | options
    )


def test_a_line_is_a_reading_of_its_tags_and_fields() -> None:
    value = b'# a comment\nair,host=x,rack=r\\ 1 a=1.5,b=2i 5\n\nair,rack=2,host=y a=-1e3,b=7u,ok=T,s="1, 2\\" =3" 6\n'

    decoded, names = influx([value], stream=("measurement", "host", "rack"))

    assert names == ["air/x/r 1", "air/y/2"]
    assert decoded.readings.time_ns.tolist() == [5, 6]
    assert decoded.readings.values.tolist() == [[1.5, 2], [-1000, 7]]


@pytest.mark.parametrize(("unit", "time_ns"), [("ns", 7), ("us", 7_000), ("ms", 7_000_000), ("s", 7_000_000_000)])
def test_the_precision_is_the_unit_of_the_time(unit: str, time_ns: int) -> None:
    decoded, _ = influx([b"m,host=x a=1,b=2 7"], timestamp_unit=unit)

    assert decoded.readings.time_ns.tolist() == [time_ns]


def test_a_bad_line_takes_no_good_one_with_it() -> None:
    decoded, _ = influx([b"m,host=x a=1,b=2 7\nhello\nm,host=x a=3,b=4 8"])

    assert decoded.readings.values.tolist() == [[1, 2], [3, 4]]
    assert decoded.rejects[0].reason == "malformed"
    assert decoded.rejects[0].detail.startswith("1 of 3 readings refused: [1]: wanted Influx line protocol")


def test_lines_of_other_measurements_are_ignored() -> None:
    decoded, _ = influx([b"m,host=x a=1,b=2 7\ndisk,path=/ used=5 7\nm,host=x a=3,b=4 8"])

    assert decoded.readings.values.tolist() == [[1, 2], [3, 4]]
    assert (decoded.ignored, decoded.rejects) == (1, [])


def test_a_line_with_some_of_the_fields_is_refused_or_filled() -> None:
    refused, _ = influx([b"m,host=x a=1 7"])
    filled, _ = influx([b"m,host=x a=1 7"], missing="fill")

    assert refused.rejects[0].detail == "field 'b' is missing"
    assert same(filled.readings.values, [[1, NAN]])


def test_a_line_without_a_time_has_the_records_or_none() -> None:
    without, _ = influx([b"m,host=x a=1,b=2"])
    record, _ = influx([b"m,host=x a=1,b=2"], timestamp="@kafka")

    assert without.rejects[0].detail == "field 'timestamp' is missing"
    assert record.rejects[0].reason == "bad_timestamp"  # this record has no timestamp either


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"\xff", "malformed"),
        (b"hello", "malformed"),
        (b"m,host=x", "malformed"),
        (b"m,host=x a= 7", "malformed"),
        (b"m,host=x a=1,b=2 soon", "malformed"),
        (b"m,host= a=1,b=2 7", "malformed"),
        (b"m,host=x a=1,b=\"open 7", "malformed"),
        (b"m,host=x a=one,b=2 7", "malformed"),
        (b'{"a":1}', "malformed"),
        (b"m,host=x a=T,b=2 7", "schema"),
        (b'm,host=x a="1",b=2 7', "schema"),
        (b"m,rack=x a=1,b=2 7", "schema"),
        (b"m,host=x a=1,b=2 -7", "bad_timestamp"),
        (b"m,host=x a=1e400,b=2 7", "not_finite"),
        (b"m,host=x a=1,b=2 7\n" * 11, "too_many"),
    ],
)  # fmt: skip
def test_each_kind_of_bad_line_has_its_reason(value: bytes | None, reason: str) -> None:
    decoded, _ = influx([value], max_readings=10)

    assert [r.reason for r in decoded.rejects] == [reason]


@given(
    st.lists(
        st.tuples(
            st.text('ab ,=\\"é', min_size=1, max_size=6), NUMBERS, st.integers(-(2**53), 2**53), st.integers(0, 2**60)
        ),
        max_size=5,
    )
)
def test_lines_with_escaped_names_are_read_back(lines: list[tuple[str, float, int, int]]) -> None:
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")

    text = "\n".join(f"m,host=x{escaped(host)}x a={a!r},b={b}i {at}" for host, a, b, at in lines)

    decoded, names = influx([text.encode() or b"\n"])

    readings = decoded.readings
    assert [names[code] for code in readings.stream] == [f"x{host}x" for host, *_ in lines]
    assert readings.time_ns.tolist() == [at for *_, at in lines]
    assert same(readings.values, np.array([[a, b] for _, a, b, _ in lines], np.float32).reshape(-1, 2))


@given(st.lists(st.binary(max_size=30) | st.text('m,host=x a=1b"\\ 7\n', max_size=30).map(str.encode), max_size=5))
def test_any_text_is_read_or_refused(values: list[bytes]) -> None:
    influx(values)
    decode("csv", values)
    decode("csv", values, columns=COLUMNS)
