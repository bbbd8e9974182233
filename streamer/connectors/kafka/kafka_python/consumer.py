"""The consumer on kafka-python: one member of a consumer group."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.consumer.fetcher import READ_UNCOMMITTED
from kafka.structs import OffsetAndMetadata

from streamer.config import KafkaConfig, LimitsConfig
from streamer.connectors.kafka.interface import (
    Commit,
    OffsetReset,
    OnOffsetReset,
    OnPartitions,
    PoisonedBatch,
    RecordBatch,
    told,
)
from streamer.connectors.kafka.kafka_python.fetching import bound
from streamer.connectors.kafka.kafka_python.options import (
    FETCH_MAX_WAIT_MS,
    bootstrap_list,
    connection_options,
    no_connection,
)
from streamer.connectors.kafka.kafka_python.records import columns, explain, poll_failed
from streamer.connectors.kafka.offset_reset import report_offset_reset
from streamer.errors import BrokerError, CommitFailed

log = logging.getLogger(__name__)

NOTE_END = "\0"  # confluent-kafka ends a note so, and reads on in memory until it finds one
MAX_POLL_INTERVAL_MS = 120_000
HEARTBEAT_MS = 1_000  # who leaves or joins is heard of with the next one: nobody reads the partitions meanwhile
METADATA_MAX_AGE_MS = 30_000  # so long at most until partitions added are read
CLOSE_TIMEOUT_MS = 3_000
COMMIT_TIMEOUT_MS = 5_000  # a failed commit costs a second reading, a late one the 20 s a container has to stop


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Calls back with partition numbers; keeps what a callback raises, which kafka-python would swallow."""

    def __init__(self, on_assigned: OnPartitions, on_revoked: OnPartitions) -> None:
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self.error: Exception | None = None

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._call(self._on_assigned, assigned)

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        if revoked:
            self._call(self._on_revoked, revoked)

    def _call(self, callback: OnPartitions, partitions: set[TopicPartition]) -> None:
        try:
            callback(sorted(tp.partition for tp in partitions))
        except Exception as error:
            self.error = self.error or error


class KafkaPythonConsumer:
    """A `Consumer` on kafka-python.

    After a batch that cannot be read every further `poll` raises the same
    `PoisonedBatch`: connect a new consumer, and seek past the batch or wait.
    `offset_resets` counts how often the log no longer held the offset wanted.
    """

    def __init__(
        self,
        config: KafkaConfig,
        *,
        on_assigned: OnPartitions,
        on_revoked: OnPartitions,
        on_offset_reset: OnOffsetReset | None = None,
        max_poll_interval_ms: int = MAX_POLL_INTERVAL_MS,
        limits: LimitsConfig | None = None,
    ) -> None:
        limits = limits or LimitsConfig()
        self.offset_resets = 0
        self.broker_errors = 0  # none: kafka-python keeps them to itself
        self._config = config
        self._on_revoked = on_revoked
        self._on_offset_reset = on_offset_reset
        self._listener = _Listener(on_assigned, on_revoked)
        self._poison: PoisonedBatch | None = None
        self._closed = self._has_committed = False
        # A JoinGroup is answered when the slowest member came or its session ended.
        request_timeout_ms = max(config.request_timeout_ms, config.session_timeout_ms + 5_000)
        self._timeout_ms = config.request_timeout_ms
        try:
            self._consumer = KafkaConsumer(
                **connection_options(config),
                bootstrap_servers=bootstrap_list(config),
                group_id=config.group,
                group_instance_id=config.group_instance_id,
                enable_auto_commit=False,
                auto_offset_reset="none",
                allow_auto_create_topics=False,
                max_poll_records=config.max_poll_records,
                max_poll_interval_ms=max(max_poll_interval_ms, config.session_timeout_ms),
                session_timeout_ms=config.session_timeout_ms,
                heartbeat_interval_ms=min(HEARTBEAT_MS, config.session_timeout_ms // 3),
                request_timeout_ms=request_timeout_ms,
                connections_max_idle_ms=max(540_000, request_timeout_ms + 60_000),
                metadata_max_age_ms=METADATA_MAX_AGE_MS,
                fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
                fetch_max_bytes=limits.fetch_bytes,
                isolation_level=config.isolation_level,
                metrics_enabled=False,  # costs time on every record and we export our own
            )
        except kafka_errors.KafkaError as error:
            raise no_connection(config) from error
        bound(self._consumer, limits)
        self._consumer.subscribe(topics=[config.topic], listener=self._listener)

    def poll(self, timeout_s: float) -> list[RecordBatch]:
        """See `Consumer.poll`.

        Raises:
            PoisonedBatch: A batch is damaged or its codec is not installed.
        """
        if self._poison is not None:
            raise self._poison
        polled: dict[TopicPartition, list[Any]] = {}
        try:
            polled = self._consumer.poll(timeout_ms=round(timeout_s * 1000))
        except kafka_errors.NoOffsetForPartitionError as error:
            self._start(error.args[0])
        except kafka_errors.OffsetOutOfRangeError as error:
            for tp, offset in error.args[0].items():
                self._reset(tp, offset)
        except Exception as error:
            failure = poll_failed(error, self._consumer, self._config)
            if isinstance(failure, PoisonedBatch):
                self._poison = failure
            raise failure from error
        self._raise_from_callback(polled)
        return [columns(tp, records) for tp, records in polled.items()]

    def seek(self, partition: int, offset: int) -> None:
        self._consumer.seek(self._tp(partition), offset)

    def position(self, partition: int) -> int:
        tp = self._tp(partition)
        while True:
            try:
                position = self._consumer.position(tp, timeout_ms=self._timeout_ms)
            except kafka_errors.NoOffsetForPartitionError as error:
                self._start(error.args[0])
                continue
            except kafka_errors.KafkaError as error:
                raise BrokerError(f"position of {tp.topic}[{partition}]: {explain(error, self._config)}") from error
            if position is None:
                raise BrokerError(f"position of {tp.topic}[{partition}] not known within {self._timeout_ms} ms")
            return int(position)

    def committed(self, partitions: Sequence[int]) -> dict[int, Commit]:
        wanted = list(map(self._tp, partitions))
        try:  # committed() of the public interface takes one
            found = self._consumer._coordinator.fetch_committed_offsets(wanted, timeout_ms=self._timeout_ms)
        except kafka_errors.KafkaError as error:
            what = f"committed offsets of {self._config.topic}"
            raise BrokerError(f"{what}: {explain(error, self._config)}") from error
        notes = {tp: (each.metadata or "").partition(NOTE_END)[0] for tp, each in found.items()}
        return {tp.partition: Commit(int(each.offset), notes[tp]) for tp, each in found.items()}

    def partition_count(self, *, wait: bool = False) -> int:
        # Without a bound partitions_for_topic() would ask for a topic that has left the metadata.
        return len(self._consumer._client.cluster.partitions_for_topic(self._config.topic) or ())

    def has_committed(self) -> bool:
        if not self._has_committed:  # it stays so
            self._has_committed = bool(self.committed(range(self.partition_count())))
        return self._has_committed

    def bounds(self, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        wanted = list(map(self._tp, partitions))
        try:
            firsts = self._consumer.beginning_offsets(wanted)
            ends = self._consumer.end_offsets(wanted)
        except kafka_errors.KafkaError as error:
            what = f"bounds of {self._config.topic}{list(partitions)}"
            raise BrokerError(f"{what}: {explain(error, self._config)}") from error
        return {tp.partition: (int(firsts[tp]), int(ends[tp])) for tp in wanted}

    def log_end(self, partition: int) -> int:
        fetcher = self._consumer._fetcher
        usual, fetcher._isolation_level = fetcher._isolation_level, READ_UNCOMMITTED
        try:  # end_offsets() asks for the last stable offset else
            return self.bounds([partition])[partition][1]
        finally:
            fetcher._isolation_level = usual

    def commit(self, commits: Mapping[int, Commit]) -> None:
        # The broker checks the member, not what it owns: a valid member could overwrite a new owner's offset.
        foreign = sorted(set(commits) - set(self._owned()))
        if foreign:
            raise CommitFailed(
                f"commit of partitions {foreign} of {self._config.topic}: they are no longer assigned to this member; "
                "nothing was committed"
            )
        wanted = {
            self._tp(p): OffsetAndMetadata(commit.offset, commit.note and commit.note + NOTE_END, -1)
            for p, commit in commits.items()
        }
        try:
            self._consumer.commit(wanted, timeout_ms=min(COMMIT_TIMEOUT_MS, self._timeout_ms))
        except Exception as error:  # besides KafkaError: assertions and errors of the socket
            raise CommitFailed(
                f"{told(commits, self._config.topic, self._config.group)}: {type(error).__name__}: {error}"
            ) from error

    def lag(self) -> dict[int, int]:
        lags: dict[int, int] = {}
        # position() of the public interface may ask the broker; the subscription's never does.
        for tp, state in list(self._consumer._subscription.assignment.items()):
            if state.highwater is not None and state.position is not None:
                lags[tp.partition] = max(0, state.highwater - state.position.offset)
        return lags

    def member_id(self) -> str | None:
        return self._consumer._coordinator._generation.member_id or None

    def pause(self, partitions: Sequence[int]) -> None:
        self._consumer.pause(*map(self._tp, partitions))

    def resume(self, partitions: Sequence[int]) -> None:
        self._consumer.resume(*map(self._tp, partitions))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            owned = self._owned()
            if owned:
                self._on_revoked(owned)
        finally:
            with contextlib.suppress(kafka_errors.KafkaError):
                self._consumer.close(autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)

    def _tp(self, partition: int) -> TopicPartition:
        return TopicPartition(self._config.topic, partition)

    def _owned(self) -> list[int]:
        return sorted(tp.partition for tp in self._consumer.assignment())

    def _raise_from_callback(self, polled: Mapping[TopicPartition, list[Any]]) -> None:
        error, self._listener.error = self._listener.error, None
        if error is None:
            return
        for tp, records in polled.items():
            self._consumer.seek(tp, int(records[0].offsets[0]))  # nobody will see them, so they are not read
        raise error

    def _start(self, partitions: set[TopicPartition]) -> None:
        """Partitions for which the group has no offset begin where the configuration says."""
        for tp in partitions:
            log.info(
                "%s[%d]: group %s has no offset; starting at the %s record", *tp, self._config.group, self._config.start
            )
        if self._config.start == "earliest":
            self._consumer.seek_to_beginning(*partitions)
        else:
            self._consumer.seek_to_end(*partitions)

    def _reset(self, tp: TopicPartition, offset: int) -> None:
        reset: OffsetReset = report_offset_reset(
            tp.topic, tp.partition, offset, self.bounds([tp.partition])[tp.partition]
        )
        self.offset_resets += 1
        self._consumer.seek(tp, reset.restarted_at)
        if self._on_offset_reset is not None:
            self._on_offset_reset(reset)
