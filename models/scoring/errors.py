"""Errors of a window, pooled over several time scales, as logarithms.

A scale is a number of newest patches over which the squared errors of the reconstruction or of
the forecast are averaged; a short one shows a spike, a long one a drift. Not inside: what errors
are typical (`baseline`), how they become a score (`evidence`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.network.architecture import Architecture
from models.network.autoencoder import forecasts

Float32 = NDArray[np.float32]

FLOOR = 0.03  # of the typical error; smaller errors are all alike
CHANNELS = 2  # slow, fast


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
    """Over how many of the newest patches errors are pooled, and how each counts in the two channels."""

    reconstruction: tuple[int, ...]
    forecast: tuple[int, ...]  # empty if the network does not forecast
    weights: Float32  # (scales, CHANNELS), those of the reconstruction first; each column sums to 1

    def __len__(self) -> int:
        return len(self.reconstruction) + len(self.forecast)

    @property
    def whole(self) -> int:
        """The scale of the whole window's reconstruction."""
        return len(self.reconstruction) - 1

    @property
    def longest(self) -> NDArray[np.int64]:
        """For each scale the longest one of the same source, `(scales,)`."""
        return np.repeat([self.whole, len(self) - 1], [len(self.reconstruction), len(self.forecast)])

    @classmethod
    def of(cls, architecture: Architecture) -> Scales:
        """Those of a network.

        >>> Scales.of(Architecture(features=1)).reconstruction, Scales.of(Architecture(features=1)).forecast
        ((4, 8), (1, 2, 4, 7))
        >>> Scales.of(Architecture(features=1, backbone="dense")).reconstruction
        (1, 2, 4, 8)
        """
        reconstruction = time_scales(architecture.steps)
        forecast = time_scales(architecture.steps - 1) if forecasts(architecture) else ()
        fast = forecast or reconstruction
        if forecast:
            reconstruction = reconstruction[-2:]
        weights = np.zeros((len(reconstruction) + len(forecast), CHANNELS), np.float32)
        weights[: len(reconstruction), 0][-2:] = 1.0
        weights[-len(fast) :, 1] = [2.0 if place < 2 else 1.0 for place in range(len(fast))]
        return cls(reconstruction, forecast, weights / weights.sum(0))


def pooled_errors(
    windows: Tensor, reconstruction: Tensor, forecast: Tensor | None, scales: Scales, patch: int
) -> Tensor:
    """Mean squared error of each feature over the newest patches, one row for each scale.

    Args:
        windows: Model units, `(n, window, features)`.
        reconstruction: Same shape; overwritten.
        forecast: `(n, window - patch, features)`, overwritten; None if `scales.forecast` is empty.
        scales: Which.
        patch: Readings in a patch.

    Returns:
        `(n, scales, features)`.

    >>> x, scales = torch.zeros(1, 4, 1), Scales((1, 2), (), np.ones((2, 2), np.float32))
    >>> pooled_errors(x, x + torch.tensor([0.0, 2.0, 3.0, 1.0]).reshape(1, 4, 1), None, scales, 2).flatten().tolist()
    [5.0, 3.5]
    """
    errors = _patch_errors(windows, reconstruction, patch)
    parts = [errors[:, -k:].mean(1) for k in scales.reconstruction]
    if forecast is not None:
        errors = _patch_errors(windows[:, patch:], forecast, patch)
        parts += [errors[:, -k:].mean(1) for k in scales.forecast]
    return torch.stack(parts, 1)


def _patch_errors(windows: Tensor, made: Tensor, patch: int) -> Tensor:
    n, length, features = windows.shape
    return made.sub_(windows).square_().view(n, length // patch, patch, features).mean(2)


def log_errors(pooled: Float32, floor: Float32) -> Float32:
    """Level of each pooled error: the logarithm above a floor, so that no error is minus infinity."""
    levels: Float32 = np.log(pooled + floor)
    return levels
