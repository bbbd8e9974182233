"""Writing to a chosen partition and knowing where it ended up: the half that both Kafka clients share.

For what is read back by offset (state), not for messages to others: those go through the `outbox`. Nothing is kept
here: what was not acknowledged is the caller's to write again. Not inside: any Kafka client (`kafka_python`,
`confluent`).
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from streamer.connectors.kafka.interface import Headers
from streamer.errors import BrokerError, ConfigError, DeliveryFailed

MAX_REQUEST_BYTES = 1_048_576  # one entry and its headers; a broker's default max.message.bytes is a little more

log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """One record to write."""

    key: bytes
    value: bytes | None  # None: a tombstone
    headers: Headers = ()


class LogWriter(ABC):
    """Appends to partitions of its choice, acknowledged by all in-sync replicas; used from a single thread.

    Without idempotence: an entry may be written twice, and the order within one `append` may change.
    """

    def append(self, topic: str, partition: int, entries: Sequence[Entry], *, timeout_s: float) -> list[int]:
        """Write entries; their offsets, once all are acknowledged.

        Raises:
            DeliveryFailed: One was not; any of them may have been written.
        """
        try:
            return self._append(topic, partition, entries, timeout_s)
        except DeliveryFailed:
            self.close()  # whatever is the matter with this client, the next one begins afresh
            raise
        except (BrokerError, ConfigError) as error:  # files of certificates may be about to change
            self.close()
            raise DeliveryFailed(str(error)) from error

    # What a client has to bring.

    @abstractmethod
    def _append(self, topic: str, partition: int, entries: Sequence[Entry], timeout_s: float) -> list[int]:
        """See `append`; connects if there is no client."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the client; the next `append` connects again."""
