"""Why a window is anomalous, reading by reading: observed, expected, and how far apart the two may be.

Explains a score and takes no part in it. Pure arrays. Not inside: the share of each feature (`attribution`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.scaling import RobustScaler
from models.scoring.baseline import Baseline

Float32 = NDArray[np.float32]

# Root mean square errors of a window between what is expected and the edge of its band. Of clean readings of NAB and
# SKAB 0.1 to 2 % lay outside. With three it was 0.1 % at most, but half of all incidents had no reading outside either.
WIDTH = 2.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one window is anomalous; arrays in raw units unless said otherwise."""

    observed: Float32  # (window, features); NaN where a value is missing
    expected: Float32  # (window, features)
    lower: Float32  # (window, features) of the expected band, see `half_width`
    upper: Float32  # (window, features)
    deviation: Float32  # (window, features) observed from expected, in half widths of the band; NaN where missing
    shares: Float32  # (features,) share of each feature in the score, sums to 1

    @classmethod
    def of(
        cls, own: Float32, expected: Float32, half: Float32, shares: Float32, *, scaler: RobustScaler, row: int
    ) -> Explanation:
        """From model units.

        Args:
            own: Observed, `(window, features)`.
            expected: Reconstruction, same shape.
            half: From `half_width`, `(features,)`.
            shares: Passed on.
            scaler: To raw units.
            row: Table row of the stream.
        """
        rows = np.full(len(own), row)
        observed, middle, lower, upper = (
            scaler.inverse(each, rows) for each in (own, expected, expected - half, expected + half)
        )
        return cls(observed, middle, lower, upper, deviation(own, expected, half), shares)


def deviation(own: Float32, expected: Float32, half: Float32) -> Float32:
    """How far readings lie from what is expected, in half widths of the band; NaN where a value is missing."""
    beyond: Float32 = np.abs(own - expected) / half
    return beyond


def half_width(baseline: Baseline, rows: NDArray[np.int64], scale: int) -> Float32:
    """How far a reading of each feature may lie from its expected value, model units, `(n, features)`.

    Twice the root mean square error that one clean window in a hundred exceeds: the 99 % quantile of the stream's error
    level, as calibration found it on clean windows, the held-out ones among them.

    Args:
        baseline: Tables.
        rows: Table row of each stream, `(n,)`.
        scale: The one of the whole window's reconstruction, which is what is expected.
    """
    highest = np.exp(baseline.typical[rows, scale] + baseline.spread[rows, scale])
    squared = np.maximum(highest - baseline.floor[rows, scale], baseline.floor[rows, scale])
    half: Float32 = np.float32(WIDTH) * np.sqrt(squared)
    return half
