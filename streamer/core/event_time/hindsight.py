"""Late readings of recent bars: the bars are made again, as if the readings had come in time.

    recent   readings of each stream's newest bars
    behind   what the stations remembered before the first of them

A late reading whose bar is among the newest `BARS` of its stream is put in its place, and the bars from the first of
those are made again from what was remembered before it; so are the carried values and transforms that follow from them.
Nothing is guessed. It is left out where it would change which bars there are or where a window begins anew, or its bar
has `max_held` readings. Pure. Not inside: which readings are late (`lateness`), what corrected bars lead to
(`corrections`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Arrays, Columns
from streamer.core.event_time.bars import Made
from streamer.core.event_time.held import NO_SEQUENCE, Rows
from streamer.core.event_time.options import TimeOptions
from streamer.core.event_time.recent import Recent
from streamer.core.keyed_state import KeyedState

Ints = NDArray[np.int64]

BARS = 16  # newest ones of a stream that a late reading may still correct


@dataclass(frozen=True, slots=True)
class Corrected:
    """The newest bars of one stream, made again."""

    code: int
    time_ns: Ints  # (k,) rising; the last is the stream's newest bar
    values: NDArray[np.float32]  # (k, features)
    changed: int  # how many of them, from the newest back to the oldest that is not what it was
    row: int  # reading of the batch that led to it: it is not late any more


class Hindsight:
    """Recent readings of all streams.

    Args:
        state: Of all streams.
        options: A grid, and features made of its bars.
        remembered: Columns that making bars reads and moves on, by station.
        make: Makes bars of readings sorted by stream and time.
    """

    def __init__(
        self, state: KeyedState, options: TimeOptions, remembered: dict[str, Columns], make: Callable[[Rows], Made]
    ) -> None:
        self._state, self._grid_ns, self._make, self._remembered = state, options.grid_ns, make, remembered
        self._recent = state.register_rows("recent", Recent(state, len(options.fields), options.grid_ns))
        self._most = options.max_held
        self._behind = state.register(
            "behind",
            {f"{name}_{key}": kind for name, columns in remembered.items() for key, kind in columns.schema.items()},
        )

    @property
    def count(self) -> int:
        """Readings kept."""
        return self._recent.count

    def floor_ns(self, last_ns: Ints) -> Ints:
        """The oldest bar that may still be corrected, of streams whose newest one is `last_ns`."""
        return last_ns - (BARS - 1) * self._grid_ns

    def keep(self, rows: Rows, last_ns: Ints) -> None:
        """Remember readings that bars were made of; `last_ns` is each stream's newest bar, `(streams,)`."""
        self._recent.add(rows)
        codes = np.unique(rows.code)
        gone = self._recent.forget(codes, self.floor_ns(last_ns[codes]))
        if len(gone):
            gone = _sorted(gone)
            codes = np.unique(gone.code)
            now = self._take(codes)
            self._go_back(codes)
            self._make(gone)
            self._behind.put(codes, self._take(codes))
            self._put(codes, now)

    def correct(self, late: Rows, row: Ints, last_ns: Ints) -> list[Corrected]:
        """Put late readings in their place where that is possible, one after another.

        Args:
            late: In the order they came.
            row: Reading of the batch that each is, `(n,)`.
            last_ns: Newest bar of every stream, `(streams,)`.
        """
        near = np.flatnonzero(late.time_ns >= self.floor_ns(np.maximum(last_ns[late.code], -(1 << 62))))
        codes = np.unique(late.code[near])
        recent = dict(zip(codes.tolist(), self._recent.of_each(codes, last_ns[codes]), strict=True))
        made: dict[int, Made] = {}
        found = []
        for i in near.tolist():
            one, code = late.take(slice(i, i + 1)), int(late.code[i])
            if not len(recent[code]) or self._is_full(recent[code], one) or _is_there(recent[code], one):
                continue
            codes = np.array([code])
            now = self._take(codes)
            before = made[code] if code in made else self._again(codes, recent[code])
            with_it = Rows.join([recent[code], one])
            made[code] = after = self._again(codes, with_it)
            if not (np.array_equal(before.time_ns, after.time_ns) and np.array_equal(before.fresh, after.fresh)):
                self._put(codes, now)
                made[code] = before
                continue
            recent[code] = with_it
            self._recent.add(one)
            found.append(_corrected(code, before, after, int(row[i])))
        return found

    def _is_full(self, rows: Rows, one: Rows) -> bool:
        """Whether the bar of a reading has as many as are kept."""
        bar = one.time_ns[0] // self._grid_ns
        return int((rows.time_ns // self._grid_ns == bar).sum()) >= self._most

    def _again(self, codes: Ints, rows: Rows) -> Made:
        """Bars of readings, from what was remembered before them."""
        self._go_back(codes)
        return self._make(_sorted(rows))

    def _take(self, codes: Ints) -> Arrays:
        taken: Arrays = {}
        for name, some in self._remembered.items():
            taken |= {f"{name}_{key}": values for key, values in some.take(codes).items()}
        return taken

    def _put(self, codes: Ints, columns: Arrays) -> None:
        for name, some in self._remembered.items():
            some.put(codes, {key: columns[f"{name}_{key}"] for key in some})

    def _go_back(self, codes: Ints) -> None:
        self._state.reach(codes)
        self._put(codes, self._behind.take(codes))


def _sorted(rows: Rows) -> Rows:
    return rows.take(np.lexsort((rows.sequence, rows.time_ns, rows.code)))


def _is_there(rows: Rows, one: Rows) -> bool:
    """Whether a reading is among others, by its sequence number."""
    return bool(
        one.sequence[0] != NO_SEQUENCE and ((rows.time_ns == one.time_ns[0]) & (rows.sequence == one.sequence[0])).any()
    )


def _corrected(code: int, before: Made, after: Made, row: int) -> Corrected:
    same = (before.values == after.values) | (np.isnan(before.values) & np.isnan(after.values))
    differs = np.flatnonzero(~same.all(1))
    with np.errstate(over="ignore"):
        narrow = after.values.astype(np.float32)
    return Corrected(code, after.time_ns, narrow, len(same) - int(differs[0]) if len(differs) else 0, row)
