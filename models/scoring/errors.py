"""From rebuilt and foreseen windows to one number a window: how strange, and which feature.

    log_errors   errors of every feature at several time scales, as logarithms
    Normal       what is normal for each stream: tables fitted on clean data (`normal`)
    evidence     how far beyond normal, features and time scales joined into two heads
    shares       what part each feature has in it

A spike lives in the newest patch, a drift in the whole window. The fast head weighs short
scales of the forecast, the slow head long ones of the reconstruction; the one that is
further beyond its own normal counts. Measured in docs/accuracy.md. Not inside: how
normal is found (`normal`), slow drift (`drift`), the alert line (`calibration`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.network.architecture import Architecture
from models.network.autoencoder import foresees

Float32 = NDArray[np.float32]

FLOOR = 0.03  # of the usual error; smaller errors are all alike
HEADS = 2  # slow, fast
_LARGEST = 80.0  # logarithm of a score; float32 ends at 88, and a score that is not finite would be no score at all


def time_scales(steps: int) -> tuple[int, ...]:
    """Patches that each pooling scale spans: powers of two up to all of them.

    >>> time_scales(8)
    (1, 2, 4, 8)
    >>> time_scales(3)
    (1, 2, 3)
    """
    powers = [2**k for k in range(int(math.log2(steps)) + 1)]
    return tuple(powers if powers[-1] == steps else [*powers, steps])


@dataclass(frozen=True, slots=True)
class Scales:
    """Over how many of the newest patches errors are pooled, and how each counts in the two heads."""

    rebuilt: tuple[int, ...]
    foreseen: tuple[int, ...]  # empty if the network does not forecast
    weights: Float32  # (scales, HEADS), rebuilt ones first; each column sums to 1

    def __len__(self) -> int:
        return len(self.rebuilt) + len(self.foreseen)

    @property
    def whole(self) -> int:
        """The scale of the whole window's reconstruction."""
        return len(self.rebuilt) - 1

    @property
    def longest(self) -> NDArray[np.int64]:
        """For each scale the longest one of the same source, `(scales,)`."""
        return np.repeat([self.whole, len(self) - 1], [len(self.rebuilt), len(self.foreseen)])

    @classmethod
    def of(cls, architecture: Architecture) -> Scales:
        """Those of a network.

        >>> Scales.of(Architecture(features=1)).rebuilt, Scales.of(Architecture(features=1)).foreseen
        ((4, 8), (1, 2, 4, 7))
        >>> Scales.of(Architecture(features=1, backbone="dense")).rebuilt
        (1, 2, 4, 8)
        """
        rebuilt = time_scales(architecture.steps)
        foreseen = time_scales(architecture.steps - 1) if foresees(architecture) else ()
        fast = foreseen or rebuilt
        if foreseen:
            rebuilt = rebuilt[-2:]
        weights = np.zeros((len(rebuilt) + len(foreseen), HEADS), np.float32)
        weights[: len(rebuilt), 0][-2:] = 1.0
        weights[-len(fast) :, 1] = [2.0 if place < 2 else 1.0 for place in range(len(fast))]
        return cls(rebuilt, foreseen, weights / weights.sum(0))


@dataclass(frozen=True)
class Normal:
    """What is normal for each stream. Row 0 of every table is the fleet's; S scales, F features.

    Errors are squared, in model units; levels are logarithms of them.
    """

    floor: Float32  # (rows, S, F) added to an error before its logarithm; `FLOOR` of the usual one
    usual: Float32  # (rows, S, F) median level
    spread: Float32  # (rows, S, F) from the median level to the 99 % quantile
    anchor: Float32  # (rows, S, F) level from which a feature speaks: about the 95 % quantile
    head_usual: Float32  # (rows, HEADS) median of each head
    head_spread: Float32  # (rows, HEADS) from there to the 99 % quantile, at least 1
    line: Float32  # (rows,) evidence at which the score is 1.0

    @staticmethod
    def shapes(rows: int, scales: int, features: int) -> dict[str, tuple[int, ...]]:
        """Shape of each table."""
        wide = dict.fromkeys(("floor", "usual", "spread", "anchor"), (rows, scales, features))
        return {**wide, "head_usual": (rows, HEADS), "head_spread": (rows, HEADS), "line": (rows,)}

    def tables(self) -> dict[str, Float32]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def root_spread(self) -> Float32:
        return np.sqrt(self.spread)

    @cached_property
    def unit(self) -> Float32:
        """`(rows,)`: the logarithm of an error, about, that one unit of evidence stands for."""
        unit: Float32 = self.head_spread.mean(1) * self.root_spread.mean((1, 2))
        return unit


def pooled_errors(windows: Tensor, rebuilt: Tensor, foreseen: Tensor | None, scales: Scales, patch: int) -> Tensor:
    """Mean squared error of each feature over the newest patches, one row for each scale.

    Args:
        windows: Model units, `(n, window, features)`.
        rebuilt: Same shape; overwritten.
        foreseen: `(n, window - patch, features)`, overwritten; None if `scales.foreseen` is empty.
        scales: Which.
        patch: Readings in a patch.

    Returns:
        `(n, scales, features)`.

    >>> x, scales = torch.zeros(1, 4, 1), Scales((1, 2), (), np.ones((2, 2), np.float32))
    >>> pooled_errors(x, x + torch.tensor([0.0, 2.0, 3.0, 1.0]).reshape(1, 4, 1), None, scales, 2).flatten().tolist()
    [5.0, 3.5]
    """
    errors = _patch_errors(windows, rebuilt, patch)
    parts = [errors[:, -k:].mean(1) for k in scales.rebuilt]
    if foreseen is not None:
        errors = _patch_errors(windows[:, patch:], foreseen, patch)
        parts += [errors[:, -k:].mean(1) for k in scales.foreseen]
    return torch.stack(parts, 1)


def _patch_errors(windows: Tensor, made: Tensor, patch: int) -> Tensor:
    n, length, features = windows.shape
    return made.sub_(windows).square_().view(n, length // patch, patch, features).mean(2)


def log_errors(pooled: Float32, floor: Float32) -> Float32:
    """Level of each pooled error: the logarithm above a floor, so that no error is minus infinity."""
    levels: Float32 = np.log(pooled + floor)
    return levels


def beyond(levels: Float32, drift: Float32 | None, normal: Normal, rows: NDArray[np.int64]) -> Float32:
    """How far each feature is beyond normal at each time scale, `(n, S, F)`; 0 is about the 95 % quantile.

    A feature that is noisy in clean data is divided by the root of its spread: half way
    between trusting all logarithms alike and trusting only how rare they are.

    Args:
        levels: From `log_errors`, `(n, S, F)`; minus infinity, where nothing was measured, is as far as usual.
        drift: Spreads by which each has shifted for long, same shape, or None (`drift`).
        normal: Tables.
        rows: Of each window's stream, `(n,)`.
    """
    root = normal.root_spread[rows]
    far: Float32 = (levels - normal.anchor[rows]) / root
    if drift is not None:
        far -= drift * root
    if far.min(initial=0.0) == -np.inf:
        far = np.where(far == -np.inf, (normal.usual[rows] - normal.anchor[rows]) / root, far)
    return far


def evidence(far: Float32, normal: Normal, rows: NDArray[np.int64], weights: Float32) -> Float32:
    """Both heads in units of their own spread in clean data, `(n, HEADS)`; 0 is usual, 1 is the 99 % quantile.

    Over features the mean of exp(2 far) counts, so that a few very strange ones speak louder
    than many a little strange.

    Args:
        far: From `beyond`.
        normal: Tables.
        rows: Of each window's stream, `(n,)`.
        weights: Of each scale in each head, `(S, HEADS)`.
    """
    return (heads(far, weights) - normal.head_usual[rows]) / normal.head_spread[rows]


def heads(far: Float32, weights: Float32) -> Float32:
    """Both heads before they are put to their own normal, `(n, HEADS)`."""
    top = far.max(2)
    joined = top + 0.5 * np.log(np.exp(2.0 * (far - top[:, :, None])).mean(2))  # (n, S)
    # Not a matrix product: its rounding would depend on the number of windows.
    mixed: Float32 = (joined[:, :, None] * weights).sum(1)
    return mixed


def score(heads: Float32, normal: Normal, rows: NDArray[np.int64]) -> Float32:
    """Score of the head that is further beyond its normal, `(n,)`: 1.0 is the alert line.

    About as many times as large as at the line is the error that a score speaks of.

    Args:
        heads: From `evidence`.
        normal: Tables.
        rows: Of each window's stream, `(n,)`.
    """
    exponent = (heads.max(1) - normal.line[rows]) * normal.unit[rows]
    # A broken table shows as infinity; only what is merely large is held back.
    np.minimum(exponent, np.float32(_LARGEST), out=exponent, where=np.isfinite(exponent))
    ratio: Float32 = np.exp(exponent)
    return ratio


def shares(far: Float32, head: NDArray[np.int64], weights: Float32) -> Float32:
    """Part of each feature in the evidence of the head that counted; sums to 1.

    Args:
        far: From `beyond`, `(n, S, F)`.
        head: Which one counted, `(n,)`.
        weights: Of each scale in each head, `(S, HEADS)`.

    Returns:
        `(n, F)`.
    """
    loud = np.exp(2.0 * (far - far.max(2, keepdims=True)))
    part: Float32 = ((loud / loud.sum(2, keepdims=True)) * weights.T[head][:, :, None]).sum(1)
    return part
