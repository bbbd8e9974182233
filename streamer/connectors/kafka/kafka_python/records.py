"""What kafka-python returns, as `RecordBatch`es and errors in our words."""

from __future__ import annotations

from collections.abc import Sequence

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

from streamer.config import KafkaConfig
from streamer.connectors.kafka.interface import PoisonedBatch, RecordBatch
from streamer.connectors.kafka.kafka_python.columns import UNREADABLE, Records, joined
from streamer.connectors.kafka.kafka_python.unpacking import TooLargeUnpacked
from streamer.errors import BrokerError

# Errors that poll() raises and survives: asking again is safe, if useless until someone acts.
_SURVIVED = (
    kafka_errors.BrokerResponseError,
    kafka_errors.InvalidTopicError,
    kafka_errors.KafkaConnectionError,
    kafka_errors.KafkaTimeoutError,
)


def columns(tp: TopicPartition, polled: Sequence[Records]) -> RecordBatch:
    """What was polled of a partition."""
    records = joined(polled)
    return RecordBatch(
        topic=tp.topic,
        partition=tp.partition,
        offsets=records.offsets,
        timestamps_ms=records.timestamps_ms,
        keys=records.keys,
        values=records.values,
        headers=records.headers,
        unreadable_headers=records.headers.count(UNREADABLE),
    )


def poll_failed(error: Exception, consumer: KafkaConsumer, config: KafkaConfig) -> BrokerError:
    """What an exception of `poll` means: a refusal that may pass, or a batch nobody can read."""
    if isinstance(error, _SURVIVED) and not isinstance(error, kafka_errors.CorruptRecordError):
        return BrokerError(f"polling {config.topic}: {explain(error, config)}")
    # kafka-python does not say which partition it was reading; its fetcher still holds that batch.
    part = getattr(consumer._fetcher, "_next_partition_records", None)
    partition = part.topic_partition.partition if part is not None else -1  # -1: between two batches
    offset = part.next_fetch_offset if part is not None else -1
    why = (
        str(error)
        if isinstance(error, TooLargeUnpacked)
        else f"{type(error).__name__}: {error}; a damaged record or a missing codec (lz4, zstandard, python-snappy)"
    )
    return PoisonedBatch(
        f"{config.topic}[{partition}]@{offset}: the batch there cannot be read: {why}. This consumer is of no further "
        "use; a new one may seek past the batch",
        partition=partition,
        offset=offset,
    )


def explain(error: Exception, config: KafkaConfig) -> str:
    """One error of kafka-python in words that say what to do."""
    who = f"user {config.sasl_username!r}" if config.sasl_username else "this client"
    if isinstance(error, kafka_errors.TopicAuthorizationFailedError):
        return f"{who} may not read topic {config.topic}; grant READ on it"
    if isinstance(error, kafka_errors.GroupAuthorizationFailedError):
        return f"{who} may not use group {config.group}; grant READ on it"
    return f"{type(error).__name__}: {error}"
