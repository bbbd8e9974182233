"""How often clean data reaches a level: a peaks-over-threshold fit, of one stream or of many at once.

An alert budget ("once a week") is rarer than anything calibration data holds, so the level that
is crossed so seldom is read off a generalised Pareto tail. Evidence comes one value a reading; a
daemon with a stride scores every stride-th window, in any of as many phases, and all are looked at.
Not inside: what the level is for (`alert_line`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]

LOWEST_LINE = 0.2  # evidence below it is noise, however seldom it is reached
_THRESHOLD_QUANTILE = 0.95
# A bounded tail (negative shape) is believed only so far: it promises rates that no data has shown. Without any, the
# lines of clean simulated fleets were so high that only a fifth of the budgeted incidents came.
_SHAPE_BOUNDS = (-0.3, 0.4)
_AT_ONCE = 1 << 16  # values of which the n-th largest is found in one go


@dataclass(frozen=True, slots=True)
class TailFit:
    """A generalised Pareto tail above a threshold, and the rate of clusters above it."""

    threshold: float
    scale: float
    shape: float
    rate: float  # clusters above the threshold per window
    clusters: int  # over all phases
    windows: int  # over all phases
    phases: int = 1  # of the stride; the same fault is a cluster in each

    @property
    def independent_clusters(self) -> float:
        return self.clusters / self.phases

    def level(self, rate: float) -> float:
        """The level that clusters cross at `rate` per window; at least the threshold."""
        if rate >= self.rate or self.clusters == 0:
            return self.threshold
        ratio = self.rate / rate
        if abs(self.shape) < 1e-6:
            return self.threshold + self.scale * math.log(ratio)
        return float(self.threshold + self.scale / self.shape * (ratio**self.shape - 1.0))


@dataclass(frozen=True, slots=True)
class Openings:
    """The statistic that opens incidents, of many streams: series of windows `phases` readings apart."""

    values: Float64  # (k,) the n-th largest of the last m windows
    streams: Ints  # (k,) number of each value's stream, rising
    series: Ints  # (k,) number of each value's series, rising: one for each stream and phase
    held_out: NDArray[np.bool_]  # (k,) whether its newest window trained nothing
    phases: int

    @classmethod
    def of(cls, evidence: Float32, counts: Ints, held_out: Ints, *, n: int, m: int, stride: int) -> Openings:
        """Those of every phase of every stream.

        Args:
            evidence: Of every window, stride 1, one stream after another in time order, `(sum(counts),)`.
            counts: Windows of each stream, `(streams,)`.
            held_out: How many of the newest of them trained nothing, `(streams,)`.
            n: Windows that must be at or above the line, of those that are scored.
            m: Among so many newest ones.
            stride: Readings between two windows that are scored.
        """
        streams = np.repeat(np.arange(len(counts)), counts)
        place = np.arange(len(evidence)) - np.repeat(np.cumsum(counts) - counts, counts)
        series = streams * stride + place % stride
        if stride > 1:
            order = np.argsort(series, kind="stable")
            evidence, streams, place, series = evidence[order], streams[order], place[order], series[order]
        last = np.flatnonzero(series[m - 1 :] == series[: max(0, len(series) - m + 1)]) + m - 1
        values = nth_largest(evidence, last, n, m).astype(np.float64)
        kept = counts[streams[last]] - place[last] <= held_out[streams[last]]
        return cls(values, streams[last], series[last], kept, stride)

    def only_held_out(self) -> Openings:
        some = self.held_out
        return Openings(self.values[some], self.streams[some], self.series[some], some[some], self.phases)

    def clusters(self, above: float | Float64, run: int) -> tuple[Float64, Ints]:
        """Peak of each cluster above a level, and the number of its stream.

        Args:
            above: Level, one for all or one for each value.
            run: Windows without an exceedance that part two clusters of a series.
        """
        where = np.flatnonzero(self.values > above)
        if not len(where):
            return np.empty(0), np.empty(0, np.int64)
        parted = np.diff(where, prepend=where[0] - run - 1) > run
        parted |= np.diff(self.series[where], prepend=-1) != 0
        starts = np.flatnonzero(parted)
        return np.maximum.reduceat(self.values[where], starts), self.streams[where[starts]]

    def fit(self, run: int, *, below_highest: bool = False) -> TailFit:
        """One tail for all streams together.

        Args:
            run: Windows without an exceedance that part two clusters.
            below_highest: The threshold is the second highest value where it would be the highest.
        """
        if not len(self.values):
            return _NO_TAIL
        threshold = float(np.quantile(self.values, _THRESHOLD_QUANTILE))
        if below_highest and threshold >= self.values.max() > self.values.min():
            threshold = float(self.values[self.values < threshold].max())
        peaks, _ = self.clusters(threshold, run)
        return _fit(threshold, np.sort(peaks - threshold), len(self.values), self.phases)

    def fit_each(self, run: int, streams: int) -> list[TailFit]:
        """A tail for each of `streams` streams."""
        sizes = np.bincount(self.streams, minlength=streams)
        begins = np.cumsum(sizes) - sizes
        thresholds = np.full(streams, LOWEST_LINE)
        for size in np.unique(sizes[sizes > 0]):  # streams with as much data as others are looked at together
            some = np.flatnonzero(sizes == size)
            together = self.values[begins[some, None] + np.arange(size)]
            thresholds[some] = np.quantile(together, _THRESHOLD_QUANTILE, axis=1)
        peaks, owners = self.clusters(thresholds[self.streams], run)
        excess = peaks - thresholds[owners]
        excess = excess[np.lexsort((excess, owners))]
        edges = np.searchsorted(owners, np.arange(streams + 1))
        return [
            _fit(float(thresholds[i]), excess[edges[i] : edges[i + 1]], int(sizes[i]), self.phases)
            for i in range(streams)
        ]


def nth_largest(values: Float32, last: Ints, n: int, m: int) -> Float32:
    """The n-th largest of the m values that end at each of `last`: at or above a line exactly when n of m are.

    >>> nth_largest(np.array([0.0, 5.0, 1.0, 7.0], np.float32), np.array([2, 3]), 2, 3)
    array([1., 5.], dtype=float32)
    """
    if not len(last):
        return np.empty(0, np.float32)
    newest = np.lib.stride_tricks.sliding_window_view(values, m)
    found = np.empty(len(last), np.float32)
    for i in range(0, len(last), _AT_ONCE):
        some = last[i : i + _AT_ONCE] - m + 1
        found[i : i + _AT_ONCE] = np.partition(newest[some], m - n, axis=1)[:, m - n]
    return found


def fit_tail(series: Sequence[Float64], run: int) -> TailFit:
    """Fit the tail of several streams' statistics together.

    Args:
        series: One array per stream, in time order.
        run: Windows without an exceedance that part two clusters.
    """
    streams = np.repeat(np.arange(len(series)), [len(values) for values in series])
    values = np.concatenate([np.empty(0), *series])
    return Openings(values, streams, streams, np.ones(len(values), bool), 1).fit(run)


_NO_TAIL = TailFit(LOWEST_LINE, 0.0, 0.0, 0.0, 0, 0)


def _fit(threshold: float, excess: Float64, windows: int, phases: int) -> TailFit:
    """Tail of rising excesses over a threshold.

    The shape is by probability-weighted moments, pulled to 0 (an exponential tail) as
    clusters get few. After Hosking and Wallis, 1987, doi:10.1080/00401706.1987.10488243.
    """
    count = len(excess)
    if count == 0:
        return TailFit(threshold, 0.0, 0.0, 0.0, 0, windows, phases)
    mean = float(excess.mean())
    shape = 0.0
    if count > 4 * phases:
        tilted = float((excess * (1.0 - (np.arange(count) + 0.65) / count)).mean())
        if mean - 2.0 * tilted > 1e-12:
            shape = 2.0 - mean / (mean - 2.0 * tilted)
        independent = count / phases
        shape = float(np.clip(shape, *_SHAPE_BOUNDS)) * independent / (independent + 20.0)
    return TailFit(threshold, mean * (1.0 - shape), shape, count / windows, count, windows, phases)


def contradicts(count: int, expected: float) -> bool:
    """Whether `count` events are more than chance brings (5 %) where `expected` are the mean, after Poisson.

    Exact for any `expected`: the chance of at least `count` is a regularised incomplete gamma function.

    >>> contradicts(1, 0.2), contradicts(3, 0.2)
    (False, True)
    """
    import torch  # here alone: a policy is checked without loading it

    if count == 0:
        return False
    chance = torch.special.gammainc(torch.tensor(float(count)).double(), torch.tensor(expected).double())
    return float(chance) < 0.05
