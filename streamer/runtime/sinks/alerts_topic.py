"""The alerts topic as one sink reads it: as a member of a group of its own, and back in time.

Not inside: what is done with an alert (`courier`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Protocol

from streamer.config import KafkaConfig, LimitsConfig
from streamer.connectors.kafka import (
    Consumer,
    OnOffsetReset,
    OnPartitions,
    PoisonedBatch,
    RecordBatch,
    connect_consumer,
    connect_range_reader,
)

IN_HAND = 200  # alerts of one poll
MOST_READ_BACK = 100_000  # alerts, after partitions were gained
MOST_DAMAGED = 20  # records of a partition that are passed over when it is read back; then the rest of it is
_LIMITS = LimitsConfig(memory_mb=512)  # the shares of the smallest process, whatever the daemon has

log = logging.getLogger(__name__)


class AlertsTopic(Protocol):
    """What a courier needs of it."""

    def join(
        self, *, on_assigned: OnPartitions, on_revoked: OnPartitions, on_offset_reset: OnOffsetReset
    ) -> Consumer: ...

    def since(self, time_s: float) -> Mapping[int, int] | None:
        """The first offset of each partition from a time on; None: the broker does not know times."""
        ...

    def back(self, up_to: Mapping[int, int], since_s: float) -> Iterator[RecordBatch]:
        """The newest records before an offset of each partition, not older than a time."""
        ...


class KafkaAlertsTopic:
    """On a broker.

    Args:
        kafka: Of the daemon.
        sink: Name of the sink.
    """

    def __init__(self, kafka: KafkaConfig, sink: str) -> None:
        instance = None if kafka.group_instance_id is None else f"{kafka.group_instance_id}.sink.{sink}"
        self._config = kafka.model_copy(
            update={
                "topic": kafka.alerts_topic,
                "group": group_of(kafka, sink),
                "group_instance_id": instance,
                "max_poll_records": IN_HAND,
                "start": "earliest",
            }
        )

    def join(self, *, on_assigned: OnPartitions, on_revoked: OnPartitions, on_offset_reset: OnOffsetReset) -> Consumer:
        return connect_consumer(
            self._config,
            on_assigned=on_assigned,
            on_revoked=on_revoked,
            on_offset_reset=on_offset_reset,
            limits=_LIMITS,
        )

    def since(self, time_s: float) -> Mapping[int, int] | None:
        reader = connect_range_reader(self._config, _LIMITS)
        try:
            return reader.offsets_at(round(time_s * 1000))
        finally:
            reader.close()

    def back(self, up_to: Mapping[int, int], since_s: float) -> Iterator[RecordBatch]:
        reader = connect_range_reader(self._config, _LIMITS)
        try:
            bounds, since = reader.bounds(list(up_to)), reader.offsets_at(round(since_s * 1000)) or {}
            most = MOST_READ_BACK // max(1, len(up_to))
            ranges = {}
            for partition, (first, end) in bounds.items():
                until = min(up_to[partition], end)
                ranges[partition] = max(first, since.get(partition, first), until - most), until
        finally:
            reader.close()
        yield from self._readable(ranges)

    def _readable(self, ranges: dict[int, tuple[int, int]]) -> Iterator[RecordBatch]:
        """What can be read of some ranges: a damaged record must not keep the sink from all that follow."""
        damaged = Counter[int]()
        while ranges:
            reader = connect_range_reader(self._config, _LIMITS)  # another one: after damage it is of no further use
            try:
                for batch in reader.read(dict(ranges)):
                    ranges[batch.partition] = int(batch.offsets[-1]) + 1, ranges[batch.partition][1]
                    yield batch
                return
            except PoisonedBatch as error:
                log.warning("reading the alerts topic back, a record is passed over: %s", error)
                if error.partition not in ranges:
                    return  # the client does not know where it was
                first, until = ranges.pop(error.partition)
                damaged[error.partition] += 1
                if damaged[error.partition] <= MOST_DAMAGED:
                    ranges[error.partition] = max(first, error.offset + 1), until
            finally:
                reader.close()


def group_of(kafka: KafkaConfig, sink: str) -> str:
    """The consumer group of a sink; all replicas share it."""
    return f"{kafka.group}.sink.{sink}"
