"""Slow drift: how far the errors of a feature have shifted for good, followed at run time.

A sensor is replaced, a service gets a new release: one feature's errors are larger from
then on, and without memory it would drown the others. So each feature has a level, in
spreads above its clean median, that climbs while its error stays higher and falls faster.
The smallest level of all features is taken off: a single feature, or a shift of everything,
is never forgotten, however long it lasts.

The state is `levels` and `windows` of each stream, plain arrays that the caller owns. Which
batches the windows come in makes no difference. Not inside: what is done with the drift (`evidence`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.scoring.baseline import Baseline

Float32 = NDArray[np.float32]
Ints = NDArray[np.int64]

EVERY = 16  # readings between two looks at the errors
# Spreads a level moves in a reading. Slow enough that an incident of some hundred readings still stands
# out; between 500 and 700 up and 160 and 230 down made no difference on labelled data.
_UP, _DOWN = 1 / 500, 3 / 500


def follow(
    log_errors: Float32,
    rows: Ints,
    streams: Ints,
    levels: Float32,
    windows: Ints,
    baseline: Baseline,
    stride: int = 1,
) -> Float32 | None:
    """Drift of each window, and the state after them.

    Args:
        log_errors: From `errors`, `(n, S, F)`; a stream's windows in time order. Minus infinity moves no level.
        rows: Row of each window's stream in `baseline`, `(n,)`.
        streams: Row of each window's stream in the state, `(n,)`.
        levels: State, `(streams, S, F)`; changed.
        windows: State, windows seen so far, `(streams,)`; changed.
        baseline: Tables.
        stride: Readings between two windows.

    Returns:
        Spreads by which the level of each feature is above the lowest one before the window,
        `(n, S, F)`; None if none is.
    """
    every = max(1, EVERY // stride)
    order = np.argsort(streams, kind="stable")
    grouped = streams[order]
    begin = np.flatnonzero(np.diff(grouped, prepend=-1))
    count = np.diff(np.append(begin, len(grouped)))
    place = np.empty(len(streams), np.int64)
    place[order] = np.arange(len(order)) - np.repeat(begin, count)
    place += windows[streams]
    looks = place // every - windows[streams] // every  # at this stream, before this window
    windows[grouped[begin]] += count

    drift: Float32 | None = None
    for look in range(int(looks.max(initial=-1)) + 1):
        some = np.flatnonzero(looks == look) if looks.any() else np.arange(len(looks))
        if levels.shape[2] > 1 and levels[streams[some]].any():
            if drift is None:
                drift = np.zeros_like(log_errors)
            now = levels[streams[some]]
            drift[some] = now - now.min(2, keepdims=True)
        last = some[(place[some] + 1) % every == 0]
        if len(last):
            _climb(levels, streams[last], log_errors[last], baseline, rows[last], every * stride)
    return drift


def _climb(levels: Float32, streams: Ints, log_errors: Float32, baseline: Baseline, rows: Ints, readings: int) -> None:
    before = levels[streams]
    higher = (log_errors - baseline.typical[rows]) / baseline.spread[rows] > before
    step = np.where(higher, np.float32(readings * _UP), np.float32(-readings * _DOWN))
    step[log_errors == -np.inf] = 0.0  # nothing was measured, nothing is learned
    levels[streams] = np.maximum(before + step, np.float32(0.0))
