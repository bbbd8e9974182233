"""Durations as people write them."""

from __future__ import annotations

import math

from streamer.core.durations import duration_text

NICE_S = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200,
    14400, 21600, 43200, 86400,
)  # fmt: skip


def nice(seconds: float) -> float:
    """The usual interval nearest to a measured one; the measured one where none is near.

    >>> nice(59.7), nice(7.0)
    (60, 7.0)
    """
    best = min(NICE_S, key=lambda one: abs(math.log(one / seconds)))
    return best if abs(math.log(best / seconds)) < 0.12 else max(0.001, round(seconds, 3))


def say(seconds: float) -> str:
    """A measured duration, to three figures.

    >>> say(59.98765), say(0.01234), say(5400)
    ('1m', '0.0123s', '90m')
    """
    return duration_text(float(f"{seconds:.3g}")) if seconds >= 0.0001 else f"{seconds:.3g}s"
