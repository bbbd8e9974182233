"""Held-out evidence to an alert line, from a stated alert budget.

The line is the level that clean data crosses as often as the budget allows, found by
a peaks-over-threshold fit, because the budget ("once a week") is rarer than anything
the held-out data holds. Not inside: the model, or when an incident opens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

LOWEST_LINE = 0.2  # evidence below is the noise of normal life, however seldom it is reached
WINDOWS = 5.0  # that do not overlap: with so many a stream's own figures count as much as the fleet's
_THRESHOLD_QUANTILE = 0.95
# A bounded tail (negative shape) is believed only so far: it promises rates that no data has shown. Without any, the
# lines of clean simulated fleets were so high that only a fifth of the budgeted incidents came.
_SHAPE_BOUNDS = (-0.3, 0.4)


def opening_statistic(evidence: Float64, n: int, m: int) -> Float64:
    """The n-th largest of the last m values: at or above the line exactly when n of m are.

    Calibrating on this, not on single values, makes the budget count incidents.

    Args:
        evidence: Of one stream, in time order, `(t,)`.
        n: Values that must be at or above the line.
        m: Among so many newest ones.

    Returns:
        `(t - m + 1,)`; empty if there are fewer than m values.

    >>> opening_statistic(np.array([0.0, 5.0, 1.0, 7.0]), 2, 3)
    array([1., 5.])
    """
    if len(evidence) < m:
        return np.empty(0)
    newest = np.lib.stride_tricks.sliding_window_view(evidence, m)
    return np.partition(newest, m - n, axis=1)[:, m - n]


def cluster_peaks(values: Float64, threshold: float, run: int) -> Float64:
    """Highest value of each cluster above `threshold`; clusters are `run` values apart.

    Overlapping windows exceed together; one fault is one cluster, not 64.

    >>> cluster_peaks(np.array([0, 3, 0, 5, 0, 0, 0, 4.0]), 1.0, 3)
    array([5., 4.])
    """
    where = np.flatnonzero(values > threshold)
    if not len(where):
        return np.empty(0)
    starts = np.flatnonzero(np.diff(where, prepend=where[0] - run - 1) > run)
    return np.maximum.reduceat(values[where], starts)


@dataclass(frozen=True, slots=True)
class TailFit:
    """A generalised Pareto tail above a threshold, and the rate of clusters above it."""

    threshold: float
    scale: float
    shape: float
    rate: float  # clusters above the threshold per reading
    clusters: int
    readings: int

    def level(self, rate: float) -> float:
        """The level that clusters cross at `rate` per reading; at least the threshold."""
        if rate >= self.rate or self.clusters == 0:
            return self.threshold
        ratio = self.rate / rate
        if abs(self.shape) < 1e-6:
            return self.threshold + self.scale * math.log(ratio)
        return float(self.threshold + self.scale / self.shape * (ratio**self.shape - 1.0))


def fit_tail(series: Sequence[Float64], run: int) -> TailFit:
    """Fit the tail of several streams' opening statistics together.

    Args:
        series: One array per stream, in time order.
        run: Readings without an exceedance that part two clusters.

    The shape is by probability-weighted moments, pulled to 0 (an exponential tail) as
    clusters get few. After Hosking and Wallis, 1987, doi:10.1080/00401706.1987.10488243.
    """
    everything = np.concatenate(series) if series else np.empty(0)
    if not len(everything):
        return TailFit(LOWEST_LINE, 0.0, 0.0, 0.0, 0, 0)
    threshold = float(np.quantile(everything, _THRESHOLD_QUANTILE))
    excess = np.sort(np.concatenate([cluster_peaks(values, threshold, run) for values in series]) - threshold)
    count = len(excess)
    if count == 0:
        return TailFit(threshold, 0.0, 0.0, 0.0, 0, len(everything))
    mean = float(excess.mean())
    shape = 0.0
    if count > 4:
        tilted = float((excess * (1.0 - (np.arange(count) + 0.65) / count)).mean())
        if mean - 2.0 * tilted > 1e-12:
            shape = 2.0 - mean / (mean - 2.0 * tilted)
        shape = float(np.clip(shape, *_SHAPE_BOUNDS)) * count / (count + 20.0)
    return TailFit(threshold, mean * (1.0 - shape), shape, count / len(everything), count, len(everything))


def alert_line(fit: TailFit, *, budget_per_week: float, interval_s: float) -> float:
    """Evidence at which the score is 1.0.

    Args:
        fit: Of held-out data.
        budget_per_week: False incidents allowed per stream and week.
        interval_s: Seconds between readings.
    """
    rate = budget_per_week * interval_s / (7 * 86_400.0)
    return max(LOWEST_LINE, fit.level(rate))


def contradicts(count: int, expected: float) -> bool:
    """Whether `count` events are more than chance brings (5 %) where `expected` are the mean, after Poisson.

    >>> contradicts(1, 0.2), contradicts(3, 0.2)
    (False, True)
    """
    below, term = 0.0, math.exp(-expected)
    for k in range(count):
        below += term
        term *= expected / (k + 1)
    return 1.0 - below < 0.05


def own_part(weight: Float64, prior: float = WINDOWS) -> Float64:
    """How far a stream's own figures count beside the fleet's, 0 to 1, by the `weight` of its history."""
    return weight / (weight + prior)


def shrink_log(own: Float64, fleet: Float64, weight: float) -> Float64:
    """Pull a stream's positive figures to the fleet's, in logs; `weight` is its independent windows."""
    part = weight / (weight + WINDOWS)
    result: Float64 = np.exp(part * np.log(np.maximum(own, 1e-12)) + (1 - part) * np.log(np.maximum(fleet, 1e-12)))
    return result
