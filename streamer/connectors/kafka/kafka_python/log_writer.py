"""Writing to a chosen partition with kafka-python."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from streamer.config import KafkaConfig
from streamer.connectors.kafka.kafka_python.options import bootstrap_list, connection_options, no_connection
from streamer.connectors.kafka.log_writer import MAX_REQUEST_BYTES, Entry, LogWriter
from streamer.errors import DeliveryFailed


class KafkaPythonLogWriter(LogWriter):
    """A `LogWriter` on kafka-python."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._producer: KafkaProducer | None = None

    def _append(self, topic: str, partition: int, entries: Sequence[Entry], timeout_s: float) -> list[int]:
        deadline_s = time.monotonic() + timeout_s
        producer = self._producer = self._producer or self._connect()
        try:
            if partition not in producer.partitions_for(topic):
                raise DeliveryFailed(f"{topic} has no partition {partition} (yet)")
            futures = [
                producer.send(topic, partition=partition, key=key, value=value, headers=list(headers))
                for key, value, headers in entries
            ]
            return [int(future.get(max(0.0, deadline_s - time.monotonic())).offset) for future in futures]
        except kafka_errors.KafkaTimeoutError as error:
            raise DeliveryFailed(f"{topic}[{partition}]: not acknowledged within {timeout_s:g} s: {error}") from error
        except (kafka_errors.KafkaError, AssertionError, TypeError) as error:
            # kafka-python 2.3 cannot format one of its messages for a timeout, a TypeError.
            raise DeliveryFailed(f"{topic}[{partition}]: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            with contextlib.suppress(Exception):
                producer.close(timeout=0)

    def _connect(self) -> KafkaProducer:
        timeout_ms = self._config.request_timeout_ms
        try:
            return KafkaProducer(
                **connection_options(self._config),
                bootstrap_servers=bootstrap_list(self._config),
                acks="all",
                enable_idempotence=False,
                request_timeout_ms=timeout_ms,
                delivery_timeout_ms=2 * timeout_ms,
                max_block_ms=timeout_ms,
                max_request_size=MAX_REQUEST_BYTES,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        except kafka_errors.KafkaError as error:
            raise no_connection(self._config) from error
