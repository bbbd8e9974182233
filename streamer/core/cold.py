"""Streams whose past was lost: their alerts say so until they have had enough history again.

A partition begins cold where its group has a past but no state of it could be had: windows, habits and open incidents
of its streams are not known then. A stream that is new there may be one of them, unless it comes later than a time to
live, when it would have been forgotten anyway. Pure. Not inside: why there is no state (`runtime.partitions`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.core.alerts import Alert
from streamer.core.events import STREAM, Event
from streamer.core.grouping import Groups, Ints, group
from streamer.core.keyed_state import KeyedState
from streamer.core.ordering import Admitted

WINDOWS = 4  # of readings make enough history
_NEW, _KNOWN = -1, np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class Counted:
    """Readings of streams that were cold when a batch began."""

    groups: Groups
    rows: Ints  # (n,) what triggered each, in the order of `groups`
    before: Ints  # (groups,) readings before the batch

    def heard(self, event: Event) -> int | None:
        """Readings of an event's stream up to it; None: none of these streams."""
        g = int(np.searchsorted(self.groups.codes, event.code))
        if g == len(self.groups.codes) or self.groups.codes[g] != event.code:
            return None
        begin = self.groups.begin[g]
        rows = self.rows[begin : begin + self.groups.count[g]]
        return int(self.before[g] + (rows <= event.row).sum())


NOT_COUNTED = Counted(group(np.empty(0, np.int64)), np.empty(0, np.int64), np.empty(0, np.int64))


class Cold:
    """Counts readings of the model of streams that began without a past they may have had.

    Args:
        state: Of all streams.
        enough: Readings after which a stream is like any other.
        ttl_ns: How long after its partition a stream may begin cold, by the clock of `Expiry`; None: always.
    """

    def __init__(self, state: KeyedState, enough: int, ttl_ns: int | None) -> None:
        self._state, self._enough, self._ttl_ns = state, enough, ttl_ns
        self._partitions = state.register_partitions("cold")
        self._columns = state.register("cold", {"heard": (np.int32, (), _NEW)})

    def begin(self, partition: int) -> None:
        """All that comes of a partition from now on begins cold."""
        self._partitions[partition] = True

    @property
    def streams(self) -> int:
        """Streams that have not had enough history yet."""
        heard = self._columns["heard"]
        return int(((heard >= 0) & (heard < self._enough)).sum())

    def step(self, admitted: Admitted, clocks: Callable[[], Ints]) -> Counted:
        """Take in readings of the model; returns what `mark` needs of them.

        Args:
            admitted: What came of a batch.
            clocks: Gives the clock of `Expiry` after each reading of the batch.
        """
        codes, rows, partitions = admitted.readings.stream, admitted.rows, admitted.readings.partition
        self._state.reach(codes)
        heard = self._columns["heard"]
        cold = np.flatnonzero(heard[codes] < self._enough)
        if not len(cold):
            return NOT_COUNTED
        groups = group(codes[cold])
        first = cold[groups.order[groups.begin]]
        before = heard[groups.codes].astype(np.int64)
        if (new := before == _NEW).any():
            before[new] = np.where(self._begins_cold(partitions[first[new]], rows[first[new]], clocks), 0, _KNOWN)
        heard[groups.codes] = np.minimum(before + groups.count, _KNOWN)
        return Counted(groups, rows[cold][groups.order], before) if (before < self._enough).any() else NOT_COUNTED

    def mark(self, told: Sequence[tuple[Event, Alert]], counted: Counted = NOT_COUNTED) -> list[tuple[Event, Alert]]:
        """Alerts with a word where their streams are cold; `counted` is of the batch that led to them."""
        return [
            (event, msgspec.structs.replace(alert, cold_start=True) if self._is_cold(event, counted) else alert)
            for event, alert in told
        ]

    def _begins_cold(self, partitions: Ints, rows: Ints, clocks: Callable[[], Ints]) -> NDArray[np.bool_]:
        cold = np.isin(partitions, list(self._partitions))
        if self._ttl_ns is not None and cold.any():
            cold &= clocks()[rows] <= self._ttl_ns
        return cold

    def _is_cold(self, event: Event, counted: Counted) -> bool:
        if event.scope != STREAM:
            return False
        heard = counted.heard(event)
        if heard is None:
            heard = int(self._columns["heard"][event.code])
        if heard == _NEW:  # nothing of it has come out of a bar yet
            return int(self._state.partition[event.code]) in self._partitions
        return heard < self._enough
