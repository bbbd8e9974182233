"""How often each metric of the long layout comes, and which come too seldom for the grid of the others.

Pure. Not inside: intervals of streams (`movement`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.offline.look.fields import NO_TIME
from streamer.offline.look.movement import codes_of

MOST_STEPS = 20  # between two values of a metric, up to which the value before is carried
Ints = NDArray[np.int64]


def intervals(metrics: NDArray[np.object_], stream: Ints, run: Ints, times_ns: Ints) -> Mapping[str, float]:
    """Seconds from one value of a metric to its next, on average over the streams that have it.

    A metric that comes once in a run says nothing by its steps; by how long the run is, it does.
    """
    known = times_ns != NO_TIME
    metrics, stream, group, times_ns = (
        metrics[known],
        stream[known],
        codes_of(stream[known], run[known]),
        times_ns[known],
    )
    if not len(group):
        return {}
    first, last = np.full(group.max() + 1, np.iinfo(np.int64).max), np.full(group.max() + 1, NO_TIME)
    np.minimum.at(first, group, times_ns)
    np.maximum.at(last, group, times_ns)
    of_stream = np.zeros(group.max() + 1, np.int64)
    of_stream[group] = stream
    found = {}
    for name in dict.fromkeys(name for name in metrics if name is not None):
        mine = metrics == name
        spans = (last - first)[np.isin(of_stream, stream[mine])]
        found[str(name)] = float(spans.sum()) / 1e9 / int(mine.sum())
    return found


def too_seldom(intervals_s: Mapping[str, float], taken: Sequence[str], grid_s: float) -> list[str]:
    """Metrics that come less often than every `MOST_STEPS` steps of the grid, unless most are like that."""
    slow = [name for name in taken if intervals_s.get(name, 0.0) > MOST_STEPS * grid_s]
    return slow if 2 * len(slow) < len(taken) else []
