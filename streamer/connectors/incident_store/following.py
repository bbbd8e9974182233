"""Reads the topics of alerts and of actions into a store of incidents.

By offset, outside any group: nothing is committed, and no other reader notices. Up to where a partition was read is
kept in the store, together with what was read, so nothing is missed and nothing counts twice. Not inside: when to read
(`runtime.incident_thread`), what is kept (`store`).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamer.config import Settings
from streamer.connectors.incident_store.acting import ActionsTopic
from streamer.connectors.incident_store.interface import Done, Told
from streamer.connectors.incident_store.store import IncidentStore
from streamer.connectors.kafka import AdminRefused, PoisonedBatch, RangeReader, RecordBatch, connect_range_reader
from streamer.core.incident_life import Action, NotUnderstood, read_alert
from streamer.errors import BrokerError

AT_ONCE = 500  # records in one transaction
AGAIN_S = 60.0  # until partitions that were added are looked for, or a topic that was not there
BEYOND = 10  # times in a row that a log was shorter than what was read of it, until it is taken for another one

Connect = Callable[[str], RangeReader | None]  # None: there is no such topic, and need not be
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Topic:
    """One that is followed."""

    name: str
    take: Callable[[RecordBatch, int], int]  # keeps a batch, of which the next offset is told; how many it refused
    reader: RangeReader | None = None
    looked_s: float = float("-inf")
    beyond: Counter[int] = field(default_factory=Counter)  # by partition


class Follower:
    """Brings a store up to the ends of both topics.

    Args:
        settings: Topics and connection.
        store: Where to.
        connect: Makes a reader of a topic; None: over the network.
        pause: Told after each transaction how long it took; may wait, so that others have their turn.
        on_refused: Told how many messages were not understood.
        clock: Seconds, for looking again.
    """

    def __init__(
        self,
        settings: Settings,
        store: IncidentStore,
        *,
        connect: Connect | None = None,
        pause: Callable[[float], object] = lambda took_s: None,
        on_refused: Callable[[int], object] = lambda count: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._store = settings, store
        self._connect, self._pause, self._on_refused, self._clock = connect or self._dial, pause, on_refused, clock
        self._topics = (
            _Topic(settings.kafka.alerts_topic, self._take_alerts),
            _Topic(settings.actions_topic, self._take_actions),
        )

    def turn(self, on_lag: Callable[[int], object] = lambda records: None) -> None:
        """Read what there is now.

        Args:
            on_lag: Told how many records are still to be read, at first and after each transaction.

        Raises:
            BrokerError: A topic cannot be read, or the store cannot be used; what was read so far is kept.
        """
        ranges, failed = dict[str, dict[int, tuple[int, int]]](), list[BrokerError]()
        for topic in self._topics:
            try:
                ranges[topic.name] = self._ranges(topic)
            except BrokerError as error:  # what people did may be hidden from us: alerts are kept all the same
                ranges[topic.name] = {}
                failed.append(error)
        lag = sum(end - first for some in ranges.values() for first, end in some.values())
        on_lag(lag)
        for topic in self._topics:
            upto = {partition: first for partition, (first, _) in ranges[topic.name].items()}
            try:
                for batch in self._read(topic, ranges[topic.name]):
                    began_s = time.monotonic()
                    following = int(batch.offsets[-1]) + 1
                    refused = topic.take(batch, following)
                    if refused:
                        self._on_refused(refused)
                    lag -= following - upto[batch.partition]
                    upto[batch.partition] = following
                    on_lag(lag)
                    self._pause(time.monotonic() - began_s)
            except PoisonedBatch as error:
                if error.partition in upto:  # else the client does not know where it was
                    # All before it was read; what follows is read in the next turn, with another reader.
                    behind = max(upto[error.partition], error.offset + 1)
                    self._store.stand_at(topic.name, error.partition, behind)
                    self._on_refused(1)
                self.close()
                raise
            for partition, (_, end) in ranges[topic.name].items():
                if upto[partition] < end:  # what comes last is no record but the mark of a transaction
                    self._store.stand_at(topic.name, partition, end)
        if failed:
            raise failed[0]
        on_lag(0)

    def close(self) -> None:
        """Let go of the readers; the next turn connects again."""
        for topic in self._topics:
            topic.looked_s = float("-inf")
            if topic.reader is not None:
                reader, topic.reader = topic.reader, None
                reader.close()

    def _dial(self, name: str) -> RangeReader | None:
        kafka = self._settings.kafka
        if name == self._settings.actions_topic:
            actions = ActionsTopic(self._settings)
            try:
                if not actions.there():
                    return None
            except AdminRefused as error:
                log.warning("what people did about incidents is not known: %s", error)
                return None
            finally:
                actions.close()
        return connect_range_reader(kafka.model_copy(update={"topic": name}), self._settings.limits)

    def _ranges(self, topic: _Topic) -> dict[int, tuple[int, int]]:
        """What is to be read of each partition."""
        now_s = self._clock()
        if now_s - topic.looked_s >= AGAIN_S:
            if topic.reader is not None:
                topic.reader.close()
                topic.reader = None
            topic.reader = self._connect(topic.name)
            topic.looked_s = now_s
        if topic.reader is None:
            return {}
        positions = self._store.positions(topic.name)
        found = {}
        for partition, (first, end) in topic.reader.bounds().items():
            begin = positions.get(partition, first)
            if begin > end:
                # A broker that has just become leader may not know of the newest records yet.
                topic.beyond[partition] += 1
                if topic.beyond[partition] < BEYOND:
                    continue
                log.warning(
                    "%s[%d] ends at %d, and was read up to %d before: it was made again, and is read from its first "
                    "record", topic.name, partition, end, begin,
                )  # fmt: skip
                begin = first
            elif begin < first:
                log.warning(
                    "%s[%d]: records %d to %d were deleted before they were read into the store of incidents",
                    topic.name, partition, begin, first - 1,
                )  # fmt: skip
                begin = first
            topic.beyond.pop(partition, None)
            if begin < end:
                found[partition] = begin, end
            elif positions.get(partition, begin) != begin:
                self._store.stand_at(topic.name, partition, begin)
        return found

    def _read(self, topic: _Topic, ranges: Mapping[int, tuple[int, int]]) -> Iterator[RecordBatch]:
        if topic.reader is None or not ranges:
            return
        for batch in topic.reader.read(ranges):
            for start in range(0, len(batch), AT_ONCE):
                yield batch.rows(slice(start, start + AT_ONCE))

    def _take_alerts(self, batch: RecordBatch, following: int) -> int:
        told = []
        for row, value in enumerate(batch.values):
            try:
                told.append(Told(read_alert(value), value or b"", _seen_ms(batch, row)))
            except NotUnderstood as error:
                _complain(batch, row, "alert", error)
        self._store.take_alerts(told, batch.topic, batch.partition, following)
        return len(batch) - len(told)

    def _take_actions(self, batch: RecordBatch, following: int) -> int:
        done = []
        for row, value in enumerate(batch.values):
            try:
                done.append(Done(Action.decode(value), int(batch.offsets[row]), _seen_ms(batch, row)))
            except NotUnderstood as error:
                _complain(batch, row, "action", error)
        self._store.take_actions(done, batch.topic, batch.partition, following)
        return len(batch) - len(done)


def _seen_ms(batch: RecordBatch, row: int) -> int:
    """When a record was written; a producer may have said anything, or nothing."""
    now_ms, said_ms = round(time.time() * 1000), int(batch.timestamps_ms[row])
    return said_ms if 0 < said_ms <= now_ms else now_ms


def _complain(batch: RecordBatch, row: int, what: str, error: Any) -> None:
    log.debug("%s[%d]@%d is no %s: %s", batch.topic, batch.partition, batch.offsets[row], what, error)
