"""Readings: what flows through the pipeline, as columns of equal length.

Pure numpy. Not inside: how bytes become readings (`formats`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEVER = np.iinfo(np.int64).min  # an event time before every other
VOUCHED, AHEAD, NO_RECORD_TIME = 0, 1, 2  # what a record's time says of the event time


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings as columns of equal length `n`, in the order they arrived."""

    stream: NDArray[np.int64]  # (n,) code, an index into the decoder's `names`
    time_ns: NDArray[np.int64]  # (n,) event time, ns since 1970 UTC
    values: NDArray[np.floating[Any]]  # (n, features) raw units; 64 bits as sent where bars are made of them, else 32
    partition: NDArray[np.int64]  # (n,)
    offset: NDArray[np.int64]  # (n,)
    sequence: NDArray[np.int64] | None = None  # (n,) the sender's sequence numbers
    ahead: NDArray[np.int8] | None = None  # (n,) AHEAD of the record's time, NO_RECORD_TIME or VOUCHED; None: all are

    def __len__(self) -> int:
        return len(self.stream)

    @classmethod
    def empty(cls, features: int) -> Readings:
        """No readings."""
        none = np.empty(0, np.int64)
        return cls(none, none, np.empty((0, features), np.float32), none, none)

    @classmethod
    def concatenate(cls, parts: Sequence[Readings]) -> Readings:
        """Batches one after another as one; there is at least one."""
        if len(parts) == 1:
            return parts[0]
        columns = ("stream", "time_ns", "values", "partition", "offset")
        sequences = [part.sequence for part in parts if part.sequence is not None]
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
        sequence = np.concatenate(sequences) if len(sequences) == len(parts) else None
        if all(part.ahead is None for part in parts):
            return cls(**joined, sequence=sequence)
        ahead = [np.zeros(len(part), np.int8) if part.ahead is None else part.ahead for part in parts]
        return cls(**joined, sequence=sequence, ahead=np.concatenate(ahead))

    def take(self, where: NDArray[Any] | slice) -> Readings:
        """The rows an index array or mask names."""
        return Readings(
            self.stream[where],
            self.time_ns[where],
            self.values[where],
            self.partition[where],
            self.offset[where],
            None if self.sequence is None else self.sequence[where],
            None if self.ahead is None else self.ahead[where],
        )


def admissible(values: NDArray[np.float32], may_miss: Sequence[int] | None = None) -> NDArray[np.bool_]:
    """Which readings `(n, features)` are taken: something is there, nothing is infinite.

    Args:
        values: Of the readings.
        may_miss: Features that may be absent, as with `records.missing: fill`; None: all.
    """
    absent = np.isnan(values)
    taken = ~absent.all(axis=1) & ~np.isinf(values).any(axis=1)
    if may_miss is not None:
        absent[:, list(may_miss)] = False
        taken &= ~absent.any(axis=1)
    return np.asarray(taken, np.bool_)
