"""Crossed and locked books: the bid above the ask, or equal to it, for longer than a moment.

A side that is zero or absent is missing, not crossed. Feeds differ in what that means: one that sends both sides of the
book in a message has withdrawn the missing side; one that sends a side at a time says nothing of the other, whose last
value stands.
"""

from __future__ import annotations

import numpy as np

from streamer.core.events import CROSSED_BOOK, LOCKED_BOOK, Event
from streamer.core.keyed_state import KeyedState
from streamer.core.rules.options import BookRule
from streamer.core.rules.ordered import Bools, Floats, Ordered
from streamer.core.rules.spells import Spells


class Book:
    """Books of all streams."""

    def __init__(self, state: KeyedState, rule: BookRule) -> None:
        self._rule = rule
        self._columns = state.register(
            "rules_book",
            {
                "price": (np.float64, (2,), np.nan),  # newest bid and ask
                "beside": (np.bool_, (2,), False),  # it came together with the other side
            },
        )
        moment_ns = rule.longer_than_ns
        self.spells = [
            Spells(state, kind, ("bid", "ask"), open_after_ns=moment_ns, close_after_ns=moment_ns)
            for kind in (CROSSED_BOOK, LOCKED_BOOK)
        ]

    def step(self, some: Ordered, values: Floats) -> list[Event]:
        """Take in readings; `values` are theirs, `(n, fields)`."""
        sides = values[:, [self._rule.bid, self._rule.ask]]
        present = np.asarray(sides > 0)  # False for NaN
        quoted = np.flatnonzero(present.any(1))
        if not len(quoted):
            return []
        some, sides, present = some.take(quoted), sides[quoted], present[quoted]
        both = np.asarray(present.all(1))
        book = np.stack([self._side(some, side, sides[:, side], present[:, side], both) for side in (0, 1)], 1)
        known = np.asarray(~np.isnan(book).any(1))
        some, book = some.take(known), book[known]
        difference = book[:, 0] - book[:, 1]
        crossed, locked = self.spells
        return crossed.step(some, difference > 0, book) + locked.step(some, difference == 0, book)

    def _side(self, some: Ordered, side: int, values: Floats, present: Bools, both: Bools) -> Floats:
        """What stands on one side of the book after each reading; NaN if nothing does."""
        price, beside = self._columns["price"], self._columns["beside"]
        standing = some.carried(values, present, price[some.codes, side])
        came_beside = some.carried(both, present, beside[some.codes, side])
        standing = np.where(~present & came_beside, np.nan, standing)
        price[some.codes, side] = standing[some.last]
        beside[some.codes, side] = came_beside[some.last]
        return standing
