"""Checkpoints: what makes it safe to forget a record.

    flush      alerts, dead letters and scores are acknowledged by the broker
    freeze     state as of the record is copied; the loop may go on
    write      the copy is kept in the state store, beside the loop
    commit     the group's offset moves past the record, and names what was written

In this order, and a step that fails stops the sequence. Whatever dies in between,
nothing is lost: at worst records are read and alerts sent again, under the same ids.
Not inside: when a checkpoint is due (`daemon`), how state is kept (`state`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotDone
from dataclasses import dataclass
from functools import partial

from streamer.connectors.kafka import Commit, Consumer
from streamer.connectors.sinks import KafkaSinks
from streamer.core.pipeline import Pipeline
from streamer.errors import CommitFailed, DeliveryFailed, StreamerError
from streamer.observability.metrics import Metrics
from streamer.runtime.beside import Beside
from streamer.runtime.naming import Naming
from streamer.runtime.positions import Position, Positions
from streamer.runtime.state.keeper import StateKeeper
from streamer.runtime.state.pointer import Pointer
from streamer.runtime.state.snapshots import Snapshot
from streamer.runtime.status import Status

FLUSH_PART_S = 2.0  # how long a flush before the last one may overlook the signal to stop
LEAVE_S = 2.0  # how long a store is waited for once the process has been told to stop
WAIT_PART_S = 1.0  # how long a wait for the state store lasts between two signs of life

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Frozen:
    """A partition as it was when the loop went on."""

    partition: int
    position: Position  # the one of then: the partition may leave and come back meanwhile
    offset: int
    commit: int
    snapshot: Snapshot | None  # None: nothing is kept
    changes: int = 0  # of the position, then


@dataclass(frozen=True, slots=True)
class _Underway:
    frozen: list[_Frozen]
    names: Future[list[str]]  # of the snapshots written, in the same order
    began_s: float


class Checkpoints:
    """Checkpoints of one connection.

    Args:
        positions: Of the partitions held; what is saved and committed is noted there.
        pipeline: Whose state is saved.
        sinks: Flushed first.
        keeper: Where state is kept; None: nowhere.
        consumer: Commits.
        metrics: Counts.
        status: Told that the loop is alive while it waits.
        stop: Set when the process has been told to stop.
        clock: Seconds since 1970, for metrics.
        topic_id: Of the input topic, where the broker tells.
    """

    def __init__(
        self,
        positions: Positions,
        *,
        pipeline: Pipeline,
        sinks: KafkaSinks,
        keeper: StateKeeper | None,
        consumer: Consumer,
        metrics: Metrics,
        status: Status,
        stop: threading.Event,
        clock: Callable[[], float],
        topic_id: str | None = None,
    ) -> None:
        self.freeze_s = 0.0  # how long the loop stood while state was copied, the last time
        self.write_s = 0.0  # how long the copy took to be kept beside the loop, the last time it was
        self._positions, self._pipeline, self._sinks, self._keeper = positions, pipeline, sinks, keeper
        self._consumer, self._metrics, self._status, self._stop, self._clock = consumer, metrics, status, stop, clock
        self._topic_id = topic_id
        self.name = Naming(positions, consumer=consumer, metrics=metrics, status=status, topic_id=topic_id).name
        self._writer = Beside("state")
        self._underway: _Underway | None = None
        self._last = False

    @property
    def underway(self) -> bool:
        """Whether one is being written beside the loop."""
        return self._underway is not None

    def begin(self, partitions: Sequence[int], *, timeout_s: float) -> bool:
        """Flush and freeze; the rest happens beside the loop, and in `advance`. False when the flush failed."""
        assert self._underway is None
        due = self._due(partitions)
        began_s = time.monotonic()
        if not self.flush(timeout_s):
            if due:
                self._metrics.checkpoint_failures.inc()
            return False
        if due:
            freeze_began_s = time.monotonic()
            frozen = self._freeze(due)
            self.freeze_s = time.monotonic() - freeze_began_s
            self._underway = _Underway(frozen, self._writer.submit(partial(self._write, frozen)), began_s)
        return True

    def advance(self) -> None:
        """Commit what has been written meanwhile, if it has."""
        if self._underway is not None and self._underway.names.done():
            self._finish()

    def take(self, partitions: Sequence[int], *, timeout_s: float) -> bool:
        """All steps at once; False when one failed. The flush ends early when told to stop."""
        deadline_s = time.monotonic() + timeout_s
        if self._underway is not None and not self._wait(deadline_s):
            self._metrics.checkpoint_failures.inc()
            return False
        if not self.begin(partitions, timeout_s=max(0.0, deadline_s - time.monotonic())):
            return False
        return self._underway is None or self._wait(deadline_s)

    def keep(self, offsets: Mapping[int, int], *, timeout_s: float) -> bool:
        """Flush, freeze and write, without a commit: the topic of these offsets is another one now, or gone.

        Args:
            offsets: Of the snapshots of partitions.
            timeout_s: As in `take`.
        """
        deadline_s, self._underway = time.monotonic() + timeout_s, None
        if not self.flush(timeout_s):
            return False
        if self._keeper is None or not offsets:
            return True
        nobody = Position(0, 0, 0)  # what is written for it is not committed
        frozen = [
            _Frozen(p, nobody, at, at, Snapshot(at, self._pipeline.export_partition(p), self._topic_id))
            for p, at in offsets.items()
        ]
        self._underway = _Underway(frozen, self._writer.submit(partial(self._write, frozen)), time.monotonic())
        return self._wait(deadline_s)

    def take_last(self, *, timeout_s: float, answers: bool = True) -> bool:
        """The checkpoint before leaving, of all partitions; `answers`: whether the broker does, as far as known."""
        self._last = True
        began_s = time.monotonic()
        done = (self.leave if answers else self.take)(list(self._positions), timeout_s=timeout_s)
        took_s = time.monotonic() - began_s
        if done:
            log.info("final checkpoint written and committed in %.1f s: %d partitions", took_s, len(self._positions))
        else:
            log.warning(
                "final checkpoint not written, given up after %.1f s: records since the one before will be read again",
                took_s,
            )
        return done

    def flush(self, timeout_s: float) -> bool:
        """Wait for acknowledgements; told to stop meanwhile, leave the rest to the last checkpoint."""
        deadline_s = time.monotonic() + timeout_s
        try:
            while True:
                self._status.beat()
                began_s = time.monotonic()
                part_s = max(0.0, min(FLUSH_PART_S, deadline_s - began_s))
                try:
                    self._sinks.flush(part_s)
                    return True
                except DeliveryFailed as error:
                    now_s = time.monotonic()
                    refused = now_s - began_s < part_s  # more time would not help
                    if not refused and now_s < deadline_s and (self._last or not self._stop.is_set()):
                        continue
                    self._metrics.delivery_failures.inc()
                    log.warning("messages not acknowledged yet, sending them again: %s", error)
                    return False
        finally:
            self._metrics.alerts_pending.set(self._sinks.pending)

    def commit_of(self, position: Position) -> Commit | None:
        """What the group has committed if nobody has gone on since this position's last checkpoint."""
        if position.committed is None:
            return None
        return Commit(position.committed, Pointer(position.states, self._topic_id, position.bundle).note())

    def leave(self, partitions: Sequence[int], *, timeout_s: float) -> bool:
        """The checkpoint before partitions leave: where it is whole, nothing is told behind it, with any bundle."""
        if not self.take(partitions, timeout_s=timeout_s):
            return False  # not worth a wait for a broker that may be away: a bundle that is named is right as well
        self.name([partition for partition in partitions if self._positions[partition].clean], None)
        return True

    def close(self) -> None:
        """No checkpoint after this one.

        What is being written is waited for, since its thread cannot be stopped and a store is written to from one;
        not for long when the process ends, which ends the thread too.
        """
        while not self._writer.close(LEAVE_S, beat=self._status.beat):
            if self._stop.is_set():
                log.warning("the state store has not answered; it is left alone, the last commit names what counts")
                return

    def _due(self, partitions: Sequence[int]) -> list[int]:
        return [p for p in partitions if self._positions[p].next_offset != self._positions[p].saved_offset]

    def _freeze(self, partitions: Sequence[int]) -> list[_Frozen]:
        frozen = []
        for partition in partitions:
            self._status.beat()
            position = self._positions[partition]
            offset = position.next_offset
            state = None if self._keeper is None else self._pipeline.export_partition(partition)
            snapshot = None if state is None else Snapshot(offset, state, self._topic_id)
            # While a partition is only catching up on its past, the commit stays where it is.
            commit = max(offset, position.publish_from)
            frozen.append(_Frozen(partition, position, offset, commit, snapshot, position.changes))
        return frozen

    def _write(self, frozen: Sequence[_Frozen]) -> list[str]:
        """Runs beside the loop."""
        if self._keeper is None:
            return []
        began_s = time.monotonic()
        names = [self._keeper.write(each.partition, each.snapshot) for each in frozen if each.snapshot is not None]
        self.write_s = time.monotonic() - began_s
        return names

    def _wait(self, deadline_s: float) -> bool:
        """Wait for what is being written, and commit it."""
        assert self._underway is not None
        while not self._underway.names.done():
            self._status.beat()
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                log.warning("the state store has not finished writing in time")
                return False
            try:
                self._underway.names.exception(timeout=min(left_s, WAIT_PART_S))
            except NotDone:
                continue
        return self._finish()

    def _finish(self) -> bool:
        """The last step of the one underway."""
        assert self._underway is not None
        underway, self._underway = self._underway, None
        try:
            names = underway.names.result()
        except StreamerError as error:  # a certificate and a key that do not match yet, too
            log.error("checkpoint failed; after a restart, records since the last one would be reprocessed: %s", error)
            done = False
        else:
            done = self._commit(underway.frozen, names)
        self._metrics.checkpoint_duration.observe(time.monotonic() - underway.began_s)
        if done:
            self._metrics.checkpoints.inc()
            self._metrics.last_checkpoint.set(self._clock())
        else:
            self._metrics.checkpoint_failures.inc()
        return done

    def _commit(self, frozen: Sequence[_Frozen], names: Sequence[str]) -> bool:
        # A partition that has left is its new owner's, also if it is back by now.
        held = [
            (each, (name, *each.position.states[:1]) if name else ())
            for each, name in zip(frozen, names or [""] * len(frozen), strict=True)
            if self._positions.get(each.partition) is each.position
        ]
        if not held:
            return True
        self._status.beat()
        try:
            self._consumer.commit(
                {
                    each.partition: Commit(each.commit, Pointer(states, self._topic_id, each.position.bundle).note())
                    for each, states in held
                }
            )
        except CommitFailed as error:
            self._metrics.commit_failures.inc()
            log.warning("commit refused; after a restart, records since the last one would be reprocessed: %s", error)
            return False
        for each, states in held:
            each.position.saved_offset = each.offset if each.changes == each.position.changes else -1
            each.position.committed = each.commit
            each.position.states = states
            if self._keeper is not None:
                gone, each.position.left_behind = each.position.left_behind, ()
                forgotten = self._writer.submit(partial(self._keeper.store.forget, each.partition, states, gone))
                forgotten.add_done_callback(partial(_look_at, each.partition))
        self._metrics.commits.inc(len(held))
        self._metrics.last_commit.set(self._clock())
        return True


def _look_at(partition: int, forgotten: Future[None]) -> None:
    if not forgotten.cancelled() and (error := forgotten.exception()) is not None:
        log.warning("superseded state of partition %d stays for now", partition, exc_info=error)
