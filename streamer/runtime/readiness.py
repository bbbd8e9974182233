"""Is what we rely on still so? Readiness as a fact that is proved again, not as a memory of the start.

Records that come and commits that are acknowledged prove a partition. Where nothing comes, the broker is asked:
`QUIET_S` after the last record, then every `PROOF_S`, and every `RETRY_S` while something is wrong; once in
`FLOWING_S` while all is well. What is wrong is told after the second proof in a row that finds it, so that one
lost packet is no news, and stands until a proof passes.

One object for each connection, used from the loop; nothing here waits. Not inside: asking (`prover`), what is told
to the outside (`status`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping

from streamer.config import KafkaConfig
from streamer.connectors.kafka.probe import Fault, ProbeStep, Proof, Standing
from streamer.errors import BrokerError
from streamer.runtime.positions import Positions
from streamer.runtime.prover import Prover
from streamer.runtime.status import NotReady, Reason

QUIET_S = 4.0  # a partition without records for so long is asked about
PROOF_S = 7.0  # between two proofs that pass
RETRY_S = 2.0  # after one that fails
FLOWING_S = 60.0  # between two proofs while records come from every partition
FRESH_S = 20.0  # what is known of a lag is not older
IDLE_S = 30.0  # without partitions for so long, though there are enough for all members, is a fault
STUCK_S = 10.0  # alerts not delivered for so long while polling pauses
UNREAD_S = 60.0  # records that wait so long, though the broker grants everything, do not come over this connection
COMMIT_S = 60.0  # records read so long ago are to be committed, four checkpoints more
LOOK_S = 0.25  # between two looks, so that they cost nothing under load

_REASONS = {fault: Reason(fault.value) for fault in Fault}
# Nothing is known of the partitions then; and what else keeps records from being noticed.
_LOST = {*_REASONS.values(), Reason.NOT_A_MEMBER, Reason.STARTING, Reason.NO_PARTITIONS}
_BLIND = _LOST | {Reason.NOTHING_READ, Reason.SCHEMA_REGISTRY}

log = logging.getLogger(__name__)


class Anew(BrokerError):
    """This connection is of no further use: what it holds belongs to no group or topic any more."""

    def __init__(self, why: NotReady) -> None:
        super().__init__(why.text)
        self.why = why


class Readiness:
    """What is known of one connection.

    Args:
        config: Topic and group.
        prover: Asks the broker.
        topic_id: Of the input topic when the connection began; None: the broker does not say.
        checkpoint_s: How often offsets are to be committed.
        clock: Seconds.
        on_failure: Called for each proof that fails.
        tried: Partitions and offsets for which a new connection was tried already, of all connections.
    """

    def __init__(
        self,
        config: KafkaConfig,
        prover: Prover,
        *,
        topic_id: str | None,
        checkpoint_s: float,
        clock: Callable[[], float],
        on_failure: Callable[[], None],
        tried: set[tuple[int, int]],
    ) -> None:
        self._config, self._prover, self._clock, self._on_failure = config, prover, clock, on_failure
        self._topic_id, self._tried = topic_id, tried
        self._unread: dict[int, tuple[int, float]] = {}  # offset whose record waits, and since when
        self._commit_s = COMMIT_S + 4 * checkpoint_s
        self._heard: dict[int, float] = {}  # when records last came from a partition
        self._committed: dict[int, tuple[int | None, float]] = {}  # what a partition's commit is, and since when
        self._asked: tuple[float, Standing] = -math.inf, Standing()
        self._looked_s = self._proved_s = -math.inf
        self._proof = Proof()  # the last that passed
        self._failed: list[ProbeStep] = []  # what the newest proofs found wrong, in a row
        self._strangers = 0  # newest proofs in a row for which the group did not know us
        self._was_member = False
        self._anew: Anew | None = None
        self._empty_since = self._stuck_since = clock()
        prover.forget()

    def heard(self, partitions: Iterable[int]) -> None:
        """Records came."""
        now = self._clock()
        for partition in partitions:
            self._heard[partition] = now
            self._unread.pop(partition, None)

    def hurry(self) -> None:
        """Something happened that another topic under the same name would explain: ask now."""
        self._asked = -math.inf, Standing()

    def look(self, positions: Positions, member: Callable[[], str | None], *, reading: Collection[int]) -> Anew | None:
        """Take an answer and ask again if it is time; says if the connection must begin anew.

        Args:
            positions: Of the partitions held.
            member: What the group calls us.
            reading: Those of which records are wanted now.
        """
        now = self._clock()
        if self._anew is None and (proof := self._prover.take()) is not None:
            self._learn(proof)
            self._watch_unread(positions, reading, now)
        if now - self._looked_s < LOOK_S:
            return self._anew
        self._looked_s = now
        self._was_member |= bool(positions)
        if positions:
            self._empty_since = now
        for partition in self._heard.keys() - positions.keys():
            del self._heard[partition]
        self._watch_commits(positions, now)
        if not self._prover.busy and self._due(positions, now):
            self._asked = now, Standing(member(), tuple(positions))
            self._prover.ask(self._asked[1])
        return self._anew

    def why_not(self, positions: Positions, *, paused: Collection[int], stuck: bool) -> list[NotReady]:
        """Why the daemon is not ready, the gravest first.

        Args:
            positions: Of the partitions held.
            paused: Partitions that are not read although they are ours.
            stuck: Whether polling pauses until alerts are delivered.
        """
        now, group = self._clock(), self._config.group
        why: list[NotReady] = []
        if len(self._failed) > 1:
            why.append(NotReady(_REASONS[self._failed[-1].fault], self._failed[-1].detail))
        elif not self._was_member:
            why.append(NotReady(Reason.STARTING, f"joining group {group}"))
        elif self._strangers > 1:
            why.append(NotReady(Reason.NOT_A_MEMBER, f"group {group} does not count this replica as a member"))
        elif not positions and self._proof.members is not None and self._proof.partitions is not None:
            enough = self._proof.partitions >= self._proof.members
            if enough and now - self._empty_since > IDLE_S:
                text = (
                    f"group {group} has given this replica no partition, though topic {self._config.topic} has "
                    f"{self._proof.partitions} for {self._proof.members} members"
                )
                why.append(NotReady(Reason.NO_PARTITIONS, text))
        if unread := sorted(p for p, (_, since) in self._unread.items() if now - since > UNREAD_S):
            text = f"records wait in partitions {unread} and do not come, though the broker grants everything"
            why.append(NotReady(Reason.NOTHING_READ, text))
        if ours := sorted(set(paused) & positions.keys()):
            text = f"partitions {ours} are paused: see the log for what cannot be read, and at which offset"
            why.append(NotReady(Reason.PARTITIONS_PAUSED, text))
        if not stuck:
            self._stuck_since = now
        elif now - self._stuck_since > STUCK_S:
            text = "nothing is read until alerts, dead letters or scores that wait are acknowledged by the broker"
            why.append(NotReady(Reason.NOT_DELIVERED, text))
        if any(now - since > self._commit_s for _, since in self._committed.values()):
            text = "records are read and their offsets are not committed: see the log for the checkpoint that fails"
            why.append(NotReady(Reason.NOTHING_COMMITTED, text))
        return why

    def spare(self, positions: Positions) -> str | None:
        """What to say of a replica that rightly has nothing to read."""
        members, partitions = self._proof.members, self._proof.partitions
        if positions or members is None or partitions is None or members <= partitions:
            return None
        return f"no partition to read: group {self._config.group} has {members} members for {partitions} partitions"

    def lags(self, fetched: Mapping[int, int], positions: Positions) -> dict[int, float]:
        """Records not read yet of each partition held; NaN where that is not known now.

        Args:
            fetched: What the client knows from its newest fetch, however old.
            positions: Of the partitions held.
        """
        now = self._clock()
        proved = self._proof.ends if now - self._proved_s <= FRESH_S and not self._failed else {}
        lags = {}
        for partition, position in positions.items():
            heard_s = now - self._heard.get(partition, -math.inf)
            known = [proved[partition] - position.next_offset] if partition in proved else []
            if heard_s <= (FRESH_S if not self._failed else QUIET_S) and partition in fetched:
                known.append(fetched[partition])
            lags[partition] = float(max(0, *known)) if known else math.nan
        return lags

    def _due(self, positions: Positions, now: float) -> bool:
        settled = not self._failed and not self._strangers and self._was_member
        since_s = now - self._asked[0]
        if since_s < (PROOF_S if settled else RETRY_S):
            # Partitions just gained have no known end, and nothing is known to be wrong.
            return settled and since_s >= RETRY_S and not positions.keys() <= set(self._asked[1].partitions)
        flowing = positions and all(now - self._heard.get(p, -math.inf) < QUIET_S for p in positions)
        return not (settled and flowing) or since_s >= FLOWING_S

    def _learn(self, proof: Proof) -> None:
        topic, group, standing = self._config.topic, self._config.group, self._asked[1]
        if proof.topic_id is not None:
            if self._topic_id not in (None, proof.topic_id):
                self._begin_anew(Reason.TOPIC_RECREATED, made_again(topic))
                return
            self._topic_id = proof.topic_id
        if proof.failed is not None:
            self._failed.append(proof.failed)
            self._on_failure()
            gone = proof.failed.fault is Fault.TOPIC_MISSING and proof.partitions is None
            if gone and len(self._failed) > 1:
                self._begin_anew(Reason.TOPIC_MISSING, proof.failed.detail)
            return
        if self._failed:
            log.info("the broker answers and grants everything again")
        self._failed, self._proof, self._proved_s = [], proof, self._clock()
        if standing.member is not None and proof.member is not False:
            self._was_member, self._strangers = True, 0
            return
        self._strangers += 1
        if standing.member is not None and self._strangers > 1:
            # Told so by the coordinator, the client would have joined again meanwhile, under another name.
            text = f"group {group} does not know this member any more, and the client was not told"
            self._begin_anew(Reason.NOT_A_MEMBER, text)

    def _begin_anew(self, reason: Reason, text: str) -> None:
        self._anew = Anew(NotReady(reason, text))

    def _watch_unread(self, positions: Positions, reading: Collection[int], now: float) -> None:
        """Records that wait, and where: only those that do not come while their partition is read."""
        ends = {} if self._failed else self._proof.ends
        for partition in self._unread.keys() - set(reading):
            del self._unread[partition]
        for partition in reading:
            offset = positions[partition].next_offset
            if ends.get(partition, 0) <= offset:
                self._unread.pop(partition, None)
            elif partition not in self._unread or self._unread[partition][0] != offset:
                self._unread[partition] = offset, now
        late = {(p, offset) for p, (offset, since) in self._unread.items() if now - since > UNREAD_S}
        if self._anew is None and late - self._tried:
            self._tried |= late  # once: another connection that brings them no more would only disturb the group
            text = f"records wait in partitions {sorted(p for p, _ in late)} and do not come over this connection"
            self._begin_anew(Reason.NOTHING_READ, text)

    def _watch_commits(self, positions: Positions, now: float) -> None:
        for partition in self._committed.keys() - positions.keys():
            del self._committed[partition]
        for partition, position in positions.items():
            before = self._committed.get(partition)
            # While a partition only catches up on its past, its commit is ahead of it.
            behind = position.committed is None or position.committed < position.next_offset
            if before is None or not behind or before[0] != position.committed:
                self._committed[partition] = position.committed, now


def made_again(topic: str) -> str:
    return f"topic {topic} was made again: what was known of it is dropped, reading begins at its first record"


def knows(why: Iterable[NotReady]) -> bool:
    """Whether partitions and what waits in them can be known."""
    return not any(each.reason in _LOST for each in why)


def sees(why: Iterable[NotReady]) -> bool:
    """Whether records would be noticed if they came."""
    return not any(each.reason in _BLIND for each in why)
