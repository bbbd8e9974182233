"""The producer half that both Kafka clients share: every message is kept until it is acknowledged.

Not inside: any Kafka client; `kafka_python` and `confluent` supply those.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import deque

from streamer.connectors.kafka.interface import Headers, Parts, Shorten
from streamer.connectors.kafka.reachability import why_unreachable
from streamer.errors import BrokerError, DeliveryFailed

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 1_000_000  # a little below a broker's default max.message.bytes
MAX_PENDING = 200_000
MAX_PENDING_BYTES = 128 * 1024 * 1024
RECORD_OVERHEAD_BYTES = 100  # lengths, offsets and the batch header around one record
BATCH_BYTES = 16_384  # messages are sent together up to this; a larger one goes alone

# What a message takes in memory until it is acknowledged: the client has a copy of all of it (measured, see
# docs/decisions/0017-memory.md).
_HELD_MESSAGE_BYTES = 1_500
_HELD_HEADER_BYTES = 300


class Message:
    """One message on its way; `error` and `acknowledged` may be set from a client's thread."""

    __slots__ = ("acknowledged", "error", "headers", "held", "key", "shorten", "size", "timestamp_ms", "topic", "value")

    def __init__(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        timestamp_ms: int | None = None,
        shorten: Shorten | None = None,
    ) -> None:
        self.topic = topic
        self.key = key
        self.value = value
        self.headers = list(headers)
        self.timestamp_ms = timestamp_ms
        self.size = (
            len(key or b"")
            + len(value or b"")
            + sum(len(name.encode()) + len(content) for name, content in self.headers)
            + RECORD_OVERHEAD_BYTES
        )
        self.held = 2 * self.size + _HELD_MESSAGE_BYTES + _HELD_HEADER_BYTES * len(self.headers)
        self.shorten = shorten
        self.acknowledged = False
        self.error: BaseException | None = None

    def acknowledge(self, _metadata: object = None) -> None:
        self.acknowledged = True

    def fail(self, error: BaseException) -> None:
        self.error = error

    def shorter(self) -> list[Message]:
        """The same in a shorter form; nothing if there is none."""
        if self.shorten is None:
            return []
        found = self.shorten(Parts(self.key, self.value, self.headers))
        return [
            Message(self.topic, parts.key, parts.value, parts.headers, self.timestamp_ms, self.shorten)
            for parts in found
        ]


class NotYet(Exception):
    """The client cannot take a message now (no metadata, queue full); later it may."""


class Outbox(ABC):
    """A `Producer` that keeps each message until the broker has acknowledged it.

    The client retries what can be retried, without end and in order. A failure it reports
    is final for that client (refused, too large for the topic, a fatal producer state),
    so any failure discards the client: the next `flush` opens a new one and sends
    everything not acknowledged again, in the same order. Messages in flight at that moment
    may arrive twice; none is lost. One that is too large for its topic goes in a shorter form,
    behind what was acknowledged meanwhile, if there is one; otherwise it waits.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        stall_s: float,
        max_pending: int = MAX_PENDING,
        max_pending_bytes: int = MAX_PENDING_BYTES,
    ) -> None:
        self.rebuilds = 0  # clients discarded
        self._bootstrap_servers = bootstrap_servers
        self._stall_s = stall_s  # no acknowledgement for so long: the client is unusable
        self._max_pending = max_pending
        self._max_pending_bytes = max_pending_bytes
        self._unsent: deque[Message] = deque()
        self._sent: deque[Message] = deque()
        self._bytes = 0  # of memory
        self._alone = False  # messages are not sent together
        self._too_large: dict[str, int] = {}  # by topic: the smallest message it did not take
        self._open = False
        self._closed = False
        self._progress_s = time.monotonic()
        self._hand_over_after_s = 0.0

    # What a client has to bring.

    @abstractmethod
    def _connect(self, timeout_s: float) -> None:
        """Open a client; raises `BrokerError` with the reason."""

    @abstractmethod
    def _transmit(self, message: Message) -> None:
        """Give the message to the client; raises `NotYet`. Ends in its `acknowledge` or `fail`."""

    @abstractmethod
    def _wait(self, timeout_s: float) -> None:
        """Let the client work until all it has is acknowledged or failed, or time is over."""

    @abstractmethod
    def _is_too_large(self, error: BaseException) -> bool:
        """Whether the topic does not take so large a batch."""

    @abstractmethod
    def _discard(self) -> None:
        """Drop the client and all it holds, within about a second."""

    # Producer.

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
        shorten: Shorten | None = None,
    ) -> None:
        """Queue one message; see `Producer.send`.

        A message with neither key nor value is sent with an empty value, because
        not every client can send it otherwise.
        """
        if self._closed:
            raise DeliveryFailed(f"message for {topic} came after close()")
        message = Message(topic, key, b"" if key is None and value is None else value, headers, timestamp_ms, shorten)
        if message.size > MAX_MESSAGE_BYTES:
            raise DeliveryFailed(
                f"message for {topic} may have at most {MAX_MESSAGE_BYTES} bytes; got {message.size}: it can never be "
                "sent; shorten it"
            )
        if self._full(message.held):
            self._forget_acknowledged()
            if self._full(message.held):
                raise DeliveryFailed(
                    f"outbox is full: {len(self._sent) + len(self._unsent)} messages, {self._bytes} bytes not "
                    "acknowledged; call flush() and wait until the broker takes them"
                )
        for part in self._fitting(message):
            self._unsent.append(part)
            self._bytes += part.held
        if self._open and not self._has_failed() and time.monotonic() >= self._hand_over_after_s:
            self._hand_over()

    def flush(self, timeout_s: float) -> None:
        """See `Producer.flush`; with nothing to send it still connects, so that the first message need not wait."""
        deadline_s = time.monotonic() + timeout_s
        self._forget_acknowledged()
        total = len(self._sent) + len(self._unsent)
        if total == 0 and self._open:
            return
        cause: BaseException | None = None
        while True:
            if not self._open:
                try:
                    self._connect(max(0.1, deadline_s - time.monotonic()))
                    self._open = True
                    self._progress_s = time.monotonic()
                except BrokerError as error:
                    cause = error
            if self._open:
                cause = self._hand_over()
                self._wait(max(0.0, deadline_s - time.monotonic()))
                self._forget_acknowledged()
                failed = next((m for m in self._sent if m.error is not None), None)
                if failed is not None and self._shorten_refused():
                    self._start_over()
                    if time.monotonic() < deadline_s:
                        continue
                if failed is not None:
                    text = f"{failed.topic}: {type(failed.error).__name__}: {failed.error}"
                    if failed.error is not None and self._is_too_large(failed.error):
                        text += "; raise its max.message.bytes"
                    self._start_over()
                    raise DeliveryFailed(
                        f"{len(self._unsent)} of {total} messages were not acknowledged: the broker refused one for "
                        f"{text}"
                    )
                if not self._sent and not self._unsent:
                    return
            now_s = time.monotonic()
            if now_s >= deadline_s:
                break
            if not self._open or self._unsent:
                time.sleep(min(0.05, deadline_s - now_s))  # the client is asking for metadata meanwhile
        if total == 0:
            raise DeliveryFailed(f"not connected within {timeout_s:g} s: {cause}")
        waiting = self._sent[0] if self._sent else self._unsent[0]
        if self._open and time.monotonic() - self._progress_s >= self._stall_s:
            log.warning("no message acknowledged for %.0f s: producer reset", self._stall_s)
            self._start_over()
        reason = why_unreachable(self._bootstrap_servers) or cause or "the broker takes connections but does not answer"
        raise DeliveryFailed(
            f"{len(self._sent) + len(self._unsent)} of {total} messages, the first for {waiting.topic}, were not "
            f"acknowledged within {timeout_s:g} s: {reason}"
        )

    @property
    def pending(self) -> int:
        """Messages sent but not yet acknowledged."""
        self._forget_acknowledged()
        return len(self._sent) + len(self._unsent)

    def close(self) -> None:
        """Let go of the client; what is not acknowledged is lost, so flush before."""
        self._closed = True
        if self._open:
            self._open = False
            self._discard()
        self._sent.clear()
        self._unsent.clear()
        self._bytes = 0

    # The books.

    def _full(self, size: int) -> bool:
        return len(self._sent) + len(self._unsent) >= self._max_pending or self._bytes + size > self._max_pending_bytes

    def _has_failed(self) -> bool:
        return bool(self._sent) and (self._sent[0].error is not None or self._sent[-1].error is not None)

    def _hand_over(self) -> BaseException | None:
        """Give the client what it takes, in order; returns why it stopped."""
        while self._unsent:
            try:
                self._transmit(self._unsent[0])
            except NotYet as reason:
                self._hand_over_after_s = time.monotonic() + 0.5
                return reason
            self._sent.append(self._unsent.popleft())
        return None

    def _forget_acknowledged(self) -> None:
        # Each flag is read once: a client's thread may set more of them meanwhile, and those count the next time.
        kept: deque[Message] = deque()
        for message in self._sent:
            if message.acknowledged:
                self._bytes -= message.held
            else:
                kept.append(message)
        if len(kept) < len(self._sent) or not kept:
            self._progress_s = time.monotonic()
        self._sent = kept

    def _shorten_refused(self) -> bool:
        """Make those shorter that are too large for their topic; False if that leaves all as it was."""
        refused = [m for m in self._sent if m.error is not None and self._is_too_large(m.error)]
        if not self._alone and any(message.size <= BATCH_BYTES for message in refused):
            self._alone = True  # only together they may be too large
            return True
        shortened = False
        for message in refused:
            self._too_large[message.topic] = min(message.size, self._too_large.get(message.topic, message.size))
        kept: deque[Message] = deque()
        for message in self._sent:
            parts = self._fitting(message)
            shortened |= parts[0] is not message
            self._bytes += sum(part.held for part in parts) - message.held
            kept.extend(parts)
        self._sent = kept
        return shortened

    def _fitting(self, message: Message) -> list[Message]:
        """The message, or what its topic takes of it, as far as is known."""
        most = self._too_large.get(message.topic)
        if most is None:
            return [message]
        found, rest = [], [message]
        while rest:
            first = rest.pop(0)
            shorter = first.shorter() if first.size >= most else []
            if shorter:
                rest = shorter + rest
            else:
                found.append(first)
        return found

    def _start_over(self) -> None:
        self._open = False
        self.rebuilds += 1
        self._discard()
        # An acknowledgement can still have come while the old client was closing.
        self._forget_acknowledged()
        for message in self._sent:
            message.error = None
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()
