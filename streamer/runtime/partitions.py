"""Partitions come and go: where reading begins, which state is restored, what happens when one leaves.

Runs inside the consumer's callbacks. Not inside: what a checkpoint is (`checkpoints`).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence

from models.detector import Detector
from models.errors import ArtifactError
from models.store.registry import Registry
from streamer.config import Settings
from streamer.connectors.kafka import Commit, Consumer, OffsetReset
from streamer.core.outcome import Outcome
from streamer.core.pipeline import Pipeline
from streamer.errors import BrokerError, StateError
from streamer.observability.metrics import Metrics
from streamer.runtime.checkpoints import Checkpoints
from streamer.runtime.intake import moving_over
from streamer.runtime.one_bundle import OneBundle
from streamer.runtime.poison import Poison
from streamer.runtime.positions import Position, Positions
from streamer.runtime.state.interface import READ_S
from streamer.runtime.state.keeper import StateKeeper
from streamer.runtime.state.pointer import Pointer, read_note
from streamer.runtime.status import Status
from streamer.runtime.trained_on import after_training

REVOKE_FLUSH_S = 10.0  # the group waits for us meanwhile

log = logging.getLogger(__name__)


class Partitions:
    """The partitions of one connection.

    Args:
        positions: Filled and emptied here.
        settings: Where to start, how much to replay.
        pipeline: Its state follows the partitions.
        keeper: State to restore from; None: there is none.
        models: Bundles that snapshots were written with.
        consumer: Knows offsets, seeks.
        checkpoints: Taken before a partition leaves.
        poison: Batches that could not be read so far.
        metrics: Counts.
        status: Told that the loop is alive between two partitions.
        topic_id: Of the input topic, where the broker tells.
        publish: Takes what happens to incidents when records are lost.
        one_bundle: Chooses the bundle that partitions go on with.
    """

    def __init__(
        self,
        positions: Positions,
        *,
        settings: Settings,
        pipeline: Pipeline,
        keeper: StateKeeper | None,
        models: Registry,
        consumer: Consumer,
        checkpoints: Checkpoints,
        poison: Poison,
        metrics: Metrics,
        status: Status,
        topic_id: str | None = None,
        publish: Callable[[Outcome], None],
        one_bundle: OneBundle,
    ) -> None:
        self._publish, self._one_bundle = publish, one_bundle
        self._positions, self._pipeline, self._keeper, self._models = positions, pipeline, keeper, models
        self._consumer, self._checkpoints, self._poison, self._metrics = consumer, checkpoints, poison, metrics
        self._topic, self._start = settings.kafka.topic, settings.kafka.start
        self._parked: Positions = {}  # revoked with a checkpoint; their state stays until it is known who gets them
        self._replay_records = settings.state.replay_records
        self._status, self._topic_id = status, topic_id
        # The broker may take as long for each of three questions of a partition, the store for each of two snapshots.
        self._ask_s = 3 * settings.kafka.request_timeout_ms / 1000 + (0 if keeper is None else 2 * READ_S)
        self._revoke_timeout_s = min(REVOKE_FLUSH_S, settings.kafka.delivery_timeout_s)

    # What the consumer calls.

    def assigned(self, partitions: Sequence[int]) -> None:
        """Partitions just gained, maybe none: restore each, and read from where its state stands."""
        parked, self._parked = self._parked, {}
        for partition in parked.keys() - set(partitions):
            self._forget(partition)
        found: dict[int, tuple[Commit | None, int, int]] = {}  # of those that do not just go on
        for partition in partitions:
            self._status.beat(self._ask_s)
            commit = self._consumer.committed(partition)
            if partition not in parked or commit != self._checkpoints.commit_of(parked[partition]):
                self._drop(partition)  # still here if the group put us out without a word
                found[partition] = commit, *self._consumer.bounds(partition)
        if not self._positions:  # all that is held here, if only for a moment, is committed
            self._one_bundle.choose(found, (parked[each] for each in partitions if each not in found))
        earlier = _EarlierBundles(self._models)
        for partition in partitions:
            self._status.beat(self._ask_s)
            position = self._begin(partition, *found[partition], earlier) if partition in found else parked[partition]
            self._consumer.seek(partition, position.next_offset)
            self._poison.begin(partition, position.next_offset)
            self._positions[partition] = position
            _say_where(partition, position, self._about(partition, position.next_offset))
        if poisoned := self._count_poisoned():
            _wait_for_a_person(self._consumer, poisoned)
        self._one_bundle.begin(found)
        self._metrics.partitions_assigned.set(len(self._positions))
        self._status.beat(self._ask_s)
        self.look(wait=bool(self._positions))

    def look(self, *, wait: bool = False) -> None:
        """Find out whether partitions have been added to the topic; waits for the broker only if it shall."""
        try:
            count = self._consumer.partition_count(wait=wait)
        except BrokerError as error:
            log.info("it is not known how many partitions %s has: %s", self._topic, error)
            return
        if count and (doubtful := self._pipeline.spread(self._positions, count)):
            log.warning(
                "%s has %d partitions now: %d streams known here may come to others; they are not silent, and are "
                "forgotten if they do not come here any more",
                self._topic, count, doubtful, extra={"topic": self._topic},
            )  # fmt: skip

    def revoked(self, partitions: Sequence[int]) -> None:
        """Partitions about to leave: a checkpoint, so that their next owner goes on from here."""
        mine = [partition for partition in partitions if partition in self._positions]
        if mine:
            self._checkpoints.leave(mine, timeout_s=self._revoke_timeout_s)
        for partition in mine:
            # Most partitions come back at once: when a member joins or leaves, all are revoked and assigned anew.
            position = self._positions.pop(partition)
            if position.saved_offset == position.next_offset and partition not in self._poison.paused():
                self._parked[partition] = position
            else:
                self._forget(partition)
        self._count_poisoned()
        self._metrics.partitions_assigned.set(len(self._positions))
        if mine:
            log.info("partitions %s are given back to the group", mine)

    def offset_reset(self, reset: OffsetReset) -> None:
        """The log was truncated or the topic recreated: the state belongs to other records."""
        self._metrics.offset_resets.inc()
        self._poison.forget(reset.partition)
        self._count_poisoned()
        position = Position(reset.restarted_at, publish_from=reset.restarted_at, saved_offset=-1)
        self._positions[reset.partition] = position
        self._end_incidents(reset.partition, position)

    def _end_incidents(self, partition: int, position: Position) -> None:
        """Records were lost: resolve what is open and begin anew."""
        with moving_over(self._metrics, self._pipeline):
            self._publish(self._pipeline.lose_records(partition, position.publish_from))

    def drop_all(self) -> None:
        """Forget every partition without a checkpoint."""
        for partition in [*self._positions, *self._parked]:
            self._drop(partition)
        self._parked.clear()

    def _count_poisoned(self) -> list[int]:
        poisoned = sorted(self._poison.paused() & self._positions.keys())
        self._metrics.partitions_poisoned.set(len(poisoned))
        return poisoned

    def _forget(self, partition: int) -> None:
        with moving_over(self._metrics, self._pipeline):
            self._pipeline.forget(partition)

    def _drop(self, partition: int) -> None:
        self._forget(partition)
        self._positions.pop(partition, None)

    # Where reading begins.

    def _begin(self, partition: int, commit: Commit | None, first: int, end: int, earlier: _EarlierBundles) -> Position:
        """Restore a partition and say where it stands then."""
        pointer = Pointer() if commit is None else read_note(commit.note)
        if commit is None or self._belongs_elsewhere(partition, commit, pointer, first, end):
            position = self._begin_anew(partition, commit, first, end)
            if any(self._restore(partition, name, range(sys.maxsize), earlier) is not None for name in pointer.states):
                # Not before: should the store not answer, leaving the group must not commit where this one begins.
                self._positions[partition] = position
                self._end_incidents(partition, position)
            return position
        committed = commit.offset
        first = self._poison.first_readable(partition, first, committed)
        for number, name in enumerate(pointer.states):
            offset = self._restore(partition, name, range(first, committed + 1), earlier)
            if offset is not None:
                # Should the newest be damaged, the other one stays the first choice until the next checkpoint.
                saved = committed if offset == committed and number == 0 else -1
                return Position(offset, committed, saved, committed, pointer.states[number:])
        if self._consumer.committed(partition) != commit:
            raise BrokerError(f"partition {partition}: another member has gone on with it while this one slept")
        begin = max(first, committed - self._replay_records)
        if any(self._restore(partition, name, range(first), earlier) is not None for name in pointer.states):
            # Retention took what came between the snapshot and the commit.
            log.error(
                "partition %d: records before offset %d that its state lacks are gone: what was open resolves",
                partition, first, extra=self._about(partition, committed),
            )  # fmt: skip
            self._metrics.cold_starts.inc()
            position = self._positions[partition] = Position(begin, committed, -1, committed)
            self._end_incidents(partition, position)
            return position
        self._without_state(partition, committed, named=bool(pointer.states))
        saved = committed if begin == committed else -1
        return Position(begin, committed, saved, committed)

    def _begin_anew(self, partition: int, commit: Commit | None, first: int, end: int) -> Position:
        """Where a partition begins in which the group has no past, or one that is of no use."""
        late = commit is None and self._start == "latest" and self._consumer.has_committed()
        if late:
            log.info("partition %d was added after the group began: reading it from its first record", partition)
        if commit is None and self._start == "latest" and not late:
            # Without a committed offset a restarted group would skip what arrived meanwhile.
            return Position(end, end, saved_offset=-1)
        publish_from = (
            after_training(self._models, self._pipeline.scorer.version, self._topic, partition, first, end)
            if commit is None and not late
            else first
        )
        begin = max(first, publish_from - self._replay_records)
        return Position(begin, publish_from, saved_offset=-1)

    def _belongs_elsewhere(self, partition: int, commit: Commit, pointer: Pointer, first: int, end: int) -> bool:
        """Whether the group's offset is not one of this log: it was cut, or made anew under the same name."""
        if commit.offset > end:  # where records can be read; behind it a transaction may be open
            end = self._consumer.log_end(partition)
        if None not in (pointer.topic_id, self._topic_id) and pointer.topic_id != self._topic_id:
            why = "belongs to an earlier topic of the same name"
        elif not first <= commit.offset <= end:
            why = f"is outside the log, {first}..{end}: records were lost"
        else:
            return False
        self._metrics.offset_resets.inc()
        log.error(
            "partition %d: the committed offset %d %s; continuing from %d",
            partition, commit.offset, why, first, extra=self._about(partition, commit.offset),
        )  # fmt: skip
        return True

    def _restore(self, partition: int, name: str, offsets: range, earlier: _EarlierBundles) -> int | None:
        """Offset of the snapshot taken over, or None; it must be one of `offsets`."""
        if self._keeper is None:
            return None
        try:
            snapshot = self._keeper.read(partition, name)
            if snapshot.offset not in offsets:
                where = f"{offsets.start}, where the log begins, and {offsets.stop - 1}"
                raise StateError(f"its offset {snapshot.offset} is not between {where}")
            version = str(snapshot.state.values.get("model_version"))
            made_with = None if version == self._pipeline.scorer.version else earlier.detector(version)
            with moving_over(self._metrics, self._pipeline):
                self._pipeline.restore(snapshot.state, made_with)
        except (StateError, ArtifactError) as error:
            log.warning("state of partition %d skipped: %s", partition, error, extra=self._about(partition))
            return None
        return snapshot.offset

    def _without_state(self, partition: int, committed: int, *, named: bool) -> None:
        """Say that a partition begins anew although the group has been here."""
        self._pipeline.begin_cold(partition)
        if self._keeper is None:
            return  # asked for: there never is any
        self._metrics.cold_starts.inc()
        log.error(
            "partition %d begins without its state: %s. Its streams warm up from the %d records before offset %d; "
            "scores and alerts differ from those of an undisturbed run until then, and incidents open before may not "
            "resolve. Alerts of this time say cold_start; see StreamerWithoutState in docs/runbook.md",
            partition,
            "no snapshot that the group's commit names can be used"
            if named
            else "the group's commit names none (the group was moved by hand, or an earlier version committed last)",
            self._replay_records, committed, extra=self._about(partition, committed),
        )  # fmt: skip

    def _about(self, partition: int, offset: int | None = None) -> dict[str, object]:
        """Fields of a log line."""
        return {"topic": self._topic, "partition": partition, "offset": offset}


def _wait_for_a_person(consumer: Consumer, poisoned: Sequence[int]) -> None:
    """Pause partitions and let the others go on: skipping would lose records."""
    consumer.pause(poisoned)
    log.error(
        "partitions %s are paused: each holds a batch that cannot be read; "
        "see StreamerPartitionPoisoned in docs/runbook.md",
        poisoned,
    )


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


def _say_where(partition: int, position: Position, about: dict[str, object]) -> None:
    state = f"with the state of snapshot {position.states[0]}" if position.states else "without a snapshot"
    publish_from = max(position.next_offset, position.publish_from)
    log.info(
        "partition %d: reading from offset %d, publishing from %d, %s",
        partition, position.next_offset, publish_from, state, extra=about,
    )  # fmt: skip
