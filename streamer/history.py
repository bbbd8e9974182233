"""The past of the input topic as a data set, for `streamer retrain --from-kafka`.

Reads with a group of its own and commits nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np

from streamer.broker import Consumer, RecordBatch, connect_consumer
from streamer.config import Settings
from streamer.datafiles import DataSet
from streamer.errors import BrokerError, DataError
from streamer.progress import progress
from streamer.records import JsonDecoder, Readings, StreamTable

log = logging.getLogger(__name__)
_IDLE_S = 30.0  # without a record for so long the read is given up


def read_topic(settings: Settings, since_s: float | None) -> DataSet:
    """Everything the input topic holds now, or what the broker took in the last `since_s` seconds.

    Raises:
        BrokerError: It cannot be read to its end.
        DataError: It holds no readings.
    """
    kafka = settings.kafka.model_copy(update={"group": f"{settings.kafka.group}.retrain", "start": "earliest"})
    streams = StreamTable()
    decoder = JsonDecoder.of(settings.records, streams)
    after_ms = 0 if since_s is None else int((time.time() - since_s) * 1000)
    firsts: dict[int, int] = {}
    ends: dict[int, int] = {}
    consumer: Consumer

    def assigned(partitions: Sequence[int]) -> None:
        for partition in partitions:
            first, end = consumer.bounds(partition)
            consumer.seek(partition, first)
            if end > first:
                firsts[partition], ends[partition] = first, end

    consumer = connect_consumer(kafka, on_assigned=assigned, on_revoked=lambda partitions: None)
    parts: list[Readings] = []
    rejected, idle_since = 0, time.monotonic()
    try:
        while not ends and time.monotonic() - idle_since < _IDLE_S:
            found, refused = _decode(decoder, consumer.poll(0.5), after_ms)
            parts, rejected = parts + found, rejected + refused
        with progress("reading the topic", sum(ends.values()) - sum(firsts.values())) as advance:
            while ends:
                polled = consumer.poll(0.5)
                if not polled and time.monotonic() - idle_since > _IDLE_S:
                    raise BrokerError(f"no record of {kafka.topic} came for {_IDLE_S:.0f} s before its end was reached")
                for batch in polled:
                    idle_since = time.monotonic()
                    found, refused = _decode(decoder, [batch], after_ms)
                    parts, rejected = parts + found, rejected + refused
                    advance(len(batch))
                for partition in list(ends):
                    if consumer.position(partition) >= ends[partition]:
                        del ends[partition]
    finally:
        consumer.close()
    if not any(len(part) for part in parts):
        raise DataError(f"topic {kafka.topic} holds no readings to train on")
    if rejected:
        log.warning("%d records are no readings and were left out", rejected)
    return DataSet(
        streams.names,
        np.concatenate([part.stream for part in parts]),
        np.concatenate([part.time_ns for part in parts]),
        np.concatenate([part.values for part in parts]).astype(np.float64),
    )


def _decode(decoder: JsonDecoder, polled: Sequence[RecordBatch], after_ms: int) -> tuple[list[Readings], int]:
    found: list[Readings] = []
    refused = 0
    for batch in polled:
        readings, rejects = decoder.decode(
            batch.values,
            batch.keys,
            partition=batch.partition,
            offsets=batch.offsets,
            now_ns=np.full(len(batch), np.iinfo(np.int64).max // 2),
        )
        refused += len(rejects)
        young = batch.offsets[batch.timestamps_ms >= after_ms]
        found.append(readings.take(np.isin(readings.offset, young)))
    return found, refused
