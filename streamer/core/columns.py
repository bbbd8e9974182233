"""What stations keep of streams: columns with one row a stream, tables with any number of rows.

Pure numpy. Not inside: which streams there are (`keyed_state`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.core.grouping import Ints

Schema = Mapping[str, tuple[Any, tuple[int, ...], Any]]  # name -> dtype, shape of one row, blank value
Arrays = dict[str, NDArray[Any]]


class Columns:
    """Arrays of one station with one row a stream; new rows hold the blank value."""

    def __init__(self, schema: Schema) -> None:
        self._schema = dict(schema)
        self._data: Arrays = {name: np.empty((0, *shape), dtype) for name, (dtype, shape, _) in schema.items()}
        self.rows = 0

    @property
    def schema(self) -> Schema:
        return self._schema

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The whole column, `(rows, ...)`; writes go through."""
        return self._data[name][: self.rows]

    def __iter__(self) -> Iterator[str]:
        return iter(self._schema)

    def reach(self, rows: int) -> None:
        """Have at least `rows` rows."""
        if rows <= self.rows:
            return
        room = len(next(iter(self._data.values())))
        if rows > room:
            # A quarter more each time: a slab of 100,000 streams must not double to 200,000.
            room = max(rows, room + room // 4, 16)
            for name, (dtype, shape, blank) in self._schema.items():
                grown = np.full((room, *shape), blank, dtype)
                grown[: self.rows] = self._data[name][: self.rows]
                self._data[name] = grown
        self.rows = rows

    def take(self, codes: Ints) -> Arrays:
        """Copies of all columns for some streams."""
        return {name: self[name][codes] for name in self._schema}

    def put(self, codes: Ints, columns: Mapping[str, NDArray[Any]]) -> None:
        """Write what `take` gave.

        Raises:
            ValueError: Columns are missing or of another shape.
        """
        if set(columns) != set(self._schema):
            raise ValueError(f"wanted columns {sorted(self._schema)}; got {sorted(columns)}")
        for name, (_, shape, _) in self._schema.items():
            if columns[name].shape != (len(codes), *shape):
                raise ValueError(f"column {name}: wanted {(len(codes), *shape)}; got {columns[name].shape}")
        for name, values in columns.items():
            self[name][codes] = values

    def blank(self, codes: Ints) -> None:
        """Forget some streams."""
        for name, (_, _, blank) in self._schema.items():
            self[name][codes] = blank

    @property
    def bytes_per_row(self) -> int:
        return sum(np.dtype(dtype).itemsize * int(np.prod(shape)) for dtype, shape, _ in self._schema.values())


class Table(Protocol):
    """Rows of streams, any number of each."""

    def export(self, codes: Ints) -> Arrays:
        """Rows of some streams as columns of equal length; `stream` is the place in `codes`."""
        ...

    def restore(self, codes: Ints, columns: Arrays) -> None:
        """Take over what `export` gave; `codes` has the code of each place, -1: not restored. `ValueError`: misfit."""
        ...

    def drop(self, codes: Ints) -> None:
        """Forget the rows of some streams."""
        ...
