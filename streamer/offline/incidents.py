"""Incidents for commands: from the store of the daemon where there is one here, else put together from the topics.

Not inside: how they are shown (`cli.incidents`), how they are kept (`connectors.incident_store`).
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime

from streamer.config import Settings
from streamer.connectors.incident_store import (
    MEMORY,
    Follower,
    IncidentStore,
    SqliteDatabase,
    StoreEmpty,
    open_to_read,
    send,
)
from streamer.connectors.kafka import PoisonedBatch
from streamer.connectors.kafka.probe import Needs, require
from streamer.core.incident_life import UNDO, Action, Incident, NotUnderstood, undoable
from streamer.errors import DataError, UsageError

ShowProgress = Callable[[str, float], AbstractContextManager[Callable[[float], None]]]
_MOST_DAMAGED = 20  # records; each costs a new connection
_PREFIX = re.compile(r"[0-9a-f]{1,32}")

log = logging.getLogger(__name__)


@contextlib.contextmanager
def opened(settings: Settings, show_progress: ShowProgress) -> Iterator[IncidentStore]:
    """A store to ask.

    Raises:
        BrokerError: The topics, or the file, cannot be read.
    """
    store = None
    if settings.incidents.store is not None:
        with contextlib.suppress(StoreEmpty):
            store = IncidentStore(open_to_read(settings))
    if store is None:
        store = IncidentStore(SqliteDatabase(MEMORY))
        _read_topics(settings, store, show_progress)
    try:
        yield store
    finally:
        store.close()


def _read_topics(settings: Settings, store: IncidentStore, show_progress: ShowProgress) -> None:
    require(settings.kafka, Needs(reads=(settings.kafka.alerts_topic,)))
    refused = 0

    def count(messages: int) -> None:
        nonlocal refused
        refused += messages

    follower = Follower(settings, store, on_refused=count)
    with contextlib.ExitStack() as stack:
        stack.callback(follower.close)
        advance: Callable[[float], None] | None = None
        left = 0

        def move(lag: int) -> None:
            nonlocal advance, left
            if advance is None:
                advance = stack.enter_context(show_progress("reading alerts", lag))
            else:
                advance(left - lag)
            left = lag

        for attempt in range(_MOST_DAMAGED + 1):
            try:
                follower.turn(move)
                break
            except PoisonedBatch as error:
                if attempt == _MOST_DAMAGED:
                    raise
                log.warning("left out, as it cannot be read: %s", error)  # the store stands behind it now
    if refused:
        log.warning("%d messages are no alert and no action, and were left out", refused)


def one(store: IncidentStore, prefix: str) -> Incident:
    """The incident whose id begins so.

    Raises:
        UsageError: It is no beginning of an id, or of several.
        DataError: There is none.
    """
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(f"{prefix[:80]!a}: wanted the id of an incident, or its first characters: 0-9 and a-f")
    found = store.named(prefix)
    if not found:
        raise DataError(f"{prefix}: no such incident; `streamer incidents list` shows those that are known")
    if len(found) > 1:
        raise UsageError(f"{prefix}: several incidents begin so, such as {found[0].id} and {found[1].id}; give more")
    return found[0]


def act(settings: Settings, store: IncidentStore, incident: Incident, kind: str, *, who: str, text: str) -> Action:
    """Write what somebody does about an incident; returns once the broker has it.

    Raises:
        UsageError: There is nothing to undo, or a text is too long.
        BrokerError: It was not acknowledged.
    """
    undoes = None
    if kind == UNDO:
        earlier = undoable(store.actions(incident.id))
        if earlier is None:
            raise UsageError(f"{incident.id}: nothing to undo")
        undoes = earlier.action_id
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    action = Action(secrets.token_hex(16), incident.id, kind, who, now, text, undoes)
    try:
        action.check()
    except NotUnderstood as error:
        raise UsageError(f"incidents: {error}") from None
    send(settings, action)
    return action
