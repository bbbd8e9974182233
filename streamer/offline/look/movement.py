"""How times and values move: forward or not, how regularly, how late, per stream and run of messages.

Columns in, numbers out. Not inside: which column is the stream or the time (`choosing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.offline.look.fields import NO_TIME

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Movement:
    """Shares of the steps from a reading to the next of its group."""

    steps: int
    forward: float
    same: float
    back: float


def codes_of(*columns: Sequence[Any] | NDArray[Any]) -> Ints:
    """One code for each combination of values."""
    whole = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        _, codes = np.unique(np.array([str(value) for value in column], dtype=object), return_inverse=True)
        whole = whole * (int(codes.max(initial=0)) + 1) + codes
        _, whole = np.unique(whole, return_inverse=True)
    return whole.astype(np.int64)


def consecutive(group: Ints, times_ns: Ints | None = None) -> tuple[Ints, Ints]:
    """Rows and the rows before them in their group: in the order of arrival, or of these times."""
    order = np.argsort(group, kind="stable") if times_ns is None else np.lexsort((times_ns, group))
    same = group[order[1:]] == group[order[:-1]]
    return order[1:][same], order[:-1][same]


def movement(times_ns: Ints, group: Ints) -> Movement:
    """Of the steps within groups, in the order of arrival.

    >>> movement(np.array([1, 1, 2, 2]), np.array([0, 1, 0, 1]))
    Movement(steps=2, forward=1.0, same=0.0, back=0.0)
    """
    now, before = consecutive(group)
    known = (times_ns[now] != NO_TIME) & (times_ns[before] != NO_TIME)
    steps = times_ns[now][known] - times_ns[before][known]
    n = max(1, len(steps))
    return Movement(len(steps), *(float(np.sum(some)) / n for some in (steps > 0, steps == 0, steps < 0)))


def evenness(times_ns: Ints, group: Ints) -> float:
    """Share of the steps within groups that are about as long as the usual one."""
    now, before = consecutive(group)
    steps = np.abs(times_ns[now] - times_ns[before]).astype(np.float64)
    if len(steps) < 8:
        return 0.0
    usual = float(np.median(steps))
    return float(((steps > 0.75 * usual) & (steps < 1.25 * usual)).mean())


def roughness(columns: Sequence[NDArray[np.float64]], group: Ints) -> NDArray[np.float64]:
    """How far values of each column jump within groups, against what they differ by at random.

    0 is smooth, 1 no better than chance.
    """
    now, before = consecutive(group)
    rng = np.random.default_rng(0)
    found = []
    for column in columns:
        steps = np.abs(column[now] - column[before])
        known = column[np.isfinite(column)]
        if len(known) < 8 or np.isfinite(steps).sum() < 8:
            found.append(1.0)
            continue
        chance = np.abs(known - rng.permutation(known)).mean()
        found.append(min(1.0, float(np.nanmean(steps) / chance)) if chance > 0 else 1.0)
    return np.array(found)


@dataclass(frozen=True, slots=True)
class Timing:
    """When readings come."""

    streams: int
    readings: int
    per_stream: tuple[int, int, int]  # readings of a stream: fewest, median, most
    largest: Sequence[tuple[str, int]]  # streams with most readings
    first_ns: int
    last_ns: int
    interval_s: float | None  # usual seconds between two readings of a stream at different times
    interval_quantiles_s: Sequence[tuple[float, float]] = ()
    late: float = 0.0  # share older than their stream's newest
    late_quantiles_s: Sequence[tuple[float, float]] = ()  # of those that are late
    same_time: float = 0.0  # share at a time at which the stream has a reading already
    duplicates: float = 0.0  # share that is equal to an earlier one in every field
    ahead: float = 0.0  # share more than an hour ahead of the broker's clock
    steps: int = 0  # from one reading to the next of its stream that were seen
    slowest_s: float | None = None  # usual interval of the stream, or of its metric, that comes most seldom

    @property
    def regular(self) -> bool:
        """Nine of ten steps are within a quarter of the usual one."""
        steps = dict(self.interval_quantiles_s)
        if not self.interval_s or not steps:
            return True
        return steps[0.1] > 0.75 * self.interval_s and steps[0.9] < 1.25 * self.interval_s

    def lateness_s(self, quantile: float) -> float:
        return dict(self.late_quantiles_s).get(quantile, 0.0)


_QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
_LATE_QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)


def timing(
    times_ns: Ints,
    stream: Ints,
    names: Sequence[str],
    run: Ints,
    *,
    taken_ms: Ints,
    equal: Ints | None = None,
    metric: Ints | None = None,
    together: bool = False,
) -> Timing:
    """When the readings of streams come.

    Args:
        times_ns: Event times, in the order of arrival.
        stream: Code of each reading's stream.
        names: Of the codes.
        run: Readings of one run came one after another.
        taken_ms: When the broker took the message; -1: not known.
        equal: One code for all readings that are equal in every field; None: not looked at.
        metric: What each reading is of, where each is of one metric: intervals are those of a metric then.
        together: Intervals are those of a stream's readings of all runs, which are each a part of them only.
    """
    known = times_ns != NO_TIME
    times_ns, stream, run, taken_ms = times_ns[known], stream[known], run[known], taken_ms[known]
    counts = np.bincount(stream, minlength=len(names)) if len(stream) else np.zeros(len(names), np.int64)
    seen = counts[counts > 0]
    if not len(seen):
        return Timing(0, 0, (0, 0, 0), (), 0, 0, None)
    group = codes_of(stream, run)
    late, late_by = _late(times_ns, group)
    if together:
        group = stream
    if metric is not None:
        group = codes_of(group, metric[known])
    order = np.lexsort((times_ns, group))
    inside = group[order[1:]] == group[order[:-1]]
    steps = np.diff(times_ns[order])
    moved = inside & (steps > 0)
    interval, quantiles, slowest = _intervals(steps[moved], group[order[1:]][moved])
    top = np.argsort(-counts, kind="stable")[:5]
    ahead = (taken_ms > 0) & (times_ns > taken_ms * 1_000_000 + 3_600_000_000_000)
    duplicates = 0.0
    if equal is not None:
        duplicates = 1 - len(np.unique(np.stack([stream, equal[known]]), axis=1).T) / len(stream)
    return Timing(
        len(seen),
        len(times_ns),
        (int(seen.min()), int(np.median(seen)), int(seen.max())),
        [(str(names[i]), int(counts[i])) for i in top if counts[i]],
        int(times_ns.min()),
        int(times_ns.max()),
        interval,
        quantiles,
        float(late.mean()),
        [(q, float(np.quantile(late_by[late], q)) / 1e9) for q in _LATE_QUANTILES] if late.any() else (),
        float((inside & (steps == 0)).sum() / len(times_ns)),
        float(duplicates),
        float(ahead.mean()),
        int(inside.sum()),
        slowest,
    )


def _late(times_ns: Ints, group: Ints) -> tuple[NDArray[np.bool_], Ints]:
    """Which readings are older than the newest of their group so far, and by how much."""
    late_by = np.zeros_like(times_ns)
    order = np.argsort(group, kind="stable")
    cuts = np.flatnonzero(np.diff(group[order])) + 1
    for rows in np.split(order, cuts):
        newest = np.maximum.accumulate(times_ns[rows])
        late_by[rows] = newest - times_ns[rows]
    return late_by > 0, late_by


def _intervals(steps: Ints, group: Ints) -> tuple[float | None, Sequence[tuple[float, float]], float | None]:
    """The median of the groups' medians, quantiles of all steps, and the largest median, in seconds."""
    if not len(steps):
        return None, (), None
    order = np.argsort(group, kind="stable")
    parts = np.split(steps[order], np.flatnonzero(np.diff(group[order])) + 1)
    # A group of two or three steps says little of what is usual; where there are only such, they all speak.
    long = [part for part in parts if len(part) >= 5] or parts
    medians = [float(np.median(part)) / 1e9 for part in long]
    quantiles = [(q, float(np.quantile(steps, q)) / 1e9) for q in _QUANTILES]
    return float(np.median(medians)), quantiles, max(medians)
