"""What librdkafka returns, as `RecordBatch`es and errors in our words."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import confluent_kafka
import numpy as np
from confluent_kafka import KafkaError, KafkaException

from streamer.config import KafkaConfig
from streamer.connectors.kafka.interface import PoisonedBatch, RecordBatch

POISON = (KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError._NOT_IMPLEMENTED)

RETRY_S = 0.1
_UNSETTLED = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
    }
)


def columns(topic: str, partition: int, messages: Sequence[Any]) -> RecordBatch:
    """One list of messages as columns; no Python-level work per record."""
    message, count = confluent_kafka.Message, len(messages)
    stamps = list(map(message.timestamp, messages))  # (kind, ms)
    kinds = np.fromiter(map(itemgetter(0), stamps), np.int64, count)
    times = np.fromiter(map(itemgetter(1), stamps), np.int64, count)
    headers, unreadable = _headers(messages)
    return RecordBatch(
        topic=topic,
        partition=partition,
        offsets=np.fromiter(map(message.offset, messages), np.int64, count),
        timestamps_ms=np.where(kinds == confluent_kafka.TIMESTAMP_NOT_AVAILABLE, -1, times),
        keys=list(map(message.key, messages)),
        values=list(map(message.value, messages)),
        headers=[found or [] for found in headers],  # None where there are none
        unreadable_headers=unreadable,
    )


def _headers(messages: Sequence[Any]) -> tuple[list[Any], int]:
    """The headers of each message, none of those that have a name that is not UTF-8, and how many those are."""
    headers: list[Any] = []
    unreadable = 0
    rest = map(confluent_kafka.Message.headers, messages)
    while len(headers) < len(messages):
        try:
            headers.extend(rest)
        except (SystemError, UnicodeDecodeError):  # what came before it is in the list
            headers.append(None)
            unreadable += 1
    return headers, unreadable


def poisoned(event: Any, topic: str) -> PoisonedBatch:
    """The error event of a batch that nobody can read, as an exception."""
    return PoisonedBatch(
        f"{topic}[{event.partition()}]@{event.offset()}: the batch there cannot be read: {event.error()}; a damaged "
        "record or a missing codec. A new consumer may seek past the batch",
        partition=event.partition(),
        offset=event.offset(),
    )


def not_behind(messages: Sequence[Any], poison: PoisonedBatch) -> list[Any]:
    """Messages without those of the poisoned partition from the batch on."""
    number, offset = poison.partition, poison.offset
    return [message for message in messages if message.partition() != number or message.offset() < offset]


def explain(error: Any, config: KafkaConfig) -> str:
    """One error of librdkafka in words that say what to do."""
    reason = error.args[0] if isinstance(error, KafkaException) else error
    who = f"user {config.sasl_username!r}" if config.sasl_username else "this client"
    code = reason.code() if isinstance(reason, KafkaError) else None
    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return f"{who} may not read topic {config.topic}; grant READ on it"
    if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
        return f"{who} may not use group {config.group}; grant READ on it"
    return reason.str() if isinstance(reason, KafkaError) else f"{type(error).__name__}: {error}"


def unsettled(error: Any) -> bool:
    """Whether client and brokers do not agree who leads a partition: the topic was just made, or a broker came back."""
    reason = error.args[0] if isinstance(error, KafkaException) else error
    return isinstance(reason, KafkaError) and reason.code() in _UNSETTLED
