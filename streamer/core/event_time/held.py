"""Readings held back until their time has come: rows of all streams, in buckets of event time.

A bucket is looked at only when a stream's released time reaches into it, so holding costs nothing for each poll. Pure.
Not inside: what is released when (`lateness`), what is made of it (`bars`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Arrays

Ints = NDArray[np.int64]

NO_SEQUENCE = np.iinfo(np.int64).min  # in place of a sequence number

_STREAMS = 16  # of a bucket, where rows are held by stream
_PARTS = 32  # of such a bucket


@dataclass(frozen=True, slots=True)
class Rows:
    """Readings as sent, as columns of equal length `n`."""

    code: Ints  # (n,)
    time_ns: Ints  # (n,)
    values: NDArray[np.float64]  # (n, fields)
    offset: Ints  # (n,)
    sequence: Ints  # (n,) NO_SEQUENCE without a sequence field

    def __len__(self) -> int:
        return len(self.code)

    def take(self, where: NDArray[np.bool_] | Ints | slice) -> Rows:
        return Rows(self.code[where], self.time_ns[where], self.values[where], self.offset[where], self.sequence[where])

    @classmethod
    def join(cls, parts: list[Rows]) -> Rows:
        """There is at least one."""
        if len(parts) == 1:
            return parts[0]
        names = ("code", "time_ns", "values", "offset", "sequence")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    @classmethod
    def empty(cls, fields: int) -> Rows:
        none = np.empty(0, np.int64)
        return cls(none, none, np.empty((0, fields)), none, none)


class Held:
    """Rows held back; a table of `KeyedState`.

    Args:
        fields: Values of a reading as sent.
        span_ns: Event time of a bucket.
    """

    def __init__(self, fields: int, span_ns: int) -> None:
        self._fields, self._span_ns = fields, max(1, span_ns)
        self._buckets: dict[int, list[Rows]] = {}
        self.count = 0

    def add(self, rows: Rows) -> None:
        """Hold rows, in the order they came."""
        if not len(rows):
            return
        self.count += len(rows)
        bucket = self._bucket_of(rows)
        first = int(bucket[0])
        if (bucket == first).all():
            self._buckets.setdefault(first, []).append(rows)
            return
        order = np.argsort(bucket, kind="stable")
        ends = np.flatnonzero(np.diff(bucket[order])) + 1
        for part in np.split(order, ends):
            self._buckets.setdefault(int(bucket[part[0]]), []).append(rows.take(part))

    def _bucket_of(self, rows: Rows) -> Ints:
        return rows.time_ns // self._span_ns

    def release(self, codes: Ints, before_ns: Ints, rows: int) -> Rows:
        """Take out what some streams have from before a time.

        Args:
            codes: Streams, `(k,)`.
            before_ns: Of each, `(k,)`.
            rows: Rows that every column of the state has.

        Returns:
            Sorted by time bucket, inside it as they came.
        """
        if not len(codes) or not self._buckets:
            return Rows.empty(self._fields)
        limit = np.full(rows, np.iinfo(np.int64).min)
        limit[codes] = before_ns
        last = int(before_ns.max()) // self._span_ns
        out = []
        for number in sorted(number for number in self._buckets if number <= last):
            held = Rows.join(self._buckets[number])
            going = held.time_ns < limit[held.code]
            if going.any():
                out.append(held.take(going))
                held = held.take(~going)
            if len(held):
                self._buckets[number] = [held]
            else:
                del self._buckets[number]
        if not out:
            return Rows.empty(self._fields)
        released = Rows.join(out)
        self.count -= len(released)
        return released

    # What KeyedState asks of a table.

    def export(self, codes: Ints) -> Arrays:
        """The rows of some streams; `stream` is the place in `codes`."""
        parts = [Rows.join(self._buckets[number]) for number in sorted(self._buckets)]
        held = Rows.join(parts) if parts else Rows.empty(self._fields)
        place = np.full(max(int(codes.max(initial=-1)), int(held.code.max(initial=-1))) + 2, -1, np.int64)
        place[codes] = np.arange(len(codes))
        mine = place[held.code] >= 0
        held = held.take(mine)
        return {
            "stream": place[held.code],
            "time_ns": held.time_ns,
            "values": held.values,
            "offset": held.offset,
            "sequence": held.sequence,
        }

    def restore(self, codes: Ints, columns: Arrays) -> None:
        """Hold what `export` gave; `codes` has the code of each place, -1 for streams that are not restored.

        Raises:
            ValueError: It does not fit.
        """
        values, n = columns["values"], len(columns["time_ns"])
        if values.ndim != 2 or values.shape != (n, self._fields):
            raise ValueError(f"held readings: wanted {self._fields} values each; got {values.shape}")
        if n and not (int(columns["stream"].min()) >= 0 and int(columns["stream"].max()) < len(codes)):
            raise ValueError("held readings: of streams that are not there")
        code = codes[columns["stream"]] if n else np.empty(0, np.int64)
        rows = Rows(
            code,
            columns["time_ns"].astype(np.int64),
            values.astype(np.float64),
            columns["offset"].astype(np.int64),
            columns["sequence"].astype(np.int64),
        )
        self.add(rows.take(code >= 0))

    def drop(self, codes: Ints) -> None:
        """Forget the rows of some streams."""
        for number in list(self._buckets):
            held = Rows.join(self._buckets[number])
            kept = held.take(~np.isin(held.code, codes))
            self.count -= len(held) - len(kept)
            if len(kept):
                self._buckets[number] = [kept]
            else:
                del self._buckets[number]


class HeldByStream(Held):
    """Rows held until a stream wants all of its own: in buckets of streams, so that one costs little among many.

    Args:
        fields: Values of a reading as sent.
    """

    def __init__(self, fields: int) -> None:
        super().__init__(fields, 1)

    def add(self, rows: Rows) -> None:
        super().add(rows)
        for number in np.unique(self._bucket_of(rows)).tolist():
            first, *others = self._buckets[number]
            if len(others) > _PARTS:
                # An open bar may take many polls: their rows become few arrays.
                rest = Rows.join(others)
                self._buckets[number] = [first, rest] if len(rest) < len(first) else [Rows.join([first, rest])]

    def _bucket_of(self, rows: Rows) -> Ints:
        return rows.code // _STREAMS

    def take_out(self, codes: Ints) -> Rows:
        """All rows of some streams, those of a stream as they came."""
        out = []
        for number in np.unique(codes // _STREAMS).tolist():
            if number not in self._buckets:
                continue
            held = Rows.join(self._buckets[number])
            going = np.isin(held.code, codes)
            out.append(held.take(going))
            if going.all():
                del self._buckets[number]
            else:
                self._buckets[number] = [held.take(~going)]
        taken = Rows.join(out) if out else Rows.empty(self._fields)
        self.count -= len(taken)
        return taken
