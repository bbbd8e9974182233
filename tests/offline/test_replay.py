"""Messages of a replayed file decode to the readings of the file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config import RecordsConfig
from streamer.connectors.files import DataSet
from streamer.connectors.kafka import Headers
from streamer.core.keyed_state import KeyedState
from streamer.errors import DeliveryFailed
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

    def send(self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        if self.waiting >= self.room:
            raise DeliveryFailed("full")
        self.waiting += 1
        self.messages.append((key, value))

    def flush(self, timeout_s: float) -> None:
        self.acknowledged += self.waiting
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
