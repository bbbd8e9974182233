"""Incidents in a database, put together from the topics of alerts and of actions.

    store       what is kept and asked for, in SQL that every database here takes
    sqlite      an SQLite file, or one in memory
    postgresql  a database that replicas share
    opening     the one that the settings name
    following   reads the topics into a store
    acting      writes what a person did to the topic of actions

The topics are the record; a store can always be made again from what they still hold. Not inside: what an incident is
(`core.incident_life`), the thread of the daemon (`runtime.incident_thread`).
"""

from streamer.connectors.incident_store.acting import ActionsTopic, send
from streamer.connectors.incident_store.following import Follower
from streamer.connectors.incident_store.interface import (
    Database,
    Moment,
    StoreDamaged,
    StoreEmpty,
    StoreTaken,
    StoreUnavailable,
    Wanted,
)
from streamer.connectors.incident_store.opening import check_store, open_to_read, open_to_write
from streamer.connectors.incident_store.sqlite import MEMORY, SqliteDatabase
from streamer.connectors.incident_store.store import IncidentStore

__all__ = [
    "MEMORY",
    "ActionsTopic",
    "Database",
    "Follower",
    "IncidentStore",
    "Moment",
    "SqliteDatabase",
    "StoreDamaged",
    "StoreEmpty",
    "StoreTaken",
    "StoreUnavailable",
    "Wanted",
    "check_store",
    "open_to_read",
    "open_to_write",
    "send",
]
