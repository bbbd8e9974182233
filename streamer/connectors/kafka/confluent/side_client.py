"""What is asked of the topic beside the consumer: how many partitions it has, and where their logs end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import TimeoutError as NoAnswer
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from streamer.config import KafkaConfig
from streamer.connectors.kafka.confluent.options import connection_options
from streamer.connectors.kafka.confluent.records import RETRY_S, explain, unsettled
from streamer.errors import BrokerError

ASKED_EVERY_S = 10.0

log = logging.getLogger(__name__)


class SideClient:
    """A client of its own, made at the first question.

    Asked of the consumer inside one of its callbacks, confluent-kafka ends the process at the next callback of the same
    poll.

    Args:
        config: Names the topic and how to connect.
    """

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._client: Any = None
        self._count, self._asked_s = 0, float("-inf")
        self._asking: threading.Thread | None = None

    def partition_count(self, *, wait: bool = False) -> int:
        """See `Consumer.partition_count`; asks anew every ten seconds, in a thread of its own unless it shall wait."""
        if wait:
            self._ask_count()
        elif time.monotonic() - self._asked_s >= ASKED_EVERY_S and not (self._asking and self._asking.is_alive()):
            self._asked_s = time.monotonic()  # also if there will be no answer
            self._asking = threading.Thread(target=self._try_count, name="partitions", daemon=True)
            self._asking.start()
        return self._count

    def log_end(self, partition: int) -> int:
        """See `Consumer.log_end`; consumers with `read_committed` are told of the last stable offset only."""
        return self._offsets([partition], OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)[partition]  # type: ignore[no-untyped-call]

    def bounds(self, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        """See `Consumer.bounds`."""
        committed = self._config.isolation_level == "read_committed"
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        firsts = self._offsets(partitions, OffsetSpec.earliest(), level)  # type: ignore[no-untyped-call]
        ends = self._offsets(partitions, OffsetSpec.latest(), level)  # type: ignore[no-untyped-call]
        return {partition: (firsts[partition], ends[partition]) for partition in partitions}

    def _offsets(self, partitions: Sequence[int], spec: OffsetSpec, level: IsolationLevel) -> dict[int, int]:
        wanted = {partition: TopicPartition(self._config.topic, partition) for partition in partitions}
        timeout_s = self._config.request_timeout_ms / 1000
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                asked = self._ready().list_offsets(
                    dict.fromkeys(wanted.values(), spec), isolation_level=level, request_timeout=timeout_s
                )
                return {partition: int(asked[at].result(timeout_s + 1).offset) for partition, at in wanted.items()}
            except (KafkaException, RuntimeError, NoAnswer) as error:
                self._client = None  # with what it believed of leaders
                if not unsettled(error) or time.monotonic() > deadline_s:
                    what = f"offsets of {self._config.topic}{list(partitions)}"
                    raise BrokerError(f"{what}: {explain(error, self._config)}") from error
            time.sleep(RETRY_S)

    def close(self) -> None:
        """Let go of the client, whose threads and sockets would else stay until Python looks for garbage."""
        self._client = None

    def _try_count(self) -> None:
        try:
            self._ask_count()
        except BrokerError as error:
            log.info("it is not known whether partitions were added: %s", error)

    def _ask_count(self) -> None:
        topic = self._config.topic
        try:
            listed = self._ready().list_topics(topic, timeout=self._config.request_timeout_ms / 1000)
        except (KafkaException, RuntimeError) as error:
            self._client = None  # the next one logs in with the password of then
            raise BrokerError(f"partitions of {topic}: {explain(error, self._config)}") from error
        self._count, self._asked_s = len(listed.topics[topic].partitions), time.monotonic()

    def _ready(self) -> Any:
        client = self._client = self._client or AdminClient(connection_options(self._config))
        return client
