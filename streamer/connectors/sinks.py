"""Where alerts, dead letters and scores go: topics of the same broker.

Messages that the producer cannot accept yet wait here; nothing counts as delivered until `flush`
returns. Not inside: when to flush (`checkpoints`), how a client resends (`outbox`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer import __version__
from streamer.config import KafkaConfig
from streamer.connectors.cutting import DLQ_PREFIX, EXCERPT_BYTES, about_value, cut_alert, cut_dead_letter, split_scores
from streamer.connectors.kafka import Headers, Parts, Producer, RecordBatch, Shorten
from streamer.connectors.kafka.outbox import MAX_MESSAGE_BYTES, RECORD_OVERHEAD_BYTES
from streamer.core.alerts import Alert
from streamer.errors import DeliveryFailed
from streamer.formats.rejects import Reject

_MOST_KEY_BYTES = _MOST_HEADER_BYTES = MAX_MESSAGE_BYTES // 4  # of a bad record, to be sent on whole
_SCORES_A_MESSAGE = 2000


class KafkaSinks:
    """Publishes through one producer.

    Args:
        producer: Delivers.
        config: Topics and group.
        max_value_bytes: A dead letter's value beyond this is cut to an excerpt.
        on_cut: Told of each message that its topic takes in a shorter form only.
    """

    def __init__(
        self,
        producer: Producer,
        config: KafkaConfig,
        *,
        max_value_bytes: int,
        on_cut: Callable[[], object] = lambda: None,
    ) -> None:
        self._producer, self._config, self._max_value_bytes = producer, config, max_value_bytes
        self._cut_alert, self._cut_dead_letter, self._split_scores = (
            _telling(shorten, on_cut) for shorten in (cut_alert, cut_dead_letter, split_scores)
        )
        self._waiting: deque[tuple[str, bytes | None, bytes | None, Headers, Shorten]] = deque()

    @property
    def pending(self) -> int:
        """Messages not yet acknowledged."""
        return len(self._waiting) + self._producer.pending

    @property
    def stuck(self) -> bool:
        """Whether the producer has stopped taking messages; read nothing more until it does."""
        return bool(self._waiting)

    def publish_alert(self, alert: Alert) -> None:
        headers = [("alert_id", alert.alert_id.encode()), ("incident_id", alert.incident_id.encode())]
        self._send(self._config.alerts_topic, alert.stream.encode(), alert.encode(), headers, self._cut_alert)

    def publish_dead_letter(self, batch: RecordBatch, reject: Reject) -> None:
        """Dead-letter a rejected record unchanged, with its origin and the reason.

        What is too large to be sent on is cut, and headers say so: a dead letter that
        the producer can never take would stop everything behind it.
        """
        row = reject.row
        key, value = batch.keys[row], batch.values[row]
        # A header may come without a value, but not every client can send one. Names of our own are not the producer's.
        carried = [
            (f"original.{name}" if name.startswith(DLQ_PREFIX) else name, content or b"")
            for name, content in batch.headers[row]
        ]
        about: dict[str, str] = {
            "reason": reject.reason,
            "error": reject.detail[:1000],
            "topic": batch.topic,
            "partition": str(batch.partition),
            "offset": str(batch.offsets[row]),
            "timestamp": str(batch.timestamps_ms[row]),
            "group": self._config.group,
            "version": __version__,
        }
        if key is not None and len(key) > _MOST_KEY_BYTES:
            about["key_bytes"] = str(len(key))
            key = key[:EXCERPT_BYTES]
        if _size(carried) > _MOST_HEADER_BYTES:
            about["header_bytes"] = str(_size(carried))
            carried = []
        own = [(DLQ_PREFIX + name, text.encode()) for name, text in about.items()]
        room = MAX_MESSAGE_BYTES - 2 * RECORD_OVERHEAD_BYTES - len(key or b"") - _size(carried) - _size(own)
        if value is not None and len(value) > min(self._max_value_bytes, room - EXCERPT_BYTES):
            own += about_value(value, set())
            value = value[:EXCERPT_BYTES]
        self._send(self._config.dlq_topic, key, value, [*carried, *own], self._cut_dead_letter)

    def publish_scores(
        self,
        streams: Sequence[str],
        time_ns: NDArray[np.int64],
        score: NDArray[np.float32],
        model_version: str,
        settled: NDArray[np.float32] | None = None,
    ) -> None:
        """Columns of equal length on `kafka.scores_topic`, a few thousand rows a message.

        With `settled` they replace scores that were sent before: the message says so, and has these figures too.
        """
        if self._config.scores_topic is None:
            return
        for i in range(0, len(streams), _SCORES_A_MESSAGE):
            some = slice(i, i + _SCORES_A_MESSAGE)
            columns: dict[str, list[Any]] = {
                "stream": list(streams[some]),
                "time_ns": time_ns[some].tolist(),
                "score": score[some].tolist(),
            }
            about: dict[str, Any] = {"model_version": model_version}
            if settled is not None:
                columns["settled"], about["corrected"] = settled[some].tolist(), True
            self._publish_scores(columns, about)

    def _publish_scores(self, columns: dict[str, list[Any]], about: dict[str, Any]) -> None:
        """One message, or several where names are so long that one would exceed what the producer takes."""
        assert self._config.scores_topic is not None
        message = msgspec.json.encode(columns | about)
        if len(message) <= MAX_MESSAGE_BYTES - 2 * RECORD_OVERHEAD_BYTES:
            self._send(self._config.scores_topic, None, message, (), self._split_scores)
            return
        half = len(columns["stream"]) // 2
        for some in (slice(half), slice(half, None)):
            self._publish_scores({name: values[some] for name, values in columns.items()}, about)

    def flush(self, timeout_s: float) -> None:
        """Wait until all that was published is acknowledged.

        Raises:
            DeliveryFailed: It is not; call again, nothing is dropped.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._pump()
            self._producer.flush(max(0.0, deadline_s - time.monotonic()))
            if not self._waiting:
                return
            # There is room again for what waited; that must be acknowledged too.
            if time.monotonic() >= deadline_s:
                raise DeliveryFailed(f"{len(self._waiting)} messages wait for room in the producer")

    def close(self) -> None:
        """Let go of the producer; what is not acknowledged is lost, so flush before."""
        self._producer.close()

    def _send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, shorten: Shorten) -> None:
        self._waiting.append((topic, key, value, headers, shorten))
        self._pump()

    def _pump(self) -> None:
        while self._waiting:
            topic, key, value, headers, shorten = self._waiting[0]
            try:
                self._producer.send(topic, key=key, value=value, headers=headers, shorten=shorten)
            except DeliveryFailed:
                return
            self._waiting.popleft()


def _telling(shorten: Shorten, on_cut: Callable[[], object]) -> Shorten:
    def told(parts: Parts) -> Sequence[Parts]:
        shorter = shorten(parts)
        if shorter:
            on_cut()
        return shorter

    return told


def _size(headers: Headers) -> int:
    return sum(len(name.encode()) + len(content) for name, content in headers)
