"""How many partitions the input topic has, asked now and then."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import KafkaException

from streamer.config import KafkaConfig
from streamer.connectors.kafka.confluent.records import explain
from streamer.errors import BrokerError

ASKED_EVERY_S = 10.0


class PartitionCount:
    """Asks the broker, but not more often than every ten seconds.

    Args:
        consumer: Whose connection is used.
        config: Names the topic.
    """

    def __init__(self, consumer: Any, config: KafkaConfig) -> None:
        self._consumer, self._config = consumer, config
        self._count, self._asked_s = 0, float("-inf")

    def __call__(self) -> int:
        """Raises `BrokerError`: there is no answer."""
        if time.monotonic() - self._asked_s >= ASKED_EVERY_S:
            topic = self._config.topic
            try:
                listed = self._consumer.list_topics(topic, timeout=self._config.request_timeout_ms / 1000)
            except (KafkaException, RuntimeError) as error:
                raise BrokerError(f"partitions of {topic}: {explain(error, self._config)}") from error
            self._count, self._asked_s = len(listed.topics[topic].partitions), time.monotonic()
        return self._count
