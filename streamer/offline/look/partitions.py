"""Whether streams stay in one partition of a topic, as their order wants it.

Pure. Not inside: which messages are looked at (`sampling`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_LEAST = 2  # readings of a stream in a partition; one alone may have been sent by hand


@dataclass(frozen=True, slots=True)
class Split:
    """Streams that occur in several partitions."""

    streams: int
    of: int
    example: str
    partitions: int  # that the example is in

    def words(self) -> str:
        """What is wrong, and the remedy."""
        more = f" (and {self.streams - 1} more of {self.of})" if self.streams > 1 else ""
        return (
            f"stream {self.example} is in {self.partitions} partitions{more}: key the messages by stream, so that each "
            "stays in one and in order; readings that arrive out of order are late, and each partition sees only a part"
        )


def split_of(stream: Ints, names: Sequence[str], partition: Ints) -> Split | None:
    """The streams that occur in several partitions; None if there are none.

    Args:
        stream: Code of each reading's stream.
        names: Of the codes.
        partition: Of each reading.

    >>> split_of(np.array([0, 0, 0, 0]), ["T-01"], np.array([0, 0, 1, 1])).partitions
    2
    """
    if not len(stream):
        return None
    pairs, counts = np.unique(np.stack([stream, partition]), axis=1, return_counts=True)
    seen = np.bincount(pairs[0][counts >= _LEAST], minlength=len(names))
    worst = int(seen.argmax())
    if seen[worst] < 2:
        return None
    return Split(int((seen > 1).sum()), int((np.bincount(stream) > 0).sum()), names[worst], int(seen[worst]))
