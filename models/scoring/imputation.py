"""Windows with missing values: filled so that the network can read them, judged by what is there.

    interpolate     a straight line across each gap
    refill          then what the network makes of it: the forecast, the reconstruction
    ignore_filled   what was filled has no error
    missing_share   how much of each scale that is
    discount        it counts as typical, and takes from what is beyond

Missing values are NaN. A gap gets the benefit of the doubt: of several fills the one counts under which the
present values look most normal, and a missing one adds what is typical for its stream and feature. So no
filled value makes a window anomalous. Not inside: the network, when to stop (`detector`), whole windows (`errors`).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.scoring import errors as scores
from models.scoring.errors import Scales

Float32 = NDArray[np.float32]

MOST_MISSING = 0.5  # part of a window that may be missing; beyond it there is more guess than window
PASSES = 5  # of the network, at most
CALM = 0.4  # a window whose evidence is so far below the line needs no second pass: that could only lower it
# Each forecast carries a fill one patch further into a gap, and half a window is four patches. A
# reconstruction has seen the fill itself, bends towards it, and is for the last touch.
_FORECASTS = 4
_FURTHER = 1.6  # how far beyond its step the reconstruction is followed: fewer passes


def interpolate(windows: Float32) -> Float32:
    """Windows `(n, window, features)` in which NaN is filled from the values around it.

    Between two values on a straight line, at the ends with the nearest one; a feature without any
    is 0, the median in model units.

    >>> x = np.array([np.nan, 1, np.nan, 2, np.nan], np.float32).reshape(1, 5, 1)
    >>> interpolate(x).flatten().tolist()
    [1.0, 1.0, 1.5, 2.0, 2.0]
    """
    n, length, features = windows.shape
    lines = windows.transpose(0, 2, 1).flatten()  # one feature of one window after the other
    gap = np.flatnonzero(np.isnan(lines))
    place = np.concatenate([[-1], np.flatnonzero(~np.isnan(lines)), [len(lines)]])
    after = np.searchsorted(place, gap)
    left, right = place[after - 1], place[after]
    # A neighbour on another line is none.
    has_left, has_right = left // length == gap // length, right // length == gap // length
    next_one = lines[np.minimum(right, len(lines) - 1)]
    low = np.where(has_left, lines[left], np.where(has_right, next_one, np.float32(0)))
    high = np.where(has_right, next_one, low)
    lines[gap] = low + ((gap - left) / (right - left)).astype(np.float32) * (high - low)
    return np.ascontiguousarray(lines.reshape(n, features, length).transpose(0, 2, 1))


def refill(filled: Tensor, absent: Tensor, reconstruction: Tensor, forecast: Tensor | None, number: int) -> Tensor:
    """The next fill, from what the network made of the one before.

    Args:
        filled: Model units, `(n, window, features)`.
        absent: Which values are missing, same shape.
        reconstruction: Reconstruction of `filled`.
        forecast: Forecast, without the first patch; None if the network has none.
        number: Of the pass, from 0.
    """
    if forecast is not None and number < _FORECASTS:
        made = torch.cat([reconstruction[:, : filled.shape[1] - forecast.shape[1]], forecast], 1)
    else:
        made = filled + _FURTHER * (reconstruction - filled)
    return torch.where(absent, made, filled)


def ignore_filled(made: Tensor, filled: Tensor, absent: Tensor) -> None:
    """Give a reconstruction or forecast no error where the value was filled; `made` changes."""
    made.copy_(torch.where(absent, filled, made))


def discount(errors: Float32, part: Float32, share: Float32, typical: Float32) -> Float32:
    """Errors after `ignore_filled`, with missing values counted as typical.

    The mean over the present values alone would be right too, but the fewer they are the more it
    scatters: that of a patch with one value left is as wild as a single error. And the more
    of a window is filled, the less does an error beyond the typical speak of what is there.

    Args:
        errors: `(n, S, F)`.
        part: From `missing_share`, same shape.
        share: Of the window that is missing, `(n,)`.
        typical: Errors, as `errors`.
    """
    counted = errors + part * typical
    lower: Float32 = counted - share[:, None, None] * np.maximum(counted - typical, 0)
    return lower


def missing_share(absent: Tensor, scales: Scales, patch: int) -> Float32:
    """What part of the values that each scale spans is missing, `(n, S, F)`.

    >>> absent = torch.tensor([True, True, True, False]).reshape(1, 4, 1)
    >>> missing_share(absent, Scales((1, 2), (), np.ones((2, 2), np.float32)), 2).flatten().tolist()
    [0.5, 0.75]
    """
    mask = absent.float()
    nothing = torch.zeros_like(mask)
    forecast = nothing[:, patch:].clone() if scales.forecast else None
    part: Float32 = scores.pooled_errors(mask, nothing, forecast, scales, patch).numpy()
    return part
