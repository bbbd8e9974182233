"""Readings of some files as columns, and the order in which their streams sent them.

Pure numpy. Not inside: files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.config import RecordsConfig
from streamer.core.grouping import group
from streamer.core.readings import Readings, admissible


@dataclass(frozen=True, slots=True)
class DataSet:
    """Readings of some files as columns of equal length, in the order of their rows."""

    names: list[str]  # stream names; of a piece, those met so far
    stream: NDArray[np.int64]  # (n,) index into `names`
    time_ns: NDArray[np.int64]  # (n,)
    values: NDArray[np.float64]  # (n, features); NaN where a file has none
    label: NDArray[np.bool_] | None = None  # (n,) what is known to be an anomaly, for a backtest

    def __len__(self) -> int:
        return len(self.stream)

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Rows in which every feature is a finite number, as the daemon would take it: a 32-bit float."""
        with np.errstate(over="ignore"):
            return np.asarray(np.isfinite(self.values.astype(np.float32)).all(axis=1), np.bool_)

    def admitted(self, records: RecordsConfig) -> NDArray[np.bool_]:
        """Rows the daemon would take: complete ones, with `records.missing: fill` also those with something in them."""
        if records.missing == "refuse":
            return self.complete
        with np.errstate(over="ignore"):
            return admissible(self.values.astype(np.float32))

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64] | slice) -> DataSet:
        label = None if self.label is None else self.label[rows]
        return DataSet(self.names, self.stream[rows], self.time_ns[rows], self.values[rows], label)

    def sending_order(self) -> NDArray[np.int64]:
        """Rows in the order in which their streams sent them: streams merged by time, each in its own order.

        A row that is older than an earlier one of its stream stays behind it: it is late, as it would be live.

        >>> rows = [("a", 1), ("a", 5), ("a", 3), ("b", 2), ("b", 6)]
        >>> time_ns = np.array([time for _, time in rows])
        >>> DataSet(["a", "b"], np.array([0, 0, 0, 1, 1]), time_ns, np.zeros((5, 1))).sending_order()
        array([0, 3, 1, 2, 4])
        """
        if not (np.diff(self.time_ns) < 0).any():
            return np.arange(len(self))
        groups = group(self.stream)
        newest = np.empty_like(self.time_ns)
        for begin, count in zip(groups.begin.tolist(), groups.count.tolist(), strict=True):
            rows = groups.order[begin : begin + count]
            newest[rows] = np.maximum.accumulate(self.time_ns[rows])
        return np.argsort(newest, kind="stable")

    def batches(self, size: int) -> Iterator[Readings]:
        """Readings in batches, in the order in which they were sent; offsets are rows, the partition is 0."""
        order = self.sending_order()
        for i in range(0, len(self), size):
            rows = order[i : i + size]
            yield Readings(
                self.stream[rows],
                self.time_ns[rows],
                self.values[rows].astype(np.float32),
                np.zeros(len(rows), np.int64),
                rows,
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
    )
