"""What `/incidents` and `/incidents/ID` answer: JSON from the daemon's store of incidents.

One question at a time, for which others wait a little, as a database that hangs must not use up the connections that
health checks need; each with a connection of its own that cannot write; a bounded number of rows is looked at, and
the rest follows with `next`. Not inside: HTTP and logins (`observability.web`), the store itself
(`connectors.incident_store`).
"""

from __future__ import annotations

import re
import threading
from typing import Any
from urllib.parse import parse_qsl

from streamer.config import Settings
from streamer.connectors.incident_store import IncidentStore, StoreUnavailable, Wanted, open_to_read
from streamer.connectors.incident_store.interface import Place
from streamer.core.events import KINDS
from streamer.core.incident_life import NotUnderstood, as_json, milliseconds, moment_as_json
from streamer.observability.web import Answer

DEFAULT_LIMIT, MAX_LIMIT = 50, 200  # incidents of one answer
WAIT_S = 2.0  # for the answers before
_MAX_PATTERN = 256  # characters
_ID = re.compile(r"[0-9a-f]{1,32}")
_CURSOR = re.compile(r"(-?\d{1,15})-([0-9a-f]{32})")
_KNOWN = ("open", "stream", "kind", "since", "limit", "cursor")


class _Wrong(ValueError):
    """The question is; says what was wanted."""


class IncidentPages:
    """Answers questions, from many threads.

    Args:
        settings: Where the store is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._one_at_a_time = threading.Lock()

    def __call__(self, path: str, query: str) -> Answer:
        """Status and content.

        Args:
            path: Below `/incidents`; empty: the list.
            query: After the question mark.
        """
        if not self._one_at_a_time.acquire(timeout=WAIT_S):
            return "503 Service Unavailable", {"error": "another question is still being answered; ask again"}
        try:
            store = IncidentStore(open_to_read(self._settings))
            try:
                return self._one(store, path) if path else self._list(store, query)
            finally:
                store.close()
        except _Wrong as wrong:
            return "400 Bad Request", {"error": str(wrong)}
        except StoreUnavailable as error:
            return "503 Service Unavailable", {"error": f"the store of incidents cannot be asked: {error}"}
        finally:
            self._one_at_a_time.release()

    def _list(self, store: IncidentStore, query: str) -> Answer:
        wanted, limit, after = _wanted(query)
        page = store.page(wanted, limit, after)
        following = None if page.next is None else f"{page.next.opened_ms}-{page.next.id}"
        return "200 OK", {"incidents": list(map(as_json, page.incidents)), "next": following}

    def _one(self, store: IncidentStore, name: str) -> Answer:
        if not _ID.fullmatch(name):
            raise _Wrong("wanted the id of an incident, or its first characters: 0-9 and a-f")
        found = store.named(name)
        if len(found) > 1:
            raise _Wrong("several incidents begin so; give more characters")
        if not found:
            return "404 Not Found", {"error": "no such incident"}
        timeline = [moment_as_json(*moment) for moment in store.timeline(found[0].id)]
        return "200 OK", {"incident": as_json(found[0]), "timeline": timeline}


def _wanted(query: str) -> tuple[Wanted, int, Place | None]:
    """What a query string asks for."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=len(_KNOWN))
    except ValueError:
        raise _Wrong(f"wanted parameters among {', '.join(_KNOWN)}, such as ?open=true&limit=20") from None
    given: dict[str, Any] = dict(pairs)
    if len(given) < len(pairs) or set(given) - set(_KNOWN):
        raise _Wrong(f"wanted each of {', '.join(_KNOWN)} once at most")
    if given.get("open", "false") not in ("true", "false"):
        raise _Wrong("open: wanted true or false")
    if given.get("kind", KINDS[0]) not in KINDS:
        raise _Wrong(f"kind: wanted one of {', '.join(KINDS)}")
    if len(given.get("stream", "")) > _MAX_PATTERN:
        raise _Wrong(f"stream: wanted at most {_MAX_PATTERN} characters")
    limit = given.get("limit", str(DEFAULT_LIMIT))
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 5 and 0 < int(limit) <= MAX_LIMIT):
        raise _Wrong(f"limit: wanted a number from 1 to {MAX_LIMIT}")
    cursor = _CURSOR.fullmatch(given.get("cursor", f"0-{'0' * 32}"))
    if cursor is None:
        raise _Wrong("cursor: wanted what the answer before said in `next`")
    try:
        since_ms = milliseconds(given["since"]) if "since" in given else None
    except NotUnderstood:
        raise _Wrong("since: wanted a time in ISO 8601, such as 2026-01-31T08:00Z") from None
    wanted = Wanted(given.get("open") == "true", given.get("stream"), given.get("kind"), since_ms)
    return wanted, int(limit), Place(int(cursor[1]), cursor[2]) if "cursor" in given else None
