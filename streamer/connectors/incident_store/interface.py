"""What a store of incidents asks of a database, and what is asked of the store. Types only."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from streamer.core.alerts import Alert
from streamer.core.incident_life import Action, Incident
from streamer.errors import BrokerError


class StoreUnavailable(BrokerError):
    """The database of incidents cannot be used, or not now; nothing was changed. Scoring does not depend on it."""


class StoreDamaged(StoreUnavailable):
    """What the database holds cannot be read any more."""


class StoreEmpty(StoreUnavailable):
    """There is nothing to read: no daemon has written yet."""


class StoreTaken(StoreUnavailable):
    """Another replica writes; nothing is wrong."""


class Rows(Protocol):
    """What a statement found."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class Execute(Protocol):
    """Runs one statement; `?` stands for a value."""

    def __call__(self, statement: str, values: Sequence[Any] = (), /) -> Rows: ...


class Database(Protocol):
    """One connection; used from a single thread at a time."""

    def transaction(self) -> AbstractContextManager[Execute]:
        """All of it or nothing.

        Raises:
            StoreUnavailable: Nothing was changed.
        """
        ...

    def shrink(self) -> None:
        """Give back some of the space that is free."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which incidents."""

    open: bool = False  # those alone that are open
    stream: str | None = None  # a pattern, such as press-*
    kind: str | None = None
    since_ms: int | None = None  # those that are open, or were told of then or later, by event time


class Place(NamedTuple):
    """Where a list goes on: after this incident."""

    opened_ms: int
    id: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the incidents wanted, the newest first."""

    incidents: Sequence[Incident]
    next: Place | None  # None: these are all


class Told(NamedTuple):
    """An alert as it was read from its topic."""

    alert: Alert
    raw: bytes
    seen_ms: int  # when its record was written


class Done(NamedTuple):
    """An action as it was read from its topic."""

    action: Action
    offset: int
    seen_ms: int


class Moment(NamedTuple):
    """Something in the life of an incident."""

    at_ms: int
    what: Alert | Action
