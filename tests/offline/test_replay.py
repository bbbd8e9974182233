"""Messages of a replayed file decode to the readings of the file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config import RecordsConfig
from streamer.connectors.files import DataSet
from streamer.connectors.kafka import Headers, Shorten
from streamer.core.keyed_state import KeyedState
from streamer.errors import ConfigError, DataError, DeliveryFailed
from streamer.formats import decoder_of
from streamer.offline import replay
from tests import tiny
from tests.messages import batch

UNITS = ["iso8601", "s", "ms", "us", "ns"]


class Collector:
    """A producer that takes a few messages and then wants to be flushed."""

    def __init__(self, room: int = 10**9) -> None:
        self.room, self.waiting, self.acknowledged = room, 0, 0
        self.messages: list[tuple[bytes | None, bytes | None]] = []
        self.sent_s: list[float] = []  # by the clock of the test
        self.flushed_s: list[float] = []
        self.clock: Callable[[], float] = lambda: 0.0

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
        shorten: Shorten | None = None,
    ) -> None:
        if self.waiting >= self.room:
            raise DeliveryFailed("full")
        self.waiting += 1
        self.messages.append((key, value))
        self.sent_s.append(self.clock())

    def flush(self, timeout_s: float) -> None:
        self.acknowledged += self.waiting
        self.flushed_s.append(self.clock())
        self.waiting = 0

    @property
    def pending(self) -> int:
        return self.waiting

    def close(self) -> None:
        pass


def data(times_ns: list[int], values: list[tuple[float, float]] | None = None) -> DataSet:
    n = len(times_ns)
    return DataSet(
        ["x", "y/2"],
        np.arange(n) % 2,
        np.array(times_ns, np.int64),
        np.array(values if values is not None else [(i, -i / 3) for i in range(n)], np.float64).reshape(n, 2),
    )


def round_trip(some: DataSet, records: RecordsConfig) -> DataSet:
    settings = tiny.settings(records=records.model_dump())
    messages = replay.encode(some, settings)
    streams = KeyedState(some.names)
    decoder = decoder_of(records.format_options(), streams)
    decoded = decoder.decode(batch([value for _, value in messages], [key for key, _ in messages]))
    readings = decoded.readings
    assert decoded.rejects == []
    return DataSet(streams.names, readings.stream, readings.time_ns, readings.values.astype(np.float64))


@given(
    st.lists(st.integers(0, 4_000_000_000_000_000), min_size=1, max_size=20),
    st.sampled_from(UNITS),
    st.sampled_from(["stream", "@key", "meta.id"]),
    st.sampled_from([("a", "b"), ("v.a", "v.b"), ("a", "v.w.b")]),
)
def test_decoding_gives_back_what_was_encoded(
    times_us: list[int], unit: str, stream: str, features: tuple[str, ...]
) -> None:
    some = data([us * 1000 for us in times_us])

    again = round_trip(some, RecordsConfig(features=features, stream=stream, timestamp_unit=unit))  # type: ignore[arg-type]

    assert again.names == some.names
    assert again.stream.tolist() == some.stream.tolist()
    assert again.time_ns.tolist() == some.time_ns.tolist()
    assert np.array_equal(again.values, some.values.astype(np.float32))


@pytest.mark.parametrize("unit", ["iso8601", "ns"])
def test_nanoseconds_survive(unit: str) -> None:
    times = [1_700_000_000_000_000_001, 1_700_000_000_000_000_002]

    again = round_trip(data(times), RecordsConfig(features=("a", "b"), timestamp_unit=unit))  # type: ignore[arg-type]

    assert again.time_ns.tolist() == times


def test_the_key_is_the_stream_and_a_hole_is_null() -> None:
    (key, value), _ = replay.encode(data([0, 1000], [(1.5, np.nan), (0, 0)]), tiny.settings())

    assert key == b"x"
    assert json.loads(value) == {
        "stream": "x",
        "timestamp": "1970-01-01T00:00:00.000000Z",
        "heat": 1.5,
        "current": None,
    }


def test_a_hole_is_filled_and_infinity_is_refused() -> None:
    settings = tiny.settings(records={"missing": "fill"})
    some = data([0, 1000, 2000], [(1.5, np.nan), (np.inf, 1), (-np.inf, np.nan)])
    decoder = decoder_of(settings.format_options(), KeyedState(some.names))

    decoded = decoder.decode(batch([value for _, value in replay.encode(some, settings)]))

    assert np.array_equal(decoded.readings.values, [[1.5, np.nan]], equal_nan=True)
    assert [(reject.row, reject.reason) for reject in decoded.rejects] == [(1, "schema"), (2, "schema")]


def test_everything_is_sent_and_acknowledged_though_the_producer_fills_up() -> None:
    producer = Collector(room=7)

    sent = replay.replay(data([i * 1000 for i in range(2500)]), tiny.settings(), producer)

    assert sent == 2500 == producer.acknowledged == len(producer.messages)


@pytest.mark.parametrize("speed", [None, 1e9])
def test_streams_that_stand_one_after_another_are_sent_in_order_of_time(speed: float | None) -> None:
    some = DataSet(["x", "y"], np.array([0, 0, 0, 1, 1, 1]), np.array([1, 3, 5, 2, 4, 6]) * 10**9, np.zeros((6, 2)))
    producer = Collector()

    replay.replay(some, tiny.settings(), producer, speed=speed)

    assert [key for key, _ in producer.messages] == [b"x", b"y"] * 3


LAYOUTS: list[dict[str, Any]] = [
    {},
    {"format": "msgpack"},
    {"format": "csv"},
    {"format": "tsv", "columns": ["n", "unused", "v.b", "timestamp", "v.a", "stream"]},
    {"format": "csv", "delimiter": ";", "stream": ["site", "pump"]},
    {"format": "influx", "timestamp_unit": "ns", "features": ["a", "b"]},
    {"format": "influx", "timestamp_unit": "ns", "features": ["a", "b"], "stream": ["measurement", "pump one"]},
    {"stream": ["site.name", "pump"]},
    {"stream": ["@key"]},
    {"stream": ["@key", "pump"]},
    {"readings": "batch.items"},
    {"readings": "@root", "format": "msgpack"},
    {"timestamp": "@header:at"},
    {"timestamp": "@kafka"},
    {"timestamp": "@header:at", "timestamp_unit": "ms", "format": "csv"},
    {"metric": "name", "value": "is.value"},
    {"metric": "name", "format": "csv"},
    {"metric": "name", "readings": "items", "format": "msgpack", "timestamp_unit": "s"},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_messages_of_any_layout_decode_to_the_numbers_of_the_file(layout: dict[str, Any]) -> None:
    records = RecordsConfig.model_validate({"features": ["v.a", "v.b"], "sequence": "n", "missing": "fill", **layout})
    settings = tiny.settings(records=records.model_dump())
    values = np.array([[13.94, np.nan], [-1e-7, np.nan], [np.nan, 0.1 + 0.2], [0.0, np.nan]])
    some = DataSet(
        ["north 1/x=y", "south, 2/z"],
        np.array([0, 1, 1, 0]),
        tiny.START_NS + np.array([0, 5, 5, 3]) * 1_000_000,
        values,
        sequence=np.array([1, 2, 2, 9007199254740993]),
    )

    sent = replay.records_of(some, settings)
    streams = KeyedState(some.names)
    messages = batch(
        [record.value for record in sent],
        [record.key for record in sent],
        headers=[record.headers for record in sent],
    )
    if layout.get("timestamp") == "@kafka":
        stamps = [record.timestamp_ms or -1 for record in sent]
        messages = dataclasses.replace(messages, timestamps_ms=np.array(stamps, np.int64))
    decoded = decoder_of(records.format_options(exact=True), streams).decode(messages)

    assert decoded.rejects == []
    readings = decoded.readings
    assert streams.names == some.names
    assert readings.stream.tolist() == some.stream.tolist()
    assert readings.time_ns.tolist() == some.time_ns.tolist()
    np.testing.assert_array_equal(readings.values, values)
    assert readings.sequence is not None
    assert some.sequence is not None
    assert readings.sequence.tolist() == some.sequence.tolist()


def test_a_reading_without_a_value_has_no_message_in_the_long_layout() -> None:
    settings = tiny.settings(records={"metric": "name", "missing": "fill"})

    assert len(replay.encode(data([0, 1000], [(np.nan, np.nan), (np.nan, 2)]), settings)) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "avro"}, "write json, .*; got avro"),
        ({"format": "protobuf"}, "got protobuf: send such messages with the program that makes them"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_sent(changes: dict[str, Any], words: str) -> None:
    records = RecordsConfig(features=("a",)).model_copy(update=changes)

    with pytest.raises(ConfigError, match=words):
        replay.require_writable(records)


def test_a_name_that_is_not_made_of_the_fields_of_the_stream_is_refused() -> None:
    settings = tiny.settings(records={"stream": ["site", "pump"]})

    with pytest.raises(DataError, match=r"wanted names of streams made of 2 fields, .*; got 'x'"):
        replay.encode(data([0]), settings)


class Clock:
    """Time that passes by waiting."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> bool:
        self.now_s += seconds
        return False

    def is_set(self) -> bool:
        return False


def test_lateness_duplicates_and_the_time_between_readings_are_those_of_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, producer = Clock(), Collector()
    producer.clock = clock.monotonic
    monkeypatch.setattr(replay, "time", clock)
    #          sent at   0   10   10 (late)  10 (again)  40
    times = np.array([100, 110, 104, 110, 140]) * 10**9
    some = DataSet(["x"], np.zeros(5, np.int64), times, np.arange(10.0).reshape(5, 2))

    replay.replay(some, tiny.settings(), producer, speed=2.0, stop=clock)  # type: ignore[arg-type]

    assert [json.loads(value or b"")["heat"] for _, value in producer.messages] == [0, 2, 4, 6, 8]
    assert np.array(producer.sent_s) - 100 == pytest.approx([0, 5, 5, 5, 20], abs=0.01)
    assert np.array(producer.flushed_s) - 100 == pytest.approx([0, 0, 5, 20], abs=0.01)  # nothing is kept meanwhile


@pytest.mark.parametrize(("speed", "newest_s"), [(None, 1_000_000), (1.0, 1_000_040), (20.0, 1_000_002)])
def test_times_can_be_moved_so_that_the_newest_is_now_when_it_is_sent(speed: float | None, newest_s: int) -> None:
    some = data([int(second * 1e9) for second in (100.25, 140.25, 130.5)])

    moved = replay.shifted_to_now(some, speed, 1_000_000_500_000_000)

    assert int(moved.time_ns.max()) == newest_s * 10**9 + 250_000_000
    assert np.diff(moved.time_ns).tolist() == np.diff(some.time_ns).tolist()
