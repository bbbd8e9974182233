"""Readings of some files as columns, and the order in which their streams sent them.

Pure numpy. Not inside: files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamer.config import RecordsConfig
from streamer.core.grouping import group
from streamer.core.readings import Readings, admissible

_FAR = 16  # usual intervals of a stream
_LONG = 8  # rows of a run, on average
_MANY = 1 / 3  # of the rows


@dataclass(frozen=True, slots=True)
class DataSet:
    """Readings of some files as columns of equal length, in the order of their rows."""

    names: list[str]  # stream names; of a piece, those met so far
    stream: NDArray[np.int64]  # (n,) index into `names`
    time_ns: NDArray[np.int64]  # (n,)
    values: NDArray[np.float64]  # (n, features); NaN where a file has none
    label: NDArray[np.bool_] | None = None  # (n,) what is known to be an anomaly, for a backtest
    sequence: NDArray[np.int64] | None = None  # (n,) the sender's sequence numbers
    file: int | None = None  # number of the file that all rows are from; None: none, or several
    partition: int = 0  # of the topic

    def __len__(self) -> int:
        return len(self.stream)

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Rows in which every feature is a finite number, as the daemon would take it: a 32-bit float."""
        with np.errstate(over="ignore"):
            return np.asarray(np.isfinite(self.values.astype(np.float32)).all(axis=1), np.bool_)

    def admitted(self, records: RecordsConfig) -> NDArray[np.bool_]:
        """Rows the daemon would take: complete ones, and those in which only what may be absent is."""
        with np.errstate(over="ignore"):
            return admissible(self.values.astype(np.float32), records.may_miss)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64] | slice) -> DataSet:
        label = None if self.label is None else self.label[rows]
        sequence = None if self.sequence is None else self.sequence[rows]
        return replace(
            self,
            stream=self.stream[rows],
            time_ns=self.time_ns[rows],
            values=self.values[rows],
            label=label,
            sequence=sequence,
        )

    def sending_order(self) -> NDArray[np.int64]:
        """Rows in the order in which they were sent: that of the file, unless its streams stand one after another.

        Streams that do are merged by time, each in its own order. A row that is older than an earlier one of its stream
        stays behind it in any case: it is late, as it would be live.

        >>> rows = [("a", 1), ("a", 5), ("a", 3), ("b", 2), ("b", 6)]
        >>> time_ns = np.array([time for _, time in rows])
        >>> DataSet(["a", "b"], np.array([0, 0, 0, 1, 1]), time_ns, np.zeros((5, 1))).sending_order()
        array([0, 3, 1, 2, 4])
        """
        return np.argsort(newest_sent(self.stream, self.time_ns), kind="stable")

    def batches(self, size: int, *, exact: bool = False) -> Iterator[Readings]:
        """Readings in batches, in the order in which they were sent; offsets are rows, the partition is 0.

        Args:
            size: Readings of a batch.
            exact: Values as they stand in the file, with 64 bits, instead of the 32 of a model.
        """
        order = self.sending_order()
        for i in range(0, len(self), size):
            rows = order[i : i + size]
            yield Readings(
                self.stream[rows],
                self.time_ns[rows],
                self.values[rows] if exact else self.values[rows].astype(np.float32),
                np.zeros(len(rows), np.int64),
                rows,
                None if self.sequence is None else self.sequence[rows],
            )

    def by_stream(self) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Times and values of each stream, in time order."""
        order = np.lexsort((self.time_ns, self.stream))
        cuts = np.flatnonzero(np.diff(self.stream[order])) + 1
        parts = [part for part in np.split(order, cuts) if len(part)]
        return {
            self.names[self.stream[part[0]]]: (self.time_ns[part], self.values[part].astype(np.float32))
            for part in parts
        }


def join(parts: Iterable[DataSet]) -> DataSet:
    """Pieces as one data set, in the order they come; there is at least one."""
    found = list(parts)
    return DataSet(
        found[-1].names,
        np.concatenate([part.stream for part in found]),
        np.concatenate([part.time_ns for part in found]),
        np.concatenate([part.values for part in found]),
        None if found[0].label is None else np.concatenate([part.label for part in found if part.label is not None]),
        None
        if found[0].sequence is None
        else np.concatenate([part.sequence for part in found if part.sequence is not None]),
    )


def newest_sent(stream: NDArray[np.int64], time_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each row of one file, the newest event time sent until then: by anyone, or by its stream.

    By its stream where the streams stand one after another: each in one run, or in long runs so that many rows are far
    older than others before. Rows that take turns are in the order in which they came, whatever their times: a device
    whose clock is ahead, or one that sends what it has kept, moves no row.
    """
    overall = np.maximum.accumulate(time_ns)
    if (overall == time_ns).all():
        return overall
    groups = group(stream)
    own = np.empty_like(time_ns)
    for begin, count in zip(groups.begin.tolist(), groups.count.tolist(), strict=True):
        rows = groups.order[begin : begin + count]
        own[rows] = np.maximum.accumulate(time_ns[rows])
    runs = np.append(0, np.flatnonzero(np.diff(stream)) + 1)
    if len(runs) == len(groups.begin):
        return own
    if len(runs) * _LONG > len(stream):
        return overall
    in_groups = own[groups.order]
    steps = np.delete(np.diff(in_groups), groups.begin[1:] - 1)
    steps = steps[steps > 0]
    ends = np.append(runs[1:], len(stream))
    spans = np.repeat(own[ends - 1] - own[runs], ends - runs)
    behind = overall - own
    # What is behind by much more than its run is long did not wait for the runs of others to end: its clock differs.
    far = (behind > _FAR * (np.median(steps) if len(steps) else 0)) & (behind <= 2 * spans)
    return own if far.mean() >= _MANY else overall
