"""Readings of a batch, stream after stream, each stream's in order; and what rules look up in them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamer.core.grouping import Ints

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Ordered:
    """Columns of equal length; `row` is the reading of the batch that led to each."""

    code: Ints
    time_ns: Ints
    clock_ns: Ints  # by which durations are measured: event time, or market time where there are sessions
    row: Ints
    place: Ints  # among all readings of the batch, in the order in which they became known
    partition: Ints

    def __len__(self) -> int:
        return len(self.code)

    def take(self, where: NDArray[Any]) -> Ordered:
        """The rows an index array or mask names."""
        return Ordered(*(getattr(self, field.name)[where] for field in fields(self)))

    @cached_property
    def begin(self) -> Ints:
        """Where each stream's readings begin."""
        return np.flatnonzero(np.diff(self.code, prepend=-1) != 0)

    @cached_property
    def codes(self) -> Ints:
        """The streams."""
        return self.code[self.begin]

    @cached_property
    def last(self) -> Ints:
        """Where each stream's readings end."""
        return np.append(self.begin[1:], len(self)) - 1

    @cached_property
    def count(self) -> Ints:
        """Readings of each stream."""
        return self.last - self.begin + 1

    @cached_property
    def begin_of(self) -> Ints:
        """Where the stream of each reading begins."""
        return np.repeat(self.begin, self.count)

    def spread(self, values: NDArray[T]) -> NDArray[T]:
        """A value of each stream for each of its readings."""
        return np.repeat(values, self.count, axis=0)

    def before(self, values: NDArray[T], first: NDArray[T]) -> NDArray[T]:
        """The value at the stream's reading before; `first` for its first one in the batch."""
        shifted = np.concatenate([values[:1], values[:-1]])
        shifted[self.begin] = first
        return shifted

    def newest(self, where: Bools) -> Ints:
        """The newest reading of the stream up to each at which `where` holds; -1 if there is none in the batch."""
        found = np.maximum.accumulate(np.where(where, np.arange(len(self)), -1))
        return np.where(found >= self.begin_of, found, -1)

    def carried(self, values: NDArray[T], where: Bools, first: NDArray[T]) -> NDArray[T]:
        """The value at the newest reading at which `where` holds; `first` of the stream if there is none."""
        found = self.newest(where)
        return np.where(found >= 0, values[found], self.spread(first))
