"""The producer on librdkafka."""

from __future__ import annotations

import contextlib
import time

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException

from streamer.config import KafkaConfig, LimitsConfig
from streamer.connectors.kafka.confluent.options import Login, connection_options
from streamer.connectors.kafka.confluent.records import explain
from streamer.connectors.kafka.outbox import BATCH_BYTES, MAX_MESSAGE_BYTES, Message, NotYet, Outbox
from streamer.errors import ConfigError


class ConfluentProducer(Outbox):
    """A `Producer` on librdkafka, idempotent; see `Outbox` for what it promises."""

    def __init__(self, config: KafkaConfig, limits: LimitsConfig | None = None) -> None:
        super().__init__(
            config.bootstrap_servers,
            stall_s=2 * config.request_timeout_ms / 1000,
            max_pending_bytes=(limits or LimitsConfig()).outbox_bytes,
        )
        self._config, self._login = config, Login(config)
        self._producer: confluent_kafka.Producer | None = None

    def _connect(self, timeout_s: float) -> None:
        self._login = Login(self._config)
        options = connection_options(self._config) | {
            "acks": "all",
            "enable.idempotence": True,
            "message.timeout.ms": 0,  # never: flush() has its own bound, an expired message would leave its place
            "message.max.bytes": MAX_MESSAGE_BYTES + 48_576,
            "partitioner": "murmur2_random",  # as kafka-python and Java: one key, one partition, whatever the client
            "batch.size": 1 if self._alone else BATCH_BYTES,
            "linger.ms": 1,
        }
        try:
            self._producer = confluent_kafka.Producer(options)
        except KafkaException as error:
            raise ConfigError(f"kafka settings are refused by librdkafka: {explain(error, self._config)}") from error

    def _transmit(self, message: Message) -> None:
        assert self._producer is not None

        def delivered(error: KafkaError | None, _message: object) -> None:
            if error is None:
                message.acknowledge()
            else:
                message.fail(KafkaException(error))

        try:
            self._producer.produce(
                message.topic,
                value=message.value,
                key=message.key,
                headers=[*message.headers],
                timestamp=message.timestamp_ms or 0,  # 0: now
                on_delivery=delivered,
            )
            self._producer.poll(0)  # runs the callbacks of what was acknowledged meanwhile
        except BufferError as error:
            self._producer.poll(0)
            raise NotYet("librdkafka's queue is full") from error
        except KafkaException as error:
            message.fail(error)

    def _wait(self, timeout_s: float) -> None:
        assert self._producer is not None
        self._login.renew(self._producer)
        deadline_s = time.monotonic() + timeout_s
        # flush(0) once even when time is over, so that what has come is counted.
        while self._producer.flush(min(0.2, max(0.0, deadline_s - time.monotonic()))):
            if time.monotonic() >= deadline_s or self._has_failed():
                return

    def _is_too_large(self, error: BaseException) -> bool:
        return isinstance(error, KafkaException) and error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE

    def _discard(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            with contextlib.suppress(KafkaException):
                producer.purge(in_queue=True, in_flight=True, blocking=False)
                producer.flush(1.0)
