"""Reading a bounded part of a topic, the half that both Kafka clients share.

A reader assigns partitions to itself: no group, no rebalance, nothing committed. Not
inside: any Kafka client (`kafka_python`, `confluent`), and what the records mean.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from streamer.config import KafkaConfig
from streamer.connectors.kafka.interface import RecordBatch
from streamer.errors import BrokerError

POLL_S = 0.5
STALLED_S = 30.0  # without a record for so long, reading is abandoned


class AssignedRangeReader(ABC):
    """A `RangeReader` on whichever client supplies the rest."""

    def __init__(self, config: KafkaConfig, *, stalled_s: float = STALLED_S) -> None:
        self._config = config
        self._stalled_s = stalled_s
        self._timeout_s = config.request_timeout_ms / 1000
        self._numbers: list[int] | None = None

    # What a client has to bring.

    @abstractmethod
    def _find_partitions(self) -> list[int]:
        """Partitions of the topic, within the timeout; empty if it is not there."""

    @abstractmethod
    def _bounds(self, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        """First offset held and end of each partition."""

    @abstractmethod
    def _look_up(self, times_ms: Mapping[int, int]) -> dict[int, int | None]:
        """Of each partition the first offset at or after a time; None if there is none."""

    @abstractmethod
    def _assign(self, offsets: Mapping[int, int]) -> None:
        """Take partitions, each from an offset."""

    @abstractmethod
    def _poll(self, timeout_s: float) -> list[RecordBatch]:
        """What has come, at most one batch a partition."""

    @abstractmethod
    def _position(self, partition: int) -> int:
        """Offset up to which everything was returned or does not exist."""

    @abstractmethod
    def _pause(self, partition: int) -> None:
        """Read no more of it."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the client; idempotent."""

    # RangeReader.

    def bounds(self, among: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        return self._bounds([partition for partition in self._partitions() if among is None or partition in among])

    def offsets_at(self, time_ms: int) -> dict[int, int] | None:
        bounds = self.bounds()
        held = [partition for partition, (first, end) in bounds.items() if end > first]
        found = self._look_up(dict.fromkeys(held, max(0, time_ms))) if held else {}
        nothing = [partition for partition in held if found[partition] is None]
        if nothing and None in self._look_up(dict.fromkeys(nothing[:1], 0)).values():
            # There is a record, and all of time does not find it.
            return None
        ends = {partition: end for partition, (_, end) in bounds.items()}
        return ends | {partition: offset for partition, offset in found.items() if offset is not None}

    def read(self, ranges: Mapping[int, tuple[int, int]]) -> Iterator[RecordBatch]:
        ends = {partition: end for partition, (first, end) in ranges.items() if first < end}
        if not ends:
            return
        self._assign({partition: ranges[partition][0] for partition in ends})
        came_s = time.monotonic()
        while ends:
            polled = self._poll(POLL_S)
            for batch in polled:
                count = int(np.searchsorted(batch.offsets, ends.get(batch.partition, 0)))
                if count:
                    yield batch.rows(slice(0, count))
            for partition in [p for p, end in ends.items() if self._position(p) >= end]:
                del ends[partition]
                self._pause(partition)
            if polled:
                came_s = time.monotonic()
            elif ends and time.monotonic() - came_s > self._stalled_s:
                where = ", ".join(f"{p} at {self._position(p)} of {end}" for p, end in sorted(ends.items()))
                raise BrokerError(
                    f"{self._config.topic}: no record came for {self._stalled_s:.0f} s before the end was reached "
                    f"(partition {where}); is a broker down?"
                )

    def _partitions(self) -> list[int]:
        if self._numbers is None:
            found = self._find_partitions()
            if not found:
                raise BrokerError(
                    f"topic {self._config.topic} is not on {self._config.bootstrap_servers}; check kafka.topic and "
                    "kafka.bootstrap_servers"
                )
            self._numbers = found
        return self._numbers
