"""Windows with missing values: filled so that the network can read them, judged by what is there.

    first_guess    a straight line across each gap
    refill         then what the network makes of it: the forecast, the reconstruction
    hush           what was filled has no error
    missing_part   how much of each scale that is
    discount       it counts as usual, and takes from what is beyond

Missing values are NaN. A gap gives the benefit of the doubt: of several fills the one counts under which the
present values look most normal, and a missing one adds what is usual for its stream and feature. So no
filled value makes a window strange. Not inside: the network, when to stop (`detector`), whole windows (`scores`).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.scoring import errors as scores
from models.scoring.errors import Scales

Float32 = NDArray[np.float32]

MOST = 0.5  # part of a window that may be missing; beyond it there is more guess than window
PASSES = 5  # of the network, at most
CALM = 0.4  # a window whose evidence is so far below the line needs no second pass: that could only lower it
# Each forecast carries a fill one patch further into a gap, and half a window is four patches. A
# reconstruction has seen the fill itself, bends towards it, and is for the last touch.
_FORECASTS = 4
_FURTHER = 1.6  # how far beyond its step the reconstruction is followed: fewer passes


def first_guess(windows: Float32) -> Float32:
    """Windows `(n, window, features)` in which NaN is filled from the values around it.

    Between two values on a straight line, at the ends with the nearest one; a feature without any
    is 0, the median in model units.

    >>> x = np.array([np.nan, 1, np.nan, 2, np.nan], np.float32).reshape(1, 5, 1)
    >>> first_guess(x).flatten().tolist()
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


def refill(filled: Tensor, absent: Tensor, rebuilt: Tensor, foreseen: Tensor | None, number: int) -> Tensor:
    """The next fill, from what the network made of the one before.

    Args:
        filled: Model units, `(n, window, features)`.
        absent: Which values are missing, same shape.
        rebuilt: Reconstruction of `filled`.
        foreseen: Forecast, without the first patch; None if the network has none.
        number: Of the pass, from 0.
    """
    if foreseen is not None and number < _FORECASTS:
        made = torch.cat([rebuilt[:, : filled.shape[1] - foreseen.shape[1]], foreseen], 1)
    else:
        made = filled + _FURTHER * (rebuilt - filled)
    return torch.where(absent, made, filled)


def hush(made: Tensor, filled: Tensor, absent: Tensor) -> None:
    """Let a reconstruction or forecast be right where there is nothing to hold against it; `made` changes."""
    made.copy_(torch.where(absent, filled, made))


def discount(errors: Float32, part: Float32, share: Float32, usual: Float32) -> Float32:
    """Errors of `hush`ed windows with missing values counted as usual.

    The mean over the present values alone would be right too, but the fewer they are the more it
    scatters: that of a patch with one value left is as wild as a single error. And the more
    of a window is filled, the less is an error beyond the usual the fault of what is there.

    Args:
        errors: `(n, S, F)`.
        part: From `missing_part`, same shape.
        share: Of the window that is missing, `(n,)`.
        usual: Errors, as `errors`.
    """
    counted = errors + part * usual
    lower: Float32 = counted - share[:, None, None] * np.maximum(counted - usual, 0)
    return lower


def missing_part(absent: Tensor, scales: Scales, patch: int) -> Float32:
    """What part of the values that each scale spans is missing, `(n, S, F)`.

    >>> absent = torch.tensor([True, True, True, False]).reshape(1, 4, 1)
    >>> missing_part(absent, Scales((1, 2), (), np.ones((2, 2), np.float32)), 2).flatten().tolist()
    [0.5, 0.75]
    """
    mask = absent.float()
    nothing = torch.zeros_like(mask)
    foreseen = nothing[:, patch:].clone() if scales.foreseen else None
    part: Float32 = scores.pooled_errors(mask, nothing, foreseen, scales, patch).numpy()
    return part
