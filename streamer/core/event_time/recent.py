"""Readings of each stream's newest bars, kept for corrections.

Like `held`, and what is not looked for costs nothing: only the bars of the streams in question are looked at, so
streams that have stopped do not slow down the others. Pure. Not inside: what is made of the readings (`hindsight`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from streamer.core.event_time.held import Held, Rows
from streamer.core.keyed_state import KeyedState

Ints = NDArray[np.int64]

_NONE = np.iinfo(np.int64).max


class Recent(Held):
    """Rows of all streams; a table of `KeyedState`.

    Args:
        state: Of all streams.
        fields: Values of a reading as sent.
        span_ns: A bar.
    """

    def __init__(self, state: KeyedState, fields: int, span_ns: int) -> None:
        super().__init__(fields, span_ns)
        self._state = state
        # No row of the stream is older; found again when rows are restored.
        self._since = state.register("recent_since", {"ns": (np.int64, (), _NONE)}, exported=False)

    def add(self, rows: Rows) -> None:
        """Keep rows, in the order they came."""
        super().add(rows)
        if len(rows):
            self._state.reach(rows.code)
            np.minimum.at(self._since["ns"], rows.code, rows.time_ns)

    def forget(self, codes: Ints, before_ns: Ints) -> Rows:
        """Take out what some streams have from before a time, `(k,)` each; sorted by bar, inside it as they came."""
        since_ns = self._since["ns"]
        going = since_ns[codes] < before_ns
        codes, before_ns = codes[going], before_ns[going]
        if not len(codes):
            return Rows.empty(self._fields)
        limit = np.full(len(since_ns), np.iinfo(np.int64).min)
        limit[codes] = before_ns
        out = [Rows.empty(self._fields)]
        for number in self._numbers(codes, before_ns - 1):
            held = Rows.join(self._buckets[number])
            old = held.time_ns < limit[held.code]
            out.append(held.take(old))
            if old.all():
                del self._buckets[number]
            elif old.any():
                self._buckets[number] = [held.take(~old)]
        since_ns[codes] = before_ns
        gone = Rows.join(out)
        self.count -= len(gone)
        return gone

    def of_each(self, codes: Ints, last_ns: Ints) -> list[Rows]:
        """The rows of some streams, rising, whose newest bar is `last_ns`, `(k,)`; by bar, inside it as they came."""
        empty = Rows.empty(self._fields)
        found = [empty]
        for number in self._numbers(codes, last_ns):
            held = Rows.join(self._buckets[number])
            found.append(held.take(np.isin(held.code, codes)))
        rows = Rows.join(found)
        rows = rows.take(np.argsort(rows.code, kind="stable"))
        edges = np.searchsorted(rows.code, [codes, codes + 1])
        return [rows.take(slice(*edge)) for edge in edges.T.tolist()]

    def _numbers(self, codes: Ints, last_ns: Ints) -> list[int]:
        """Buckets that may have rows of some streams, each until a time; rising."""
        first, last = np.minimum(self._since["ns"][codes], last_ns) // self._span_ns, last_ns // self._span_ns
        spans = np.unique(np.stack([first, last], 1), axis=0).tolist()
        wanted = set[int]()
        for begin, end in spans:
            some: Iterable[int] = range(begin, end + 1)
            if end - begin > len(self._buckets):
                some = (number for number in self._buckets if begin <= number <= end)
            wanted.update(some)
        return sorted(wanted & self._buckets.keys())
