"""Whether a file without a stream column can be one stream: a mixture of several is told by its times.

The times of one stream move forward, but for a clock that was set back or some readings that are late. Where they
repeat or go back for more than a few rows, several streams are mixed, and a model trained on that is worth nothing.
Not inside: files whose stream column is there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streamer.core.readings import NEVER

_SHARE = 0.02  # of the rows; a clock set back by an hour repeats 12 of 22,695 five-minute readings
_SHARE_LATE = 0.2  # of rows that are behind, where nothing else speaks for a mixture: readings may be late
_ROWS = 10  # fewer prove nothing
_KINDS = 10_000  # streams that a column may name
_KEPT = 20_000  # times kept of each file, to compare it with its neighbours


class Watch:
    """Counts rows whose time repeats or is behind; what it finds does not depend on the pieces.

    Args:
        repeats_are_data: Rows with equal times are told apart by a sequence number.
    """

    def __init__(self, repeats_are_data: bool) -> None:
        self._repeats_are_data = repeats_are_data
        self.rows = self.repeated = self.behind = self.steps_back = 0
        self._newest, self._last = NEVER, 0
        self._at_newest: set[int] = set()  # metrics that came with the newest time
        self.first_times: list[NDArray[np.int64]] = []

    def look(self, time_ns: NDArray[np.int64], metric: NDArray[np.int64] | None = None) -> None:
        """Take in the next rows of one file; `metric` is a code for what a row is a reading of."""
        n = len(time_ns)
        if not n:
            return
        newest = np.maximum.accumulate(np.concatenate([[self._newest], time_ns]))
        behind = time_ns < newest[:-1]
        self.behind += int(behind.sum())
        self.steps_back += int((np.diff(time_ns, prepend=self._last) < 0).sum())
        kinds = np.zeros(n, np.int64) if metric is None else metric
        if not self._repeats_are_data:
            again = pd.MultiIndex.from_arrays([time_ns, kinds]).duplicated()
            again |= (time_ns == self._newest) & np.isin(kinds, list(self._at_newest))
            self.repeated += int((again & ~behind).sum())
        last = int(newest[-1])
        at = set(kinds[time_ns == last].tolist())
        self._at_newest = at | self._at_newest if last == self._newest else at
        self._newest, self._last = last, int(time_ns[-1])
        self.rows += n
        if sum(map(len, self.first_times)) < _KEPT:
            self.first_times.append(time_ns[:_KEPT])

    def mixed(self, *, by_a_column: bool) -> bool:
        """Whether this is more than one stream; less is needed to say so if a column parts it."""
        few = max(_ROWS, _SHARE * self.rows)
        if by_a_column:
            return self.repeated + self.behind >= few
        return self.repeated >= few or self.behind >= max(_ROWS, _SHARE_LATE * self.rows)

    @property
    def seen(self) -> str:
        """What was seen, for an error."""
        parts = [f"the time of {self.repeated:,} repeats"] * bool(self.repeated)
        if self.behind:
            times = "once" if self.steps_back == 1 else f"{self.steps_back:,} times"
            parts.append(f"times go back {times} (rows older than one before them: {self.behind:,})")
        return f"of {self.rows:,} rows, {' and '.join(parts)}"


def likely_columns(frame: pd.DataFrame, time_ns: NDArray[np.int64], used: Sequence[str]) -> list[tuple[str, int]]:
    """Columns that would part a mixture into streams whose times move forward, and how many: the best first.

    Args:
        frame: Some rows with all their columns.
        time_ns: Their times.
        used: Columns that have another meaning.
    """
    whole = Watch(repeats_are_data=False)
    whole.look(time_ns)
    found = []
    for name in frame.columns:
        column = frame[name]
        if name in used or pd.api.types.is_float_dtype(column):
            continue
        codes, kinds = pd.factorize(column.astype(str))
        if not 1 < len(kinds) <= min(_KINDS, len(frame) // 2):
            continue
        order = np.argsort(codes, kind="stable")
        rest = 0
        for times in np.split(time_ns[order], np.flatnonzero(np.diff(codes[order])) + 1):
            rest += len(times) - int((np.diff(np.maximum.accumulate(times)) > 0).sum()) - 1
        if 10 * rest <= whole.repeated + whole.behind:
            found.append((rest, len(kinds), str(name)))
    return [(name, kinds) for _, kinds, name in sorted(found)]


def overlap(watches: Sequence[Watch]) -> bool:
    """Whether files that were taken for parts of one stream repeat each other's times."""
    times = [np.unique(np.concatenate(watch.first_times)[:_KEPT]) for watch in watches if watch.first_times]
    together = np.concatenate(times) if times else np.zeros(0, np.int64)
    repeated = len(together) - len(np.unique(together))
    return repeated >= max(_ROWS, _SHARE * len(together))
