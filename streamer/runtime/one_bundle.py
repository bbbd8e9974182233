"""No reading is told with the scores of two bundles, whoever dies when, and whatever is promoted meanwhile.

The group's commit names the bundle that tells what lies behind it: before anything is told with another one, the
commit names that. So whoever goes on from a commit knows with which bundle others may have told the records from there
to the end that the log has then, and uses it until they are read, whichever is the newest; only then, and after a
checkpoint, is the newest taken into use. A partition that is given back in good order has nothing told behind its
commit, which then names none.

A process has one bundle in use. Where partitions wait for different ones, they take turns: those whose turn it is not
are paused. So are those that wait for none while an older one is in use for the sake of others, and then go on from
their snapshot: with the older one for a moment their streams would begin to learn anew, twice. Not inside: which bundle
is the newest, loading it (`model_watch`); what a commit says (`state.pointer`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from streamer.connectors.kafka import Commit, Consumer
from streamer.core.pipeline import Pipeline
from streamer.runtime.checkpoints import Checkpoints
from streamer.runtime.model_watch import ModelWatch
from streamer.runtime.poison import Poison
from streamer.runtime.positions import Position, Positions
from streamer.runtime.state.pointer import read_note

SETTLE_S = 5.0  # how long the loop stands for the checkpoint before another bundle is taken into use ...
SETTLE_MOST_S = 30.0  # ... and where the last checkpoint took long: that of a large fleet

# What the group has committed in partitions, their first offset still held and the end of their log.
Found = Mapping[int, tuple[Commit | None, int, int]]

log = logging.getLogger(__name__)


class OneBundle:
    """Of one connection.

    Args:
        positions: Of the partitions held.
        pipeline: Has the bundle in use.
        watch: Takes others into use.
        consumer: Pauses what waits for another bundle.
        checkpoints: Taken before bundles change; have commits name them.
        poison: Partitions that are not read on, by anyone.
        again: Begins partitions again, with what their own bundle had learned: carried over to another one and back,
            their state lacks it.
        keeps_state: Whether there are snapshots to begin again with.
    """

    def __init__(
        self,
        positions: Positions,
        *,
        pipeline: Pipeline,
        watch: ModelWatch,
        consumer: Consumer,
        checkpoints: Checkpoints,
        poison: Poison,
        again: Callable[[Sequence[int]], None] = lambda partitions: None,
        keeps_state: bool = True,
    ) -> None:
        self._positions, self._pipeline, self._watch = positions, pipeline, watch
        self._consumer, self._checkpoints, self._poison = consumer, checkpoints, poison
        self._again, self._keeps_state = again, keeps_state
        self._paused: set[int] = set()
        self._next_version: str | None = None  # in use before one that partitions needed, and after it

    def choose(self, found: Found, parked: Iterable[Position]) -> None:
        """Take the bundle into use that partitions about to come need, or the newest; no others are held.

        Args:
            found: Of those that begin.
            parked: Those that just go on.
        """
        needed = {
            read_note(commit.note).bundle
            for commit, _, end in found.values()
            if commit is not None and commit.offset < end
        }
        self._watch.gone.clear()  # what was not there for others may be by now
        needed |= {position.bundle for position in parked if position.next_offset < position.told_before}
        before = self._pipeline.scorer.version
        self._watch.look(needed=[bundle for bundle in needed if bundle is not None])
        version = self._pipeline.scorer.version
        if version not in needed:
            self._next_version = None
        elif version != before:
            self._next_version = before

    def assigned(self) -> None:
        """Partitions have come: those wait that need another bundle than the one in use."""
        for partition, position in self._positions.items():
            if position.next_offset < position.told_before:
                log.info(
                    "partition %d: bundle %s stays until offset %d is reached: records before it may have been told "
                    "with it already",
                    partition, position.bundle, position.told_before, extra={"model_version": position.bundle},
                )  # fmt: skip
        self._set_aside()
        self._hold(assigned=True)

    def waits(self, partition: int) -> bool:
        """Whether what comes next in a partition may have been told with another bundle than the one in use."""
        return self._needs(partition) not in (None, self._pipeline.scorer.version)

    def named(self) -> bool:
        """Have the commits name the bundle in use: to be called before anything is told. False: not now."""
        version = self._pipeline.scorer.version
        unnamed = [p for p, each in self._positions.items() if each.bundle != version and not self.waits(p)]
        if unnamed:
            # Nothing is told of those a person must look at; what was, before the bad batch, was told with another.
            unnamed = [partition for partition in unnamed if partition not in self._poison.paused()]
        if fresh := [partition for partition in unnamed if self._positions[partition].committed is None]:
            # There is no commit to name it in; without a first one, a store that cannot be written stops no scoring.
            for partition in fresh:
                self._positions[partition].bundle = version
            self._checkpoints.take(fresh, timeout_s=SETTLE_S)
        return self._checkpoints.name(unnamed, version)

    def look(self) -> bool:
        """Take another bundle into use if it is time; False when one waits for a checkpoint."""
        needed = {needs for partition in self._positions if (needs := self._needs(partition)) is not None}
        held = [partition for partition in self._positions if self.waits(partition)]
        before = self._pipeline.scorer.version
        done = self._watch.look(needed=needed, ready=self._settled)
        version = self._pipeline.scorer.version
        if version != before:
            self._next_version = before if version in needed and self._next_version is None else None
            self._set_aside()
        if turn := [partition for partition in held if not self.waits(partition)]:
            self._again(turn)
        self._hold()
        return done

    def _set_aside(self) -> None:
        """While a bundle is in use for the sake of some partitions, the others wait for the next, all being saved."""
        in_use = self._pipeline.scorer.version
        if self._next_version is None or not self._keeps_state or in_use not in map(self._needs, self._positions):
            return
        for partition, position in self._positions.items():
            saved = position.committed is not None and position.saved_offset == position.next_offset
            if saved and self._needs(partition) is None and partition not in self._poison.paused():
                position.bundle, position.told_before = self._next_version, position.next_offset + 1

    def _hold(self, *, assigned: bool = False) -> None:
        """Pause partitions that wait for another bundle, and read on those that do so no more.

        Args:
            assigned: Partitions have come; the client may not know any more which were paused.
        """
        waiting = {partition for partition in self._positions if self.waits(partition)}
        if pause := sorted(waiting if assigned else waiting - self._paused):
            log.info("partitions %s are paused until it is their bundle's turn", pause)
            self._consumer.pause(pause)
        if resume := sorted((self._paused - waiting - self._poison.paused()) & self._positions.keys()):
            self._consumer.resume(resume)
        self._paused = waiting

    def _needs(self, partition: int) -> str | None:
        """The bundle with which the records that come next in a partition may have been told."""
        position = self._positions[partition]
        if position.next_offset >= position.told_before or partition in self._poison.paused():
            return None
        return None if position.bundle in self._watch.gone else position.bundle

    def _settled(self) -> bool:
        """Whether all that was scored is committed: what another bundle scores must not be scored again by this one."""
        # Time for the one underway, for this one, and to spare: else it would never be done while readings come.
        timeout_s = min(SETTLE_MOST_S, max(SETTLE_S, 3 * self._checkpoints.write_s))
        return self._checkpoints.take(list(self._positions), timeout_s=timeout_s)
