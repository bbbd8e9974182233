"""Which format, shape, stream, time and features are found in topics as people have them."""

from __future__ import annotations

import csv
import io
import json
import struct
from typing import Any

import msgspec
import numpy as np
import pytest

from streamer.errors import DataError
from streamer.offline.look.choosing import Wanted
from streamer.offline.look.looking import Look, look
from streamer.offline.look.sampling import Sample
from tests.offline.look import topics


def found(seen: Look) -> tuple[Any, ...]:
    """Kind, stream, time, unit and features."""
    chosen, features = seen.chosen, seen.features
    names = [feature.name for feature in features.taken]
    return features.kind, chosen.stream, chosen.timestamp, chosen.timestamp_unit, names


def left_out(seen: Look) -> dict[str, str]:
    return {each.name: each.why for each in seen.features.left}


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> list[bytes]:
    lines = []
    for row in rows:
        out = io.StringIO()
        csv.writer(out, delimiter=delimiter, lineterminator="").writerow(row.values())
        lines.append(out.getvalue().encode())
    return lines


def influx(row: dict[str, Any]) -> bytes:
    stamp = row["ts"] * 1_000_000
    return f"readings,host={row['device']},rack=r1 {row['metric']}={row['value']},up=1i {stamp}".encode()


@pytest.mark.parametrize(
    ("encode", "format_"),
    [
        (lambda one: json.dumps(one).encode(), "json"),
        (msgspec.msgpack.encode, "msgpack"),
        (lambda one: b"\0" + struct.pack(">I", 42) + json.dumps(one).encode(), "json-schema"),
    ],
)
def test_the_same_readings_are_found_in_every_format(encode: Any, format_: str) -> None:
    seen = look(topics.sample(topics.machines(), encode=encode))

    assert seen.recognised.format == format_
    assert found(seen) == ("sensor", ("device",), "ts", "iso8601", ["temperature", "vibration"])


@pytest.mark.parametrize(("delimiter", "format_"), [(",", "csv"), (";", "csv"), ("\t", "tsv")])
def test_rows_of_text_are_cut_at_their_delimiter(delimiter: str, format_: str) -> None:
    rows = topics.machines()
    whole = topics.sample(as_csv(rows, delimiter))

    seen = look(Sample(whole.origin, whole.messages, whole.total, columns=list(rows[0])))

    assert (seen.recognised.format, seen.recognised.delimiter) == (format_, delimiter)
    assert found(seen)[1:] == (("device",), "ts", "iso8601", ["temperature", "vibration"])


def test_decimal_commas_and_german_names_are_read_as_numbers() -> None:
    rows = [
        {"Maschine": row["device"], "Zeit": row["ts"], "Druck": str(row["temperature"]).replace(".", ",")}
        for row in topics.machines()
    ]
    whole = topics.sample(as_csv(rows, ";"))

    seen = look(Sample(whole.origin, whole.messages, whole.total, columns=list(rows[0])))

    assert found(seen)[1:] == (("Maschine",), "Zeit", "iso8601", ["Druck"])
    assert seen.fields["Druck"].comma
    assert seen.fields["Druck"].range == pytest.approx((37.5, 52.3), abs=0.2)


def test_influx_lines_are_recognised() -> None:
    seen = look(topics.sample([influx(row) for row in topics.long_metrics()]))

    assert seen.recognised.format == "influx"
    assert (seen.chosen.stream, seen.chosen.timestamp, seen.chosen.timestamp_unit) == (("host",), "timestamp", "ns")


def test_what_only_a_registry_can_read_says_so() -> None:
    values = [b"\0" + struct.pack(">I", 7) + bytes([6, 65, 66, 67, i % 250]) for i in range(50)]

    with pytest.raises(DataError, match="schema id 7: Avro or Protobuf; name the schema registry"):
        look(topics.sample(values))


def test_what_is_no_message_of_any_kind_is_shown() -> None:
    with pytest.raises(DataError, match=r"cannot be read: they are no JSON, .* one begins "):
        look(topics.sample([b"\xff\xfe\x01 noise %d" % i for i in range(30)]))


def test_one_metric_per_message_is_the_long_shape() -> None:
    seen = look(topics.sample(topics.long_metrics()))

    assert found(seen) == ("sensor-long", ("device",), "ts", "ms", ["temperature", "vibration", "pressure"])
    assert seen.chosen.metric is not None
    assert (seen.chosen.metric.name, seen.timing.interval_s) == ("metric", 60.0)


def test_one_value_of_each_sensor_is_not_long_but_a_stream_of_one_feature() -> None:
    rows = [{"sensor": row["device"], "ts": row["ts"], "value": row["temperature"]} for row in topics.machines()]

    assert found(look(topics.sample(rows))) == ("sensor", ("sensor",), "ts", "iso8601", ["value"])


def test_an_array_of_readings_in_one_message_is_unfolded() -> None:
    rows = topics.machines(streams=2)
    messages = [
        {
            "gerät": {"name": f"press-{m}"},
            "werte": [{"zeit": row["ts"], "wärme": row["temperature"]} for row in rows[m::2][i : i + 10]],
        }
        for i in range(0, 150, 10)
        for m in range(2)
    ]

    seen = look(topics.sample(messages))

    assert seen.rows.readings == "werte"
    assert found(seen) == ("sensor", ("gerät.name",), "zeit", "iso8601", ["wärme"])
    assert seen.timing.readings == 300


def test_a_message_that_is_an_array_is_unfolded() -> None:
    rows = topics.machines()

    seen = look(topics.sample([rows[i : i + 3] for i in range(0, len(rows), 3)]))

    assert seen.rows.readings == "@root"
    assert found(seen)[1] == ("device",)


def test_trades_are_recognised_by_price_and_size() -> None:
    seen = look(topics.sample(topics.trades()))

    assert found(seen) == ("ticks-trades", ("symbol",), "timestamp", "ms", ["price", "size"])
    assert seen.timing.same_time > 0.1
    assert "exchange" in left_out(seen)


def test_quotes_are_recognised_and_a_side_of_0_is_a_side_that_is_missing() -> None:
    seen = look(topics.sample(topics.quotes()))

    assert found(seen)[0] == "ticks-quotes"
    assert [feature.name for feature in seen.features.taken if feature.zero_is_missing] == ["bid", "ask"]


def test_a_topic_that_no_preset_foresaw_is_understood() -> None:
    seen = look(topics.odd())

    assert seen.recognised.format == "msgpack"
    assert found(seen)[1:4] == (("anlage.kennung",), "@header:gemessen", "us")
    assert [(each.name, each.counter) for each in seen.features.taken] == [
        ("messwerte.öltemperatur", False),
        ("messwerte.druck", False),
        ("zähler", True),
    ]


def test_values_decide_where_names_say_nothing() -> None:
    rows = [
        {"a": row["device"], "b": int(topics.START_S + 60 * (i // 3)), "c": row["temperature"]}
        for i, row in enumerate(topics.machines())
    ]

    assert found(look(topics.sample(rows))) == ("sensor", ("a",), "b", "s", ["c"])


def test_the_message_key_names_the_stream_where_no_field_does() -> None:
    rows = topics.machines()
    bare = [{name: value for name, value in row.items() if name != "device"} for row in rows]

    seen = look(topics.sample(bare, key=[row["device"].encode() for row in rows]))

    assert seen.chosen.stream == ("@key",)


def test_the_time_of_the_event_is_taken_not_that_of_its_arrival() -> None:
    rows = [{**row, "received_at": row["ts"], "when": row["ts"]} for row in topics.machines()]
    for row in rows:
        del row["ts"]

    seen = look(topics.sample(rows))

    assert seen.chosen.timestamp == "when"
    assert left_out(seen)["received_at"].startswith("another time")


def test_the_brokers_time_is_taken_where_messages_have_none() -> None:
    rows = [{"device": row["device"], "temperature": row["temperature"]} for row in topics.machines()]

    assert look(topics.sample(rows)).chosen.timestamp == "@kafka"


def test_constants_identifiers_sequence_numbers_and_text_are_no_features() -> None:
    rows = [
        {**row, "seq": i // 3, "firmware": 7, "id": 90_000 + i, "state": "ok", "armed": True}
        for i, row in enumerate(topics.machines())
    ]

    seen = look(topics.sample(rows))

    assert found(seen)[4] == ["temperature", "vibration"]
    assert seen.features.sequence is not None
    assert seen.features.sequence.name == "seq"
    assert {"seq", "firmware", "id", "state", "armed", "unit"} == left_out(seen).keys()


def test_numbers_that_grow_are_known_by_the_order_of_time_where_messages_are_late() -> None:
    rows = [
        {**row, "msgNo": i // 3, "uptime": 100 + 60 * (i // 3), "rx_bytes": 1000 * i + 37 * (i % 11)}
        for i, row in enumerate(topics.machines())
    ]

    seen = look(topics.sample(topics.delayed(rows)))

    assert seen.features.sequence is not None
    assert seen.features.sequence.name == "msgNo"
    assert "clock" in left_out(seen)["uptime"]
    assert [(each.name, each.counter) for each in seen.features.taken] == [
        ("temperature", False),
        ("vibration", False),
        ("rx_bytes", True),
    ]


def test_a_sequence_number_with_messages_lost_is_no_feature() -> None:
    rows = [{**row, "msgNo": i // 3} for i, row in enumerate(topics.machines(400))]
    kept = [row for row, there in zip(rows, np.random.default_rng(4).random(len(rows)) < 0.85, strict=True) if there]

    assert found(look(topics.sample(topics.delayed(kept))))[4] == ["temperature", "vibration"]


def test_streams_are_told_apart_by_two_fields_where_one_does_not() -> None:
    rows = [
        {"site": f"s{m // 2}", "device": f"d{m % 2}", "ts": topics.iso(60 * i), "load": 10 * m + topics.wave(60, m)[i]}
        for i in range(60)
        for m in range(4)
    ]

    assert set(look(topics.sample(rows)).chosen.stream) == {"site", "device"}


def test_lateness_duplicates_and_equal_times_are_measured() -> None:
    rows = topics.machines(rows=200, streams=2)
    order = np.arange(len(rows)).astype(float)
    late = np.random.default_rng(3).random(len(rows)) < 0.08
    order[late] += 8  # four readings of its stream later
    shuffled = [rows[i] for i in np.argsort(order, kind="stable")] + rows[-20:]

    timing = look(topics.sample(shuffled)).timing

    assert timing.late == pytest.approx(0.12, abs=0.05)
    assert 120 <= timing.lateness_s(1.0) <= 600
    assert timing.duplicates == pytest.approx(20 / len(shuffled))


def test_what_the_user_decides_is_taken() -> None:
    wanted = Wanted(stream=("unit",), timestamp="ts", features=("vibration",))

    assert found(look(topics.sample(topics.machines()), wanted)) == (
        "sensor", ("unit",), "ts", "iso8601", ["vibration"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(stream=("devise",)), "--stream: 'devise' is not in what was looked at; "),
        (Wanted(metric="devise"), "--metric: 'devise'"),
        (Wanted(value="devise"), "--value: 'devise'"),
        (Wanted(features=("temperature", "devise")), "--features: 'devise'"),
    ],
)
def test_a_field_that_the_user_names_and_no_message_has_is_an_error_with_the_one_that_was_meant(
    wanted: Wanted, said: str
) -> None:
    with pytest.raises(DataError) as refused:
        look(topics.sample(topics.machines()), wanted)

    assert said in str(refused.value)
    assert str(refused.value).endswith("; did you mean 'device'?")


def test_a_metric_that_the_user_names_and_no_message_has_is_an_error() -> None:
    rows = [
        {
            "timestamp": 60 * (i // 2) + topics.START_S,
            "metric": ("heat", "current")[i % 2],
            "value": i % 7 + 9 * (i % 2),
        }
        for i in range(200)
    ]

    with pytest.raises(DataError, match=r"--features: 'curent' is not in .* did you mean 'current'"):
        look(topics.sample(rows), Wanted(stream=("@key",), metric="metric", value="value", features=("heat", "curent")))


def test_a_topic_of_nothing_but_tombstones_says_so() -> None:
    with pytest.raises(DataError, match="holds no message with a value among the 3 looked at"):
        look(topics.sample([b"", b"", b""]))


def test_exchange_messages_with_names_of_one_letter_are_trades() -> None:
    rows = [
        {
            "e": "trade",
            "E": row["timestamp"] + 5,
            "s": row["symbol"],
            "t": i,
            "p": str(row["price"]),
            "q": str(row["size"]),
        }
        for i, row in enumerate(topics.trades())
    ]
    for row, trade in zip(rows, topics.trades(), strict=True):
        row["T"] = trade["timestamp"]

    seen = look(topics.sample(rows))

    assert found(seen) == ("ticks-trades", ("s",), "T", "ms", ["p", "q"])
    assert left_out(seen)["E"] == "another time, in ms"


def test_pressure_and_flow_of_one_letter_are_no_trades() -> None:
    rows = [
        {"device": row["device"], "ts": row["ts"], "p": row["temperature"], "q": 9.0 + row["vibration"]}
        for row in topics.machines()
    ]

    assert found(look(topics.sample(rows)))[0] == "sensor"


def test_a_clock_is_no_feature_and_counters_are_taken_by_their_rate() -> None:
    rows = [
        {**row, "uptime": 100 + 60 * (i // 3), "rx_bytes": 1000 * i + 37 * (i % 11)}
        for i, row in enumerate(topics.machines())
    ]

    seen = look(topics.sample(rows))

    assert [each.name for each in seen.features.taken if each.counter] == ["rx_bytes"]
    assert "clock" in left_out(seen)["uptime"]


def test_values_that_are_absent_now_and_then_leave_the_interval_as_it_is() -> None:
    rng = np.random.default_rng(5)
    rows = [{**row, "vibration": None if rng.random() < 0.2 else row["vibration"]} for row in topics.machines()]

    seen = look(topics.sample(rows))

    assert (seen.timing.interval_s, seen.timing.regular) == (60.0, True)


def test_the_symbol_is_the_stream_not_the_exchange_whatever_they_are_called() -> None:
    rows = [
        {"x1": row["exchange"], "x2": row["symbol"], "t": row["timestamp"], "px": row["price"], "qty": row["size"]}
        for row in topics.trades()
    ]

    assert found(look(topics.sample(rows))) == ("ticks-trades", ("x2",), "t", "ms", ["px", "qty"])


def test_the_schema_of_an_envelope_is_no_array_of_readings() -> None:
    schema = {
        "type": "struct",
        "version": 1,
        "fields": [{"field": "device", "version": 1}, {"field": "ts", "version": 1}],
    }

    seen = look(topics.sample([{"schema": schema, "payload": row} for row in topics.machines()]))

    assert seen.rows.readings is None
    assert found(seen) == (
        "sensor", ("payload.device",), "payload.ts", "iso8601", ["payload.temperature", "payload.vibration"],
    )  # fmt: skip


def test_heartbeats_among_the_readings_are_passed_over() -> None:
    rows: list[dict[str, Any]] = topics.machines()
    mixed = [
        one for i, row in enumerate(rows) for one in ([row, {"heartbeat": i, "up": True}] if i % 3 == 0 else [row])
    ]

    seen = look(topics.sample(mixed))

    assert found(seen) == ("sensor", ("device",), "ts", "iso8601", ["temperature", "vibration"])
    assert seen.timing.readings == len(rows)
