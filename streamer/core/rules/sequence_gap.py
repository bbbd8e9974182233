"""Sequence numbers of a stream that are missing.

A number that is not above the one before is a restart of the sender, a wrap or a repetition, never a gap. Numbers below
1 say nothing.
"""

from __future__ import annotations

import numpy as np

from streamer.core.events import SEQUENCE_GAP, Event
from streamer.core.grouping import Ints
from streamer.core.keyed_state import KeyedState
from streamer.core.rules.ordered import Ordered
from streamer.core.rules.spells import Spells

QUIET_NS = 60_000_000_000  # gaps less than this apart are one incident


class SequenceGap:
    """Newest numbers of all streams."""

    def __init__(self, state: KeyedState) -> None:
        self._columns = state.register("rules_sequence", {"number": (np.int64, (), 0)})
        self.spells = Spells(
            state, SEQUENCE_GAP, ("missing", "wanted", "number"), open_after_ns=0, close_after_ns=QUIET_NS
        )

    def step(self, some: Ordered, number: Ints) -> list[Event]:
        """Take in readings with their numbers, `(n,)`."""
        numbered = np.flatnonzero(number > 0)
        if not len(numbered):
            return []
        some, number = some.take(numbered), number[numbered]
        newest = self._columns["number"]
        before = some.before(number, newest[some.codes])
        missing = np.where(before > 0, number - before - 1, 0)
        newest[some.codes] = number[some.last]
        told = np.stack([missing, before + 1, number], 1).astype(np.float64)
        return self.spells.step(some, missing > 0, told)
