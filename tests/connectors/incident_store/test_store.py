"""What is kept of incidents, for how long, and in what kind of file."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.connectors.incident_store import MEMORY, IncidentStore, SqliteDatabase, StoreUnavailable, Wanted
from streamer.connectors.incident_store.interface import Done, Told
from streamer.connectors.incident_store.postgresql import PostgresDatabase
from streamer.core.alerts import Alert
from streamer.core.events import OPEN, RESOLVE, SILENCE
from streamer.core.incident_life import ACKNOWLEDGE, COMMENT, MOST_ACTIONS
from tests.alert_logs import a_life, an_action, an_alert
from tests.databases import PostgresServer

TOPIC = "streamer.alerts"
LIMIT = 10**9


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[IncidentStore]:
    """An empty one in each kind of database."""
    if request.param == "sqlite":
        opened = IncidentStore(SqliteDatabase(MEMORY))
    else:
        server: PostgresServer = request.getfixturevalue("postgresql")
        opened = IncidentStore(PostgresDatabase(server.new_database(), lambda: server.password))
    yield opened
    opened.close()


def take(store: IncidentStore, *alerts: Alert, seen_ms: int = 1000, size: int = 100) -> None:
    told = [Told(alert, alert.encode().ljust(size), seen_ms) for alert in alerts]
    store.take_alerts(told, TOPIC, 0, len(alerts))


def streams(store: IncidentStore, wanted: Wanted = Wanted()) -> list[str]:  # noqa: B008
    return [each.stream for each in store.page(wanted, 1000).incidents]


def test_incidents_are_listed_the_newest_first_and_by_what_is_wanted(store: IncidentStore) -> None:
    take(store, *a_life("press-1", onset=0), an_alert(OPEN, 100, stream="press-2", onset=99))
    take(store, an_alert(OPEN, 60, stream="pump[1]", onset=50, kind=SILENCE))
    since_ms = store.page(Wanted(), 3).incidents[2].updated_ms + 1

    assert streams(store) == ["press-2", "pump[1]", "press-1"]
    assert streams(store, Wanted(open=True)) == ["press-2", "pump[1]"]
    assert streams(store, Wanted(stream="press-*")) == ["press-2", "press-1"]
    assert streams(store, Wanted(stream="pump[[]1]")) == ["pump[1]"]
    assert streams(store, Wanted(kind=SILENCE)) == ["pump[1]"]
    assert streams(store, Wanted(since_ms=since_ms)) == ["press-2", "pump[1]"]
    assert streams(store, Wanted(since_ms=since_ms - 1)) == ["press-2", "pump[1]", "press-1"]


def test_pages_follow_each_other_without_gap_or_repetition(store: IncidentStore) -> None:
    names = [f"s{n:02d}" for n in range(25)]
    take(store, *(an_alert(OPEN, n // 2, stream=name) for n, name in enumerate(names)))

    found, place = list[str](), None
    while True:
        page = store.page(Wanted(stream="s*"), 4, place)
        found += [each.stream for each in page.incidents]
        if (place := page.next) is None:
            break

    assert sorted(found) == names
    assert found == streams(store)


def test_what_is_resolved_and_old_is_removed_and_what_is_open_stays(store: IncidentStore) -> None:
    take(store, *a_life("old"), an_alert(OPEN, 3, stream="open"), seen_ms=1000)
    take(store, *a_life("new"), seen_ms=5000)
    old = an_alert(stream="old").incident_id
    store.take_actions([Done(an_action(old, ACKNOWLEDGE, 1), 0, 1000)], "actions", 0, 1)

    assert store.remove_old(5000, LIMIT) == 1
    assert store.remove_old(5000, LIMIT) == 0

    assert sorted(streams(store)) == ["new", "open"]
    assert store.timeline(old) == []


def test_beyond_the_size_the_oldest_resolved_go_first(store: IncidentStore) -> None:
    for n in range(6):
        take(store, *a_life(f"s{n}"), seen_ms=1000 + n, size=1000)
    take(store, an_alert(OPEN, 3, stream="open"), seen_ms=1, size=1000)

    removed = store.remove_old(0, 10_000)

    assert removed == 3  # 19,000 bytes; three incidents of 3,000 make room
    assert sorted(streams(store)) == ["open", "s3", "s4", "s5"]


def test_what_was_done_to_an_incident_keeps_it_as_long_as_a_new_alert_would(store: IncidentStore) -> None:
    take(store, *a_life("press"), seen_ms=1000)
    incident = an_alert(stream="press").incident_id
    store.take_actions([Done(an_action(incident, COMMENT, 1, text="why?"), 0, 9000)], "actions", 0, 1)

    assert store.remove_old(5000, LIMIT) == 0
    assert store.remove_old(9001, LIMIT) == 1


def test_actions_about_incidents_nobody_knows_are_removed_when_they_are_old(store: IncidentStore) -> None:
    unknown = an_alert(stream="unknown").incident_id
    store.take_actions([Done(an_action(unknown, ACKNOWLEDGE, 1), 0, 1000)], "actions", 0, 1)
    assert len(store.actions(unknown)) == 1

    store.remove_old(5000, LIMIT)

    assert store.actions(unknown) == []


def test_actions_about_one_incident_are_bounded(store: IncidentStore) -> None:
    take(store, an_alert(OPEN, 3))
    incident = an_alert().incident_id
    many = [Done(an_action(incident, COMMENT, n, text="again"), n, 1000) for n in range(MOST_ACTIONS + 5)]

    store.take_actions(many, "actions", 0, len(many))

    assert len(store.actions(incident)) == MOST_ACTIONS


def test_hostile_names_are_data(store: IncidentStore) -> None:
    names = ["'; DROP TABLE incidents; --", "?", "%", "a\nb\x1b[31m", "\0", '"', "\u202etxt"]
    take(store, *(an_alert(RESOLVE, n, stream=name, severity=name, reason=name) for n, name in enumerate(names)))

    assert sorted(streams(store)) == sorted(name.replace("\0", "\ufffd") for name in names)
    assert streams(store, Wanted(stream="'; DROP*")) == [names[0]]
    assert len(store.named("")) == 2


def test_a_file_is_its_owners_alone_with_a_log_for_readers_beside_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "new" / "incidents.db"
    writer = IncidentStore(SqliteDatabase(path))
    take(writer, an_alert(OPEN, 3))

    with SqliteDatabase(path).transaction() as do:
        assert do("PRAGMA journal_mode").fetchone()[0] == "wal"
        reader = IncidentStore(SqliteDatabase(path, read_only=True))
        assert streams(reader) == ["press-2"]  # while another writes

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    reader.close()
    writer.close()


def test_permissions_that_were_too_wide_are_narrowed(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    path.touch(mode=0o644)
    path.chmod(0o644)

    SqliteDatabase(path).close()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_reader_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    IncidentStore(SqliteDatabase(path)).close()
    reader = IncidentStore(SqliteDatabase(path, read_only=True))

    with pytest.raises(StoreUnavailable, match="readonly"):
        take(reader, an_alert(OPEN, 3))
    with pytest.raises(StoreUnavailable, match="unable to open"):
        SqliteDatabase(tmp_path / "not-there.db", read_only=True)


@pytest.mark.parametrize("damage", ["all", "middle"])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = tmp_path / "incidents.db"
    store = IncidentStore(SqliteDatabase(path))
    take(store, *(an_alert(OPEN, n, stream=f"s{n}", onset=n) for n in range(200)))
    store.close()
    content = path.read_bytes()
    broken = b"\xa5" * len(content) if damage == "all" else content[:4096] + b"\xa5" * (len(content) - 4096)
    path.write_bytes(broken)

    again = IncidentStore(SqliteDatabase.mended(path))

    assert streams(again) == []
    (aside,) = tmp_path.glob("incidents.db.damaged-*Z")
    assert aside.read_bytes() == broken
    assert aside.name in caplog.text
    again.close()


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE precious (thing TEXT)")
    other.commit()
    other.close()
    before = path.read_bytes()

    with pytest.raises(StoreUnavailable, match="another program"):
        SqliteDatabase.mended(path)

    assert path.read_bytes() == before


def test_tables_of_a_later_version_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "incidents.db"
    SqliteDatabase(path).close()
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 99")
    later.commit()
    later.close()

    with pytest.raises(StoreUnavailable, match="later version"):
        SqliteDatabase.mended(path)
