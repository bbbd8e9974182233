"""Raw sensor units to model units and back, one scale per stream and feature.

Pure arrays. A stream seen in training has a row of its own; row 0 is the fleet's,
for streams never seen. Not inside: which stream has which row (`detector`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

KNEE = 3.0  # robust deviations up to which the squash is nearly linear
_FARTHEST = np.float32(1e37)
_IQR_OF_NORMAL = 1.349  # interquartile range of a standard normal
# Of a longer stream so many rows, drawn once, stand for all: quartiles are then known to 0.3 % of a standard
# deviation, and a stream larger than memory is not copied.
_MOST_ROWS = 1 << 18


def squash(z: NDArray[np.floating]) -> NDArray[np.floating]:
    """Compress outliers without cutting them: `3 asinh(z / 3)`.

    Clipping makes a tenfold and a thousandfold fault look alike; without either, one
    wild reading rules the whole window.

    >>> squash(np.array([0.0, 1.0, 100.0])).round(2)
    array([ 0.  ,  0.98, 12.6 ])
    """
    squashed: NDArray[np.floating] = KNEE * np.arcsinh(z / KNEE)
    return squashed


def unsquash(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Inverse of `squash`."""
    raw: NDArray[np.floating] = KNEE * np.sinh(x / KNEE)
    return raw


@dataclass(frozen=True, slots=True)
class RobustScaler:
    """Median and a robust width for each stream and feature; both `(1 + streams, features)`.

    The width is the interquartile range in standard deviations of a normal, held up
    by a part of the plain standard deviation (a feature that rests most of the time has
    an IQR of 0) and by a floor (a constant feature has no width at all).
    """

    center: Float32
    width: Float32

    @classmethod
    def fit(cls, series: Sequence[NDArray[np.floating]]) -> RobustScaler:
        """Fit on the training rows of each stream.

        Args:
            series: One array `(rows, features)` per stream, finite, raw units.

        Returns:
            A scaler with `1 + len(series)` rows; row 0 is the median over streams.
        """
        own = [_robust(_some(values).astype(np.float64)) for values in series]
        center, width = np.stack([c for c, _ in own]), np.stack([w for _, w in own])
        # Between streams the level itself varies: an unseen stream may sit anywhere in that spread.
        spread = np.median(np.abs(center - np.median(center, 0)), 0) / 0.6745
        fleet_width = np.sqrt(np.median(width, 0) ** 2 + spread**2)
        return cls(
            np.concatenate([np.median(center, 0)[None], center]).astype(np.float32),
            np.concatenate([fleet_width[None], width]).astype(np.float32),
        )

    def transform(self, values: Float32, rows: NDArray[np.int64]) -> Float32:
        """Model units of readings `(n, features)`; `rows` `(n,)` names each reading's scale.

        Columns after the features, a context, stay as they are: they come in [-1, 1].
        """
        if values.shape[1] > (features := self.center.shape[1]):
            scaled = self.transform(values[:, :features], rows)
            return np.concatenate([scaled, values[:, features:]], 1, dtype=np.float32)
        with np.errstate(over="ignore"):
            z = (values - self.center[rows]) / self.width[rows]
        # A sensor's "invalid" may be the largest float there is; it must stay finite, and lie far out.
        np.clip(z, -_FARTHEST, _FARTHEST, out=z)
        return squash(z).astype(np.float32, copy=False)

    def inverse(self, inputs: Float32, rows: NDArray[np.int64]) -> Float32:
        """Raw units of readings `(n, features)` in model units; columns after the features stay as they are."""
        if inputs.shape[1] > (features := self.center.shape[1]):
            return np.concatenate([self.inverse(inputs[:, :features], rows), inputs[:, features:]], 1, dtype=np.float32)
        raw = unsquash(inputs.astype(np.float64)) * self.width[rows] + self.center[rows]
        return raw.astype(np.float32)


def _some(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """All rows, or `_MOST_ROWS` drawn by chance: every n-th could hit the same phase of a rhythm each time."""
    if len(values) <= _MOST_ROWS:
        return values
    return values[np.sort(np.random.default_rng(0).integers(0, len(values), _MOST_ROWS))]


def _robust(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, center, high = np.percentile(values, [25, 50, 75], axis=0)
    floor = np.maximum(1e-3 * np.maximum(1.0, np.abs(center)), 1e-6)
    width = np.maximum((high - low) / _IQR_OF_NORMAL, 0.3 * values.std(0))
    return center, np.maximum(width, floor)
