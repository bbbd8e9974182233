"""Messages that wait for room in the producer count as delivered only once acknowledged."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from streamer.config import KafkaConfig
from streamer.connectors.kafka import Headers, Shorten
from streamer.connectors.sinks import KafkaSinks
from streamer.errors import DeliveryFailed
from streamer.formats.rejects import MALFORMED, Reject
from tests.messages import batch


class Narrow:
    """A producer with room for one message, acknowledged by `flush`."""

    def __init__(self, *, acknowledges: bool = True) -> None:
        self.acknowledges = acknowledges
        self.held: list[bytes | None] = []
        self.sent: list[bytes | None] = []
        self.acknowledged: list[bytes | None] = []

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
        if self.held:
            raise DeliveryFailed("full")
        self.held.append(key)
        self.sent.append(value)

    def flush(self, timeout_s: float) -> None:
        if not self.acknowledges:
            raise DeliveryFailed("the broker is away")
        self.acknowledged += self.held
        self.held.clear()

    @property
    def pending(self) -> int:
        return len(self.held)

    def close(self) -> None:
        self.held.clear()


def sinks(producer: Narrow) -> KafkaSinks:
    return KafkaSinks(producer, KafkaConfig(scores_topic="scores"), max_value_bytes=1000)


def publish(to: KafkaSinks, count: int) -> None:
    for i in range(count):
        to.publish_scores(["s"], np.array([i]), np.array([0.5], np.float32), "v")


def test_flush_waits_for_what_had_no_room_too() -> None:
    producer = Narrow()
    to = sinks(producer)
    publish(to, 3)
    assert to.stuck

    to.flush(5.0)

    assert len(producer.acknowledged) == 3
    assert to.pending == 0
    assert not to.stuck


def test_flush_that_cannot_deliver_keeps_everything() -> None:
    producer = Narrow(acknowledges=False)
    to = sinks(producer)
    publish(to, 3)

    with pytest.raises(DeliveryFailed):
        to.flush(0.1)

    assert to.pending == 3


def test_scores_put_right_by_late_readings_say_so_and_bring_what_is_settled() -> None:
    producer = Narrow()
    score, settled = np.array([0.5, 0.25], np.float32), np.array([np.nan, 0.75], np.float32)

    sinks(producer).publish_scores(["s", "t"], np.array([1, 2]), score, "v", settled)

    assert json.loads(producer.sent[0] or b"") == {
        "stream": ["s", "t"],
        "time_ns": [1, 2],
        "score": [0.5, 0.25],
        "settled": [None, 0.75],
        "model_version": "v",
        "corrected": True,
    }


def test_what_a_producer_calls_its_headers_is_never_taken_for_what_we_say_of_a_dead_letter() -> None:
    sent: list[Headers] = []

    class Kept(Narrow):
        def send(self, topic: str, **message: Any) -> None:
            sent.append(message["headers"])

    forged = [("streamer.dlq.reason", b"late"), ("trace", b"1"), ("streamer.dlq.forged", None)]
    polled = batch([b"?"], headers=[forged])  # type: ignore[list-item]

    sinks(Kept()).publish_dead_letter(polled, Reject(0, MALFORMED, "not JSON"))

    (headers,) = sent
    ours = [(name, content) for name, content in headers if name.startswith("streamer.dlq.")]
    assert [content for name, content in ours if name == "streamer.dlq.reason"] == [b"malformed"]
    assert "streamer.dlq.forged" not in dict(ours)
    assert [name for name, _ in headers[:3]] == [
        "original.streamer.dlq.reason",
        "trace",
        "original.streamer.dlq.forged",
    ]
