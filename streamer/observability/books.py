"""Counters that have to agree with each other at every scrape.

What one turn of the loop counts waits here until the turn is over, and is then posted all at once; a scrape sees the
books before it or after it, never in between. Nothing waits for scoring: a scrape waits for a posting at most, and a
posting for the collecting of a scrape. Not inside: which counters those are (`metrics`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any


class Books:
    """Used from the loop, but for `collect`, which any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: dict[int, tuple[Any, float]] = {}
        self._closed = False

    def account(self, counter: Any) -> Account:
        """A counter whose counts wait until they are posted."""
        return Account(self, counter)

    def count(self, counter: Any, amount: float) -> None:
        key = id(counter)  # the registry keeps every counter as long as the books are
        before = self._counted.get(key)
        self._counted[key] = (counter, amount + (before[1] if before else 0.0))

    def post(self, held: Any, count: int) -> None:
        """All that was counted, and how much is held back as a gauge, become visible together."""
        if self._closed:
            return
        with self._lock:
            for counter, amount in self._counted.values():
                counter.inc(amount)
            held.set(count)
        self._counted.clear()

    def discard(self) -> None:
        """A turn failed half-way, and its records will be read again: it is as if it had not been."""
        self._counted.clear()

    def close(self) -> None:
        """A turn failed half-way: the books stay as they were before it. The process is about to end."""
        self._closed = True
        self._counted.clear()

    def collect(self, registry: Any) -> list[Any]:
        """All families of a registry as of one moment."""
        with self._lock:
            return list(registry.collect())


class Account:
    """A counter of the books; used as a counter is."""

    def __init__(self, books: Books, counter: Any) -> None:
        self._books, self._counter = books, counter
        self._children: dict[tuple[str, ...], Account] = {}

    def inc(self, amount: float = 1) -> None:
        self._books.count(self._counter, amount)

    def labels(self, *values: str) -> Account:
        if values not in self._children:
            self._children[values] = Account(self._books, self._counter.labels(*values))
        return self._children[values]


class OneMoment:
    """A registry that is collected in one go, for the exposition."""

    def __init__(self, registry: Any, books: Books) -> None:
        self._registry, self._books = registry, books

    def collect(self) -> Iterable[Any]:
        return self._books.collect(self._registry)

    def restricted_registry(self, names: Iterable[str]) -> OneMoment:
        return OneMoment(self._registry.restricted_registry(names), self._books)
