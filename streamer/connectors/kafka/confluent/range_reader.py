"""Reading a bounded part of a topic with librdkafka."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence, Set
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streamer.config import KafkaConfig, LimitsConfig
from streamer.connectors.kafka.confluent.options import reading_options
from streamer.connectors.kafka.confluent.records import (
    POISON,
    RETRY_S,
    columns,
    explain,
    not_behind,
    poisoned,
    unsettled,
)
from streamer.connectors.kafka.interface import PoisonedBatch, RecordBatch
from streamer.connectors.kafka.range_reader import AssignedRangeReader
from streamer.errors import BrokerError, ConfigError

FETCH_MAX_WAIT_MS = 5  # who reads up to an end waits for nothing that is still to come


class ConfluentRangeReader(AssignedRangeReader):
    """A `RangeReader` on librdkafka."""

    def __init__(self, config: KafkaConfig, *, limits: LimitsConfig | None = None) -> None:
        super().__init__(config)
        self._next: dict[int, int] = {}  # position of each partition that was asked for last
        self._taken: set[int] = set()  # those that are assigned
        self._poison: PoisonedBatch | None = None  # met since they were
        options = reading_options(config, limits or LimitsConfig()) | {
            "fetch.wait.max.ms": FETCH_MAX_WAIT_MS,
            "group.id": config.group,  # librdkafka wants one; with assign() it joins none
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",  # what retention deletes meanwhile is passed over
        }
        try:
            self._consumer = confluent_kafka.Consumer(options)
        except KafkaException as error:
            raise ConfigError(f"kafka settings are refused by librdkafka: {explain(error, config)}") from error

    def close(self) -> None:
        with contextlib.suppress(KafkaException, RuntimeError):
            self._consumer.close()

    def _find_partitions(self) -> list[int]:
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            found = self._ask("partitions", self._consumer.list_topics, self._config.topic, timeout=self._timeout_s)
            topic = found.topics[self._config.topic]
            if topic.error is None or topic.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return sorted(topic.partitions)
            if not topic.error.retriable() or time.monotonic() > deadline_s:
                raise BrokerError(f"partitions of {self._config.topic}: {explain(topic.error, self._config)}")
            time.sleep(RETRY_S)

    def _bounds(self, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        found = {}
        for partition in partitions:
            tp = self._tp(partition)
            bounds = self._ask("bounds", self._consumer.get_watermark_offsets, tp, timeout=self._timeout_s)
            if bounds is None:
                raise BrokerError(f"bounds of {self._config.topic}[{partition}] not known within {self._timeout_s:g} s")
            found[partition] = (int(bounds[0]), int(bounds[1]))
        return found

    def _look_up(self, times_ms: Mapping[int, int]) -> dict[int, int | None]:
        asked = [self._tp(partition, time_ms) for partition, time_ms in times_ms.items()]
        found = self._ask("offsets by time", self._consumer.offsets_for_times, asked, timeout=self._timeout_s)
        for tp in found:
            if tp.error is not None:
                raise BrokerError(f"offsets by time of {self._config.topic}: {explain(tp.error, self._config)}")
        return {tp.partition: None if tp.offset < 0 else int(tp.offset) for tp in found}

    def _assign(self, offsets: Mapping[int, int]) -> None:
        # Taken and given back one by one: where a partition was paused instead, or all were assigned anew, librdkafka
        # often fetched nothing for a second.
        self._give_back(set(self._taken))
        self._next, self._taken, self._poison = dict(offsets), set(offsets), None
        self._consumer.incremental_assign([self._tp(partition, offset) for partition, offset in offsets.items()])

    def _poll(self, timeout_s: float) -> list[RecordBatch]:
        if self._poison is not None:
            raise self._poison
        try:
            first = self._consumer.poll(timeout_s)
            events = [] if first is None else [first, *self._consumer.consume(self._config.max_poll_records - 1, 0)]
        except KafkaException as error:
            raise BrokerError(f"polling {self._config.topic}: {explain(error, self._config)}") from error
        records: dict[int, list[Any]] = {}
        for event in events:
            if event.error() is None:
                records.setdefault(int(event.partition()), []).append(event)  # type: ignore[arg-type]
            else:
                self._heed(event)
        if self._poison is not None:  # first what came before it: whoever goes on behind it must have missed nothing
            readable = {partition: not_behind(some, self._poison) for partition, some in records.items()}
            records = {partition: some for partition, some in readable.items() if some}
            if not records:
                raise self._poison
        batches = [columns(self._config.topic, partition, some) for partition, some in records.items()]
        for batch in batches:
            # An end that was reached meanwhile may lie further on: behind the last record come markers.
            self._next[batch.partition] = max(self._next[batch.partition], int(batch.offsets[-1]) + 1)
        return batches

    def _heed(self, event: Any) -> None:
        """Act on an event that is no record."""
        error = event.error()
        if error.code() == KafkaError._PARTITION_EOF:
            self._next[event.partition()] = max(self._next[event.partition()], int(event.offset()))
        elif error.code() in POISON:
            self._poison = self._poison or poisoned(event, self._config.topic)
        elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            pass  # there is no group
        elif error.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT) and not error.retriable():
            raise BrokerError(f"polling {self._config.topic}: {explain(error, self._config)}")

    def _position(self, partition: int) -> int:
        return self._next[partition]

    def _pause(self, partition: int) -> None:
        self._give_back({partition})

    def _give_back(self, partitions: Set[int]) -> None:
        if partitions:
            self._consumer.incremental_unassign([self._tp(partition) for partition in sorted(partitions)])
            self._taken -= partitions

    def _tp(self, partition: int, offset: int = -1001) -> TopicPartition:
        return TopicPartition(self._config.topic, partition, offset)

    def _ask(self, what: str, call: Any, *arguments: Any, **options: Any) -> Any:
        """What `call` answers; asked again for a while where brokers have not yet agreed who leads a partition."""
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            try:
                return call(*arguments, **options)
            except (KafkaException, RuntimeError) as error:
                if not unsettled(error) or time.monotonic() > deadline_s:
                    raise BrokerError(f"{what} of {self._config.topic}: {explain(error, self._config)}") from error
            time.sleep(RETRY_S)
