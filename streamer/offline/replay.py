"""`streamer replay`: the readings of files into Kafka as they were sent, in their order and at their pace.

Nothing is sorted and nothing is left out: a reading that stands behind newer ones in its file is sent behind them, and
one that stands there twice is sent twice. The key is the stream: each stream stays in one partition and in order.
Not inside: reading files, how a reading becomes a message (`messages`).
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.config import Settings
from streamer.connectors.files import DataSet
from streamer.connectors.kafka import Producer
from streamer.errors import DeliveryFailed
from streamer.offline.messages import Record, encode, records_of, require_writable
from streamer.offline.progress import progress

__all__ = ["Record", "encode", "records_of", "replay", "require_writable", "send", "shifted_to_now"]

log = logging.getLogger(__name__)
_BATCH = 1000
_SECOND_NS = 1_000_000_000
_WORTH_A_FLUSH_S = 0.05


def replay(
    data: DataSet,
    settings: Settings,
    producer: Producer,
    *,
    speed: float | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Send a data set to the input topic; returns how many readings were acknowledged.

    Args:
        data: What to send, in the order in which it was sent: see `DataSet.sending_order`.
        settings: Topic and shape of the messages.
        producer: Sends.
        speed: Seconds of event time per second; None: as fast as possible. A reading is sent when the newest event time
            until then is due: one that was late is sent late.
        stop: Set to end early.

    Raises:
        ConfigError: Messages of the configured format are not written.
        DeliveryFailed: The broker did not acknowledge in time.
    """
    stop = stop or threading.Event()
    data = data.select(data.sending_order())
    due = np.maximum.accumulate(data.time_ns)
    producer.flush(settings.kafka.delivery_timeout_s)  # connects, so that the pace is even from the first reading
    began, sent, flushed, messages = time.monotonic(), 0, 0, 0
    with progress("replay", len(data)) as advance:
        while sent < len(data) and not stop.is_set():
            if speed is None:
                some = min(_BATCH, len(data) - sent)
            else:
                now_ns = int(due[0]) + int((time.monotonic() - began) * speed * 1e9)
                some = int(np.searchsorted(due[sent : sent + _BATCH], now_ns, side="right"))
                if some == 0:
                    wait_s = (int(due[sent]) - now_ns) / 1e9 / speed
                    if sent > flushed and wait_s > _WORTH_A_FLUSH_S:
                        # A client that did not know the topic yet keeps messages until it is asked for them.
                        producer.flush(settings.kafka.delivery_timeout_s)
                        flushed = sent
                        continue
                    stop.wait(min(1.0, max(wait_s, 0.005)))
                    continue
            some_messages = records_of(data.select(slice(sent, sent + some)), settings)
            send(producer, settings.kafka.topic, some_messages, settings)
            sent, messages = sent + some, messages + len(some_messages)
            advance(some, f"event time {_text(due[sent - 1])}")
        producer.flush(settings.kafka.delivery_timeout_s)
    if settings.records.metric is not None and messages < sent:
        log.info("%d readings without a value have no message and were left out", sent - messages)
    return sent


def shifted_to_now(data: DataSet, speed: float | None, now_ns: int) -> DataSet:
    """The same readings, all moved by whole seconds, so that the newest is as old as now when it is sent.

    Args:
        speed: Of the replay that begins now.
    """
    newest = int(data.time_ns.max())
    lasts_ns = 0 if speed is None else int((newest - int(data.time_ns[data.sending_order()[0]])) / speed)
    by = (now_ns + lasts_ns - newest) // _SECOND_NS * _SECOND_NS
    return dataclasses.replace(data, time_ns=data.time_ns + by)


def send(producer: Producer, topic: str, messages: Sequence[Record | tuple[bytes, bytes]], settings: Settings) -> None:
    """Queue messages, waiting for room when the producer has none."""
    for message in messages:
        key, value, headers, timestamp_ms = Record(*message)
        try:
            producer.send(topic, key=key, value=value, headers=headers, timestamp_ms=timestamp_ms)
        except DeliveryFailed:
            producer.flush(settings.kafka.delivery_timeout_s)
            producer.send(topic, key=key, value=value, headers=headers, timestamp_ms=timestamp_ms)


def _text(time_ns: NDArray[np.int64]) -> str:
    return str(time_ns.astype("datetime64[ns]").astype("datetime64[s]"))
