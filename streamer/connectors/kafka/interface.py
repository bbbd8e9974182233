"""What the rest of streamer sees of Kafka, whichever client is chosen.

    RecordBatch      the records of one poll from one partition, as columns
    Consumer         a member of a consumer group
    Producer         sends messages and keeps them until they are acknowledged
    RangeReader      reads a bounded part of a topic, outside any group
    TopicAdmin       makes topics and deletes records

Types only. Not inside: choosing a client (`connect_*` of this package), implementing one
(`kafka_python`, `confluent`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.errors import BrokerError

_YEAR_2200_MS = 7_258_118_400_000
_TOLD = 3  # partitions, in a message

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """The records one poll brought from one partition, as columns, in offset order.

    All columns have the same length `n >= 1`.
    """

    topic: str
    partition: int
    offsets: NDArray[np.int64]  # (n,)
    timestamps_ms: NDArray[np.int64]  # (n,) the broker's record timestamps, -1 if none
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers]
    unreadable_headers: int = 0  # records that the poll brought without their headers: a name is not UTF-8

    def __len__(self) -> int:
        return len(self.offsets)

    def rows(self, rows: slice | NDArray[np.int64]) -> RecordBatch:
        """Some of the records."""
        numbers = range(len(self))[rows] if isinstance(rows, slice) else rows.tolist()
        return replace(
            self,
            offsets=self.offsets[rows],
            timestamps_ms=self.timestamps_ms[rows],
            keys=[self.keys[i] for i in numbers],
            values=[self.values[i] for i in numbers],
            headers=[self.headers[i] for i in numbers],
        )

    def taken_ns(self) -> NDArray[np.int64]:
        """`(n,)` when the broker took each record, in ns; the far future where it does not say."""
        # Without a timestamp there is nothing to be ahead of, nor with one that cannot be milliseconds.
        known = (self.timestamps_ms > 0) & (self.timestamps_ms < _YEAR_2200_MS)
        return np.where(known, np.where(known, self.timestamps_ms, 0) * 1_000_000, np.iinfo(np.int64).max // 2)


class PoisonedBatch(BrokerError):
    """The batch at `offset` of `partition` cannot be read; a new consumer may seek past it."""

    def __init__(self, message: str, *, partition: int, offset: int) -> None:
        super().__init__(message)
        self.partition = partition
        self.offset = offset


@dataclass(frozen=True, slots=True)
class OffsetReset:
    """The offset wanted is not in the log (any more); reading went on from `restarted_at`."""

    partition: int
    wanted: int
    restarted_at: int
    lost: int  # records known to be gone unread; 0 where the log is shorter than `wanted`


@dataclass(frozen=True, slots=True)
class Commit:
    """Where a group stands in one partition."""

    offset: int  # of the next record to read
    note: str = ""  # kept with it by the coordinator, 4,096 bytes at most; empty if a person moved the group


def told(commits: Mapping[int, Commit], topic: str, group: str) -> str:
    """What is committed, in a few words however many partitions there are.

    >>> told({0: Commit(12), 3: Commit(9), 4: Commit(0), 5: Commit(7)}, "machines", "streamer")
    "commit of group 'streamer' (machines[0]: 12, [3]: 9, [4]: 0 and 1 more)"
    """
    some = ", ".join(f"[{partition}]: {commit.offset}" for partition, commit in list(commits.items())[:_TOLD])
    more = f" and {len(commits) - _TOLD} more" if len(commits) > _TOLD else ""
    return f"commit of group {group!r} ({topic}{some}{more})"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a message is made of."""

    key: bytes | None
    value: bytes | None
    headers: Headers


# The same in a shorter form, or as several messages; nothing: it cannot be made any shorter.
Shorten = Callable[[Parts], Sequence[Parts]]

OnPartitions = Callable[[Sequence[int]], None]
OnOffsetReset = Callable[[OffsetReset], None]


class Consumer(Protocol):
    """One member of a consumer group on one topic; used from a single thread."""

    offset_resets: int  # times the log did not hold the offset wanted
    broker_errors: int  # met while polling that the client goes on after, as far as it tells

    def poll(self, timeout_s: float) -> list[RecordBatch]:
        """Fetch what is there, at most one batch a partition; `[]` after `timeout_s`.

        Rebalance callbacks run inside this call, on this thread.

        Raises:
            PoisonedBatch: A batch cannot be read; this consumer is of no further use.
            BrokerError: The broker refuses (authorisation).
        """
        ...

    def seek(self, partition: int, offset: int) -> None:
        """Read `partition` from `offset` next."""
        ...

    def position(self, partition: int) -> int:
        """Offset of the next record `poll` will return."""
        ...

    def committed(self, partitions: Sequence[int]) -> dict[int, Commit]:
        """Where the group stands in those partitions in which it has committed; one question for all."""
        ...

    def partition_count(self, *, wait: bool = False) -> int:
        """Partitions the topic has, as far as the client knows: it may take a while until it knows of new ones.

        Args:
            wait: For an answer of the broker, if the client has not been told by the rebalance; else the newest answer
                is given at once, 0 before the first one.

        Raises:
            BrokerError: It was waited for in vain.
        """
        ...

    def has_committed(self) -> bool:
        """Whether the group has committed anything of the topic, whichever partition."""
        ...

    def bounds(self, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Of each partition the first offset still held and the offset after the newest record that can be read.

        Few questions for all of them, not some for each.

        With `isolation_level: read_committed` the end is where the oldest open transaction begins.
        """
        ...

    def log_end(self, partition: int) -> int:
        """The offset after the newest record, whether it can be read yet or is in a transaction that is still open."""
        ...

    def commit(self, commits: Mapping[int, Commit]) -> None:
        """Commit the next offset to read of each partition, with its note; returns once acknowledged.

        Raises:
            CommitFailed: The broker refused; nothing may be assumed committed.
        """
        ...

    def lag(self) -> dict[int, int]:
        """Records not yet polled, per assigned partition, as of the newest answer of the broker; no round trip.

        How old that answer is, is not known here: of a broker that is away it may be hours.
        """
        ...

    def member_id(self) -> str | None:
        """What the group calls this member; None while it has not joined."""
        ...

    def pause(self, partitions: Sequence[int]) -> None: ...

    def resume(self, partitions: Sequence[int]) -> None: ...

    def close(self) -> None:
        """Leave the group; idempotent."""
        ...


class Producer(Protocol):
    """Sends messages and knows which are not yet acknowledged; single thread."""

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
        """Queue one message; does not wait for the broker, nor connect to it: the first `flush` does.

        Args:
            timestamp_ms: The record's timestamp; None: when the client takes it.
            shorten: What to send where the topic does not take so large a message; None: nothing else, so it waits.

        Raises:
            DeliveryFailed: The queue is full or the message can never be sent.
        """
        ...

    def flush(self, timeout_s: float) -> None:
        """Wait until every message sent so far is acknowledged by all in-sync replicas.

        Messages that failed stay queued and are sent again, by a rebuilt client if
        the old one is unusable, at the next `flush`.

        Raises:
            DeliveryFailed: Not all were acknowledged within `timeout_s`; names the first cause.
        """
        ...

    @property
    def pending(self) -> int:
        """Messages sent but not yet acknowledged."""
        ...

    def close(self) -> None: ...


class RangeReader(Protocol):
    """Reads bounded parts of one topic; joins no group, commits nothing; used from a single thread.

    Any number of them read the same topic side by side, and none changes what a daemon reads.
    """

    def bounds(self, among: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        """Of each partition the first offset still held and the offset after the newest record.

        Args:
            among: Which to ask about; None: all.

        Raises:
            BrokerError: The topic is not there, or the broker does not answer in time.
        """
        ...

    def offsets_at(self, time_ms: int) -> dict[int, int] | None:
        """Of each partition the offset of the first record the broker took at or after a time, else its end.

        None if the broker cannot look it up (the embedded one).

        Raises:
            BrokerError: The broker does not answer in time.
        """
        ...

    def read(self, ranges: Mapping[int, tuple[int, int]]) -> Iterator[RecordBatch]:
        """The records of each partition from its first offset to before its second, then stop.

        Raises:
            PoisonedBatch: A batch cannot be read.
            BrokerError: The broker refuses, or sends nothing more before the end is reached.
        """
        ...

    def close(self) -> None: ...


class AdminRefused(BrokerError):
    """The broker does not let us, or cannot do it: asking again is of no use until someone acts."""


class TopicAdmin(Protocol):
    """Makes and changes topics; used from a single thread.

    Every method raises `AdminRefused`, or `BrokerError` where asking again may help.
    """

    def partitions(self, topic: str) -> int:
        """How many a topic has; 0 if it is not there. Asking does not make it."""
        ...

    def create(self, topic: str, partitions: int, settings: Mapping[str, str]) -> None:
        """Make a topic, replicated as the broker does by default; it is no fault if it is there already."""
        ...

    def grow(self, topic: str, partitions: int) -> None:
        """Add partitions until there are so many; it is no fault if there are already."""
        ...

    def settings(self, topic: str) -> dict[str, str]:
        """All settings of a topic that hold, its own and the broker's."""
        ...

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """Remove the records before an offset."""
        ...

    def close(self) -> None: ...
