"""Which features made a window anomalous. Not inside: how anomalous it is (`evidence`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def shares(exceedance: Float32, channel: NDArray[np.int64], weights: Float32) -> Float32:
    """Share of each feature in the evidence of the channel that counted; sums to 1.

    Args:
        exceedance: From `evidence.exceedance`, `(n, S, F)`; minus infinity leaves a feature without a share.
        channel: Which one counted, `(n,)`.
        weights: Of each scale in each channel, `(S, CHANNELS)`.

    Returns:
        `(n, F)`.
    """
    relative = np.exp(2.0 * (exceedance - exceedance.max(2, keepdims=True)))
    part: Float32 = ((relative / relative.sum(2, keepdims=True)) * weights.T[channel][:, :, None]).sum(1)
    return part
