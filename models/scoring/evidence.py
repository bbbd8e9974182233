"""From error levels to one number a window: how far it is beyond its baseline.

    exceedance   of each feature at each time scale
    channels     joined over features and scales: a slow channel and a fast one
    evidence     both channels in units of their own spread
    score        the larger one against the alert line

A spike lives in the newest patch, a drift in the whole window. The fast channel weighs short
scales of the forecast, the slow one long scales of the reconstruction; the one that is further
beyond its own baseline counts. Measured in docs/accuracy.md. Not inside: the errors (`errors`),
how a baseline is fitted, slow drift (`adaptation`), the alert line (`alert_line`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.scoring.baseline import Baseline

Float32 = NDArray[np.float32]
Ints = NDArray[np.int64]

_LARGEST = 80.0  # logarithm of a score; float32 ends at 88, and a score that is not finite would be no score at all


def exceedance(levels: Float32, drift: Float32 | None, baseline: Baseline, rows: Ints) -> Float32:
    """How far each feature is beyond its baseline at each time scale, `(n, S, F)`; 0 is about the 95 % quantile.

    A feature that is noisy in clean data is divided by the root of its spread: half way
    between trusting all logarithms alike and trusting only how rare they are.

    Args:
        levels: From `errors.log_errors`, `(n, S, F)`; minus infinity, where nothing was measured, counts as typical.
        drift: Spreads by which each has shifted for long, same shape, or None (`adaptation`).
        baseline: Tables.
        rows: Of each window's stream, `(n,)`.
    """
    root = baseline.root_spread[rows]
    beyond: Float32 = (levels - baseline.anchor[rows]) / root
    if drift is not None:
        beyond -= drift * root
    if beyond.min(initial=0.0) == -np.inf:
        beyond = np.where(beyond == -np.inf, (baseline.typical[rows] - baseline.anchor[rows]) / root, beyond)
    return beyond


def channels(exceedance: Float32, weights: Float32) -> Float32:
    """Both channels before they are set against their own baseline, `(n, CHANNELS)`.

    Over features the mean of exp(2 x) counts, so that a few far beyond weigh more than many a
    little beyond.

    Args:
        exceedance: `(n, S, F)`.
        weights: Of each scale in each channel, `(S, CHANNELS)`.
    """
    top = exceedance.max(2)
    joined = top + 0.5 * np.log(np.exp(2.0 * (exceedance - top[:, :, None])).mean(2))  # (n, S)
    # Not a matrix product: its rounding would depend on the number of windows.
    mixed: Float32 = (joined[:, :, None] * weights).sum(1)
    return mixed


def evidence(exceedance: Float32, baseline: Baseline, rows: Ints, weights: Float32) -> Float32:
    """Both channels in units of their own spread, `(n, CHANNELS)`; 0 is typical, 1 is the 99 % quantile.

    Args:
        exceedance: `(n, S, F)`.
        baseline: Tables.
        rows: Of each window's stream, `(n,)`.
        weights: Of each scale in each channel, `(S, CHANNELS)`.
    """
    return (channels(exceedance, weights) - baseline.channel_typical[rows]) / baseline.channel_spread[rows]


def score(evidence: Float32, line: Float32, baseline: Baseline, rows: Ints) -> Float32:
    """Score of the channel that is further beyond its baseline, `(n,)`: 1.0 is the alert line.

    It is about how many times larger the error is than at the line.

    Args:
        evidence: `(n, CHANNELS)`.
        line: Evidence at which the score is 1.0, a table `(rows,)`.
        baseline: Tables.
        rows: Of each window's stream, `(n,)`.
    """
    exponent = (evidence.max(1) - line[rows]) * baseline.unit[rows]
    # A broken table shows as infinity; only what is merely large is held back.
    np.minimum(exponent, np.float32(_LARGEST), out=exponent, where=np.isfinite(exponent))
    ratio: Float32 = np.exp(exponent)
    return ratio
