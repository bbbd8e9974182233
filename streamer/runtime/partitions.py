"""Partitions come and go: where reading begins, which state is restored, what happens when one leaves.

Runs inside the consumer's callbacks. Not inside: what a checkpoint is (`checkpoints`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from models.detector import Detector
from models.errors import ArtifactError
from models.store.registry import Registry
from streamer.config import Settings
from streamer.connectors.kafka import Consumer, OffsetReset
from streamer.core.pipeline import Pipeline
from streamer.errors import StateError
from streamer.observability.metrics import Metrics
from streamer.runtime.checkpoints import Checkpoints
from streamer.runtime.positions import Position, Positions
from streamer.runtime.snapshots import SnapshotStore
from streamer.runtime.status import Status

POISONED_AFTER = 3  # times a batch cannot be read until its partition is paused
REVOKE_FLUSH_S = 10.0  # the group waits for us meanwhile

Poison = Counter[tuple[int, int]]  # times the batch at (partition, offset) could not be read

log = logging.getLogger(__name__)


class Partitions:
    """The partitions of one connection.

    Args:
        positions: Filled and emptied here.
        settings: Where to start, how much to replay.
        pipeline: Its state follows the partitions.
        store: Snapshots to restore from; None: there are none.
        models: Bundles that snapshots were written with.
        consumer: Knows offsets, seeks.
        checkpoints: Taken before a partition leaves.
        poison: Batches that could not be read so far.
        metrics: Counts.
        status: Told that the loop is alive between two partitions.
    """

    def __init__(
        self,
        positions: Positions,
        *,
        settings: Settings,
        pipeline: Pipeline,
        store: SnapshotStore | None,
        models: Registry,
        consumer: Consumer,
        checkpoints: Checkpoints,
        poison: Poison,
        metrics: Metrics,
        status: Status,
    ) -> None:
        self._positions, self._pipeline, self._store, self._models = positions, pipeline, store, models
        self._consumer, self._checkpoints, self._poison, self._metrics = consumer, checkpoints, poison, metrics
        self._start, self._replay_records = settings.kafka.start, settings.state.replay_records
        self._status = status
        # The broker may take as long for each of two questions about a partition.
        self._ask_s = 2 * settings.kafka.request_timeout_ms / 1000
        self._revoke_timeout_s = min(REVOKE_FLUSH_S, settings.kafka.delivery_timeout_s)

    # What the consumer calls.

    def assigned(self, partitions: Sequence[int]) -> None:
        """Partitions just gained: restore each, and read from where its state stands."""
        earlier = _EarlierBundles(self._models)
        for partition in partitions:
            self._status.beat(self._ask_s)
            self._drop(partition)  # still here if the group put us out without a word
            position = self._begin(partition, earlier)
            self._consumer.seek(partition, position.next_offset)
            self._positions[partition] = position
            log.info(
                "partition %d: from offset %d, publishing from %d",
                partition, position.next_offset, position.publish_from,
            )  # fmt: skip
        poisoned = [p for (p, _), times in self._poison.items() if times >= POISONED_AFTER and p in self._positions]
        if poisoned:
            # The others go on; this one waits for a person: skipping would lose its records.
            self._consumer.pause(poisoned)
            log.error("partitions %s hold a batch that cannot be read and are paused; see the runbook", poisoned)
        self._metrics.partitions_poisoned.set(len(poisoned))
        self._metrics.partitions_assigned.set(len(self._positions))

    def revoked(self, partitions: Sequence[int]) -> None:
        """Partitions about to leave: a checkpoint, so that their next owner goes on from here."""
        mine = [partition for partition in partitions if partition in self._positions]
        if mine:
            self._checkpoints.take(mine, timeout_s=self._revoke_timeout_s)
        for partition in mine:
            self._drop(partition)
        self._metrics.partitions_assigned.set(len(self._positions))

    def offset_reset(self, reset: OffsetReset) -> None:
        """The log was cut or made anew under us: what is remembered belongs to other records."""
        self._metrics.offset_resets.inc()
        self._pipeline.forget(reset.partition)
        self._positions[reset.partition] = Position(
            reset.restarted_at, publish_from=reset.restarted_at, saved_offset=reset.restarted_at
        )

    def drop_all(self) -> None:
        """Forget every partition without a checkpoint."""
        for partition in list(self._positions):
            self._drop(partition)

    def _drop(self, partition: int) -> None:
        self._pipeline.forget(partition)
        self._positions.pop(partition, None)

    # Where reading begins.

    def _begin(self, partition: int, earlier: _EarlierBundles) -> Position:
        """Restore a partition and say where it stands then."""
        committed = self._consumer.committed(partition)
        first, end = self._consumer.bounds(partition)
        begin = publish_from = self._first_offset(partition, committed, first, end)
        restored = self._restore(partition, committed, first, end, earlier)
        if restored is not None:
            begin, publish_from = restored, max(restored, committed or 0)
        elif committed is not None and begin == committed:
            begin = max(first, committed - self._replay_records)
        # Without an offset the group would begin anew after a restart, at `latest` past what came meanwhile.
        saved = begin if committed == begin else -1
        return Position(begin, publish_from, saved, committed)

    def _first_offset(self, partition: int, committed: int | None, first: int, end: int) -> int:
        """Where to publish from without a snapshot."""
        if committed is None:
            return first if self._start == "earliest" else end
        if first <= committed <= end:
            return committed
        self._metrics.offset_resets.inc()
        log.error(
            "partition %d: the committed offset %d is outside %d..%d, records were lost; going on from %d",
            partition, committed, first, end, first,
        )  # fmt: skip
        return first

    def _restore(
        self, partition: int, committed: int | None, first: int, end: int, earlier: _EarlierBundles
    ) -> int | None:
        """Offset of the snapshot taken over, or None."""
        if self._store is None:
            return None
        snapshot, refused = self._store.read(partition)
        for reason in refused:
            log.warning("snapshot passed over: %s", reason)
        if snapshot is None:
            return None
        if not first <= snapshot.offset <= end:
            log.warning("snapshot of partition %d is at %d, outside %d..%d", partition, snapshot.offset, first, end)
            return None
        stood, stands = snapshot.committed, -1 if committed is None else committed
        if (stood is None and -1 < stands < snapshot.offset) or (stood is not None and stands < stood):
            # By a person, or the topic is another one under the same name.
            log.warning(
                "snapshot of partition %d passed over: when it was written the group stood at %d, now at %s",
                partition, -1 if stood is None else stood, committed,
            )  # fmt: skip
            return None
        behind = (committed or 0) - snapshot.offset
        if behind > self._replay_records:
            # Another replica had the partition for long; to read all that again takes longer than to warm up.
            log.warning("snapshot of partition %d is %d records behind the group; warming up anew", partition, behind)
            return None
        try:
            version = str(snapshot.rest.get("model_version"))
            made_with = None if version == self._pipeline.scorer.version else earlier.detector(version)
            self._pipeline.thaw(partition, snapshot.columns, snapshot.rest, made_with)
        except (StateError, ArtifactError) as error:
            log.warning("snapshot of partition %d passed over: %s", partition, error)
            return None
        return snapshot.offset


class _EarlierBundles:
    """Bundles that snapshots were written with; each is loaded once while partitions are being assigned."""

    def __init__(self, models: Registry) -> None:
        self._models = models
        self._loaded: dict[str, Detector | ArtifactError] = {}

    def detector(self, version: str) -> Detector:
        """Raises `ArtifactError` if the bundle is gone or cannot be trusted."""
        if version not in self._loaded:
            try:
                self._loaded[version] = self._models.load(version)[0]
            except ArtifactError as error:
                self._loaded[version] = error
        found = self._loaded[version]
        if isinstance(found, ArtifactError):
            raise found
        return found
