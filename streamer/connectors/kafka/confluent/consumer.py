"""The consumer on librdkafka: one member of a consumer group."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import confluent_kafka
import numpy as np
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streamer.config import KafkaConfig, LimitsConfig
from streamer.connectors.kafka.confluent.commits import commit, committed
from streamer.connectors.kafka.confluent.options import Login, reading_options
from streamer.connectors.kafka.confluent.records import POISON, columns, explain, not_behind, poisoned
from streamer.connectors.kafka.confluent.side_client import SideClient
from streamer.connectors.kafka.interface import Commit, OnOffsetReset, OnPartitions, PoisonedBatch, RecordBatch
from streamer.connectors.kafka.offset_reset import report_offset_reset
from streamer.errors import BrokerError, CommitFailed, ConfigError

log = logging.getLogger(__name__)

MAX_POLL_INTERVAL_MS = 120_000
HEARTBEAT_MS = 1_000  # who leaves or joins is heard of with the next one: nobody reads the partitions meanwhile
METADATA_MAX_AGE_MS = 30_000  # so long at most until partitions added are read


class ConfluentConsumer:
    """A `Consumer` on librdkafka; see `KafkaPythonConsumer` for what both promise."""

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
        self.offset_resets = self.broker_errors = 0
        self._config, self._login = config, Login(config)
        self._on_assigned, self._on_revoked, self._on_offset_reset = on_assigned, on_revoked, on_offset_reset
        self._timeout_s = config.request_timeout_ms / 1000
        self._next: dict[int, int] = {}  # position of each assigned partition
        self._paused_early: set[int] | None = None  # not None: on_assigned is running, nothing can be paused yet
        self._callback_error: Exception | None = None
        self._poison: PoisonedBatch | None = None
        self._closed = self._has_committed = False
        options = reading_options(config, limits or LimitsConfig()) | {
            "group.id": config.group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,  # behind the last record may be marks of transactions
            "auto.offset.reset": "error",
            "partition.assignment.strategy": "range",  # eager, as kafka-python: both may share a group
            "session.timeout.ms": config.session_timeout_ms,
            "heartbeat.interval.ms": min(HEARTBEAT_MS, config.session_timeout_ms // 3),
            "max.poll.interval.ms": max(max_poll_interval_ms, config.session_timeout_ms),
            "topic.metadata.refresh.interval.ms": METADATA_MAX_AGE_MS,
        }
        if config.group_instance_id is not None:
            options["group.instance.id"] = config.group_instance_id
        try:
            self._consumer = confluent_kafka.Consumer(options)
            self._side = SideClient(config)
            self.partition_count, self.log_end = self._side.partition_count, self._side.log_end
            self._consumer.subscribe(
                [config.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
            )
        except KafkaException as error:
            raise ConfigError(f"kafka settings are refused by librdkafka: {explain(error, config)}") from error

    def poll(self, timeout_s: float) -> list[RecordBatch]:
        """See `Consumer.poll`; a batch that is damaged, or whose codec is not built in, is a `PoisonedBatch`."""
        if self._poison is not None:
            raise self._poison
        self._login.renew(self._consumer)
        try:
            # consume() waits for the full count or the full time, so it only fetches what is there already.
            first = self._consumer.poll(timeout_s)
            messages = [] if first is None else [first, *self._consumer.consume(self._config.max_poll_records - 1, 0)]
        except KafkaException as error:
            raise BrokerError(f"polling {self._config.topic}: {explain(error, self._config)}") from error
        raised, self._callback_error = self._callback_error, None
        if raised is not None:
            self._rewind(messages)
            raise raised
        ends: dict[int, int] = {}
        if any(map(_error, messages)):
            messages, ends = self._without_errors(messages)
        partitions = np.fromiter(map(_partition, messages), np.int64, len(messages))
        batches = []
        for partition in np.unique(partitions).tolist():
            # A partition lost while the second call ran: its records are the new owner's.
            if partition not in self._next:
                continue
            rows = np.flatnonzero(partitions == partition)
            mine = messages if len(rows) == len(messages) else list(map(messages.__getitem__, rows.tolist()))
            batch = columns(self._config.topic, partition, mine)
            self._next[partition] = int(batch.offsets[-1]) + 1
            batches.append(batch)
        for partition in ends.keys() & self._next.keys():
            # Told once. All before it was returned, or is no record: behind the last one may be marks of transactions.
            self._next[partition] = max(self._next[partition], ends[partition])
        return batches

    def seek(self, partition: int, offset: int) -> None:
        self._next[partition] = offset
        if self._paused_early is None:  # otherwise the assignment about to be made starts there
            self._ask("seek", partition, self._consumer.seek, self._tp(partition, offset))

    def position(self, partition: int) -> int:
        if partition not in self._next:
            raise BrokerError(f"position of {self._config.topic}[{partition}]: not assigned to this member")
        if self._next[partition] < 0:
            # Only while on_assigned runs: decided when asked, settled for all when it returns.
            self._next[partition] = self._starting_offset(partition)
        return self._next[partition]

    def committed(self, partitions: Sequence[int]) -> dict[int, Commit]:
        return committed(self._consumer, self._config, partitions)

    def has_committed(self) -> bool:
        if not self._has_committed:  # it stays so
            self._has_committed = bool(committed(self._consumer, self._config, range(self.partition_count(wait=True))))
        return self._has_committed

    def bounds(self, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        return self._side.bounds(partitions)

    def commit(self, commits: Mapping[int, Commit]) -> None:
        # The broker checks the member, not what it owns: a valid member could overwrite a new owner's offset.
        foreign = sorted(set(commits) - set(self._next))
        if foreign:
            raise CommitFailed(
                f"commit of partitions {foreign} of {self._config.topic}: they are no longer assigned to this member; "
                "nothing was committed"
            )
        commit(self._consumer, self._config, commits)

    def lag(self) -> dict[int, int]:
        lags: dict[int, int] = {}
        for partition, position in self._next.items():
            bounds = self._consumer.get_watermark_offsets(self._tp(partition), cached=True)
            if bounds is not None and bounds[1] >= 0:
                lags[partition] = max(0, bounds[1] - position)
        return lags

    def member_id(self) -> str | None:
        return None if self._closed else self._consumer.memberid() or None

    def pause(self, partitions: Sequence[int]) -> None:
        if self._paused_early is not None:
            self._paused_early.update(partitions)
        else:
            self._consumer.pause(list(map(self._tp, partitions)))

    def resume(self, partitions: Sequence[int]) -> None:
        if self._paused_early is not None:
            self._paused_early.difference_update(partitions)
        else:
            self._consumer.resume(list(map(self._tp, partitions)))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(KafkaException):
            self._consumer.close()  # calls _revoked
        self._side.close()
        error, self._callback_error = self._callback_error, None
        if error is not None:
            raise error

    def _assigned(self, _consumer: object, assigned: list[TopicPartition]) -> None:
        partitions = sorted(tp.partition for tp in assigned)
        self._next = dict.fromkeys(partitions, -1)
        self._paused_early = set()
        try:
            self._on_assigned(partitions)
        except Exception as error:  # raised by poll(): an exception here would go through librdkafka
            self._callback_error = self._callback_error or error
        paused, self._paused_early = self._paused_early, None
        try:
            for partition in partitions:
                self.position(partition)
        except BrokerError as error:
            self._callback_error = self._callback_error or error
            return
        self._consumer.assign([self._tp(partition, offset) for partition, offset in self._next.items()])
        if paused:
            self.pause(sorted(paused))
        if flowing := sorted(self._next.keys() - paused):
            self.resume(flowing)  # librdkafka remembers what was paused before it was revoked

    def _revoked(self, _consumer: object, revoked: list[TopicPartition]) -> None:
        partitions = sorted(tp.partition for tp in revoked)
        if partitions:
            try:
                self._on_revoked(partitions)
            except Exception as error:  # raised by poll() or close()
                self._callback_error = self._callback_error or error
        for partition in partitions:
            self._next.pop(partition, None)

    def _starting_offset(self, partition: int) -> int:
        stands = self.committed([partition]).get(partition)
        if stands is not None:
            return stands.offset
        log.info(
            "%s[%d]: group %s has no offset; starting at the %s record",
            self._config.topic, partition, self._config.group, self._config.start,
        )  # fmt: skip
        first, end = self.bounds([partition])[partition]
        return first if self._config.start == "earliest" else end

    def _rewind(self, messages: Sequence[Any]) -> None:
        """Records of a poll that raises are seen by nobody, so they are not read."""
        for partition in {message.partition() for message in messages if message.error() is None}:
            if partition in self._next:
                self.seek(partition, self._next[partition])

    def _without_errors(self, messages: list[Any]) -> tuple[list[Any], dict[int, int]]:
        """Act on the error events among `messages`; what came before a refusal is read again later.

        Returns:
            The records, and the ends of partitions that were reached.
        """
        refusal: BrokerError | None = None
        ends: dict[int, int] = {}
        for event in (message for message in messages if message.error() is not None):
            error = event.error()
            if error.code() == KafkaError._AUTO_OFFSET_RESET:
                ends.pop(event.partition(), None)
                self._reset(event.partition())
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[event.partition()] = event.offset()
            elif error.code() in POISON:
                refusal = self._poison = poisoned(event, self._config.topic)
            elif error.code() in (KafkaError._MAX_POLL_EXCEEDED, KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
                self.broker_errors += 1
                log.warning("%s: %s", self._config.topic, error)  # librdkafka goes on by itself
            elif error.retriable():
                log.info("%s: %s", self._config.topic, error)
            else:
                refusal = refusal or BrokerError(f"polling {self._config.topic}: {explain(error, self._config)}")
        good = [message for message in messages if message.error() is None]
        if self._poison is not None:
            good = not_behind(good, self._poison)
            if not good:  # else the next poll raises it: its partition may rest for long
                raise self._poison
        elif refusal is not None:
            self._rewind(good)
            raise refusal
        return good, ends

    def _reset(self, partition: int) -> None:
        reset = report_offset_reset(
            self._config.topic, partition, self._next[partition], self.bounds([partition])[partition]
        )
        self.offset_resets += 1
        self._next[partition] = reset.restarted_at
        # After this error librdkafka has stopped the partition; assigning again starts it.
        self._consumer.assign([self._tp(number, offset) for number, offset in self._next.items()])
        if self._on_offset_reset is not None:
            self._on_offset_reset(reset)

    def _tp(self, partition: int, offset: int = -1001) -> TopicPartition:
        return TopicPartition(self._config.topic, partition, offset)

    def _ask(self, what: str, partition: int, call: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options)
        except (KafkaException, RuntimeError) as error:
            raise BrokerError(f"{what} of {self._config.topic}[{partition}]: {explain(error, self._config)}") from error


_error = confluent_kafka.Message.error
_partition = confluent_kafka.Message.partition
