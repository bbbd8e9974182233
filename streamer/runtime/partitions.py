"""Partitions come and go: what happens when one is gained, when one leaves, when its log is another one.

Runs inside the consumer's callbacks. Not inside: where reading begins and with which state (`beginnings`), what a
checkpoint is (`checkpoints`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from models.store.registry import Registry
from streamer.config import Settings
from streamer.connectors.kafka import Commit, Consumer, OffsetReset
from streamer.core.outcome import Outcome
from streamer.core.pipeline import Pipeline
from streamer.errors import BrokerError
from streamer.observability.metrics import Metrics
from streamer.runtime.beginnings import Beginnings
from streamer.runtime.checkpoints import Checkpoints
from streamer.runtime.intake import moving_over
from streamer.runtime.one_bundle import OneBundle
from streamer.runtime.poison import Poison
from streamer.runtime.positions import Position, Positions
from streamer.runtime.readiness import Anew, made_again
from streamer.runtime.restoring import Restorer
from streamer.runtime.state.interface import READ_S
from streamer.runtime.state.keeper import StateKeeper
from streamer.runtime.status import NotReady, Reason, Status

END_S = 8.0  # what was read from a topic that is another now is told and kept within
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
        topic_id: Of the input topic when the connection began, where the broker tells.
        ask_topic_id: What it is now; waits for the answer. None: not known.
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
        ask_topic_id: Callable[[], str | None] = lambda: None,
        publish: Callable[[Outcome], None],
        one_bundle: OneBundle,
    ) -> None:
        self._one_bundle, self._ask_topic_id = one_bundle, ask_topic_id
        self._publish = publish
        self._positions, self._pipeline = positions, pipeline
        topic, self._start = settings.kafka.topic, settings.kafka.start
        self._topic = topic
        self._restorer = Restorer(keeper, pipeline=pipeline, models=models, metrics=metrics, topic=topic)
        self._beginnings = Beginnings(
            settings,
            restorer=self._restorer,
            pipeline=pipeline,
            models=models,
            consumer=consumer,
            poison=poison,
            metrics=metrics,
            topic_id=topic_id,
        )
        self._consumer, self._checkpoints, self._poison, self._metrics = consumer, checkpoints, poison, metrics
        self._parked: Positions = {}  # revoked with a checkpoint; their state stays until it is known who gets them
        self._status, self._topic_id = status, topic_id
        # The broker may take as long for each of three questions of a partition, the store for each of two snapshots.
        self._ask_s = 3 * settings.kafka.request_timeout_ms / 1000 + (0 if keeper is None else 2 * READ_S)
        self._revoke_timeout_s = min(REVOKE_FLUSH_S, settings.kafka.delivery_timeout_s)

    # What the consumer calls.

    def assigned(self, partitions: Sequence[int]) -> None:
        """Partitions just gained, maybe none: restore each, and read from where its state stands.

        Raises:
            Anew: The topic is another one than when the connection began.
        """
        if partitions:
            self._see_that_the_topic_is_the_same()
        self._restorer.begin()
        parked, self._parked = self._parked, {}
        for partition in parked.keys() - set(partitions):
            self._forget(partition)
        self._status.beat(self._ask_s)
        commits = self._consumer.committed(partitions) if partitions else {}
        gained = [  # those that do not just go on
            each
            for each in partitions
            if each not in parked or commits.get(each) != self._checkpoints.commit_of(parked[each])
        ]
        for partition in gained:
            self._drop(partition)  # still here if the group put us out without a word
        # One question for all: one for each of hundreds would take longer than the group waits.
        bounds = self._consumer.bounds(gained) if gained else {}
        found: dict[int, tuple[Commit | None, int, int]] = {each: (commits.get(each), *bounds[each]) for each in gained}
        if not self._positions:  # all that is held here, if only for a moment, is committed
            self._one_bundle.choose(found, (parked[each] for each in partitions if each not in found))
        for partition in partitions:
            self._status.beat(self._ask_s)
            if partition in found:
                position, ends = self._beginnings.begin(partition, *found[partition])
                if ends:
                    # Not before: should the store not answer, leaving the group must not commit where this one begins.
                    self._positions[partition] = position
                    self._end_incidents(partition, position)
            else:
                position = parked[partition]
            self._consumer.seek(partition, position.next_offset)
            self._poison.begin(partition, position.next_offset)
            self._positions[partition] = position
            _say_where(partition, position, self._about(partition, position.next_offset))
        if self._start == "latest" and (new := [p for p in partitions if self._positions[p].committed is None]):
            # At once: killed before the first checkpoint, the next one would not know where this one began.
            self._checkpoints.take(new, timeout_s=self._revoke_timeout_s)
        if poisoned := self._count_poisoned():
            _wait_for_a_person(self._consumer, poisoned)
        self._one_bundle.assigned()
        self._metrics.partitions_assigned.set(len(self._positions))
        self._status.beat(self._ask_s)
        self.look(wait=bool(self._positions))

    def begin_again(self, partitions: Sequence[int]) -> None:
        """Partitions held, of which nothing was read yet: as if they were gained now.

        Raises:
            BrokerError: Broker or store do not answer.
        """
        self._restorer.begin()
        self._status.beat(self._ask_s)
        commits, bounds = self._consumer.committed(partitions), self._consumer.bounds(partitions)
        for partition in partitions:
            self._status.beat(self._ask_s)
            self._drop(partition)
            position, ends = self._beginnings.begin(partition, commits.get(partition), *bounds[partition])
            self._positions[partition] = position
            if ends:
                self._end_incidents(partition, position)
            self._consumer.seek(partition, position.next_offset)

    def look(self, *, wait: bool = False) -> None:
        """Find out whether partitions have been added to the topic; waits for the broker only if it shall."""
        try:
            count = self._consumer.partition_count(wait=wait)
        except BrokerError as error:
            log.info("it is not known how many partitions %s has: %s", self._topic, error)
            return
        self._metrics.topic_partitions.set(count)
        if count and (doubtful := self._pipeline.spread(self._positions, count)):
            log.warning(
                "%s has %d partitions now: %d streams known here may come to others; they are not silent, and are "
                "forgotten if they do not come here any more",
                self._topic, count, doubtful, extra={"topic": self._topic},
            )  # fmt: skip

    def revoked(self, partitions: Sequence[int]) -> None:
        """Partitions about to leave: a checkpoint, so that their next owner goes on from here."""
        mine = [partition for partition in partitions if partition in self._positions]
        # Here their state was carried over to another bundle than theirs; what that had learned is in their snapshot.
        waiting = {partition for partition in mine if self._one_bundle.waits(partition)}
        if mine:
            self._checkpoints.leave(mine, timeout_s=self._revoke_timeout_s)
        for partition in mine:
            # Most partitions come back at once: when a member joins or leaves, all are revoked and assigned anew.
            position = self._positions.pop(partition)
            if position.saved_offset == position.next_offset and partition not in waiting | self._poison.paused():
                self._parked[partition] = position
            else:
                self._forget(partition)
        self._count_poisoned()
        self._metrics.partitions_assigned.set(len(self._positions))
        if mine:
            log.info("partitions %s are given back to the group", mine)

    def offset_reset(self, reset: OffsetReset) -> None:
        """The log was truncated or the topic recreated: the state belongs to other records.

        Raises:
            Anew: The topic was recreated.
        """
        self._see_that_the_topic_is_the_same()
        self._reset(reset)

    def end_topic(self) -> None:
        """The topic is another one now, or gone: what is open ends, and nothing is held or committed any more."""
        ends = {partition: position.next_offset for partition, position in self._positions.items()}
        # Whoever begins a partition of the next topic ends what the newest snapshot of this one shows open. So first
        # what is open is kept: after a crash the same ends are told. Then, that nothing is.
        self._checkpoints.keep(ends, timeout_s=END_S)
        for partition in ends:
            self._reset(OffsetReset(partition, 0, 0, lost=0))
        self._checkpoints.keep({partition: end + 1 for partition, end in ends.items()}, timeout_s=END_S)
        self.drop_all()

    def _see_that_the_topic_is_the_same(self) -> None:
        if self._topic_id is None:
            return
        self._status.beat(self._ask_s)
        if self._ask_topic_id() in (None, self._topic_id):
            return
        self._metrics.topics_recreated.inc()
        self.end_topic()
        raise Anew(NotReady(Reason.TOPIC_RECREATED, made_again(self._topic)))

    def _reset(self, reset: OffsetReset) -> None:
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
        self._metrics.partitions_assigned.set(0)

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


def _say_where(partition: int, position: Position, about: dict[str, object]) -> None:
    state = f"with the state of snapshot {position.states[0]}" if position.states else "without a snapshot"
    publish_from = max(position.next_offset, position.publish_from)
    log.info(
        "partition %d: reading from offset %d, publishing from %d, %s",
        partition, position.next_offset, publish_from, state, extra=about,
    )  # fmt: skip
