"""State of streams: names and codes, and columns with one row a stream.

Pure numpy; knows nothing of windows or scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.core.grouping import Ints

NO_STREAM = -1


class StreamTable:
    """Stream names to codes and back; codes are given in order of appearance."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = list(names)
        self.codes = {name: code for code, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: str) -> int:
        code = self.codes.get(name)
        if code is None:
            code = self.codes[name] = len(self.names)
            self.names.append(name)
        return code


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
