"""The one home of what is remembered of streams: names, codes, and every column a station keeps.

    names, codes   a stream's code is its row in every column; the code of a forgotten stream is used again
    columns        registered by stations: arrays with one row a stream
    sparse         registered by stations: a value of the few streams that have one
    rows           registered by stations: any number of rows of a stream
    partitions     registered by stations: a value of each partition

Exporting, restoring, forgetting and counting are loops over what is registered, so a station that adds a column
touches nothing else. Pure numpy; knows nothing of windows or scores. Not inside: how what is exported is
stored (`runtime`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from streamer.core.columns import Arrays, Columns, Schema, Table
from streamer.core.grouping import Ints

NO_STREAM = -1  # in place of a code
_ROWS = "rows:"  # before the names of exported columns that have any number of rows a stream


@dataclass(frozen=True, slots=True)
class ExportedState:
    """All that is remembered of some streams; independent of codes, so any process can restore it."""

    columns: Arrays  # "station.column" -> one row a stream
    values: dict[str, Any]  # JSON values: "streams", "sparse", "partitions", and what the pipeline adds


@dataclass(slots=True)
class _Station:
    columns: Columns
    exported: bool
    take: Callable[[Ints], Arrays]
    put: Callable[[Ints, Arrays], None]


@dataclass(slots=True)
class _Sparse:
    values: dict[int, Any]
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


T = TypeVar("T", bound=Table)


class KeyedState:
    """Streams known to one process, and the columns of every station that keeps something of them."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names: list[str] = []  # by code; empty where the code is free
        self.codes: dict[str, int] = {}
        self._free: list[int] = []
        self._expired: list[int] = []
        self._added: list[int] = []  # since the last sweep
        self._stations: dict[str, _Station] = {}
        self._sparse: dict[str, _Sparse] = {}
        self._tables: dict[str, Table] = {}
        self._partitions: dict[str, dict[int, Any]] = {}
        self._optional: set[str] = set()  # stations that an earlier version did not export
        self._own = self.register("keys", {"partition": (np.int64, (), -1)})
        for name in names:
            self.add(name)

    def __len__(self) -> int:
        """Streams known now."""
        return len(self.codes)

    # -- names ------------------------------------------------------------------------

    def add(self, name: str) -> int:
        """Code of a stream, a new one if it is not known."""
        code = self.codes.get(name)
        if code is None:
            if self._free:
                code = self._free.pop()
                self.names[code] = name
            else:
                code = len(self.names)
                self.names.append(name)
            self.codes[name] = code
            self._added.append(code)
        return code

    @property
    def partition(self) -> Ints:
        """Partition that brought each stream's newest reading, `(rows,)`; -1 before its first one."""
        return self._own["partition"]

    def assign(self, codes: Ints, partition: int) -> None:
        """Note which partition brought the newest reading of some streams."""
        self.reach(codes)
        self.partition[codes] = partition

    def held(self) -> Ints:
        """Codes of all streams this process has readings of."""
        return np.flatnonzero(self.partition >= 0)

    def streams_of(self, partition: int) -> Ints:
        """Codes of the streams a partition owns."""
        return np.flatnonzero(self.partition == partition)

    # -- registration -----------------------------------------------------------------

    def register(
        self,
        station: str,
        schema: Schema,
        *,
        exported: bool = True,
        take: Callable[[Ints], Arrays] | None = None,
        put: Callable[[Ints, Arrays], None] | None = None,
    ) -> Columns:
        """Columns of a station; registered again under the same name they begin blank.

        Args:
            station: Name, the first part of exported columns' names.
            schema: Columns.
            exported: False for what can be found again.
            take: Exports some streams in another form than the columns have.
            put: Restores what `take` gave; raises `ValueError` if it does not fit.
        """
        columns = Columns(schema)
        columns.reach(len(self.names))
        self._stations[station] = _Station(columns, exported, take or columns.take, put or columns.put)
        return columns

    def register_sparse(
        self, station: str, encode: Callable[[Any], Any], decode: Callable[[Any], Any], *, optional: bool = False
    ) -> dict[int, Any]:
        """Values by code for the few streams that have one; `encode` makes JSON values that share nothing with them.

        What is `optional` begins empty where it was not exported.
        """
        if optional:
            self._optional.add(station)
        return self._sparse.setdefault(station, _Sparse({}, encode, decode)).values

    def register_rows(self, station: str, table: T) -> T:
        """A table of a station, any number of rows a stream."""
        self._tables[station] = table
        return table

    def register_partitions(self, station: str, *, optional: bool = False) -> dict[int, Any]:
        """JSON values by partition; `optional` as of `register_sparse`."""
        if optional:
            self._optional.add(station)
        return self._partitions.setdefault(station, {})

    def reach(self, codes: Ints) -> None:
        """Have a row for every code in all columns; stations call it before they look at rows of a batch."""
        rows = max(len(self.names), int(codes.max(initial=-1)) + 1)
        for station in self._stations.values():
            station.columns.reach(rows)

    # -- forgetting -------------------------------------------------------------------

    def forget(self, codes: Ints) -> None:
        """Drop streams and free their codes. Call it between batches: readings may still name the codes."""
        self._blank(codes)
        for code in codes.tolist():
            self._release(code)

    def forget_partition(self, partition: int) -> None:
        """Drop all streams of a partition, and what stations keep of the partition itself."""
        self.reach(np.empty(0, np.int64))
        self.forget(self.streams_of(partition))
        for values in self._partitions.values():
            values.pop(partition, None)

    def clear(self, codes: Ints) -> None:
        """Drop what is remembered of streams that go on as new ones, under the same codes."""
        self._blank(codes)

    def expire(self, codes: Ints) -> None:
        """Drop what is remembered of streams; their codes stay valid until `sweep`."""
        self._blank(codes)
        self._expired += codes.tolist()

    def sweep(self) -> None:
        """Free the codes of expired streams that have not come back, and of names of which no reading was taken.

        Call it before a batch is decoded.
        """
        self.reach(np.empty(0, np.int64))
        unused = [code for code in {*self._expired, *self._added} if self.names[code] and self.partition[code] < 0]
        if unused:
            self.forget(np.array(sorted(unused), np.int64))
        self._expired.clear()
        self._added.clear()

    def _blank(self, codes: Ints) -> None:
        self.reach(codes)
        for station in self._stations.values():
            station.columns.blank(codes)
        for sparse in self._sparse.values():
            for code in sparse.values.keys() & set(codes.tolist()):
                del sparse.values[code]
        for table in self._tables.values():
            table.drop(codes)

    def _release(self, code: int) -> None:
        if self.names[code]:
            del self.codes[self.names[code]]
            self.names[code] = ""
            self._free.append(code)

    # -- export and restore -----------------------------------------------------------

    def export(self, codes: Ints, partitions: Sequence[int] = ()) -> ExportedState:
        """Everything remembered of some streams, of the partitions that own them, and of `partitions`; all copied.

        Another thread may store it while the stations go on.
        """
        self.reach(codes)
        owners = sorted({*self.partition[codes].tolist(), *partitions})
        columns = {
            f"{name}.{column}": values
            for name, station in self._stations.items()
            if station.exported
            for column, values in station.take(codes).items()
        }
        for name, table in self._tables.items():
            columns |= {f"{_ROWS}{name}.{column}": values for column, values in table.export(codes).items()}
        known = codes.tolist()
        sparse = {
            name: {self.names[code]: some.encode(some.values[code]) for code in known if code in some.values}
            for name, some in self._sparse.items()
        }
        of_partitions = {
            name: {str(owner): copy.deepcopy(values[owner]) for owner in owners if owner in values}
            for name, values in self._partitions.items()
        }
        values = {"streams": [self.names[code] for code in known], "sparse": sparse, "partitions": of_partitions}
        return ExportedState(columns, values)

    def restore(self, state: ExportedState, *, leave_out: Sequence[str] = ()) -> None:
        """Take over what `export` gave, here or in another process.

        A stream that another partition owns here meanwhile has moved there, and stays as it is.

        Args:
            state: What to take over.
            leave_out: Stations that begin blank.

        Raises:
            ValueError: It does not fit; nothing of it is kept.
        """
        names = state.values["streams"]
        if not isinstance(names, list) or len(set(names)) < len(names) or not all(type(n) is str and n for n in names):
            raise ValueError("wanted distinct names of streams")
        self.reach(np.empty(0, np.int64))
        owners = state.columns.get("keys.partition", np.empty(0, np.int64))
        one_each = [column for key, column in state.columns.items() if not key.startswith(_ROWS)]
        if any(column.ndim == 0 or len(column) != len(names) for column in one_each):
            raise ValueError(f"wanted columns of {len(names)} rows, one for each stream")
        here = [self.partition[self.codes[name]] if name in self.codes else -1 for name in names]
        rows = np.flatnonzero((np.array(here, np.int64) < 0) | (np.array(here, np.int64) == owners[: len(names)]))
        known = {names[row] for row in rows.tolist()}
        codes = np.array([self.add(names[row]) for row in rows.tolist()], np.int64)
        self.reach(codes)
        self._blank(codes)
        found: dict[str, Arrays] = {}
        for key, column in state.columns.items():
            station, _, name = key.partition(".")
            found.setdefault(station, {})[name] = column if key.startswith(_ROWS) else column[rows]
        places = np.full(len(names), -1, np.int64)
        places[rows] = codes
        try:
            for station, registered in self._stations.items():
                if registered.exported and station not in leave_out:
                    registered.put(codes, found[station])
            for station, sparse in self._sparse.items():
                for name, value in self._exported(state, "sparse", station).items():
                    if name in known:
                        sparse.values[self.codes[name]] = sparse.decode(value)
            for station, table in self._tables.items():
                if station not in leave_out:
                    table.restore(places, found[_ROWS + station])
            for station, values in self._partitions.items():
                for partition, value in self._exported(state, "partitions", station).items():
                    values[int(partition)] = value
        except BaseException:
            self.forget(codes)
            raise

    def _exported(self, state: ExportedState, what: str, station: str) -> dict[str, Any]:
        values: dict[str, dict[str, Any]] = state.values[what]
        return values.get(station, {}) if station in self._optional else values[station]

    @property
    def bytes_per_stream(self) -> int:
        """Of all columns; names come on top."""
        return sum(station.columns.bytes_per_row for station in self._stations.values())
