"""Running maxima, look-ups and bars inside the groups of a batch.

Pure numpy. Values are int64, of any size: event times, bars, ranks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_ROOM = 1 << 62


def line_up(member: Ints, values: Ints, other_member: Ints, other_values: Ints) -> tuple[Ints, Ints]:
    """Two sets of values on one line: they compare as before inside a group, and never across.

    Args:
        member: Group of each place of the first set, in any order, `(n,)`; at least one.
        values: `(n,)`.
        other_member: Of the second set, `(m,)`; at least one.
        other_values: `(m,)`.

    >>> line_up(np.array([0, 1]), np.array([9, 1]), np.array([0, 1]), np.array([3, 2]))
    (array([8, 9]), array([ 2, 10]))
    """
    n = len(member)
    low = min(int(values.min()), int(other_values.min()))
    high = max(int(values.max()), int(other_values.max()))
    groups = max(int(member.max()), int(other_member.max())) + 1
    span = high - low + 1
    if span * groups < _ROOM:
        return member * span + (values - low), other_member * span + (other_values - low)
    kinds, rank = np.unique(np.concatenate([values, other_values]), return_inverse=True)
    return member * len(kinds) + rank[:n], other_member * len(kinds) + rank[n:]


def running_max(member: Ints, values: Ints) -> Ints:
    """The highest value of each place's group so far, `(n,)`; `member` rises.

    >>> running_max(np.array([0, 0, 0, 1]), np.array([3, 9, 4, 1])).tolist()
    [3, 9, 9, 1]
    """
    if not len(values):
        return values.copy()
    low, span = int(values.min()), int(values.max()) - int(values.min()) + 1
    if span * (int(member[-1]) + 1) < _ROOM:
        line = member * span + (values - low)
    else:  # too far apart for one integer: ranks stand for values
        line = member * len(values) + np.unique(values, return_inverse=True)[1]
    highest = np.maximum.accumulate(line)
    place = np.maximum.accumulate(np.where(line == highest, np.arange(len(line)), 0))
    return np.asarray(values[place], np.int64)


def shifted(values: Ints, begin: Ints, first: Ints) -> Ints:
    """Each place's predecessor inside its group; `first` where a group begins."""
    before = np.empty_like(values)
    before[1:] = values[:-1]
    before[begin] = first
    return before
