"""Reading a bounded part of a topic with kafka-python."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

from streamer.config import KafkaConfig, LimitsConfig
from streamer.connectors.kafka.interface import RecordBatch
from streamer.connectors.kafka.kafka_python.fetching import bound
from streamer.connectors.kafka.kafka_python.options import (
    FETCH_MAX_WAIT_MS,
    bootstrap_list,
    connection_options,
    no_connection,
)
from streamer.connectors.kafka.kafka_python.records import columns, explain, poll_failed
from streamer.connectors.kafka.range_reader import AssignedRangeReader
from streamer.errors import BrokerError


class KafkaPythonRangeReader(AssignedRangeReader):
    """A `RangeReader` on kafka-python."""

    def __init__(self, config: KafkaConfig, *, limits: LimitsConfig | None = None) -> None:
        super().__init__(config)
        limits = limits or LimitsConfig()
        try:
            self._consumer = KafkaConsumer(
                **connection_options(config),
                bootstrap_servers=bootstrap_list(config),
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",  # what retention deletes meanwhile is passed over
                allow_auto_create_topics=False,
                max_poll_records=config.max_poll_records,
                request_timeout_ms=config.request_timeout_ms,
                fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
                fetch_max_bytes=limits.fetch_bytes,
                isolation_level=config.isolation_level,
                metrics_enabled=False,
            )
        except kafka_errors.KafkaError as error:
            raise no_connection(config) from error
        bound(self._consumer, limits)

    def close(self) -> None:
        with contextlib.suppress(kafka_errors.KafkaError):
            self._consumer.close(autocommit=False)

    def _find_partitions(self) -> list[int]:
        # partitions_for_topic() waits for ever when the broker hangs.
        client, topic = self._consumer._client, self._config.topic
        deadline_s = time.monotonic() + self._timeout_s
        future, answers = client.add_topic(topic), 0
        while True:
            client.poll(timeout_ms=max(0, round(1000 * (deadline_s - time.monotonic()))), future=future)
            if topic in client.cluster.unauthorized_topics:
                raise BrokerError(explain(kafka_errors.TopicAuthorizationFailedError(topic), self._config))
            found = client.cluster.partitions_for_topic(topic)
            answers += future.succeeded() or isinstance(future.exception, kafka_errors.UnknownTopicOrPartitionError)
            if found or answers == 2:  # the first may have been asked for before the topic was named
                return sorted(found or ())
            if time.monotonic() > deadline_s:
                raise BrokerError(f"partitions of {topic} not known within {self._timeout_s:g} s")
            future = client.cluster.request_update()

    def _bounds(self, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        tps = list(map(self._tp, partitions))
        firsts = self._ask("first offsets", self._consumer.beginning_offsets, tps)
        ends = self._ask("end offsets", self._consumer.end_offsets, tps)
        return {tp.partition: (int(firsts[tp]), int(ends[tp])) for tp in tps}

    def _look_up(self, times_ms: Mapping[int, int]) -> dict[int, int | None]:
        asked = {self._tp(partition): time_ms for partition, time_ms in times_ms.items()}
        found = self._ask("offsets by time", self._consumer.offsets_for_times, asked)
        return {tp.partition: None if at is None else int(at.offset) for tp, at in found.items()}

    def _assign(self, offsets: Mapping[int, int]) -> None:
        self._consumer.assign(list(map(self._tp, offsets)))
        # A partition that was read before is paused, and stays so when it is assigned again.
        self._consumer.resume(*map(self._tp, offsets))
        for partition, offset in offsets.items():
            self._consumer.seek(self._tp(partition), offset)

    def _poll(self, timeout_s: float) -> list[RecordBatch]:
        try:
            polled = self._consumer.poll(timeout_ms=round(timeout_s * 1000))
        except Exception as error:
            raise poll_failed(error, self._consumer, self._config) from error
        return [columns(tp, records) for tp, records in polled.items()]

    def _position(self, partition: int) -> int:
        # The public position() asks the broker when there is none, without end if it does not answer.
        state = self._consumer._subscription.assignment[self._tp(partition)]
        return -1 if state.position is None else int(state.position.offset)

    def _pause(self, partition: int) -> None:
        self._consumer.pause(self._tp(partition))

    def _tp(self, partition: int) -> TopicPartition:
        return TopicPartition(self._config.topic, partition)

    def _ask(self, what: str, call: Any, argument: Any) -> Any:
        try:
            return call(argument)
        except kafka_errors.KafkaError as error:
            raise BrokerError(f"{what} of {self._config.topic}: {explain(error, self._config)}") from error
