"""How many partitions the input topic has, asked now and then."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamer.config import KafkaConfig
from streamer.connectors.kafka.confluent.options import connection_options
from streamer.connectors.kafka.confluent.records import explain
from streamer.errors import BrokerError

ASKED_EVERY_S = 10.0


class PartitionCount:
    """Asks the broker, but not more often than every ten seconds.

    Args:
        config: Names the topic and how to connect: a client of its own asks, at the first call. Asked of the consumer
            inside one of its callbacks, confluent-kafka ends the process at the next callback of the same poll.
    """

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._client: Any = None
        self._count, self._asked_s = 0, float("-inf")

    def __call__(self) -> int:
        """Raises `BrokerError`: there is no answer."""
        if time.monotonic() - self._asked_s >= ASKED_EVERY_S:
            topic = self._config.topic
            try:
                self._client = self._client or AdminClient(connection_options(self._config))
                listed = self._client.list_topics(topic, timeout=self._config.request_timeout_ms / 1000)
            except (KafkaException, RuntimeError) as error:
                raise BrokerError(f"partitions of {topic}: {explain(error, self._config)}") from error
            self._count, self._asked_s = len(listed.topics[topic].partitions), time.monotonic()
        return self._count
