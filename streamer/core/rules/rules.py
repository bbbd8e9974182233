"""All rules over the readings of a batch, as sent and in order, before they become bars.

Pure: durations are in event time, or in market time where there are sessions. Not inside: order (`event_time`),
wording (`alerts`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from streamer.core.events import EXPIRED, Event
from streamer.core.grouping import Ints, group
from streamer.core.keyed_state import KeyedState
from streamer.core.rules.book import Book
from streamer.core.rules.options import RulesOptions
from streamer.core.rules.ordered import Ordered
from streamer.core.rules.power_of_ten import PowerOfTen
from streamer.core.rules.price_spike import PriceSpike
from streamer.core.rules.sequence_gap import SequenceGap
from streamer.core.rules.spells import Spells
from streamer.core.rules.stale_quote import StaleQuote
from streamer.core.sessions import Sessions


class Rules:
    """The rules that are on.

    Args:
        state: Of all streams.
        options: Which, and what they watch.
        sessions: Market hours; None: always open.
    """

    def __init__(self, state: KeyedState, options: RulesOptions, sessions: Sessions | None = None) -> None:
        self.options, self._state, self._sessions = options, state, sessions
        self._book = Book(state, options.book) if options.book else None
        self._price = PowerOfTen(state, options.price) if options.price else None
        self._quote = StaleQuote(state, options.quote) if options.quote else None
        self._sequence = SequenceGap(state) if options.sequence else None
        self._spike = PriceSpike(state, options.spike) if options.spike else None
        self.spells: list[Spells] = [
            *(self._book.spells if self._book else ()),
            *(rule.spells for rule in (self._price, self._quote, self._sequence, self._spike) if rule is not None),
        ]

    def step(
        self,
        codes: Ints,
        times_ns: Ints,
        values: NDArray[np.floating],
        sequence: Ints | None,
        partitions: Ints,
        offsets: Ints,
        rows: Ints,
    ) -> list[Event]:
        """Take in readings, each stream's in order.

        Args:
            codes: Streams, `(n,)`.
            times_ns: Event time, `(n,)`.
            values: As sent, `(n, fields)`; NaN where there is none.
            sequence: Sequence numbers, `(n,)`; below 1 where there is none.
            partitions: `(n,)`.
            offsets: Of the record that brought each, `(n,)`.
            rows: The reading of the batch that released each, `(n,)`.

        Returns:
            Events in the order of the readings that released what they tell of.
        """
        if not self.spells or not len(codes):
            return []
        self._state.reach(codes)
        place = self._places(rows, times_ns, sequence, offsets, codes)
        order = group(codes).order
        times_ns = times_ns[order]
        clock_ns = times_ns if self._sessions is None else self._sessions.market_ns(times_ns)
        some = Ordered(codes[order], times_ns, clock_ns, rows[order], place[order], partitions[order])
        exact = values[order].astype(np.float64)
        events: list[Event] = []
        if self._book is not None:
            events += self._book.step(some, exact)
        if self._price is not None:
            events += self._price.step(some, exact)
        if self._quote is not None:
            events += self._quote.step(some, exact)
        if self._sequence is not None and sequence is not None:
            events += self._sequence.step(some, sequence[order])
        if self._spike is not None:
            events += self._spike.step(some, exact)
        return sorted(events, key=lambda event: event.row)

    def _places(self, rows: Ints, times_ns: Ints, sequence: Ints | None, offsets: Ints, codes: Ints) -> Ints:
        """The place of each reading in the order in which all became known.

        What one reading released is in the order of event time and arrival; codes, which another process gives
        otherwise, decide nothing.
        """
        n = len(rows)
        place = np.arange(n)
        if n < 2 or (rows[1:] > rows[:-1]).all():
            return place
        keys = (offsets, np.zeros(n, np.int64) if sequence is None else sequence, times_ns, rows)
        known = np.lexsort(keys)
        equal = np.all([key[known][1:] == key[known][:-1] for key in keys], axis=0)
        if equal.any():  # of one record
            streams, member = np.unique(codes, return_inverse=True)
            by_name = np.argsort(np.array([self._state.names[code] for code in streams.tolist()]))
            known = np.lexsort((np.argsort(by_name)[member], *keys))
        place = np.empty(n, np.int64)
        place[known] = np.arange(n)
        return place

    def close(self, codes: Ints, rows: Ints, times_ns: Ints, reason: str = EXPIRED) -> list[Event]:
        """Resolve the incidents of streams that are no longer tracked; see `Incidents.close`."""
        return [event for spells in self.spells for event in spells.close(codes, rows, times_ns, reason)]

    def open_counts(self) -> Mapping[str, int]:
        """Open incidents by kind."""
        return {spells.kind: spells.open_count for spells in self.spells}
