"""Which windows of a stream are learned from and which are held out, as runs of first rows.

A window is `length` consecutive rows of one stream and never straddles a break: a row at which
the stream starts over, for instance after a gap. The daemon cuts the same windows. Not inside:
where the breaks are (the caller knows the times), the readings themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Runs:
    """First rows of windows as runs of consecutive rows: a few bytes a run, not 8 a window.

    >>> Runs(np.array([0, 10]), np.array([3, 12]))[np.array([0, 2, 3, 4])]
    array([ 0,  2, 10, 11])
    """

    begins: Rows  # (runs,)
    ends: Rows  # (runs,), exclusive
    streams: Rows | None = None  # (runs,) number of each run's stream, rising; None: every run is a stream

    def __len__(self) -> int:
        return int((self.ends - self.begins).sum())

    def __getitem__(self, which: Rows) -> Rows:
        before = np.cumsum(self.ends - self.begins)
        run = np.searchsorted(before, which, side="right")
        starts: Rows = which - before[run] + self.ends[run]
        return starts

    def first_runs(self) -> Rows:
        """Which run is the first of each stream, `(streams,)`."""
        if self.streams is None:
            return np.arange(len(self.begins))
        return np.flatnonzero(np.diff(self.streams, prepend=-1))

    def newest(self, most: int) -> list[Rows]:
        """The last rows of each stream, at most `most`, written out."""
        first = self.first_runs()
        found = []
        for begin, end in zip(first, [*first[1:], len(self.begins)], strict=True):
            kept = _last(self.begins[begin:end], self.ends[begin:end], most)
            found.append(np.concatenate([np.empty(0, np.int64), *map(np.arange, *kept)]))
        return found


def runs_of(rows: int, breaks: Rows, length: int) -> tuple[Rows, Rows]:
    """Begins and ends (exclusive) of the runs of first rows of all windows of one stream.

    Args:
        rows: Readings of the stream.
        breaks: Rows at which it starts over, rising, each above 0 and below `rows`.
        length: Readings in a window.

    >>> runs_of(10, np.array([6, 8]), 3)
    (array([0]), array([4]))
    """
    edges = np.concatenate([[0], breaks, [rows]]).astype(np.int64)
    begins, ends = edges[:-1], edges[1:] - length + 1
    some = ends > begins
    return begins[some], ends[some]


def held_out_count(windows: int, length: int, holdout: float) -> int:
    """How many of a stream's newest windows are held out; 0 if it has too few to learn from.

    Args:
        windows: Of the stream.
        length: Readings in a window.
        holdout: Part that is held out, of the readings of an unbroken stream with as many windows.
    """
    readings = windows + length - 1
    count = int(readings * holdout)
    return count if windows and readings * (1 - holdout) >= length else 0


def split(cut: Sequence[tuple[Rows, Rows]], held_out: Sequence[int]) -> tuple[Runs, Runs]:
    """Windows learned from and windows held out: of each stream the newest.

    Args:
        cut: Of each stream, from `runs_of`, in rows of one array that holds all streams.
        held_out: Windows of each stream to hold out, at least 1 and fewer than all.
    """
    seen, kept = list[tuple[Rows, Rows]](), list[tuple[Rows, Rows]]()
    for (begins, ends), count in zip(cut, held_out, strict=True):
        kept.append(_last(begins, ends, count))
        seen.append(_first(begins, ends, int((ends - begins).sum()) - count))
    return _together(seen), _together(kept)


def _last(begins: Rows, ends: Rows, most: int) -> tuple[Rows, Rows]:
    sizes = ends - begins
    later = sizes.sum() - np.cumsum(sizes)  # windows in the runs after each
    taken = np.clip(most - later, 0, sizes)
    some = taken > 0
    return (ends - taken)[some], ends[some]


def _first(begins: Rows, ends: Rows, most: int) -> tuple[Rows, Rows]:
    sizes = ends - begins
    taken = np.clip(most - (np.cumsum(sizes) - sizes), 0, sizes)
    some = taken > 0
    return begins[some], (begins + taken)[some]


def _together(of_streams: list[tuple[Rows, Rows]]) -> Runs:
    numbers = np.repeat(np.arange(len(of_streams)), [len(begins) for begins, _ in of_streams])
    begins, ends = (np.concatenate([pair[side] for pair in of_streams]) for side in (0, 1))
    return Runs(begins, ends, numbers)
