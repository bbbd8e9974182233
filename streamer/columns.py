"""Small array tools the stations share: groups by stream, tables that grow.

Pure numpy; knows nothing of readings, windows or scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows of a batch grouped by stream, arrival order kept inside a group."""

    order: Ints  # (n,) row numbers, group after group
    codes: Ints  # (groups,) the stream of each group
    begin: Ints  # (groups,) where each group begins in `order`
    count: Ints  # (groups,)

    @property
    def member(self) -> Ints:
        """Group number of each place in `order`, `(n,)`."""
        return np.repeat(np.arange(len(self.codes)), self.count)

    @property
    def rank(self) -> Ints:
        """Place inside its group of each place in `order`, `(n,)`."""
        return np.arange(len(self.order)) - np.repeat(self.begin, self.count)


def group(codes: Ints) -> Groups:
    """Group rows by code.

    >>> g = group(np.array([7, 5, 7]))
    >>> g.codes.tolist(), g.order.tolist(), g.count.tolist()
    ([5, 7], [1, 0, 2], [1, 2])
    """
    # Sixteen-bit keys are sorted by radix, several times faster.
    narrow = codes.astype(np.uint16) if len(codes) and int(codes.max()) < 1 << 16 else codes
    order = np.argsort(narrow, kind="stable")
    grouped = codes[order]
    begin = np.flatnonzero(np.diff(grouped, prepend=grouped[0] - 1)) if len(codes) else np.empty(0, np.int64)
    count = np.diff(np.append(begin, len(codes)))
    return Groups(order, grouped[begin], begin, count)


class Table:
    """Named columns with one row a stream; rows appear as needed, filled with the column's blank.

    Args:
        columns: Name to (dtype, shape of one entry, blank value).
    """

    def __init__(self, columns: dict[str, tuple[Any, tuple[int, ...], Any]]) -> None:
        self._columns = columns
        self._data = {name: np.empty((0, *shape), dtype) for name, (dtype, shape, _) in columns.items()}
        self.rows = 0

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The whole column, `(rows, ...)`; writes go through."""
        return self._data[name][: self.rows]

    def reach(self, rows: int) -> None:
        """Have at least `rows` rows."""
        if rows <= self.rows:
            return
        room = len(next(iter(self._data.values())))
        if rows > room:
            # A quarter more each time: a slab of 100,000 streams must not double to 200,000.
            room = max(rows, room + room // 4, 16)
            for name, (dtype, shape, blank) in self._columns.items():
                grown = np.full((room, *shape), blank, dtype)
                grown[: self.rows] = self._data[name][: self.rows]
                self._data[name] = grown
        self.rows = rows

    def take(self, codes: Ints) -> dict[str, NDArray[Any]]:
        """Copies of all columns for some streams."""
        self.reach(int(codes.max(initial=-1)) + 1)
        return {name: self[name][codes] for name in self._columns}

    def put(self, codes: Ints, columns: dict[str, NDArray[Any]]) -> None:
        """Write what `take` gave.

        Raises:
            ValueError: Columns are missing or of another shape.
        """
        if set(columns) != set(self._columns):
            raise ValueError(f"wanted columns {sorted(self._columns)}; got {sorted(columns)}")
        for name, (_, shape, _) in self._columns.items():
            if columns[name].shape != (len(codes), *shape):
                raise ValueError(f"column {name}: wanted {(len(codes), *shape)}; got {columns[name].shape}")
        self.reach(int(codes.max(initial=-1)) + 1)
        for name, values in columns.items():
            self[name][codes] = values

    def blank(self, codes: Ints) -> None:
        """Forget some streams."""
        codes = codes[codes < self.rows]
        for name, (_, _, blank) in self._columns.items():
            self[name][codes] = blank

    @property
    def bytes_per_row(self) -> int:
        return sum(column[:1].nbytes or column.dtype.itemsize for column in self._data.values())
