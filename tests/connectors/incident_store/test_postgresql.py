"""Replicas share a store in PostgreSQL: one writes, all read, and nobody writes without the lock."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from streamer.config import Settings, load
from streamer.connectors.incident_store import (
    Follower,
    IncidentStore,
    StoreEmpty,
    StoreTaken,
    StoreUnavailable,
    Wanted,
    open_to_read,
    open_to_write,
)
from streamer.core.incident_life import ACKNOWLEDGE
from streamer.observability.metrics import Metrics
from streamer.runtime.incident_thread import open_incident_thread
from streamer.runtime.status import Status
from tests.alert_logs import Log, a_life, an_action, an_alert
from tests.databases import PostgresServer


def settings_for(server: PostgresServer, folder: Path, *, password: str | None = None) -> Settings:
    """As a user has them: the address in the file, the password in another."""
    file, secret = folder / "streamer.yaml", folder / "password"
    secret.write_text(password or server.password)
    file.write_text(f"records: {{features: [a]}}\nincidents: {{store: {server.new_database()}}}\n")
    return load(file, {"STREAMER_INCIDENTS__PASSWORD_FILE": str(secret)})


@pytest.fixture
def settings(postgresql: PostgresServer, tmp_path: Path) -> Settings:
    return settings_for(postgresql, tmp_path)


def a_log(settings: Settings) -> Log:
    log = Log(batch=2)
    log.write(settings.kafka.alerts_topic, *(alert.encode() for alert in a_life()))
    log.write(settings.actions_topic, an_action(an_alert().incident_id, ACKNOWLEDGE, 1).encode())
    return log


def test_what_one_replica_writes_all_read(settings: Settings) -> None:
    with closing(IncidentStore(open_to_write(settings))) as writer:
        Follower(settings, writer, connect=a_log(settings).connect).turn()

        with closing(IncidentStore(open_to_read(settings))) as reader:
            (incident,) = reader.page(Wanted(stream="press-*"), 10).incidents
            assert (incident.acknowledged_by, len(reader.timeline(incident.id))) == ("anna", 4)
            with pytest.raises(StoreUnavailable, match="read-only"):
                reader.stand_at("alerts", 0, 5)


def test_a_second_writer_waits_until_the_first_is_gone(postgresql: PostgresServer, settings: Settings) -> None:
    url = settings.incidents.url
    first = IncidentStore(open_to_write(settings))
    with pytest.raises(StoreTaken):
        open_to_write(settings)

    postgresql.run("SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE locktype = 'advisory'")
    with closing(IncidentStore(open_to_write(settings))) as second:
        with pytest.raises(StoreUnavailable):
            first.stand_at("alerts", 0, 5)  # it has lost the lock, and with it the connection
        second.stand_at("alerts", 0, 7)

        assert second.positions("alerts") == {0: 7}
    first.close()
    assert url is not None
    assert postgresql.password not in url


def test_before_anything_is_written_there_is_nothing_to_read(settings: Settings) -> None:
    with pytest.raises(StoreEmpty):
        open_to_read(settings)


def test_tables_of_a_later_version_are_left_alone(postgresql: PostgresServer, settings: Settings) -> None:
    open_to_write(settings).close()
    postgresql.run("UPDATE streamer.about SET version = 99", settings.incidents.url)

    with pytest.raises(StoreUnavailable, match="later version"):
        open_to_write(settings)


def test_a_wrong_password_is_said_and_not_shown(postgresql: PostgresServer, tmp_path: Path) -> None:
    settings = settings_for(postgresql, tmp_path, password="hunter2")

    with pytest.raises(StoreUnavailable, match="password authentication failed") as refused:
        open_to_write(settings)

    assert "hunter2" not in str(refused.value) + repr(settings)


def test_a_password_that_was_changed_is_used_with_the_next_connection(
    postgresql: PostgresServer, tmp_path: Path
) -> None:
    settings = settings_for(postgresql, tmp_path, password="last month's")

    (tmp_path / "password").write_text(postgresql.password)

    open_to_write(settings).close()


def test_a_replica_that_may_not_write_is_not_worse_off(settings: Settings) -> None:
    metrics = Metrics(CollectorRegistry())
    status = Status(metrics, lambda: 0.0)
    thread = open_incident_thread(settings, metrics, status, lambda: 0.0)
    assert thread is not None
    with closing(IncidentStore(open_to_write(settings))), pytest.raises(StoreTaken):
        thread.turn()

    assert thread.pages("", "") == ("200 OK", {"incidents": [], "next": None})
