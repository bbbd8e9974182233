"""The past of the input topic in pieces, for `streamer retrain --from-kafka`.

Reads with a group of its own and commits nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

import numpy as np

from streamer.config import Settings
from streamer.connectors.files import DataSet
from streamer.connectors.kafka import Consumer, RecordBatch, connect_consumer
from streamer.core.keyed_state import KeyedState
from streamer.core.readings import Readings
from streamer.errors import BrokerError, DataError
from streamer.formats.json_objects import JsonDecoder
from streamer.offline.progress import progress

log = logging.getLogger(__name__)
_IDLE_S = 30.0  # without a record for so long the read is given up


def read_topic(settings: Settings, since_s: float | None) -> Iterator[DataSet]:
    """Everything the input topic holds now, or what the broker took in the last `since_s` seconds; a poll a piece.

    Raises:
        BrokerError: It cannot be read to its end.
        DataError: It holds no readings.
    """
    kafka = settings.kafka.model_copy(update={"group": f"{settings.kafka.group}.retrain", "start": "earliest"})
    streams = KeyedState()
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
    taken, rejected, idle_since = 0, 0, time.monotonic()

    def pieces(polled: Sequence[RecordBatch]) -> Iterator[DataSet]:
        nonlocal taken, rejected
        found, refused = _decode(decoder, polled, after_ms)
        rejected += refused
        for part in found:
            taken += len(part)
            yield DataSet(streams.names, part.stream, part.time_ns, part.values.astype(np.float64))

    try:
        while not ends and time.monotonic() - idle_since < _IDLE_S:
            yield from pieces(consumer.poll(0.5))
        with progress("reading the topic", sum(ends.values()) - sum(firsts.values())) as advance:
            while ends:
                polled = consumer.poll(0.5)
                if not polled and time.monotonic() - idle_since > _IDLE_S:
                    raise BrokerError(f"no record of {kafka.topic} came for {_IDLE_S:.0f} s before its end was reached")
                for batch in polled:
                    idle_since = time.monotonic()
                    yield from pieces([batch])
                    advance(len(batch))
                for partition in list(ends):
                    if consumer.position(partition) >= ends[partition]:
                        del ends[partition]
    finally:
        consumer.close()
    if not taken:
        raise DataError(f"topic {kafka.topic} holds no readings to train on")
    if rejected:
        log.warning("%d records are no readings and were left out", rejected)


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
