"""Aggregations: one number of the readings of each bar.

Pure functions over readings sorted by bar; a bar is a run `begin[i] : begin[i] + count[i]`. NaN is a value that is not
there; what no value is there for is NaN, or 0 where nothing is a number too (`options.ZERO_WHEN_EMPTY`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.event_time.options import Feature
from streamer.core.event_time.trail import Trails
from streamer.core.readings import NEVER

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bars:
    """Which readings make each bar."""

    begin: Ints  # (bars,)
    count: Ints  # (bars,) at least 1

    @property
    def member(self) -> Ints:
        """Bar of each reading, `(n,)`."""
        return np.repeat(np.arange(len(self.begin)), self.count)


Compute = Callable[["Bars", list[Floats], float], Floats]
ComputeTrail = Callable[["Bars", list[Trails], Ints], Floats]


def aggregate(
    features: tuple[Feature, ...], values: Floats, bars: Bars, trails: Mapping[int, Trails], end_ns: Ints
) -> Floats:
    """Every feature of every bar, not transformed.

    Args:
        features: What to compute.
        values: Readings as sent, sorted by bar and inside it by time, `(n, fields)`.
        bars: Runs of them.
        trails: Of the fields that features with a memory need.
        end_ns: End of each bar, `(bars,)`.

    Returns:
        `(bars, features)`.
    """
    out = np.empty((len(bars.begin), len(features)))
    if len(bars.begin):
        for column, feature in enumerate(features):
            if feature.aggregate in _WITH_TRAIL:
                some = [trails[field] for field in feature.fields]
                out[:, column] = _WITH_TRAIL[feature.aggregate](bars, some, end_ns)
            else:
                fields = [np.ascontiguousarray(values[:, field]) for field in feature.fields]
                out[:, column] = _COMPUTE[feature.aggregate](bars, fields, feature.number)
    return out


def _sum(bars: Bars, values: Floats) -> Floats:
    return np.add.reduceat(np.where(np.isnan(values), 0.0, values), bars.begin)


def _number(bars: Bars, values: Floats) -> Floats:
    return np.add.reduceat((~np.isnan(values)).astype(np.float64), bars.begin)


def _count(bars: Bars, fields: list[Floats], _: float) -> Floats:
    return _number(bars, fields[0]) if fields else bars.count.astype(np.float64)


def _mean_of(bars: Bars, values: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        return _sum(bars, values) / _number(bars, values)


def _edge(bars: Bars, values: Floats, last: bool) -> Floats:
    """The first or last value there is."""
    place = np.arange(len(values))
    is_there = ~np.isnan(values)
    if last:
        found = np.maximum.reduceat(np.where(is_there, place, -1), bars.begin)
    else:
        found = np.minimum.reduceat(np.where(is_there, place, len(values)), bars.begin)
        found = np.where(found == len(values), -1, found)
    return np.where(found < 0, np.nan, values[found])


def _std(bars: Bars, fields: list[Floats], _: float) -> Floats:
    """Population standard deviation."""
    values = fields[0]
    away = values - np.repeat(_mean_of(bars, values), bars.count)
    number = _number(bars, values)
    return np.where(number > 0, np.sqrt(_sum(bars, away**2) / np.maximum(number, 1)), 0.0)


def _range(bars: Bars, fields: list[Floats], _: float) -> Floats:
    spread = np.fmax.reduceat(fields[0], bars.begin) - np.fmin.reduceat(fields[0], bars.begin)
    return np.where(np.isnan(spread), 0.0, spread)


def _quantile(bars: Bars, fields: list[Floats], number: float) -> Floats:
    """Linear between the two nearest values."""
    values = fields[0]
    order = np.lexsort((values, bars.member))  # NaN comes last in each bar
    ordered, there = values[order], _number(bars, values)
    place = np.maximum(there - 1, 0) * number
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(there.astype(np.int64) - 1, 0))
    below, above = ordered[bars.begin + low], ordered[bars.begin + high]
    return np.where(there > 0, below + (above - below) * (place - low), np.nan)


def _volatility(bars: Bars, trails: list[Trails], _: Ints) -> Floats:
    """Realised volatility: root of the sum of squared log returns, basis points."""
    return np.sqrt(np.add.reduceat(trails[0].returns ** 2, bars.begin))


def _jump(bars: Bars, trails: list[Trails], _: Ints) -> Floats:
    """Largest log return from one value to the next, without its sign, basis points."""
    return np.maximum.reduceat(np.abs(trails[0].returns), bars.begin)


def _reversal(bars: Bars, trails: list[Trails], _: Ints) -> Floats:
    """Largest jump that the next value undid, basis points: the smaller of two returns of opposite signs."""
    now, before = trails[0].returns, trails[0].before
    undone = np.where(now * before < 0, np.minimum(np.abs(now), np.abs(before)), 0.0)
    return np.maximum.reduceat(undone, bars.begin)


def _age(bars: Bars, trails: list[Trails], end_ns: Ints) -> Floats:
    """Seconds from the last change of any of the fields to the end of the bar."""
    last = bars.begin + bars.count - 1
    changed_ns = np.maximum.reduce([trail.changed_ns for trail in trails])[last]
    known = changed_ns != NEVER
    return np.where(known, (end_ns - np.where(known, changed_ns, 0)) / 1e9, np.nan)


def _vwap(bars: Bars, fields: list[Floats], _: float) -> Floats:
    """Price weighted by size."""
    price, size = fields
    both = ~np.isnan(price) & ~np.isnan(size)
    weight = _sum(bars, np.where(both, size, 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 0, _sum(bars, np.where(both, price * size, 0.0)) / weight, np.nan)


def _mid(bars: Bars, trails: list[Trails], _: Ints) -> Floats:
    """Last middle of bid and ask; a side that is not quoted anew stands as it was."""
    bid, ask = trails
    return _edge(bars, (bid.known + ask.known) / 2, last=True)


def _spread(bars: Bars, trails: list[Trails], _: Ints) -> Floats:
    """Mean of ask - bid."""
    bid, ask = trails
    return _mean_of(bars, ask.known - bid.known)


def _imbalance(bars: Bars, trails: list[Trails], _: Ints) -> Floats:
    """Mean of (bid size - ask size) / (bid size + ask size)."""
    bid, ask = (trail.known for trail in trails)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _mean_of(bars, np.where(bid + ask > 0, (bid - ask) / (bid + ask), np.nan))


_COMPUTE: dict[str, Compute] = {
    "last": lambda bars, fields, _: _edge(bars, fields[0], last=True),
    "first": lambda bars, fields, _: _edge(bars, fields[0], last=False),
    "mean": lambda bars, fields, _: _mean_of(bars, fields[0]),
    "min": lambda bars, fields, _: np.fmin.reduceat(fields[0], bars.begin),
    "max": lambda bars, fields, _: np.fmax.reduceat(fields[0], bars.begin),
    "sum": lambda bars, fields, _: _sum(bars, fields[0]),
    "count": _count,
    "median": lambda bars, fields, _: _quantile(bars, fields, 0.5),
    "quantile": _quantile,
    "std": _std,
    "range": _range,
    "vwap": _vwap,
}

_WITH_TRAIL: dict[str, ComputeTrail] = {
    "volatility": _volatility,
    "jump": _jump,
    "reversal": _reversal,
    "mid": _mid,
    "spread": _spread,
    "imbalance": _imbalance,
    "age": _age,
}
