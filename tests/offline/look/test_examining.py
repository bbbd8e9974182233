"""A configuration that is not what the topic holds: what is refused, and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from streamer.cli import main
from streamer.config import Settings
from streamer.errors import DataError
from streamer.offline.look.examining import examine, require_fit
from streamer.offline.look.looking import look
from streamer.offline.look.proposing import plain, propose
from streamer.offline.look.sampling import Sample
from tests.offline.look import topics

pytestmark = pytest.mark.usefixtures("keep_logging")

WIDE = topics.sample(topics.machines())
LONG = topics.sample(topics.long_metrics())
MACHINES = {"stream": "device", "timestamp": "ts", "features": ["temperature", "vibration"]}


def settings(**records: Any) -> Settings:
    return Settings.model_validate({"records": records})


def reason(sample: Sample, **records: Any) -> str:
    """Why training stops."""
    with pytest.raises(DataError) as stopped:
        require_fit(settings(**records), sample)
    return str(stopped.value)


@pytest.mark.parametrize(
    "sample",
    [WIDE, LONG, topics.sample(topics.trades()), topics.sample(topics.quotes()), topics.odd()],
    ids=["wide", "long", "trades", "quotes", "odd"],
)
def test_what_is_proposed_refuses_nothing(sample: Sample) -> None:
    seen = look(sample)

    found = examine(Settings.model_validate(plain(propose(seen))), sample, seen=seen)

    assert not any((found.refused, found.faults, found.remarks, found.hopeless))
    assert found.readings == len(sample.messages)
    assert found.samples[0]


def test_a_wrong_name_is_answered_with_the_one_that_was_meant() -> None:
    words = reason(WIDE, **{**MACHINES, "features": ["temperature", "vibrations"]})

    assert "no message has field 'vibrations' (records.features): did you mean 'vibration'?" in words


def test_a_wrong_stream_field_is_answered_with_the_fields_there_are() -> None:
    words = reason(WIDE, **{**MACHINES, "stream": "pump"})

    assert "no message has field 'pump' (records.stream): did you mean 'device'?" in words
    assert "fields are device, ts, temperature, vibration, unit" in words


def test_a_wrong_path_is_answered_with_the_right_one() -> None:
    rows = [
        {"device": row["device"], "ts": row["ts"], "v": {"temperature": row["temperature"]}}
        for row in topics.machines()
    ]

    words = reason(topics.sample(rows), stream="device", timestamp="ts", features=["values.temperature"])

    assert "did you mean 'v.temperature'?" in words


@pytest.mark.parametrize(("said", "is_"), [("s", "ms"), ("us", "ms"), ("iso8601", "ms")])
def test_a_wrong_unit_is_answered_with_the_right_one(said: str, is_: str) -> None:
    words = reason(
        LONG, stream="device", timestamp="ts", timestamp_unit=said, metric="metric", features=["temperature"]
    )

    assert f"records.timestamp_unit: {is_}?" in words


def test_seconds_taken_for_milliseconds_decode_and_are_stopped_all_the_same() -> None:
    rows = [{**row, "ts": topics.START_S + 60 * (i // 3)} for i, row in enumerate(topics.machines())]

    assert "records.timestamp_unit: s?" in reason(topics.sample(rows), **MACHINES, timestamp_unit="ms")


def test_another_format_is_named() -> None:
    assert "the messages are MessagePack, not JSON: records.format: msgpack?" in reason(
        topics.odd(), stream="x", features=["y"]
    )


def test_an_array_of_readings_is_named() -> None:
    rows = topics.machines()
    messages = [{"values": rows[i : i + 3]} for i in range(0, len(rows), 3)]

    assert "records.readings: 'values'?" in reason(topics.sample(messages), **MACHINES)


def test_a_metric_that_nobody_sends_is_answered_with_those_that_are_sent() -> None:
    words = reason(
        LONG, stream="device", timestamp="ts", timestamp_unit="ms", metric="metric", features=["temperatur", "druck"]
    )

    assert "did you mean 'temperature'?" in words
    assert "names pressure, temperature, vibration" in words


def test_text_in_place_of_a_feature_is_shown() -> None:
    assert "field 'unit' (records.features) holds 'C', no numbers; numbers are in temperature, vibration" in reason(
        WIDE, **{**MACHINES, "features": ["unit"]}
    )


def test_a_few_bad_messages_are_counted_and_stop_nothing() -> None:
    values = [*topics.machines(), b"{", b"no"]

    found = require_fit(settings(**MACHINES), topics.sample(values))

    assert {name: count for name, (count, _) in found.refused.items()} == {"malformed": 2}


def test_a_stream_field_of_which_every_message_has_another_is_remarked_on() -> None:
    rows = [{**row, "uid": f"m{i}"} for i, row in enumerate(topics.machines())]

    found = examine(settings(**{**MACHINES, "stream": "uid"}), topics.sample(rows))

    assert "almost every message has a stream of its own" in found.remarks[0]
    assert "did you mean 'device'?" in found.remarks[0]


def test_training_on_a_file_with_another_mapping_stops_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame(topics.machines()).to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "streamer.yaml").write_text("records: {stream: device, timestamp: ts, features: [temperatur]}\n")

    code = main(["retrain", "--config", str(tmp_path / "streamer.yaml"), "--data", str(tmp_path / "rows.csv")])

    assert code == 65
    assert "did you mean 'temperature'?" in capsys.readouterr().err


def test_numbers_that_come_as_text_are_named() -> None:
    rows = [{**row, "temperature": str(row["temperature"])} for row in topics.machines()]

    words = reason(topics.sample(rows), **MACHINES)

    assert "field 'temperature' (records.features) holds numbers as text" in words
    assert "records.text_numbers: true?" in words
    assert not examine(settings(**MACHINES, text_numbers=True), topics.sample(rows)).refused
