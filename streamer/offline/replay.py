"""`streamer replay`: the readings of files into Kafka, as their streams would have sent them.

Messages are JSON objects in the format that `records` describes, with the stream also as
key, so that each stream stays in one partition and in order. Not inside: reading files.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.config import Settings
from streamer.connectors.files import DataSet
from streamer.connectors.kafka import Producer
from streamer.errors import DeliveryFailed
from streamer.offline.progress import progress

log = logging.getLogger(__name__)
_BATCH = 1000
_INFINITE = msgspec.Raw(b"1e999")
_PER = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1}


def encode(data: DataSet, settings: Settings) -> list[tuple[bytes, bytes]]:
    """Key and value of each reading's message."""
    records = settings.records
    if records.timestamp_unit == "iso8601":
        stamps: list[Any] = _iso(data.time_ns)
    else:
        per = int(_PER[records.timestamp_unit])
        whole = data.time_ns % per == 0
        stamps = [t // per if w else t / per for t, w in zip(data.time_ns.tolist(), whole.tolist(), strict=True)]
    messages = []
    encoder = msgspec.json.Encoder()
    for code, stamp, row in zip(data.stream.tolist(), stamps, data.values.tolist(), strict=True):
        name = data.names[code]
        message: dict[str, Any] = {}
        if records.stream_column != "@key":
            _put(message, records.stream_column, name)
        _put(message, records.timestamp, stamp)
        for feature, value in zip(records.features, row, strict=True):
            # NaN becomes null. So would infinity, but that is a fault, not a gap: it goes as what no reader takes.
            _put(message, feature, _INFINITE if math.isinf(value) else value)
        messages.append((name.encode(), encoder.encode(message)))
    return messages


def replay(
    data: DataSet,
    settings: Settings,
    producer: Producer,
    *,
    speed: float | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Send a data set to the input topic; returns how many messages were acknowledged.

    Args:
        data: What to send, in the order in which its streams sent it: merged by time, each in its own order.
        settings: Topic and shape of the messages.
        producer: Sends.
        speed: Seconds of event time per second; None: as fast as possible.
        stop: Set to end early.

    Raises:
        DeliveryFailed: The broker did not acknowledge in time.
    """
    stop = stop or threading.Event()
    data = data.select(data.sending_order())
    producer.flush(settings.kafka.delivery_timeout_s)  # connects, so that the pace is even from the first reading
    began, first, sent = time.monotonic(), int(data.time_ns[0]), 0
    with progress("replay", len(data)) as advance:
        while sent < len(data) and not stop.is_set():
            if speed is None:
                some = min(_BATCH, len(data) - sent)
            else:
                due = first + int((time.monotonic() - began) * speed * 1e9)
                some = int((np.maximum.accumulate(data.time_ns[sent : sent + _BATCH]) <= due).sum())
                if some == 0:
                    wait_s = (int(data.time_ns[sent]) - due) / 1e9 / speed
                    stop.wait(min(1.0, max(wait_s, 0.005)))
                    continue
            send(producer, settings.kafka.topic, encode(data.select(slice(sent, sent + some)), settings), settings)
            sent += some
            advance(some)
        producer.flush(settings.kafka.delivery_timeout_s)
    return sent


def send(producer: Producer, topic: str, messages: Sequence[tuple[bytes, bytes]], settings: Settings) -> None:
    """Queue messages, waiting for room when the producer has none."""
    for key, value in messages:
        try:
            producer.send(topic, key=key, value=value)
        except DeliveryFailed:
            producer.flush(settings.kafka.delivery_timeout_s)
            producer.send(topic, key=key, value=value)


def _put(message: dict[str, Any], path: str, value: Any) -> None:
    *outer, last = path.split(".")
    for part in outer:
        message = message.setdefault(part, {})
    message[last] = value


def _iso(time_ns: NDArray[np.int64]) -> list[str]:
    unit: Literal["ns", "us"] = "ns" if (time_ns % 1000).any() else "us"
    return [f"{text}Z" for text in np.datetime_as_string(time_ns.astype("datetime64[ns]"), unit=unit).tolist()]
