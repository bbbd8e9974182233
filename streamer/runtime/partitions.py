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
from streamer.runtime.intake import moved_over
from streamer.runtime.positions import Position, Positions
from streamer.runtime.snapshots import Snapshot, SnapshotStore
from streamer.runtime.status import Status
from streamer.runtime.trained_on import trained_up_to

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
        self._topic, self._start = settings.kafka.topic, settings.kafka.start
        self._replay_records = settings.state.replay_records
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
                "partition %d: reading from offset %d, publishing from %d",
                partition, position.next_offset, position.publish_from,
                extra=self._about(partition, position.next_offset),
            )  # fmt: skip
        poisoned = [p for (p, _), times in self._poison.items() if times >= POISONED_AFTER and p in self._positions]
        if poisoned:
            # The others go on; this one waits for a person: skipping would lose its records.
            self._consumer.pause(poisoned)
            log.error(
                "partitions %s are paused: each holds a batch that cannot be read; "
                "see StreamerPartitionPoisoned in docs/runbook.md",
                poisoned,
            )
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
        """The log was truncated or the topic recreated: the state belongs to other records."""
        self._metrics.offset_resets.inc()
        self._forget(reset.partition)
        self._positions[reset.partition] = Position(
            reset.restarted_at, publish_from=reset.restarted_at, saved_offset=reset.restarted_at
        )

    def drop_all(self) -> None:
        """Forget every partition without a checkpoint."""
        for partition in list(self._positions):
            self._drop(partition)

    def _forget(self, partition: int) -> None:
        held = self._pipeline.event_time.holding
        self._pipeline.forget(partition)
        moved_over(self._metrics, self._pipeline.event_time.holding - held)

    def _drop(self, partition: int) -> None:
        self._forget(partition)
        self._positions.pop(partition, None)

    # Where reading begins.

    def _begin(self, partition: int, earlier: _EarlierBundles) -> Position:
        """Restore a partition and say where it stands then."""
        committed = self._consumer.committed(partition)
        first, end = self._consumer.bounds(partition)
        begin = publish_from = self._first_offset(partition, committed, first, end)
        in_log = committed is None or first <= committed <= end
        restored = self._restore(partition, committed, first, end, earlier) if in_log else None
        if restored is not None:
            trained_before = publish_from if committed is None and self._start == "earliest" else 0
            begin, publish_from = restored, max(restored, committed or 0, trained_before)
        elif self._start == "earliest" or begin == committed:
            begin = max(first, begin - self._replay_records)
        # Without a committed offset a restarted group would, with `latest`, skip what arrived meanwhile.
        saved = begin if committed == begin else -1
        return Position(begin, publish_from, saved, committed)

    def _first_offset(self, partition: int, committed: int | None, first: int, end: int) -> int:
        """Where to publish from without a snapshot."""
        if committed is None:
            return self._after_training(partition, first, end) if self._start == "earliest" else end
        if first <= committed <= end:
            return committed
        self._metrics.offset_resets.inc()
        log.error(
            "partition %d: the committed offset %d is outside the log, %d..%d: records were lost; continuing from %d",
            partition, committed, first, end, first, extra=self._about(partition, committed),
        )  # fmt: skip
        return first

    def _after_training(self, partition: int, first: int, end: int) -> int:
        """Where a group without offsets begins to publish: behind what its bundle was trained on, else at the first."""
        version = self._pipeline.scorer.version
        try:
            trained = trained_up_to(self._models.manifest(version), self._topic).get(partition)
        except ArtifactError as error:
            log.warning("bundle %s does not say what it was trained on: %s", version, error)
            trained = None
        if trained is None:
            return first
        if not first <= trained <= end:
            log.warning(
                "partition %d: bundle %s was trained on records before %d, outside %d..%d: the topic was recreated "
                "or its records have expired; publishing from the first record held",
                partition, version, trained, first, end,
            )  # fmt: skip
            return first
        log.info(
            "partition %d: the group has no offset, and bundle %s was trained on the records before %d: they raise no "
            "alerts, publishing begins there",
            partition, version, trained,
        )  # fmt: skip
        return trained

    def _restore(
        self, partition: int, committed: int | None, first: int, end: int, earlier: _EarlierBundles
    ) -> int | None:
        """Offset of the snapshot taken over, or None."""
        if self._store is None:
            return None
        snapshot, refused = self._store.read(partition)
        for reason in refused:
            self._skipped(partition, reason)
        if snapshot is None:
            return None
        why_not = _why_not(snapshot, committed, first, end, self._replay_records)
        if why_not is not None:
            self._skipped(partition, why_not)
            return None
        try:
            version = str(snapshot.state.values.get("model_version"))
            made_with = None if version == self._pipeline.scorer.version else earlier.detector(version)
            held = self._pipeline.event_time.holding
            self._pipeline.restore(snapshot.state, made_with)
            moved_over(self._metrics, self._pipeline.event_time.holding - held)
        except (StateError, ArtifactError) as error:
            self._skipped(partition, str(error))
            return None
        return snapshot.offset

    def _skipped(self, partition: int, reason: str) -> None:
        log.warning("snapshot of partition %d skipped: %s", partition, reason, extra=self._about(partition))

    def _about(self, partition: int, offset: int | None = None) -> dict[str, object]:
        """Fields of a log line."""
        return {"topic": self._topic, "partition": partition, "offset": offset}


def _why_not(snapshot: Snapshot, committed: int | None, first: int, end: int, replay_records: int) -> str | None:
    """Why a snapshot does not belong to where the group and the log stand now; None if it does."""
    if not first <= snapshot.offset <= end:
        return f"its offset {snapshot.offset} is outside the log, {first}..{end}"
    then, now = snapshot.committed, -1 if committed is None else committed
    moved_since = now < snapshot.offset and (snapshot.acknowledged or (then is None and now > -1))
    if moved_since or (then is not None and now < then):
        # Moved back by a person, or the topic is another one under the same name.
        was = snapshot.offset if snapshot.acknowledged else -1 if then is None else then
        return f"the group's offset was {was} when it was written and is {committed} now"
    behind = (committed or 0) - snapshot.offset
    if behind > replay_records:
        # Another replica had the partition for long; to read all that again takes longer than to warm up.
        return f"it is {behind} records behind the group; streams warm up again"
    return None


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
