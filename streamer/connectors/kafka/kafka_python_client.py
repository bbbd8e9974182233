"""The default Kafka client: kafka-python 2.3.

Inside: the consumer and the producer of `streamer.connectors.kafka` on kafka-python, and the
connection options that `probe` shares. Not inside: what the bytes mean.

Behaviour of kafka-python 2.3.3 that shapes this file: a listener's exceptions are
logged and swallowed; `close()` does not call the listener; after an error inside a
batch of records the next `poll` never returns; frames above 1 MB are refused unless
told otherwise; a group request must be allowed to last longer than a session.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import OffsetAndMetadata

from streamer.config import KafkaConfig
from streamer.connectors.kafka import OffsetReset, OnOffsetReset, OnPartitions, PoisonedBatch, RecordBatch
from streamer.connectors.kafka.outbox import (
    MAX_MESSAGE_BYTES,
    Message,
    NotYet,
    Outbox,
    report_offset_reset,
    why_unreachable,
)
from streamer.errors import BrokerError, CommitFailed, ConfigError

log = logging.getLogger(__name__)

FETCH_MAX_WAIT_MS = 50  # how long an idle broker holds a fetch; bounds shutdown and the embedded broker's latency
FETCH_MAX_BYTES = 50 * 1024 * 1024
FRAME_MAX_BYTES = 2 * FETCH_MAX_BYTES  # a fetch may exceed its limit by one large batch
MAX_POLL_INTERVAL_MS = 120_000
BOOTSTRAP_TIMEOUT_MS = 5_000
CLOSE_TIMEOUT_MS = 3_000
COMMIT_TIMEOUT_MS = 5_000  # a failed commit costs a second reading, a late one the 20 s a container has to stop

# Errors that poll() raises and survives: asking again is safe, if useless until someone acts.
_SURVIVED = (
    kafka_errors.BrokerResponseError,
    kafka_errors.InvalidTopicError,
    kafka_errors.KafkaConnectionError,
    kafka_errors.KafkaTimeoutError,
)


def ssl_context(config: KafkaConfig) -> ssl.SSLContext | None:
    """TLS settings, with certificates and host names verified; None for plaintext.

    Raises:
        ConfigError: A certificate or key file cannot be used.
    """
    if config.security_protocol not in ("SSL", "SASL_SSL"):
        return None
    try:
        context = ssl.create_default_context(cafile=str(config.ssl_cafile) if config.ssl_cafile else None)
    except OSError as error:
        raise ConfigError(f"kafka.ssl_cafile must be a readable PEM file; got {config.ssl_cafile}: {error}") from error
    if config.ssl_certfile:
        password = config.ssl_key_password.get_secret_value() if config.ssl_key_password else None
        try:
            context.load_cert_chain(config.ssl_certfile, config.ssl_keyfile, password)
        except OSError as error:
            raise ConfigError(
                "kafka.ssl_certfile and kafka.ssl_keyfile must be a PEM certificate and its key; got "
                f"{config.ssl_certfile} and {config.ssl_keyfile}: {error}"
            ) from error
    return context


def connection_options(config: KafkaConfig) -> dict[str, Any]:
    """Options that every kafka-python client of this process shares."""
    options: dict[str, Any] = {
        "client_id": config.client_id,
        "security_protocol": config.security_protocol,
        "ssl_context": ssl_context(config),
        "reconnect_backoff_max_ms": 2_000,
        "receive_message_max_bytes": FRAME_MAX_BYTES,
        "api_version_auto_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
    }
    if config.security_protocol.startswith("SASL"):
        assert config.sasl_password is not None  # KafkaConfig insists on it
        options |= {
            "sasl_mechanism": config.sasl_mechanism,
            "sasl_plain_username": config.sasl_username,
            "sasl_plain_password": config.sasl_password.get_secret_value(),
        }
    return options


def _bootstrap_list(config: KafkaConfig) -> list[str]:
    return [server.strip() for server in config.bootstrap_servers.split(",")]


def _no_connection(config: KafkaConfig) -> BrokerError:
    reason = why_unreachable(config.bootstrap_servers) or (
        f"{config.bootstrap_servers} takes connections but did not let us in within {BOOTSTRAP_TIMEOUT_MS / 1000:g} s; "
        "`streamer check` tells why"
    )
    return BrokerError(reason)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Calls back with partition numbers; keeps what a callback raises, which kafka-python would swallow."""

    def __init__(self, on_assigned: OnPartitions, on_revoked: OnPartitions) -> None:
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self.error: Exception | None = None

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._call(self._on_assigned, assigned)

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self._call(self._on_revoked, revoked)

    def _call(self, callback: OnPartitions, partitions: set[TopicPartition]) -> None:
        if not partitions:
            return
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
    ) -> None:
        self.offset_resets = 0
        self._config = config
        self._on_revoked = on_revoked
        self._on_offset_reset = on_offset_reset
        self._listener = _Listener(on_assigned, on_revoked)
        self._poison: PoisonedBatch | None = None
        self._closed = False
        # A JoinGroup is answered when the slowest member came or its session ended.
        request_timeout_ms = max(config.request_timeout_ms, config.session_timeout_ms + 5_000)
        self._timeout_ms = config.request_timeout_ms
        try:
            self._consumer = KafkaConsumer(
                **connection_options(config),
                bootstrap_servers=_bootstrap_list(config),
                group_id=config.group,
                enable_auto_commit=False,
                auto_offset_reset="none",
                allow_auto_create_topics=False,
                max_poll_records=config.max_poll_records,
                max_poll_interval_ms=max(max_poll_interval_ms, config.session_timeout_ms),
                session_timeout_ms=config.session_timeout_ms,
                heartbeat_interval_ms=min(3_000, config.session_timeout_ms // 3),
                request_timeout_ms=request_timeout_ms,
                connections_max_idle_ms=max(540_000, request_timeout_ms + 60_000),
                fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
                fetch_max_bytes=FETCH_MAX_BYTES,
                metrics_enabled=False,  # costs time on every record and we export our own
            )
        except kafka_errors.KafkaError as error:
            raise _no_connection(config) from error
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
            if isinstance(error, _SURVIVED) and not isinstance(error, kafka_errors.CorruptRecordError):
                raise BrokerError(f"polling {self._config.topic}: {_say(error, self._config)}") from error
            self._poison = self._poisoned(error)
            raise self._poison from error
        self._raise_from_callback(polled)
        return [_columns(tp, records) for tp, records in polled.items()]

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
                raise BrokerError(f"position of {tp.topic}[{partition}]: {_say(error, self._config)}") from error
            if position is None:
                raise BrokerError(f"position of {tp.topic}[{partition}] not known within {self._timeout_ms} ms")
            return int(position)

    def committed(self, partition: int) -> int | None:
        try:
            offset = self._consumer.committed(self._tp(partition), timeout_ms=self._timeout_ms)
        except kafka_errors.KafkaError as error:
            raise BrokerError(f"committed offset of partition {partition}: {_say(error, self._config)}") from error
        return None if offset is None else int(offset)

    def bounds(self, partition: int) -> tuple[int, int]:
        tp = self._tp(partition)
        try:
            first = self._consumer.beginning_offsets([tp])[tp]
            end = self._consumer.end_offsets([tp])[tp]
        except kafka_errors.KafkaError as error:
            raise BrokerError(f"bounds of {tp.topic}[{partition}]: {_say(error, self._config)}") from error
        return int(first), int(end)

    def commit(self, offsets: Mapping[int, int]) -> None:
        # The broker checks the member, not what it owns: a valid member could overwrite a new owner's offset.
        foreign = sorted(set(offsets) - set(self._owned()))
        if foreign:
            raise CommitFailed(
                f"commit of partitions {foreign} of {self._config.topic}: they are no longer assigned to this member; "
                "nothing was committed"
            )
        wanted = {self._tp(partition): OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()}
        try:
            self._consumer.commit(wanted, timeout_ms=min(COMMIT_TIMEOUT_MS, self._timeout_ms))
        except Exception as error:  # besides KafkaError: assertions and errors of the socket
            raise CommitFailed(
                f"commit of {dict(offsets)} on {self._config.topic} for group {self._config.group!r}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def lag(self) -> dict[int, int]:
        lags: dict[int, int] = {}
        # position() of the public interface may ask the broker; the subscription's never does.
        for tp, state in list(self._consumer._subscription.assignment.items()):
            if state.highwater is not None and state.position is not None:
                lags[tp.partition] = max(0, state.highwater - state.position.offset)
        return lags

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
            self._consumer.seek(tp, records[0].offset)  # nobody will see them, so they are not read
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
        reset: OffsetReset = report_offset_reset(tp.topic, tp.partition, offset, self.bounds(tp.partition))
        self.offset_resets += 1
        self._consumer.seek(tp, reset.restarted_at)
        if self._on_offset_reset is not None:
            self._on_offset_reset(reset)

    def _poisoned(self, error: Exception) -> PoisonedBatch:
        # kafka-python does not say which partition it was reading; its fetcher still holds that batch.
        part = getattr(self._consumer._fetcher, "_next_partition_records", None)
        partition = part.topic_partition.partition if part is not None else -1  # -1: between two batches
        offset = part.next_fetch_offset if part is not None else -1
        return PoisonedBatch(
            f"{self._config.topic}[{partition}]@{offset}: the batch there cannot be read: {type(error).__name__}: "
            f"{error}; a damaged record or a missing codec (lz4, zstandard, python-snappy). This consumer is of no "
            "further use; a new one may seek past the batch",
            partition=partition,
            offset=offset,
        )


def _columns(tp: TopicPartition, records: list[Any]) -> RecordBatch:
    """One list of records as columns; no Python-level work per record."""
    count = len(records)
    return RecordBatch(
        topic=tp.topic,
        partition=tp.partition,
        offsets=np.fromiter(map(itemgetter(3), records), np.int64, count),
        timestamps_ms=np.fromiter(map(itemgetter(4), records), np.int64, count),
        keys=list(map(itemgetter(6), records)),
        values=list(map(itemgetter(7), records)),
        headers=list(map(itemgetter(8), records)),
    )


def _say(error: Exception, config: KafkaConfig) -> str:
    who = f"user {config.sasl_username!r}" if config.sasl_username else "this client"
    if isinstance(error, kafka_errors.TopicAuthorizationFailedError):
        return f"{who} may not read topic {config.topic}; grant READ on it"
    if isinstance(error, kafka_errors.GroupAuthorizationFailedError):
        return f"{who} may not use group {config.group}; grant READ on it"
    return f"{type(error).__name__}: {error}"


class KafkaPythonProducer(Outbox):
    """A `Producer` on kafka-python, idempotent: the broker keeps order and drops repeats.

    Messages never time out inside the client: on 2.3.3 an expired one would leave
    its place in the order, and `flush` has its own bound.
    """

    def __init__(self, config: KafkaConfig) -> None:
        super().__init__(config.bootstrap_servers, stall_s=2 * config.request_timeout_ms / 1000)
        self._config = config
        self._idempotent = True
        self._producer: KafkaProducer | None = None

    def _connect(self, timeout_s: float) -> None:
        options = connection_options(self._config)
        options["api_version_auto_timeout_ms"] = round(1000 * min(BOOTSTRAP_TIMEOUT_MS / 1000, timeout_s))
        try:
            self._producer = KafkaProducer(
                **options,
                bootstrap_servers=_bootstrap_list(self._config),
                acks="all",
                enable_idempotence=self._idempotent,
                max_in_flight_requests_per_connection=1,
                delivery_timeout_ms=float("inf"),
                request_timeout_ms=self._config.request_timeout_ms,
                max_block_ms=50,  # send() waits for a topic's metadata no longer than this
                max_request_size=MAX_MESSAGE_BYTES + 48_576,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        except kafka_errors.KafkaError as error:
            raise _no_connection(self._config) from error

    def _transmit(self, message: Message) -> None:
        assert self._producer is not None
        try:
            future = self._producer.send(message.topic, value=message.value, key=message.key, headers=message.headers)
        except (kafka_errors.KafkaTimeoutError, TypeError) as error:
            # kafka-python 2.3 cannot format one of its two messages for this timeout: "..." % a / b.
            raise NotYet(f"no metadata for topic {message.topic}; does it exist?") from error
        except Exception as error:  # refused before it was queued
            message.fail(error)
            return
        future.add_callback(message.acknowledge)
        future.add_errback(message.fail)

    def _wait(self, timeout_s: float) -> None:
        assert self._producer is not None
        with contextlib.suppress(kafka_errors.KafkaTimeoutError):
            self._producer.flush(timeout_s)
        if self._idempotent and any(
            isinstance(m.error, kafka_errors.ClusterAuthorizationFailedError) for m in self._sent
        ):
            log.warning(
                "the cluster refuses idempotent writes (IDEMPOTENT_WRITE on the cluster, brokers before 2.8); going on "
                "without: a retry may write a message twice"
            )
            self._idempotent = False

    def _discard(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            with contextlib.suppress(Exception):
                producer.close(timeout=0)
