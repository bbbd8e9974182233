"""A condition that lasts becomes an incident; once it has been over for long enough, the incident resolves.

Memory is of each stream: whether the condition holds, since when, whether an incident is open. What is told follows
from the sequence of a stream's readings alone, never from how they were batched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from streamer.core.events import EXPIRED, OPEN, RESOLVE, Detail, Event
from streamer.core.grouping import Ints
from streamer.core.keyed_state import KeyedState
from streamer.core.readings import NEVER
from streamer.core.rules.ordered import Bools, Floats, Ordered


class Spells:
    """Incidents of one kind.

    Args:
        state: Of all streams.
        kind: Of the incidents.
        figures: Names of what is told of the reading that shows the fault.
        open_after_ns: How long the condition must hold.
        close_after_ns: How long it must be over.
        facts: Told of every incident.
    """

    def __init__(
        self,
        state: KeyedState,
        kind: str,
        figures: Sequence[str],
        *,
        open_after_ns: int,
        close_after_ns: int,
        facts: Mapping[str, Detail] | None = None,
    ) -> None:
        self.kind, self._figures, self._facts = kind, tuple(figures), dict(facts or {})
        self._open_after_ns, self._close_after_ns = open_after_ns, close_after_ns
        self._columns = state.register(
            f"rules_{kind}",
            {
                "holds": (np.bool_, (), False),
                "since_ns": (np.int64, (), NEVER),  # it has held, or been over
                "since_clock_ns": (np.int64, (), 0),
                "figures": (np.float64, (len(figures),), np.nan),  # of the newest reading
                "open": (np.bool_, (), False),
                "onset_ns": (np.int64, (), NEVER),
            },
        )

    @property
    def open_count(self) -> int:
        """Incidents open now."""
        return int(self._columns["open"].sum())

    def step(self, some: Ordered, holds: Bools, figures: Floats, since: tuple[Ints, Ints] | None = None) -> list[Event]:
        """Take in readings that say whether the condition holds.

        Args:
            some: Which.
            holds: `(n,)`.
            figures: What to tell of each, `(n, figures)`.
            since: Since when, in event time and by the clock, where it is not since the first such reading.
        """
        if not len(some):
            return []
        t, codes = self._columns, some.codes
        known = t["since_ns"][codes] != NEVER
        held = some.before(holds, t["holds"][codes] & known)
        starts = holds != held
        starts[some.begin] |= ~known
        since_ns = some.carried(some.time_ns, starts, t["since_ns"][codes])
        since_clock_ns = some.carried(some.clock_ns, starts, t["since_clock_ns"][codes])
        if since is not None:
            since_ns, since_clock_ns = np.where(holds, since[0], since_ns), np.where(holds, since[1], since_clock_ns)
        was_ns = some.before(since_ns, t["since_ns"][codes])
        was_clock_ns = some.before(since_clock_ns, t["since_clock_ns"][codes])
        figures_before = some.before(figures, t["figures"][codes])

        # What stood until this reading stood long enough, even if no reading came meanwhile.
        ended = ~holds & held & (some.clock_ns - was_clock_ns >= self._open_after_ns)
        on = np.flatnonzero(ended | (holds & (some.clock_ns - since_clock_ns >= self._open_after_ns)))
        off = np.flatnonzero(~holds & (some.clock_ns - since_clock_ns >= self._close_after_ns))
        where = np.concatenate([on, off])
        is_on = np.concatenate([np.ones(len(on), bool), np.zeros(len(off), bool)])
        order = np.lexsort((~is_on, where))
        where, is_on = where[order], is_on[order]
        events = self._toggle(some, where, is_on, holds, (since_ns, was_ns), (figures, figures_before))

        t["holds"][codes] = holds[some.last]
        t["since_ns"][codes], t["since_clock_ns"][codes] = since_ns[some.last], since_clock_ns[some.last]
        t["figures"][codes] = figures[some.last]
        return events

    def _toggle(
        self,
        some: Ordered,
        where: Ints,
        is_on: Bools,
        holds: Bools,
        since_ns: tuple[Ints, Ints],
        figures: tuple[Floats, Floats],
    ) -> list[Event]:
        """Events at the places where what is told changes."""
        if not len(where):
            return []
        t, code = self._columns, some.code[where]
        first = np.diff(code, prepend=-1) != 0
        was_on = np.concatenate([[False], is_on[:-1]])
        was_on[first] = t["open"][code[first]]
        events = []
        for i in np.flatnonzero(is_on != was_on).tolist():
            place, stream = int(where[i]), int(code[i])
            onset, details = int(t["onset_ns"][stream]), dict[str, Detail]()
            if is_on[i]:
                of = 0 if holds[place] else 1
                onset = int(since_ns[of][place])
                figure = figures[of][place].tolist()
                details = {name: _plain(value) for name, value in zip(self._figures, figure, strict=True)}
                details |= self._facts
            t["open"][stream], t["onset_ns"][stream] = bool(is_on[i]), onset
            at, row = int(some.time_ns[place]), int(some.row[place])
            event = OPEN if is_on[i] else RESOLVE
            events.append(Event(event, self.kind, stream, onset, at, 0.0, 0.0, row, details=details))
        return events

    def close(self, codes: Ints, rows: Ints, times_ns: Ints, reason: str = EXPIRED) -> list[Event]:
        """Resolve the incidents of streams that are no longer tracked; see `Incidents.close`."""
        t = self._columns
        return [
            Event(RESOLVE, self.kind, code, int(t["onset_ns"][code]), at, 0.0, 0.0, row, reason)
            for code, row, at in zip(codes.tolist(), rows.tolist(), times_ns.tolist(), strict=True)
            if t["open"][code]
        ]


def _plain(value: float) -> Detail:
    """Whole numbers without a point.

    >>> _plain(3.0), _plain(13.9)
    (3, 13.9)
    """
    return int(value) if value.is_integer() else value
