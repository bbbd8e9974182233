"""Rows of a batch grouped by stream.

Pure numpy; knows nothing of readings, windows or scores.
"""

from __future__ import annotations

from dataclasses import dataclass

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
