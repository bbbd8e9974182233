"""When the broker is asked, what is told of its answers, and when a lag counts as known."""

from __future__ import annotations

import math

import pytest

from streamer.config import KafkaConfig
from streamer.connectors.kafka.probe import Fault, ProbeStep, Proof, Standing
from streamer.runtime import readiness
from streamer.runtime.positions import Position, Positions
from streamer.runtime.readiness import Readiness
from streamer.runtime.status import Reason

TOPIC_ID = "b0f3"


class Broker:
    """Answers each proof at once, as the test says; stands where the prover is."""

    def __init__(self) -> None:
        self.asked: list[Standing] = []
        self.answer: Proof | None = Proof(topic_id=TOPIC_ID, partitions=1, member=True, members=1, ends={0: 10})

    @property
    def busy(self) -> bool:
        return False

    def ask(self, standing: Standing) -> None:
        self.asked.append(standing)
        self._given = self.answer

    def take(self) -> Proof | None:
        given, self._given = getattr(self, "_given", None), None
        return given

    def forget(self) -> None: ...


class Replica:
    """A loop that turns twice a second; `records` says from which partitions each poll brings some."""

    def __init__(self, tried: set[tuple[int, int]] | None = None) -> None:
        self.now_s = 1000.0
        self.failures = 0
        self.broker = Broker()
        self.positions: Positions = {0: Position(10, 0, 10, committed=10)}
        self.member: str | None = "me"
        self.paused: tuple[int, ...] = ()
        self.stuck = False
        self.tried = set() if tried is None else tried
        self.readiness = Readiness(
            KafkaConfig(),
            self.broker,  # type: ignore[arg-type]
            topic_id=TOPIC_ID,
            checkpoint_s=5.0,
            clock=lambda: self.now_s,
            on_failure=self._failure,
            tried=self.tried,
        )

    def _failure(self) -> None:
        self.failures += 1

    def turn(self, seconds: float, records: tuple[int, ...] = ()) -> readiness.Anew | None:
        """The loop goes on for a while; what it says at the end."""
        until_s = self.now_s + seconds
        anew = None
        while self.now_s < until_s and anew is None:
            self.now_s += 0.5
            if records:
                self.readiness.heard(records)
            anew = self.readiness.look(
                self.positions, lambda: self.member, reading=set(self.positions) - set(self.paused)
            )
            self.why()
        return anew

    def why(self) -> list[Reason]:
        found = self.readiness.why_not(self.positions, paused=self.paused, stuck=self.stuck)
        return [each.reason for each in found]

    def lags(self, fetched: dict[int, int] | None = None) -> dict[int, float]:
        return self.readiness.lags(fetched or {}, self.positions)


@pytest.fixture
def replica() -> Replica:
    one = Replica()
    one.turn(2)
    return one


def refused(fault: Fault = Fault.LOGIN_REFUSED) -> Proof:
    return Proof(failed=ProbeStep("connection", False, "authentication failed", fault))


def test_nobody_is_asked_while_records_come_but_once_a_minute(replica: Replica) -> None:
    before = len(replica.broker.asked)

    replica.turn(120, records=(0,))

    assert len(replica.broker.asked) - before == 2


def test_one_quiet_partition_among_busy_ones_is_asked_about(replica: Replica) -> None:
    replica.positions[1] = Position(5, 0, 5, committed=5)
    before = len(replica.broker.asked)

    replica.turn(60, records=(0,))

    assert 5 <= len(replica.broker.asked) - before <= 60 / readiness.PROOF_S + 1


def test_what_is_wrong_is_told_within_ten_seconds_after_two_proofs_and_stands_until_one_passes(
    replica: Replica,
) -> None:
    good, replica.broker.answer = replica.broker.answer, refused()

    replica.turn(readiness.PROOF_S)
    after_one = replica.why(), replica.failures
    replica.turn(3)
    after_two = replica.why(), replica.failures >= 2
    replica.turn(30, records=(0,))
    meanwhile = replica.why()
    replica.broker.answer = good
    replica.turn(3)

    assert after_one == ([], 1)
    assert after_two == ([Reason.LOGIN_REFUSED], True)
    assert meanwhile == [Reason.LOGIN_REFUSED]
    assert replica.why() == []


@pytest.mark.parametrize("fault", list(Fault))
def test_every_kind_of_fault_has_a_reason(fault: Fault) -> None:
    assert Reason(fault.value)


def test_a_topic_with_another_id_is_another_topic(replica: Replica) -> None:
    replica.broker.answer = Proof(topic_id="another", partitions=1, member=True, members=1)

    anew = replica.turn(10)

    assert anew is not None
    assert anew.why.reason is Reason.TOPIC_RECREATED


def test_a_topic_that_is_gone_ends_the_connection(replica: Replica) -> None:
    replica.broker.answer = refused(Fault.TOPIC_MISSING)

    anew = replica.turn(12)

    assert anew is not None
    assert anew.why.reason is Reason.TOPIC_MISSING


def test_an_output_topic_that_is_gone_is_told_and_keeps_the_connection(replica: Replica) -> None:
    gone = refused(Fault.TOPIC_MISSING).failed
    replica.broker.answer = Proof(failed=gone, topic_id=TOPIC_ID, partitions=1)

    assert replica.turn(20) is None
    assert replica.why() == [Reason.TOPIC_MISSING]


def test_a_member_the_group_does_not_know_begins_anew(replica: Replica) -> None:
    replica.broker.answer = Proof(topic_id=TOPIC_ID, partitions=1, member=False, members=1)

    anew = replica.turn(12)

    assert anew is not None
    assert anew.why.reason is Reason.NOT_A_MEMBER


def test_a_client_that_is_joining_again_is_left_in_peace_and_told_of(replica: Replica) -> None:
    replica.member = None
    replica.positions.clear()

    assert replica.turn(60) is None
    assert replica.why() == [Reason.NOT_A_MEMBER]


def test_before_it_has_joined_a_replica_is_not_ready() -> None:
    replica = Replica()
    replica.positions.clear()
    replica.member = None

    replica.turn(5)
    joining = replica.why()
    replica.member = "me"
    replica.turn(5)

    assert joining == [Reason.STARTING]
    assert replica.why() == []


def test_without_partitions_it_depends_on_how_many_there_are(replica: Replica) -> None:
    replica.positions.clear()
    replica.broker.answer = Proof(topic_id=TOPIC_ID, partitions=2, member=True, members=3)
    replica.turn(60)
    spare = replica.why(), replica.readiness.spare(replica.positions)
    replica.broker.answer = Proof(topic_id=TOPIC_ID, partitions=3, member=True, members=3)
    replica.turn(60)

    assert spare == ([], "no partition to read: group streamer has 3 members for 2 partitions")
    assert replica.why() == [Reason.NO_PARTITIONS]
    assert replica.readiness.spare(replica.positions) is None


def test_partitions_paused_and_alerts_that_wait_are_reasons(replica: Replica) -> None:
    replica.paused, replica.stuck = (0, 7), True

    replica.turn(20)

    assert replica.why() == [Reason.PARTITIONS_PAUSED, Reason.NOT_DELIVERED]
    assert "[0]" in replica.readiness.why_not(replica.positions, paused=(0, 7), stuck=True)[0].text


def test_records_read_and_not_committed_for_more_than_a_minute_are_told_until_they_are(replica: Replica) -> None:
    for _ in range(60):
        replica.positions[0].next_offset += 5
        replica.turn(1, records=(0,))
    early = replica.why()
    for _ in range(30):
        replica.positions[0].next_offset += 5
        replica.turn(1, records=(0,))
    late = replica.why()
    replica.positions[0].committed = replica.positions[0].next_offset
    replica.turn(1)

    assert (early, late, replica.why()) == ([], [Reason.NOTHING_COMMITTED], [])


def test_a_partition_that_catches_up_on_its_past_commits_nothing_and_that_is_right(replica: Replica) -> None:
    replica.positions[0] = Position(0, publish_from=1000, saved_offset=-1, committed=1000)

    for _ in range(200):
        replica.positions[0].next_offset += 5
        replica.turn(1, records=(0,))

    assert replica.why() == []


def test_lag_is_asked_of_the_broker_while_nothing_comes(replica: Replica) -> None:
    replica.broker.answer = Proof(topic_id=TOPIC_ID, partitions=1, member=True, members=1, ends={0: 25})

    replica.turn(10)

    assert replica.lags({0: 0}) == {0: 15.0}


def test_a_lag_is_not_a_number_as_soon_as_it_is_not_known(replica: Replica) -> None:
    replica.turn(5, records=(0,))
    flowing = replica.lags({0: 3})
    replica.broker.answer = refused()
    replica.turn(12)
    lost = replica.lags({0: 3})

    assert flowing == {0: 3.0}
    assert math.isnan(lost[0])


def test_an_end_of_long_ago_says_nothing_of_the_lag(replica: Replica) -> None:
    replica.turn(30, records=(0,))
    replica.positions[0].next_offset = 10_000
    replica.now_s += 25  # the loop was held up

    assert math.isnan(replica.lags({0: 0})[0])


def test_partitions_just_gained_are_asked_about_at_once(replica: Replica) -> None:
    replica.positions[1] = Position(0, 0, 0, committed=0)

    replica.turn(2.5)

    assert 1 in replica.broker.asked[-1].partitions


def test_records_that_wait_and_do_not_come_are_worth_one_new_connection() -> None:
    tried: set[tuple[int, int]] = set()
    replicas = []
    for _ in range(2):
        replica = Replica(tried)
        replica.broker.answer = Proof(topic_id=TOPIC_ID, partitions=1, member=True, members=1, ends={0: 25})
        replicas.append((replica.turn(100), replica.why()))

    first, second = replicas
    assert first[0] is not None
    assert first[0].why.reason is Reason.NOTHING_READ
    assert second == (None, [Reason.NOTHING_READ])


def test_a_backlog_that_is_being_read_is_no_fault(replica: Replica) -> None:
    replica.broker.answer = Proof(topic_id=TOPIC_ID, partitions=1, member=True, members=1, ends={0: 1_000_000})
    replica.turn(10)
    for _ in range(200):
        replica.positions[0].next_offset += 5
        replica.positions[0].committed = replica.positions[0].next_offset
        assert replica.turn(1, records=(0,)) is None
        assert replica.why() == []


def test_records_that_wait_in_a_paused_partition_are_no_fault_of_the_connection(replica: Replica) -> None:
    replica.broker.answer = Proof(topic_id=TOPIC_ID, partitions=1, member=True, members=1, ends={0: 25})
    replica.paused = (0,)

    assert replica.turn(200) is None
    assert replica.why() == [Reason.PARTITIONS_PAUSED]


def test_a_reset_offset_is_asked_about_at_once(replica: Replica) -> None:
    replica.turn(20, records=(0,))
    before = len(replica.broker.asked)

    replica.readiness.hurry()
    replica.turn(1, records=(0,))

    assert len(replica.broker.asked) == before + 1
