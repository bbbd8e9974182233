"""One sink: reads the alerts topic as a group of its own, and delivers in order.

The topic is the outbox: an offset is committed when everything before it was delivered, or given up for a reason that
is counted and logged. While an alert waits for its next attempt the partitions are paused, so memory is bounded by what
one poll brings. A crash repeats alerts, with the same ids; it never loses one. Not inside: threads (this package's
`SinkThreads`), HTTP (`connectors.alert_sinks`).
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from streamer.connectors.alert_sinks import DELIVERED, FAILED, REFUSED, Incident, Sink
from streamer.connectors.kafka import Commit, Consumer, OffsetReset, PoisonedBatch, RecordBatch
from streamer.core.alerts import Alert
from streamer.core.routing import SEND, Route
from streamer.errors import BrokerError
from streamer.observability.metrics import Metrics
from streamer.runtime.sinks.alerts_topic import AlertsTopic
from streamer.runtime.sinks.attempts import GIVEN_UP, UNREADABLE, Attempts
from streamer.runtime.sinks.resending import Resending
from streamer.runtime.sinks.told import Told

POLL_S = 0.5
BUSY_S = 5.0  # of deliveries between two polls
COMMIT_S = 1.0
NEW_S = 600.0  # a sink whose group is new is told of what came so long before the process began
RECONNECT_S = 1.0
LEAST_FAILING_S = 600.0  # a sink must have failed for so long without a break until an alert is given up

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Item:
    """A record in hand."""

    partition: int
    offset: int
    taken_s: float  # by the broker
    value: bytes | None


class Courier:
    """Used from one thread.

    Args:
        sink: Makes one attempt at a time.
        route: Which alerts it is told.
        topic: The alerts topic.
        lookback_s: How far it is read back.
        metrics: Counts.
        clock: Seconds since 1970.
        stop: Set when the process has been told to stop.
        jitter: A number between 0 and 1, for pauses.
    """

    def __init__(
        self,
        sink: Sink,
        route: Route,
        topic: AlertsTopic,
        *,
        lookback_s: float,
        metrics: Metrics,
        clock: Callable[[], float],
        stop: threading.Event,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._sink, self._route, self._topic, self._metrics = sink, route, topic, metrics
        self._lookback_s, self._clock, self._stop = lookback_s, clock, stop
        self._attempts = Attempts(sink.name, metrics, clock, jitter)
        self._told = Told()
        self._resending = Resending(sink, self._told, self._attempts, lookback_s=lookback_s, clock=clock)
        self._new_since_s = clock() - NEW_S
        self._consumer: Consumer
        self._hand: deque[_Item] = deque()
        self._next: dict[int, int] = {}  # of each partition held, the offset before which all is done
        self._uncommitted: set[int] = set()
        self._commit_at = 0.0
        self._parked: dict[int, tuple[int, list[Incident]]] = {}  # revoked; open incidents as of an offset
        self._to_read_back: dict[int, int] = {}
        self._away_since_s: float | None = clock()  # the topic is not being read

    def run(self) -> None:
        """Until told to stop; whatever happens, it is tried again."""
        while not self._stop.is_set():
            try:
                self._serve()
            except BrokerError as error:
                log.warning("sink %s: the alerts topic cannot be read, reconnecting: %s", self._sink.name, error)
            except Exception:
                log.exception("sink %s: internal error, reconnecting", self._sink.name)
            self._tell_metrics(unread=0)
            self._stop.wait(RECONNECT_S)

    def _serve(self) -> None:
        consumer = self._consumer = self._topic.join(
            on_assigned=self._assigned, on_revoked=self._revoked, on_offset_reset=self._offset_reset
        )
        self._away_since_s = None
        try:
            while not self._stop.is_set():
                self.turn(consumer)
        finally:
            self._away_since_s = self._clock()
            consumer.close()
            self._hand.clear()

    def turn(self, consumer: Consumer) -> None:
        """Poll; tell again of what is due; deliver what is in hand; commit.

        Raises:
            BrokerError: The broker refuses, or is away.
        """
        self._consumer = consumer
        self._take_in()
        if self._to_read_back:
            self._read_back()
        until_s = self._clock() + BUSY_S
        if not self._attempts.wait_s and self._resending.turn(until_s):
            self._deliver(until_s)
        if self._uncommitted and self._clock() >= self._commit_at:
            self._commit()
        self._tell_metrics(unread=sum(consumer.lag().values()))

    # Reading.

    def _take_in(self) -> None:
        try:
            polled = self._consumer.poll(min(POLL_S, self._attempts.wait_s) if self._hand else POLL_S)
        except PoisonedBatch as error:
            if self._hand:  # first what came before it; this consumer says the same at once, however often it is asked
                self._stop.wait(min(POLL_S, self._attempts.wait_s))
                return
            log.error("sink %s: given up, a record cannot be read: %s", self._sink.name, error)
            self._attempts.count(UNREADABLE)
            if error.partition in self._next:  # else the client does not know where it was: no offset to commit
                self._done(error.partition, error.offset)
            if self._uncommitted:
                self._commit()
            raise
        for batch in polled:
            self._hand.extend(_items(batch, self._clock()))
        if self._hand:
            self._consumer.pause(list(self._next))

    def _read_back(self) -> None:
        """Find the incidents that are open and that the sink was told of."""
        gained, before = dict(self._to_read_back), len(self._told)
        for batch in self._topic.back(gained, self._clock() - self._lookback_s):
            for item in _items(batch, self._clock()):
                alert = _alert(item.value)
                if alert is not None and self._decide(alert) == SEND:
                    self._learn(item, alert)
        if len(self._told) > before:
            log.info("sink %s: %d incidents are open", self._sink.name, len(self._told))
        self._to_read_back.clear()
        self._resending.at_once()

    # Delivering.

    def _deliver(self, until_s: float) -> None:
        while self._hand and not self._stop.is_set() and self._clock() < until_s:
            item = self._hand[0]
            if not self._settle(item):
                return
            self._hand.popleft()
            self._done(item.partition, item.offset)
            if not self._hand:
                self._consumer.resume(list(self._next))

    def _settle(self, item: _Item) -> bool:
        """Whether nothing is left to do for a record: it is told, or given up."""
        alert = _alert(item.value)
        if alert is None:
            where = f"partition {item.partition} offset {item.offset}"
            log.error("sink %s: given up, %s of the alerts topic is no alert", self._sink.name, where)
            self._attempts.count(UNREADABLE)
            return True
        if (decision := self._decide(alert)) != SEND:
            self._attempts.count(decision)
            return True
        incident = self._told.with_alert(alert, item.taken_s)
        answer = self._attempts.make(lambda now_s: self._sink.deliver(incident, now_s))
        if answer.outcome == FAILED:
            patience_s = self._sink.give_up_after_s
            if patience_s is None or not self._was_patient(item, patience_s):
                return False
            self._attempts.give_up(alert, GIVEN_UP, f"it failed for {patience_s:g} s; {answer.why}")
        elif answer.outcome == REFUSED:
            self._attempts.give_up(alert, REFUSED, answer.why)
        else:
            self._learn(item, alert)
            self._attempts.count(DELIVERED)
        return True

    def _was_patient(self, item: _Item, patience_s: float) -> bool:
        """Whether an alert is that old, and not for want of attempts: the daemon may have been away for days."""
        now_s, since_s = self._clock(), self._attempts.failing_since_s
        failed_s = 0.0 if since_s is None else now_s - since_s
        return now_s - item.taken_s >= patience_s and failed_s >= min(patience_s, LEAST_FAILING_S)

    def _decide(self, alert: Alert) -> str:
        return self._route.decide(alert, told=alert.incident_id in self._told)

    def _learn(self, item: _Item, alert: Alert) -> None:
        for forgotten in self._told.learn(item.partition, self._told.with_alert(alert, item.taken_s)):
            log.error("sink %s: too many incidents are open, %s is not told of again", self._sink.name, forgotten)

    def _tell_metrics(self, *, unread: int) -> None:
        name = self._sink.name
        since_s = self._hand[0].taken_s if self._hand else self._away_since_s or self._attempts.failing_since_s
        self._metrics.sink_backlog.labels(name).set(len(self._hand) + unread)
        self._metrics.sink_oldest.labels(name).set(0.0 if since_s is None else max(0.0, self._clock() - since_s))

    # The group.

    def _done(self, partition: int, offset: int) -> None:
        self._next[partition] = offset + 1
        self._uncommitted.add(partition)

    def _commit(self) -> None:
        self._commit_at = self._clock() + COMMIT_S
        try:
            self._consumer.commit({each: Commit(self._next[each]) for each in sorted(self._uncommitted)})
        except BrokerError as error:
            log.info("sink %s: the commit is repeated: %s", self._sink.name, error)
        else:
            self._uncommitted.clear()

    def _assigned(self, partitions: Sequence[int]) -> None:
        """All that is held from now on."""
        self._hand.clear()
        self._uncommitted.clear()
        commits = self._consumer.committed(partitions) if partitions else {}
        self._next = {partition: commit.offset for partition, commit in commits.items()}
        if new := [partition for partition in partitions if partition not in commits]:
            self._next |= self._first_offsets(new)
            # At once: killed before the first commit, the next one would not know where this one began.
            self._uncommitted.update(new)
            self._commit()
        parked, self._parked, self._to_read_back = self._parked, {}, {}
        for partition, start in self._next.items():
            self._consumer.seek(partition, start)
            at, incidents = parked.get(partition, (-1, []))
            if at == start:
                self._told.put(partition, incidents)
            else:
                self._to_read_back[partition] = start

    def _first_offsets(self, partitions: Sequence[int]) -> Mapping[int, int]:
        found, bounds = self._topic.since(self._new_since_s) or {}, self._consumer.bounds(partitions)
        return {each: max(bounds[each][0], found.get(each, 0)) for each in partitions}

    def _revoked(self, partitions: Sequence[int]) -> None:
        if self._uncommitted:
            self._commit()
        for partition in partitions:
            incidents, read = self._told.take(partition), partition not in self._to_read_back
            at = self._next.pop(partition, None)
            if at is not None and read:
                self._parked[partition] = at, incidents
            self._to_read_back.pop(partition, None)
        self._uncommitted &= self._next.keys()
        self._hand = deque(item for item in self._hand if item.partition in self._next)

    def _offset_reset(self, reset: OffsetReset) -> None:
        log.error("sink %s: %d alerts have expired on the alerts topic unread", self._sink.name, reset.lost)
        self._next[reset.partition] = reset.restarted_at
        self._uncommitted.add(reset.partition)
        self._hand = deque(item for item in self._hand if item.partition != reset.partition)
        if not self._hand:  # nothing is left that would end the pause
            self._consumer.resume(list(self._next))


def _items(batch: RecordBatch, now_s: float) -> Iterator[_Item]:
    for offset, taken_ms, value in zip(batch.offsets.tolist(), batch.timestamps_ms.tolist(), batch.values, strict=True):
        yield _Item(batch.partition, offset, taken_ms / 1000 if taken_ms > 0 else now_s, value)


def _alert(value: bytes | None) -> Alert | None:
    try:
        return Alert.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the last: brackets in brackets, too deep
        return None
