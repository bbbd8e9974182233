"""A quote that stands still while others of its partition move, or while it is sent again and again.

Fields that are absent from a reading, or zero, have not changed; a stream that sends nothing at all is silent, which
is told as such (`silence`).
"""

from __future__ import annotations

import numpy as np

from streamer.core.events import STALE_QUOTE, Event
from streamer.core.keyed_state import KeyedState
from streamer.core.readings import NEVER
from streamer.core.rules.options import QuoteRule
from streamer.core.rules.ordered import Floats, Ordered
from streamer.core.rules.spells import Spells

OTHERS_MOVED = 10  # changes of other streams meanwhile
SENT_AGAIN = 200  # or unchanged readings of its own


class StaleQuote:
    """Quotes of all streams."""

    def __init__(self, state: KeyedState, rule: QuoteRule) -> None:
        self._rule = rule
        self._moves = state.register_partitions("rules_moves")  # changes so far
        self._columns = state.register(
            "rules_quote",
            {
                "values": (np.float64, (len(rule.fields),), np.nan),
                "changed_ns": (np.int64, (), NEVER),
                "changed_clock_ns": (np.int64, (), 0),
                "moves": (np.int64, (), 0),  # of the partition, when it changed or came from another partition
                "partition": (np.int64, (), -1),  # whose moves those are
                "unchanged": (np.int64, (), 0),  # readings since it changed
            },
        )
        self.spells = Spells(state, STALE_QUOTE, ("unchanged",), open_after_ns=0, close_after_ns=0)

    def step(self, some: Ordered, values: Floats) -> list[Event]:
        """Take in readings; `values` are theirs, `(n, fields)`."""
        quote = values[:, list(self._rule.fields)]
        present = quote > 0
        quoted = np.flatnonzero(present.any(1))
        if not len(quoted):
            return []
        some, quote, present = some.take(quoted), quote[quoted], present[quoted]
        t, codes = self._columns, some.codes
        changed = np.zeros(len(some), bool)
        for field in range(quote.shape[1]):
            standing = some.carried(quote[:, field], present[:, field], t["values"][codes, field])
            changed |= present[:, field] & (standing != some.before(standing, t["values"][codes, field]))
            t["values"][codes, field] = standing[some.last]

        moves = self._count(some, changed)
        changed_ns = some.carried(some.time_ns, changed, t["changed_ns"][codes])
        changed_clock_ns = some.carried(some.clock_ns, changed, t["changed_clock_ns"][codes])
        came_over = some.partition != some.before(some.partition, t["partition"][codes])
        moves_then = some.carried(moves, changed | came_over, t["moves"][codes])
        newest = some.newest(changed)
        at_first = np.arange(len(some)) - some.begin_of + 1 + some.spread(t["unchanged"][codes])
        unchanged = np.where(newest >= 0, np.arange(len(some)) - newest, at_first)
        t["changed_ns"][codes], t["changed_clock_ns"][codes] = changed_ns[some.last], changed_clock_ns[some.last]
        t["moves"][codes], t["unchanged"][codes] = moves_then[some.last], unchanged[some.last]
        t["partition"][codes] = some.partition[some.last]

        lasted = some.clock_ns - changed_clock_ns
        others = (moves - moves_then >= OTHERS_MOVED) | (unchanged >= SENT_AGAIN)
        stale = (lasted >= self._rule.after_ns) & others
        return self.spells.step(some, stale, unchanged[:, None].astype(np.float64), (changed_ns, changed_clock_ns))

    def _count(self, some: Ordered, changed: np.ndarray) -> np.ndarray:
        """Changes in the partition up to each reading, in the order in which readings became known."""
        moves = np.zeros(len(some), np.int64)
        for partition in np.unique(some.partition).tolist():
            rows = np.flatnonzero(some.partition == partition)
            rows = rows[np.argsort(some.place[rows], kind="stable")]
            moves[rows] = self._moves.get(partition, 0) + np.cumsum(changed[rows])
            self._moves[partition] = int(moves[rows[-1]])
        return moves
