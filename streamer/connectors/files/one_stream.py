"""Whether a file without a stream column can be one stream: a mixture of several is told by its times.

The times of one stream move forward, but for a clock that was set back or some readings that are late. Where they
repeat or go back for more than a few rows, or a column shows that streams take turns, several are mixed, and a model
trained on that is worth nothing.
Not inside: files whose stream column is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streamer.connectors.files.wanted import did_you_mean
from streamer.core.readings import NEVER

_SHARE = 0.02  # of the rows; a clock set back by an hour repeats 12 of 22,695 five-minute readings
_SHARE_LATE = 0.2  # of rows that are behind, where nothing else speaks for a mixture: readings may be late
_ROWS = 10  # fewer prove nothing
_KINDS = 10_000  # streams that a column may name
_IRREGULAR, _REGULAR = 0.3, 0.25  # steps of the mixture; of its streams, as a part of that
_CALLED = (  # without a trailing id, name or s
    *(
        "device",
        "machine",
        "sensor",
        "host",
        "stream",
        "symbol",
        "ticker",
        "instrument",
        "asset",
        "equipment",
        "station",
    ),
    *(
        "node",
        "unit",
        "meter",
        "tag",
        "pump",
        "series",
        "channel",
        "source",
        "serial",
        "robot",
        "vehicle",
        "id",
        "name",
    ),
)
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


def columns_that_take_turns(
    frame: pd.DataFrame, time_ns: NDArray[np.int64], used: Sequence[str], configured: Sequence[str]
) -> list[tuple[str, int]]:
    """Columns whose values take turns as several streams do, although all times move forward, and how many values.

    Either the column is called as such columns are, or readings come irregularly, and those of each value regularly.

    Args:
        frame: Some rows with all their columns.
        time_ns: Their times.
        used: Columns that have another meaning.
        configured: The names that were looked for.
    """
    together = _irregularity([time_ns])
    found = []
    for name, codes, kinds in _names_of_few(frame, used, least=3):
        if 1 + np.count_nonzero(np.diff(codes)) < 2 * kinds:
            continue  # one after the other
        if _is_called_so(name, configured):
            found.append((0, name, kinds))
        elif together > _IRREGULAR and _irregularity(_apart(codes, time_ns)) < _REGULAR * together:
            found.append((1, name, kinds))
    return [(name, kinds) for _, name, kinds in sorted(found)]


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
    for name, codes, kinds in _names_of_few(frame, used, least=2):
        rest = 0
        for times in _apart(codes, time_ns):
            rest += len(times) - int((np.diff(np.maximum.accumulate(times)) > 0).sum()) - 1
        if 10 * rest <= whole.repeated + whole.behind:
            found.append((rest, kinds, name))
    return [(name, kinds) for _, kinds, name in sorted(found)]


def _names_of_few(
    frame: pd.DataFrame, used: Sequence[str], *, least: int
) -> Iterator[tuple[str, NDArray[np.int64], int]]:
    """Columns that may be names, a code for each row, and how many there are; each is in `least` rows on average."""
    for name in frame.columns:
        column = frame[name]
        if name not in used and not pd.api.types.is_float_dtype(column):
            codes, kinds = pd.factorize(column.astype(str))
            if 1 < len(kinds) <= min(_KINDS, len(frame) // least):
                yield str(name), codes, len(kinds)


def _apart(codes: NDArray[np.int64], time_ns: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Times of each code, in the order of their rows."""
    order = np.argsort(codes, kind="stable")
    return np.split(time_ns[order], np.flatnonzero(np.diff(codes[order])) + 1)


def _irregularity(streams: Sequence[NDArray[np.int64]]) -> float:
    """How far steps in time are from their mean, as a part of it; of several streams the middle one."""
    steps = [np.diff(times).astype(np.float64) for times in streams if len(times) > 2]
    spreads = [float(np.abs(step - step.mean()).mean() / max(step.mean(), 1.0)) for step in steps]
    return float(np.median(spreads)) if spreads else 0.0


def _is_called_so(name: str, configured: Sequence[str]) -> bool:
    plain = re.sub(r"[^a-z]", "", name.lower())
    return re.sub(r"(id|name|no|nr|key|s)$", "", plain) in _CALLED or bool(did_you_mean(configured, [name]))


def overlap(watches: Sequence[Watch]) -> bool:
    """Whether files that were taken for parts of one stream repeat each other's times."""
    times = [np.unique(np.concatenate(watch.first_times)[:_KEPT]) for watch in watches if watch.first_times]
    together = np.concatenate(times) if times else np.zeros(0, np.int64)
    repeated = len(together) - len(np.unique(together))
    return repeated >= max(_ROWS, _SHARE * len(together))
