"""From rebuilt windows to one number a window: how strange, and which feature.

Errors are divided by what is normal for the stream and feature, pooled over several
time scales (a spike lives in the newest patch, a drift in the whole window), and
put in log ratio to their usual size. Not inside: the alert line (`calibration`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EVIDENCE_KNEE = 4.0  # log ratio from which one scale's evidence grows only logarithmically


def time_scales(steps: int) -> tuple[int, ...]:
    """Patches that each pooling scale spans: powers of two up to the window.

    >>> time_scales(8)
    (1, 2, 4, 8)
    >>> time_scales(3)
    (1, 2, 3)
    """
    powers = [2**k for k in range(int(math.log2(steps)) + 1)]
    return tuple(powers if powers[-1] == steps else [*powers, steps])


def scale_weights(scales: tuple[int, ...]) -> Tensor:
    """Weight of each scale in the evidence; the whole window counts twice.

    Measured on labelled server, telemetry and process data: equal weights with the
    longest doubled rank best on the mean over all sets.
    """
    weights = torch.ones(len(scales))
    weights[-1] = 2.0
    return weights / weights.sum()


def patch_errors(windows: Tensor, rebuilt: Tensor, patch: int) -> Tensor:
    """Mean squared error of each patch and feature.

    Args:
        windows: Model units, `(n, window, features)`.
        rebuilt: Same shape.
        patch: Readings in a patch.

    Returns:
        `(n, window / patch, features)`.

    >>> x = torch.zeros(1, 4, 1)
    >>> patch_errors(x, x + torch.tensor([0.0, 0.0, 3.0, 1.0]).reshape(1, 4, 1), 2).tolist()
    [[[0.0], [5.0]]]
    """
    n, length, features = windows.shape
    return (rebuilt - windows).square_().view(n, length // patch, patch, features).mean(2)


def weighted_errors(windows: Tensor, rebuilt: Tensor, patch: int, weights: Tensor) -> Tensor:
    """Mean squared error of each patch, every feature weighted.

    The same as the mean over features of `patch_errors * weights**2`, in one pass over
    the readings: this is the hot path.

    Args:
        windows: Model units, `(n, window, features)`.
        rebuilt: Same shape; overwritten.
        patch: Readings in a patch.
        weights: Square root of each feature's weight, `(n, features)`.

    Returns:
        `(n, window / patch)`.

    >>> x, y = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 3.0], [1.0, 3.0]]])
    >>> weighted_errors(x, y, 2, torch.tensor([[1.0, 0.0]])).tolist()
    [[0.5]]
    """
    n, length, features = windows.shape
    wrong = rebuilt.sub_(windows).mul_(weights[:, None]).square_()
    return wrong.view(n, length // patch, patch * features).mean(2)


def pooling(scales: tuple[int, ...]) -> Tensor:
    """Matrix `(steps, len(scales))` that takes patch errors to their mean over the newest 1, 2, 4 ... patches.

    >>> (torch.tensor([[4.0, 0.0, 2.0, 6.0]]) @ pooling((1, 2, 4))).tolist()
    [[6.0, 4.0, 3.0]]
    """
    matrix = torch.zeros(scales[-1], len(scales))
    for column, k in enumerate(scales):
        matrix[-k:, column] = 1.0 / k
    return matrix


def evidence(pooled: Tensor, log_usual: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over scales of the log ratio of error to its usual size.

    Beyond `EVIDENCE_KNEE` a scale's part grows only logarithmically, so that one wild
    patch cannot outvote the others, and yet no two sizes of fault tie.

    Args:
        pooled: Patch errors times `pooling`, `(n, scales)`.
        log_usual: Logarithm of the same of normal data, `(n, scales)` or `(scales,)`.
        weights: From `scale_weights`.

    Returns:
        `(n,)`; 0 is usual, higher is stranger.
    """
    ratio = pooled.clamp_min(1e-12).log_().sub_(log_usual)
    over = (ratio - EVIDENCE_KNEE).clamp_min(0.0)
    return (ratio - over + over.log1p()) @ weights


def feature_shares(errors: Tensor, scales: tuple[int, ...], weights: Tensor) -> Tensor:
    """Part of each feature in the error, pooled as the evidence is; sums to 1.

    Args:
        errors: Normalised error of each patch and feature, `(n, steps, features)`.
        scales: From `time_scales`.
        weights: From `scale_weights`.

    Returns:
        `(n, features)`.
    """
    steps = errors.shape[1]
    pooled = torch.stack([errors[:, steps - k :].mean(1) for k in scales], 1)  # (n, scales, features)
    share = pooled / pooled.sum(2, keepdim=True).clamp_min(1e-12)
    mixed = (share * weights[None, :, None]).sum(1)
    return mixed / mixed.sum(1, keepdim=True).clamp_min(1e-12)
