"""Writing to a chosen partition with librdkafka."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException

from streamer.config import KafkaConfig
from streamer.connectors.kafka.confluent.options import connection_options
from streamer.connectors.kafka.confluent.records import explain
from streamer.connectors.kafka.log_writer import MAX_REQUEST_BYTES, Entry, LogWriter
from streamer.errors import ConfigError, DeliveryFailed


class ConfluentLogWriter(LogWriter):
    """A `LogWriter` on librdkafka."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._producer: confluent_kafka.Producer | None = None

    def _append(self, topic: str, partition: int, entries: Sequence[Entry], timeout_s: float) -> list[int]:
        producer = self._producer = self._producer or self._connect()
        offsets: dict[int, int] = {}
        errors: list[KafkaError] = []

        def delivered(number: int) -> Callable[[KafkaError | None, confluent_kafka.Message], None]:
            def note(error: KafkaError | None, message: confluent_kafka.Message) -> None:
                if error is None:
                    offsets[number] = int(message.offset() or 0)
                else:
                    errors.append(error)

            return note

        try:
            for number, (key, value, headers) in enumerate(entries):
                producer.produce(
                    topic, value, key, partition=partition, headers=[*headers], on_delivery=delivered(number)
                )
            producer.flush(timeout_s)
        except (KafkaException, BufferError) as error:
            raise DeliveryFailed(f"{topic}[{partition}]: {error}") from error
        if errors:
            raise DeliveryFailed(f"{topic}[{partition}]: {errors[0].str()}")
        if len(offsets) < len(entries):
            raise DeliveryFailed(f"{topic}[{partition}]: not acknowledged within {timeout_s:g} s")
        return [offsets[number] for number in range(len(entries))]

    def close(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            with contextlib.suppress(KafkaException):
                producer.purge(in_queue=True, in_flight=True, blocking=False)
                producer.flush(1.0)

    def _connect(self) -> confluent_kafka.Producer:
        options = connection_options(self._config) | {
            "acks": "all",
            "enable.idempotence": False,
            "message.timeout.ms": 2 * self._config.request_timeout_ms,
            "message.max.bytes": MAX_REQUEST_BYTES,
            "linger.ms": 0,
            "allow.auto.create.topics": False,
        }
        try:
            return confluent_kafka.Producer(options)
        except KafkaException as error:
            raise ConfigError(f"kafka settings are refused by librdkafka: {explain(error, self._config)}") from error
