"""Incidents, the alerts about them and what people did: what is kept, and what can be asked.

    incidents   one row each, always what its alerts and actions come to
    events      the alerts, each once, as they were sent
    actions     what people did, each once
    positions   up to where each partition was read: changed together with what was read

Plain SQL that SQLite and PostgreSQL both take. Retention goes by when records were written, not by event time, which
may be of any year. Not inside: connections and what goes wrong with them (`sqlite`).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from streamer.connectors.incident_store.interface import (
    Database,
    Done,
    Execute,
    Moment,
    Page,
    Place,
    StoreUnavailable,
    Told,
    Wanted,
)
from streamer.core.incident_life import (
    MOST_ACTIONS,
    Action,
    Incident,
    NotUnderstood,
    milliseconds,
    read_alert,
    standing,
    with_alert,
)

TABLES = (
    """CREATE TABLE incidents (
        id TEXT PRIMARY KEY, stream TEXT NOT NULL, kind TEXT NOT NULL, scope TEXT NOT NULL,
        severity TEXT NOT NULL, peak_severity TEXT NOT NULL,
        onset_ms BIGINT NOT NULL, opened_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL, resolved_ms BIGINT,
        reason TEXT, score DOUBLE PRECISION NOT NULL, peak_score DOUBLE PRECISION NOT NULL, summary TEXT NOT NULL,
        features TEXT NOT NULL, feature_score DOUBLE PRECISION NOT NULL, model_version TEXT NOT NULL, dashboard TEXT,
        muted TEXT, newest_event TEXT NOT NULL, newest_alert TEXT NOT NULL, seen_ms BIGINT NOT NULL,
        size BIGINT NOT NULL, acknowledged_by TEXT, acknowledged_ms BIGINT, verdict TEXT, verdict_by TEXT,
        verdict_ms BIGINT, comments BIGINT NOT NULL)""",
    "CREATE INDEX incidents_by_time ON incidents (opened_ms, id)",
    "CREATE INDEX incidents_open ON incidents (opened_ms, id) WHERE resolved_ms IS NULL",
    "CREATE INDEX incidents_by_age ON incidents (seen_ms)",
    """CREATE TABLE events (
        alert_id TEXT PRIMARY KEY, incident_id TEXT NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
        at_ms BIGINT NOT NULL, alert TEXT NOT NULL)""",
    "CREATE INDEX events_by_incident ON events (incident_id)",
    # An action may be read before the first alert about its incident is.
    """CREATE TABLE actions (
        action_id TEXT PRIMARY KEY, incident_id TEXT NOT NULL, at_ms BIGINT NOT NULL, kafka_partition BIGINT NOT NULL,
        kafka_offset BIGINT NOT NULL, seen_ms BIGINT NOT NULL, action TEXT NOT NULL)""",
    "CREATE INDEX actions_by_incident ON actions (incident_id)",
    """CREATE TABLE positions (
        topic TEXT NOT NULL, kafka_partition BIGINT NOT NULL, next_offset BIGINT NOT NULL,
        PRIMARY KEY (topic, kafka_partition))""",
)
VERSION = 1  # of these
AT_ONCE = 200  # incidents that one transaction removes

_FIELDS = Incident.__struct_fields__
_COLUMNS = ", ".join(_FIELDS)
_PUT = (
    f"INSERT INTO incidents ({_COLUMNS}) VALUES ({', '.join('?' * len(_FIELDS))}) ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _FIELDS if name != "id")
)
_SCANNED = 500  # rows looked at in one statement
_MOST_SCANNED = 5_000  # for one page
_MOST_EVENTS = 1000  # shown of one incident


class IncidentStore:
    """What is kept in one database.

    Args:
        database: Has the tables.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # Following.

    def positions(self, topic: str) -> dict[int, int]:
        """The next offset to read of each partition that was read."""
        with self._database.transaction() as do:
            found = do("SELECT kafka_partition, next_offset FROM positions WHERE topic = ?", (topic,)).fetchall()
        return dict(found)

    def take_alerts(self, alerts: Sequence[Told], topic: str, partition: int, next_offset: int) -> int:
        """Keep alerts read from a partition, and that they were read; how many were new."""
        with self._database.transaction() as do:
            new, touched = [], dict[str, Incident]()
            ids = set[str]()
            for told in alerts:
                alert = told.alert
                if alert.alert_id in ids or do("SELECT 1 FROM events WHERE alert_id = ?", (alert.alert_id,)).fetchone():
                    continue
                ids.add(alert.alert_id)
                before = touched.get(alert.incident_id) or _incident(do, alert.incident_id)
                after = with_alert(before, alert, seen_ms=told.seen_ms, size=len(told.raw))
                touched[after.id] = after if before is not None else standing(after, _actions(do, after.id))
                new.append(told)
            for incident in touched.values():
                _put(do, incident)
            for alert, raw, _ in new:
                values = alert.alert_id, alert.incident_id, milliseconds(alert.time), raw.decode(errors="replace")
                do("INSERT INTO events (alert_id, incident_id, at_ms, alert) VALUES (?, ?, ?, ?)", values)
            _stand_at(do, topic, partition, next_offset)
        return len(new)

    def take_actions(self, actions: Sequence[Done], topic: str, partition: int, next_offset: int) -> int:
        """As `take_alerts`."""
        with self._database.transaction() as do:
            touched = dict[str, int]()
            new = 0
            for action, offset, seen_ms in actions:
                count = do("SELECT COUNT(*) FROM actions WHERE incident_id = ?", (action.incident_id,)).fetchone()[0]
                if count >= MOST_ACTIONS:
                    continue
                new += do(
                    "INSERT INTO actions (action_id, incident_id, at_ms, kafka_partition, kafka_offset, seen_ms, "
                    "action) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (action_id) DO NOTHING",
                    (
                        action.action_id, action.incident_id, milliseconds(action.time), partition, offset, seen_ms,
                        action.encode().decode(),
                    ),
                ).rowcount  # fmt: skip
                touched[action.incident_id] = max(seen_ms, touched.get(action.incident_id, 0))
            for incident_id, seen_ms in touched.items():
                incident = _incident(do, incident_id)
                if incident is not None:
                    seen = msgspec.structs.replace(incident, seen_ms=max(seen_ms, incident.seen_ms))
                    _put(do, standing(seen, _actions(do, incident_id)))
            _stand_at(do, topic, partition, next_offset)
        return new

    def stand_at(self, topic: str, partition: int, next_offset: int) -> None:
        """That a partition was read up to here."""
        with self._database.transaction() as do:
            _stand_at(do, topic, partition, next_offset)

    # Retention.

    def remove_old(self, before_ms: int, most_bytes: int) -> int:
        """Remove some resolved incidents that are too old or too many, the oldest first; how many.

        To be called again until it returns 0: each call is one small transaction.

        Args:
            before_ms: The newest record about them was written before.
            most_bytes: What the alerts that stay may take.
        """
        with self._database.transaction() as do:
            some = "FROM incidents WHERE resolved_ms IS NOT NULL {} ORDER BY seen_ms, id LIMIT ?"
            old = do(f"SELECT id, size {some.format('AND seen_ms < ?')}", (before_ms, AT_ONCE)).fetchall()
            gone = [each[0] for each in old]
            if not gone:
                excess = int(do("SELECT COALESCE(SUM(size), 0) FROM incidents").fetchone()[0]) - most_bytes
                for incident_id, size in do(f"SELECT id, size {some.format('')}", (AT_ONCE,)).fetchall():
                    if excess <= 0:
                        break
                    gone.append(incident_id)
                    excess -= size
            for incident_id in gone:
                do("DELETE FROM incidents WHERE id = ?", (incident_id,))
                do("DELETE FROM actions WHERE incident_id = ?", (incident_id,))
            if not gone:
                unknown = "seen_ms < ? AND incident_id NOT IN (SELECT id FROM incidents)"
                do(f"DELETE FROM actions WHERE {unknown}", (before_ms,))
        if gone:
            self._database.shrink()
        return len(gone)

    # Asking.

    def page(self, wanted: Wanted, limit: int, after: Place | None = None) -> Page:
        """Incidents, those that opened last first.

        A page may hold fewer than `limit`, even none, and still be followed by another: a bounded number of rows is
        looked at.
        """
        matches = re.compile(fnmatch.translate(wanted.stream)).match if wanted.stream is not None else None
        conditions, values = ["1 = 1"], list[Any]()
        if wanted.open:
            conditions.append("resolved_ms IS NULL")
        if wanted.kind is not None:
            conditions.append("kind = ?")
            values.append(wanted.kind)
        if wanted.since_ms is not None:
            conditions.append("(updated_ms >= ? OR resolved_ms IS NULL)")
            values.append(wanted.since_ms)
        found: list[Incident] = []
        with self._database.transaction() as do:
            for _ in range(_MOST_SCANNED // _SCANNED):
                where, place = " AND ".join(conditions), list[Any]()
                if after is not None:
                    where += " AND (opened_ms < ? OR (opened_ms = ? AND id < ?))"
                    place = [after.opened_ms, after.opened_ms, after.id]
                rows = do(
                    f"SELECT {_COLUMNS} FROM incidents WHERE {where} ORDER BY opened_ms DESC, id DESC LIMIT ?",
                    (*values, *place, _SCANNED),
                ).fetchall()
                for row in rows:
                    incident = Incident(**dict(zip(_FIELDS, row, strict=True)))
                    if matches is None or matches(incident.stream):
                        if len(found) == limit:
                            return Page(found, after)
                        found.append(incident)
                    after = Place(incident.opened_ms, incident.id)
                if len(rows) < _SCANNED:
                    return Page(found, None)
        return Page(found, after)

    def named(self, prefix: str) -> list[Incident]:
        """Incidents whose id begins so, at most two."""
        with self._database.transaction() as do:
            rows = do(f"SELECT {_COLUMNS} FROM incidents WHERE id LIKE ? ORDER BY id LIMIT 2", (f"{prefix}%",))
            return [Incident(**dict(zip(_FIELDS, row, strict=True))) for row in rows.fetchall()]

    def timeline(self, incident_id: str) -> list[Moment]:
        """The alerts about an incident and what people did, in the order of their times."""
        with self._database.transaction() as do:
            told = do(
                "SELECT at_ms, alert FROM events WHERE incident_id = ? ORDER BY at_ms, alert_id LIMIT ?",
                (incident_id, _MOST_EVENTS),
            ).fetchall()
            done = _actions(do, incident_id)
        moments = [Moment(at_ms, read_alert(alert.encode())) for at_ms, alert in told]
        moments += [Moment(milliseconds(action.time), action) for action in done]
        return sorted(moments, key=lambda moment: moment.at_ms)

    def actions(self, incident_id: str) -> list[Action]:
        """All about an incident, in the order of their topic."""
        with self._database.transaction() as do:
            return _actions(do, incident_id)

    def open_by_kind(self) -> dict[str, int]:
        """How many incidents are open."""
        with self._database.transaction() as do:
            rows = do("SELECT kind, COUNT(*) FROM incidents WHERE resolved_ms IS NULL GROUP BY kind").fetchall()
        return dict(rows)

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()


def _incident(do: Execute, incident_id: str) -> Incident | None:
    row = do(f"SELECT {_COLUMNS} FROM incidents WHERE id = ?", (incident_id,)).fetchone()
    return None if row is None else Incident(**dict(zip(_FIELDS, row, strict=True)))


def _actions(do: Execute, incident_id: str) -> list[Action]:
    rows = do("SELECT action FROM actions WHERE incident_id = ? ORDER BY kafka_partition, kafka_offset", (incident_id,))
    return list(_readable(text for (text,) in rows.fetchall()))


def _readable(texts: Iterable[str]) -> Iterable[Action]:
    for text in texts:
        try:
            yield Action.decode(text.encode())
        except NotUnderstood as error:
            raise StoreUnavailable(f"an action in the store of incidents cannot be read: {error}") from None


def _put(do: Execute, incident: Incident) -> None:
    do(_PUT, [getattr(incident, name) for name in _FIELDS])


def _stand_at(do: Execute, topic: str, partition: int, next_offset: int) -> None:
    do(
        "INSERT INTO positions (topic, kafka_partition, next_offset) VALUES (?, ?, ?) "
        "ON CONFLICT (topic, kafka_partition) DO UPDATE SET next_offset = excluded.next_offset",
        (topic, partition, next_offset),
    )
