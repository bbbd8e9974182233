"""A store that follows the topics knows each alert and each action once, whatever happens while it reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer.connectors.incident_store import MEMORY, Follower, IncidentStore, SqliteDatabase, Wanted
from streamer.connectors.kafka import PoisonedBatch, RecordBatch
from streamer.core.incident_life import ACKNOWLEDGE, COMMENT, FALSE_ALARM, UNDO, as_json
from streamer.errors import BrokerError
from tests import tiny
from tests.alert_logs import Log, Reader, a_life, an_action, an_alert

SETTINGS = tiny.settings()
ALERTS, ACTIONS = SETTINGS.kafka.alerts_topic, SETTINGS.actions_topic
FIRST, SECOND = (an_alert(stream=name).incident_id for name in ("press-1", "press-2"))


def a_log(*, batch: int = 1000) -> Log:
    """Two incidents of which one was judged, over two partitions."""
    log = Log(batch=batch)
    log.write(ALERTS, *(alert.encode() for alert in a_life("press-1")), partition=0)
    log.write(ALERTS, *(alert.encode() for alert in a_life("press-2")[:2]), partition=1)
    log.write(
        ACTIONS,
        an_action(FIRST, ACKNOWLEDGE, 1).encode(),
        an_action(FIRST, FALSE_ALARM, 2).encode(),
        an_action(SECOND, COMMENT, 3, text="looking").encode(),
        an_action(FIRST, UNDO, 4, undoes=2).encode(),
    )
    return log


def a_store(path: Path = MEMORY) -> IncidentStore:
    return IncidentStore(SqliteDatabase(path))


def follow(log: Log, store: IncidentStore, **more: Any) -> Follower:
    follower = Follower(SETTINGS, store, connect=log.connect, **more)
    follower.turn()
    return follower


def known(store: IncidentStore) -> dict[str, Any]:
    """All that the store answers."""
    page = store.page(Wanted(), 100)
    assert page.next is None
    return {each.id: (as_json(each), store.timeline(each.id)) for each in page.incidents}


@pytest.fixture
def expected() -> Iterator[dict[str, Any]]:
    store = a_store()
    follow(a_log(), store)
    yield known(store)
    store.close()


def test_alerts_and_actions_become_incidents(expected: dict[str, Any]) -> None:
    assert expected.keys() == {FIRST, SECOND}
    first, timeline = expected[FIRST]
    assert (first["state"], first["acknowledged_by"], first["verdict"]) == ("resolved", "anna", None)
    assert len(timeline) == 3 + 3
    second, _ = expected[SECOND]
    assert (second["state"], second["comments"]) == ("open", 1)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_the_batches_do_not_matter(expected: dict[str, Any], batch: int) -> None:
    store = a_store()

    follow(a_log(batch=batch), store)

    assert known(store) == expected


@pytest.mark.parametrize("after", range(9))
def test_reading_that_broke_off_anywhere_goes_on_where_it_was(
    expected: dict[str, Any], tmp_path: Path, after: int
) -> None:
    log, path = a_log(batch=1), tmp_path / "incidents.db"
    log.most_reads = after
    broken = a_store(path)
    with pytest.raises(InterruptedError):
        follow(log, broken)
    broken.close()

    log.most_reads, log.reads = None, 0
    store = a_store(path)
    follow(log, store)

    assert known(store) == expected
    assert log.reads == 9 - after  # nothing is read again


def test_what_was_sent_twice_counts_once(expected: dict[str, Any]) -> None:
    log = a_log()
    for topic in (ALERTS, ACTIONS):
        for partition, messages in log.topics[topic].items():
            log.write(topic, *messages, partition=partition)
    store = a_store()

    follow(log, store)

    assert known(store) == expected


def test_a_store_that_was_lost_is_the_same_again(expected: dict[str, Any], tmp_path: Path) -> None:
    log, path = a_log(), tmp_path / "incidents.db"
    store = a_store(path)
    follow(log, store)
    store.close()
    path.unlink()

    again = a_store(path)
    follow(log, again)

    assert known(again) == expected


def test_an_action_may_be_there_before_the_alert_is(expected: dict[str, Any]) -> None:
    log, store = a_log(), a_store()
    alerts = log.topics.pop(ALERTS)
    log.write(ALERTS)
    log.topics[ALERTS] = {0: [], 1: []}
    follow(log, store)
    assert known(store) == {}

    log.topics[ALERTS] = alerts
    follow(log, store)

    assert known(store) == expected


def test_what_is_no_alert_is_counted_and_passed_over(expected: dict[str, Any]) -> None:
    log, store, refused = a_log(), a_store(), list[int]()
    log.write(ALERTS, b"{", None, b'{"alert_id": 1}', partition=1)
    log.write(ACTIONS, b"drop everything")

    follow(log, store, on_refused=refused.append)

    assert known(store) == expected
    assert sum(refused) == 4
    assert store.positions(ALERTS) == {0: 3, 1: 5}


def test_alerts_are_kept_also_where_actions_cannot_be_read() -> None:
    log, store = a_log(), a_store()
    log.broken[ACTIONS] = BrokerError("not granted")

    with pytest.raises(BrokerError, match="not granted"):
        follow(log, store)

    assert known(store).keys() == {FIRST, SECOND}


def test_without_a_topic_of_actions_there_are_none() -> None:
    log, store = a_log(), a_store()
    del log.topics[ACTIONS]

    follow(log, store)

    assert known(store)[FIRST][0]["acknowledged_by"] is None


def test_what_retention_deleted_before_it_was_read_is_passed_over() -> None:
    log, store = a_log(), a_store()
    follow(log, store)
    log.write(ALERTS, *[None] * 5, *(alert.encode() for alert in a_life("press-3")), partition=0)
    log.first[ALERTS] = 8

    follow(log, store)

    assert len(known(store)) == 3


def test_a_topic_that_was_made_again_is_read_from_its_first_record_once_it_is_certain() -> None:
    log, store = a_log(), a_store()
    follower = follow(log, store)
    log.topics[ALERTS][0] = [alert.encode() for alert in a_life("press-4")[:1]]

    follower.turn()
    after_one = set(known(store))
    for _ in range(10):
        follower.turn()

    assert after_one == {FIRST, SECOND}
    assert len(known(store)) == 3
    assert store.positions(ALERTS)[0] == 1


def test_lag_is_told_until_nothing_is_left() -> None:
    lags = list[int]()
    follower = Follower(SETTINGS, a_store(), connect=a_log(batch=2).connect)

    follower.turn(lags.append)

    assert lags == [9, 7, 6, 4, 2, 0, 0]


def test_a_damaged_record_is_passed_over_and_all_others_are_known(
    expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, store, refused = a_log(batch=1), a_store(), list[int]()
    log.topics[ALERTS][0].insert(1, b"damaged")
    read = Reader.read

    def read_some(reader: Reader, ranges: Any) -> Iterator[RecordBatch]:
        for batch in read(reader, ranges):
            if batch.values[0] == b"damaged":
                raise PoisonedBatch("damaged", partition=batch.partition, offset=int(batch.offsets[0]))
            yield batch

    monkeypatch.setattr(Reader, "read", read_some)
    follower = Follower(SETTINGS, store, connect=log.connect, on_refused=refused.append)
    with pytest.raises(PoisonedBatch):
        follower.turn()
    follower.turn()

    assert {name: about for name, (about, _) in known(store).items()} == {
        name: about for name, (about, _) in expected.items()
    }
    assert refused == [1]
    store.close()
