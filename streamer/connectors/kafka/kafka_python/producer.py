"""The producer on kafka-python."""

from __future__ import annotations

import contextlib
import gc
import logging
from functools import partial

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from streamer.config import KafkaConfig, LimitsConfig
from streamer.connectors.kafka.kafka_python.options import (
    BOOTSTRAP_TIMEOUT_MS,
    bootstrap_list,
    connection_options,
    no_connection,
)
from streamer.connectors.kafka.outbox import BATCH_BYTES, MAX_MESSAGE_BYTES, Message, NotYet, Outbox

_STOP_S = 1.0  # how long the client's thread is waited for

log = logging.getLogger(__name__)


class KafkaPythonProducer(Outbox):
    """A `Producer` on kafka-python, idempotent: the broker keeps order and drops repeats.

    Messages never time out inside the client: on 2.3.3 an expired one would leave
    its place in the order, and `flush` has its own bound.
    """

    def __init__(self, config: KafkaConfig, limits: LimitsConfig | None = None) -> None:
        super().__init__(
            config.bootstrap_servers,
            stall_s=2 * config.request_timeout_ms / 1000,
            max_pending_bytes=(limits or LimitsConfig()).outbox_bytes,
        )
        self._config = config
        self._idempotent = True
        self._producer: KafkaProducer | None = None

    def _connect(self, timeout_s: float) -> None:
        options = connection_options(self._config)
        options["api_version_auto_timeout_ms"] = round(1000 * min(BOOTSTRAP_TIMEOUT_MS / 1000, timeout_s))
        try:
            self._producer = KafkaProducer(
                **options,
                bootstrap_servers=bootstrap_list(self._config),
                acks="all",
                enable_idempotence=self._idempotent,
                batch_size=0 if self._alone else BATCH_BYTES,
                max_in_flight_requests_per_connection=1,
                delivery_timeout_ms=float("inf"),
                request_timeout_ms=self._config.request_timeout_ms,
                max_block_ms=50,  # send() waits for a topic's metadata no longer than this
                max_request_size=MAX_MESSAGE_BYTES + 48_576,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        except kafka_errors.KafkaError as error:
            raise no_connection(self._config) from error

    def _transmit(self, message: Message) -> None:
        assert self._producer is not None
        try:
            future = self._producer.send(
                message.topic,
                value=message.value,
                key=message.key,
                headers=message.headers,
                timestamp_ms=message.timestamp_ms,
            )
        except (kafka_errors.KafkaTimeoutError, TypeError) as error:
            # kafka-python 2.3 cannot format one of its two messages for this timeout: "..." % a / b.
            raise NotYet(f"the broker does not know topic {message.topic} (yet)") from error
        except Exception as error:  # refused before it was queued
            message.fail(error)
            return
        future.add_callback(message.acknowledge)
        future.add_errback(partial(self._failed, self._producer, message))

    def _failed(self, client: KafkaProducer, message: Message, error: BaseException) -> None:
        if client is self._producer:  # otherwise another one has the message by now
            message.fail(error)

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

    def _is_too_large(self, error: BaseException) -> bool:
        return isinstance(error, kafka_errors.MessageSizeTooLargeError)

    def _discard(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            # close() waits for what is not acknowledged first, and gives up before it has told its thread to stop: that
            # would go on for ever, with a copy of all messages, and send them once the broker is back.
            with contextlib.suppress(Exception):
                producer._sender.force_close()
                producer._sender.join(_STOP_S)
                producer._accumulator.abort_incomplete_batches()  # also where the thread waits for a producer id
            with contextlib.suppress(Exception):
                producer.close(timeout=0)
            del producer
            gc.collect()  # what it held is in cycles, and may be as much as the outbox
