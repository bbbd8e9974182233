"""Checkpoints: what makes it safe to forget a record.

    flush      alerts, dead letters and scores are acknowledged by the broker
    snapshot   state as of the record is on disk
    commit     the group's offset moves past the record

In this order, and a step that fails stops the sequence. Whatever dies in between,
nothing is lost: at worst records are read and alerts sent again, under the same ids.
Not inside: when a checkpoint is due (`daemon`), what a snapshot file looks like (`snapshots`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from streamer.connectors.kafka import Consumer
from streamer.connectors.sinks import KafkaSinks
from streamer.core.pipeline import Pipeline
from streamer.errors import CommitFailed, DeliveryFailed, StateError
from streamer.observability.metrics import Metrics
from streamer.runtime.positions import Positions
from streamer.runtime.snapshots import Snapshot, SnapshotStore
from streamer.runtime.status import Status

FLUSH_PART_S = 2.0  # how long a flush before the last one may overlook the signal to stop

log = logging.getLogger(__name__)


class Checkpoints:
    """Checkpoints of one connection.

    Args:
        positions: Of the partitions held; what is saved and committed is noted there.
        pipeline: Whose state is saved.
        sinks: Flushed first.
        store: Where snapshots go; None: nowhere.
        consumer: Commits.
        metrics: Counts.
        status: Told that the loop is alive while it waits.
        stop: Set when the process has been told to stop.
        clock: Seconds since 1970, for metrics.
    """

    def __init__(
        self,
        positions: Positions,
        *,
        pipeline: Pipeline,
        sinks: KafkaSinks,
        store: SnapshotStore | None,
        consumer: Consumer,
        metrics: Metrics,
        status: Status,
        stop: threading.Event,
        clock: Callable[[], float],
    ) -> None:
        self.save_s = 0.0  # how long the newest snapshots took
        self._positions, self._pipeline, self._sinks, self._store = positions, pipeline, sinks, store
        self._consumer, self._metrics, self._status, self._stop, self._clock = consumer, metrics, status, stop, clock
        self._last = False

    def take(self, partitions: Sequence[int], *, timeout_s: float) -> bool:
        """Flush, snapshot, commit; False when a step failed. The flush ends early when told to stop."""
        due = [p for p in partitions if self._positions[p].next_offset != self._positions[p].saved_offset]
        if not due:
            return self.flush(timeout_s)
        with self._metrics.checkpoint_duration.time():
            done = self.flush(timeout_s) and self._save(due) and self._commit(due)
        if done:
            self._metrics.checkpoints.inc()
            self._metrics.last_checkpoint.set(self._clock())
        else:
            self._metrics.checkpoint_failures.inc()
        return done

    def take_last(self, *, timeout_s: float) -> bool:
        """The checkpoint before leaving: of all partitions, and with all the time given."""
        self._last = True
        return self.take(list(self._positions), timeout_s=timeout_s)

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

    def _save(self, partitions: Sequence[int]) -> bool:
        if self._store is None:
            return True
        began_s = time.monotonic()
        try:
            for partition in partitions:
                self._status.beat()
                state = self._pipeline.export_partition(partition)
                position = self._positions[partition]
                self._store.write(partition, Snapshot(position.next_offset, state, position.committed))
        except StateError as error:
            log.error("checkpoint failed, records since the last one would be reprocessed: %s", error)
            return False
        finally:
            self.save_s = time.monotonic() - began_s
        return True

    def _commit(self, partitions: Sequence[int]) -> bool:
        # While a partition is only catching up on its past, the commit stays where it is.
        offsets = {p: max(self._positions[p].next_offset, self._positions[p].publish_from) for p in partitions}
        self._status.beat()
        try:
            self._consumer.commit(offsets)
        except CommitFailed as error:
            self._metrics.commit_failures.inc()
            log.warning("commit refused, records since the last one would be reprocessed: %s", error)
            return False
        for partition in partitions:
            self._positions[partition].saved_offset = self._positions[partition].next_offset
            self._positions[partition].committed = offsets[partition]
            if self._store is not None:
                self._store.acknowledge(partition, self._positions[partition].next_offset)
        self._metrics.commits.inc(len(partitions))
        self._metrics.last_commit.set(self._clock())
        return True
