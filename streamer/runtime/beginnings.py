"""Where reading of a partition begins, and with which state.

Not inside: when partitions come and go (`partitions`), how a snapshot is taken over (`restoring`).
"""

from __future__ import annotations

import logging
import sys

from models.store.registry import Registry
from streamer.config import Settings
from streamer.connectors.kafka import Commit, Consumer
from streamer.core.pipeline import Pipeline
from streamer.errors import BrokerError
from streamer.observability.metrics import Metrics
from streamer.runtime.poison import Poison
from streamer.runtime.positions import Position
from streamer.runtime.restoring import Restorer
from streamer.runtime.state.pointer import Pointer, read_note
from streamer.runtime.state.snapshots import Snapshot
from streamer.runtime.trained_on import after_training

log = logging.getLogger(__name__)


class Beginnings:
    """Of the partitions of one connection.

    Args:
        settings: Where to start, how much to replay.
        restorer: Puts snapshots into the pipeline.
        pipeline: Told of partitions that begin without their state.
        models: Knows what the bundle was trained on.
        consumer: Knows offsets.
        poison: Batches that could not be read so far.
        metrics: Counts.
        topic_id: Of the input topic, where the broker tells.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        restorer: Restorer,
        pipeline: Pipeline,
        models: Registry,
        consumer: Consumer,
        poison: Poison,
        metrics: Metrics,
        topic_id: str | None,
    ) -> None:
        self._restorer, self._pipeline, self._models, self._consumer = restorer, pipeline, models, consumer
        self._poison, self._metrics, self._topic_id = poison, metrics, topic_id
        self._topic, self._start = settings.kafka.topic, settings.kafka.start
        self._replay_records = settings.state.replay_records

    def begin(self, partition: int, commit: Commit | None, first: int, end: int) -> tuple[Position, bool]:
        """Restore a partition; where it stands then, and whether the state is of lost records: what is open ends.

        Args:
            partition: Which.
            commit: What the group has committed of it.
            first: First offset still held.
            end: Offset after the newest record that can be read.

        Raises:
            BrokerError: Broker or store do not answer, or another member has gone on.
        """
        pointer = Pointer() if commit is None else read_note(commit.note)
        position, ends = self._begin(partition, commit, pointer, first, end)
        if position.committed is not None and pointer.bundle is not None:
            # Whoever had it may have told of all that is there by now, from the commit on.
            position.bundle, position.told_before = pointer.bundle, end if end > position.committed else 0
        return position, ends

    def _begin(
        self, partition: int, commit: Commit | None, pointer: Pointer, first: int, end: int
    ) -> tuple[Position, bool]:
        if commit is None or self._belongs_elsewhere(partition, commit, pointer, first, end):
            left: Snapshot | None = None
            gone: tuple[str, ...] = ()
            if self._topic_id is not None and self._topic_id != pointer.topic_id:
                # A broker that removes a topic forgets what groups have committed of it: only the store remembers.
                left, gone = self._restorer.left_behind(partition, self._topic_id)
            position = self._begin_anew(partition, commit, first, end, remade=bool(gone))
            position.left_behind = gone
            if left is not None:
                known = self._restorer.take_over(partition, left)
            else:
                names = () if gone else pointer.states
                known = any(self._restorer.restore(partition, each, range(sys.maxsize)) is not None for each in names)
            return position, known
        committed = commit.offset
        first = self._poison.first_readable(partition, first, committed)
        for number, name in enumerate(pointer.states):
            offset = self._restorer.restore(partition, name, range(first, committed + 1))
            if offset is not None:
                # Should the newest be damaged, the other one stays the first choice until the next checkpoint.
                saved = committed if offset == committed and number == 0 else -1
                return Position(offset, committed, saved, committed, pointer.states[number:]), False
        if self._consumer.committed([partition]).get(partition) != commit:
            raise BrokerError(f"partition {partition}: another member has gone on with it while this one slept")
        begin = max(first, committed - self._replay_records)
        if any(self._restorer.restore(partition, name, range(first)) is not None for name in pointer.states):
            # Retention took what came between the snapshot and the commit.
            log.error(
                "partition %d: records before offset %d that its state lacks are gone: what was open resolves",
                partition, first, extra=_about(self._topic, partition, committed),
            )  # fmt: skip
            self._metrics.cold_starts.inc()
            return Position(begin, committed, -1, committed), True
        self._without_state(partition, committed, named=bool(pointer.states))
        saved = committed if begin == committed else -1
        return Position(begin, committed, saved, committed), False

    def _begin_anew(self, partition: int, commit: Commit | None, first: int, end: int, *, remade: bool) -> Position:
        """Where a partition begins in which the group has no past, or one that is of no use."""
        late = commit is None and (remade or (self._start == "latest" and self._consumer.has_committed()))
        if remade:
            log.warning("partition %d is one of a topic made again: reading it from its first record", partition)
        elif late:
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
            partition, commit.offset, why, first, extra=_about(self._topic, partition, commit.offset),
        )  # fmt: skip
        return True

    def _without_state(self, partition: int, committed: int, *, named: bool) -> None:
        """Say that a partition begins anew although the group has been here."""
        self._pipeline.begin_cold(partition)
        if not self._restorer.kept:
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
            self._replay_records, committed, extra=_about(self._topic, partition, committed),
        )  # fmt: skip


def _about(topic: str, partition: int, offset: int) -> dict[str, object]:
    """Fields of a log line."""
    return {"topic": topic, "partition": partition, "offset": offset}
