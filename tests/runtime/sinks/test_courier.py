"""A sink reads the alerts topic as its outbox: what it loses (nothing), repeats, gives up and forgets."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.connectors.alert_sinks import DELIVERED, FAILED, REFUSED, Answer
from streamer.connectors.kafka import OffsetReset, PoisonedBatch, RecordBatch
from streamer.core.alerts import Alert
from streamer.core.routing import Route
from tests.runtime.sinks import stand_ins
from tests.runtime.sinks.stand_ins import BROKER_AWAY, Desk, Killed, ListSink, Member, MemoryTopic, Time
from tests.sample_alerts import sample_alert


@pytest.fixture
def topic() -> MemoryTopic:
    return MemoryTopic(Time())


def streams(count: int, event: str = "open") -> list[Alert]:
    return [sample_alert(event, stream=f"machine-{number}") for number in range(count)]


def test_alerts_are_delivered_in_order_and_committed(topic: MemoryTopic) -> None:
    sink, alerts = ListSink(), streams(10)
    for alert in alerts:
        topic.write(alert)

    desk = Desk(topic, sink)
    desk.work(5)

    assert sink.told == alerts
    assert topic.commits == {0: 10, 1: 0}
    assert desk.count("delivered") == 10


def test_nothing_is_lost_and_what_is_repeated_has_the_same_id_when_it_is_killed_anywhere(topic: MemoryTopic) -> None:
    alerts = streams(8)
    for number, alert in enumerate(alerts):
        topic.write(alert, partition=number % 2)
    told: list[Alert] = []
    killed = 0

    for survives in range(8):  # deliveries of each life; with the next one it is killed
        sink = MortalSink(topic, survives)
        killed += Desk(topic, sink).was_killed(within_s=10)
        told += sink.told
    last = ListSink()
    Desk(topic, last).work(5)
    told += last.told

    assert killed > 3
    assert {alert.alert_id for alert in told} == {alert.alert_id for alert in alerts}
    assert sum(topic.commits.values()) == len(alerts)


class MortalSink(ListSink):
    """Takes so many alerts; with the next one the process is killed."""

    def __init__(self, topic: MemoryTopic, survives: int) -> None:
        super().__init__()
        self.topic, self.survives, self.answer = topic, survives, self.live

    def live(self, alert: Alert) -> Answer:
        if len(self.told) == self.survives:
            self.topic.killed = True
            raise Killed
        return Answer(DELIVERED)


def test_a_sink_that_fails_is_asked_again_ever_less_often_and_loses_nothing(topic: MemoryTopic) -> None:
    sink, (first, second) = ListSink(), streams(2)
    topic.write(first)
    topic.write(second)
    sink.answer = lambda alert: Answer(FAILED, "answer 500")

    desk = Desk(topic, sink)
    desk.work(3600)
    attempts, failures, told = sink.attempts, desk.figure("sink_failures_total"), list(sink.told)
    sink.answer = lambda alert: Answer(DELIVERED)
    desk.work(90)

    # 1 + 2 + 4 + 8 + 16 + 32 seconds, then every minute
    assert 60 <= attempts <= 70
    assert failures == attempts
    assert told == []
    assert sink.told == [first, second]
    assert topic.commits[0] == 2


def test_a_pause_that_the_other_side_asks_for_is_kept(topic: MemoryTopic) -> None:
    sink = ListSink()
    topic.write(sample_alert())
    sink.answer = lambda alert: Answer(FAILED, "answer 429", retry_after_s=200.0)

    Desk(topic, sink).work(500)

    assert sink.attempts == 3


def test_memory_is_bounded_while_a_sink_fails(topic: MemoryTopic) -> None:
    sink = ListSink()
    for alert in streams(1000):
        topic.write(alert)
    sink.answer = lambda alert: Answer(FAILED, "answer 500")

    desk = Desk(topic, sink)
    desk.work(300)

    # It took one poll and rested; the others wait on the topic.
    assert topic.members[0].positions[0] == 3
    assert desk.figure("sink_failures_total") > 1


def test_how_much_waits_and_for_how_long_is_told(topic: MemoryTopic) -> None:
    sink = ListSink()
    for alert in streams(7):
        topic.write(alert)
    seen: list[tuple[float, float]] = []

    def fail(alert: Alert) -> Answer:
        seen.append((desk.figure("sink_backlog"), desk.figure("sink_oldest_undelivered_seconds")))
        return Answer(FAILED, "answer 500")

    sink.answer = fail
    desk = Desk(topic, sink)
    desk.work(600)
    backlog, oldest_s = seen[-1]
    sink.answer = lambda alert: Answer(DELIVERED)
    topic.write(sample_alert())
    desk.work(90)

    assert backlog == 7
    assert 500 < oldest_s < 600


def test_an_alert_that_is_refused_is_given_up_and_those_behind_it_are_told(topic: MemoryTopic) -> None:
    sink, alerts = ListSink(), streams(3)
    for alert in alerts:
        topic.write(alert)
    sink.answer = lambda alert: Answer(REFUSED, "answer 400") if alert == alerts[1] else Answer(DELIVERED)

    desk = Desk(topic, sink)
    desk.work(5)

    assert sink.told == [alerts[0], alerts[2]]
    assert (desk.count("delivered"), desk.count("refused")) == (2, 1)
    assert topic.commits[0] == 3


def test_patience_ends_where_a_sink_has_a_limit(topic: MemoryTopic, caplog: pytest.LogCaptureFixture) -> None:
    sink, alert = ListSink(give_up_after_s=600), sample_alert()
    topic.write(alert)
    sink.answer = lambda alert: Answer(FAILED, "answer 503")

    desk = Desk(topic, sink)
    desk.work(500)
    before = desk.count("given_up")
    desk.work(300)

    assert (before, desk.count("given_up")) == (0, 1)
    assert topic.commits[0] == 1
    assert f"alert {alert.alert_id}" in caplog.text
    assert "answer 503" in caplog.text


def test_what_waited_while_the_daemon_was_away_is_not_given_up_at_the_first_failure(topic: MemoryTopic) -> None:
    alerts = streams(4)
    Desk(topic, ListSink()).work(5)  # the group is known
    for alert in alerts:
        topic.write(alert)
    topic.time.now_s += 3 * 86_400
    sink = ListSink(give_up_after_s=86_400.0)
    busy = iter([True, False] * 50)
    sink.answer = lambda alert: Answer(FAILED, "answer 429", 1.0) if next(busy) else Answer(DELIVERED)

    desk = Desk(topic, sink)
    desk.work(60)

    assert sink.told == alerts
    assert desk.count("given_up") == 0


def test_what_is_no_alert_is_counted_and_stops_nothing(topic: MemoryTopic) -> None:
    sink, alert = ListSink(), sample_alert()
    for value in (b"no JSON", b'{"a": 1}', b"\xff\xfe", b"", b'{"a":' + b"[" * 100_000):
        topic.write(value)
    topic.write(alert)

    desk = Desk(topic, sink)
    desk.work(5)

    assert sink.told == [alert]
    assert desk.count("unreadable") == 5


def test_before_a_record_that_cannot_be_read_all_is_told_without_asking_for_it_over_and_over(
    topic: MemoryTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, alerts = ListSink(), streams(3)
    for alert in alerts:
        topic.write(alert)
    well_at_s = topic.time.now_s + 60
    sink.answer = lambda alert: Answer(DELIVERED if topic.time.now_s >= well_at_s else FAILED, "answer 503")
    asked = 0

    class Poisoned(Member):
        def poll(self, timeout_s: float) -> list[RecordBatch]:
            nonlocal asked
            if self.positions.get(0) != 1:
                return super().poll(timeout_s)
            asked += 1
            if asked > 1000:
                raise Killed
            raise PoisonedBatch("alerts[0]@1 is damaged", partition=0, offset=1)

    monkeypatch.setattr(
        topic, "batch", lambda partition, first, end: MemoryTopic.batch(topic, partition, first, first + 1)
    )
    monkeypatch.setattr(stand_ins, "Member", Poisoned)
    desk = Desk(topic, sink)

    assert not desk.was_killed(within_s=200)
    assert sink.told == [alerts[0], alerts[2]]
    assert desk.count("unreadable") == 1
    assert asked < 500


def test_damage_of_which_nobody_knows_where_it_is_has_nothing_told_over_and_over(
    topic: MemoryTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, alerts = ListSink(), streams(3)
    for alert in alerts:
        topic.write(alert)

    class Poisoned(Member):
        def poll(self, timeout_s: float) -> list[RecordBatch]:
            if self.positions.get(0) == 3:
                raise PoisonedBatch("between two batches", partition=-1, offset=-1)
            return super().poll(timeout_s)

    monkeypatch.setattr(stand_ins, "Member", Poisoned)
    Desk(topic, sink).work(30)

    assert sink.told == alerts
    assert topic.commits == {0: 3, 1: 0}


def test_after_alerts_in_hand_have_expired_on_the_topic_those_that_follow_are_told(
    topic: MemoryTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, alerts = ListSink(), streams(4)
    for alert in alerts[:3]:
        topic.write(alert)
    expired_at_s = topic.time.now_s + 30
    sink.answer = lambda alert: Answer(DELIVERED if topic.time.now_s > expired_at_s else FAILED, "answer 503")

    class Expiring(Member):
        def __init__(self, topic: MemoryTopic, **callbacks: Any) -> None:
            super().__init__(topic, **callbacks)
            self.expire = callbacks["on_offset_reset"]

        def poll(self, timeout_s: float) -> list[RecordBatch]:
            if self._topic.time.now_s > expired_at_s and self.positions.get(0) == 3 and not self._topic.log[1]:
                self._topic.write(alerts[3], partition=1)
                self.expire(OffsetReset(partition=0, wanted=3, restarted_at=3, lost=0))
            return super().poll(timeout_s)

    monkeypatch.setattr(stand_ins, "Member", Expiring)
    Desk(topic, sink).work(200)

    assert sink.told == alerts[3:]


def test_a_route_leaves_out_what_is_not_for_the_sink(topic: MemoryTopic) -> None:
    sink = ListSink()
    for severity, stream in (("info", "pump-1"), ("critical", "pump-1"), ("critical", "fan-1")):
        topic.write(sample_alert(severity=severity, stream=stream))

    desk = Desk(topic, sink, Route(streams=("pump-*",), severity="warning"))
    desk.work(5)

    assert [(alert.stream, alert.severity) for alert in sink.told] == [("pump-1", "critical")]
    assert (desk.count("delivered"), desk.count("filtered")) == (1, 2)


def test_nobody_is_told_of_a_muted_alert_but_of_the_end_of_what_was_told(topic: MemoryTopic) -> None:
    for stream, mutes in (("pump-1", (None, "weekend", "weekend")), ("pump-2", ("weekend", "weekend", "weekend"))):
        for event, muted in zip(("open", "update", "resolve"), mutes, strict=True):
            topic.write(sample_alert(event, stream=stream, muted=muted))
    first, second = ListSink(), ListSink()
    first.answer = lambda alert: Answer(DELIVERED) if alert.event == "open" else Answer(FAILED, "answer 500")

    before = Desk(topic, first)
    before.work(5)
    after = Desk(topic, second)  # has to find out what was told
    after.work(5)

    told = [(alert.stream, alert.event) for alert in first.told + second.told]
    assert told == [("pump-1", "open"), ("pump-1", "resolve")]
    assert before.count("muted") + after.count("muted") == 4


def test_a_new_sink_is_not_told_of_old_alerts_but_of_those_since_the_process_began(topic: MemoryTopic) -> None:
    sink = ListSink()
    topic.write(sample_alert(stream="old"))
    topic.time.now_s += 3600
    topic.write(sample_alert(stream="just-before"))
    topic.time.now_s += 60
    desk = Desk(topic, sink)
    topic.write(sample_alert(stream="before-it-joined"))

    desk.work(5)

    assert [alert.stream for alert in sink.told] == ["just-before", "before-it-joined"]


def test_a_new_sink_that_is_killed_before_its_first_delivery_loses_nothing(topic: MemoryTopic) -> None:
    Desk(topic, ListSink()).work(5)
    topic.write(sample_alert())
    topic.time.now_s += 86_400

    sink = ListSink()
    Desk(topic, sink).work(5)

    assert len(sink.told) == 1


def test_the_broker_may_be_away_for_hours(topic: MemoryTopic) -> None:
    sink = ListSink()
    topic.broken = BROKER_AWAY

    desk = Desk(topic, sink)
    desk.work(7200)
    away_s = desk.figure("sink_oldest_undelivered_seconds")
    topic.broken = None
    topic.write(sample_alert())
    desk.work(10)

    assert away_s == pytest.approx(7200, abs=10)
    assert len(sink.told) == 1


def test_open_incidents_are_told_again_until_they_resolve(topic: MemoryTopic) -> None:
    sink = ListSink(resend_s=60)
    topic.write(sample_alert(stream="pump-1"))
    topic.write(sample_alert(stream="pump-2"))

    desk = Desk(topic, sink)
    desk.work(150)
    topic.write(sample_alert("resolve", stream="pump-1", at_s=600))
    desk.work(150)

    resent = [[incident.alert.stream for incident in some] for some in sink.resent]
    assert ["pump-1", "pump-2"] in resent
    assert resent[-1] == ["pump-2"]


def test_after_a_restart_the_open_incidents_are_found_on_the_topic(topic: MemoryTopic) -> None:
    for stream in ("pump-1", "pump-2"):
        topic.write(sample_alert(stream=stream, severity="info"))
        topic.write(sample_alert("update", stream=stream, severity="critical", at_s=120))
    topic.write(sample_alert("resolve", stream="pump-2", at_s=600))
    Desk(topic, ListSink(resend_s=60)).work(5)

    again = ListSink(resend_s=60)
    Desk(topic, again).work(5)

    assert again.told == []  # committed
    assert [(i.alert.stream, i.alert.event, i.severities) for i in again.resent[0]] == [
        ("pump-1", "update", ("info", "critical"))
    ]


def test_an_incident_of_which_nothing_comes_is_told_of_no_longer_than_the_topic_is_read_back(
    topic: MemoryTopic,
) -> None:
    sink = ListSink(resend_s=60)
    topic.write(sample_alert())

    Desk(topic, sink, lookback_s=600).work(1200)

    assert 9 <= len(sink.resent) <= 11


def test_a_rebalance_that_gives_the_same_partitions_back_reads_nothing_again(topic: MemoryTopic) -> None:
    sink = ListSink(resend_s=60)
    topic.write(sample_alert())
    desk = Desk(topic, sink)
    desk.work(5)
    reads = len(topic.read_back)

    def rebalance(alert: Alert) -> Answer:
        topic.members[-1].assign = [0, 1]
        return Answer(DELIVERED)

    sink.answer = rebalance
    topic.write(sample_alert("update", at_s=120))
    desk.work(100)

    assert len(sink.told) == 2
    assert len(topic.read_back) == reads
    assert sink.resent[-1][0].alert.event == "update"


def test_a_replica_that_loses_a_partition_no_longer_tells_of_its_incidents(topic: MemoryTopic) -> None:
    sink = ListSink(resend_s=60)
    topic.write(sample_alert(stream="pump-1"), partition=0)
    topic.write(sample_alert(stream="pump-2"), partition=1)
    desk = Desk(topic, sink)

    def give_one_away(alert: Alert) -> Answer:
        if alert.stream == "pump-2":
            topic.members[-1].assign = [0]
        return Answer(DELIVERED)

    sink.answer = give_one_away
    desk.work(200)

    assert [incident.alert.stream for incident in sink.resent[-1]] == ["pump-1"]


def test_a_sink_that_cannot_be_told_again_has_its_delivery_wait_too(topic: MemoryTopic) -> None:
    sink = ListSink(resend_s=60)
    topic.write(sample_alert(stream="pump-1"))
    desk = Desk(topic, sink)
    desk.work(5)
    sink.resend = lambda incidents, now_s: Answer(FAILED, "answer 502")  # type: ignore[method-assign]
    topic.write(sample_alert(stream="pump-2"))

    desk.work(200)

    assert desk.figure("sink_failures_total") > 3
