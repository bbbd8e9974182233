"""What is normal for each stream: tables that `models.fitting.baseline` fits on clean readings.

Row 0 of every table is the fleet's, for streams that training never saw. Not inside: the alert
line (`alert_line`), which depends on a policy as well.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.scoring.errors import CHANNELS

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Baseline:
    """Tables over streams; S scales, F features.

    Errors are squared, in model units; levels are logarithms of them.
    """

    floor: Float32  # (rows, S, F) added to an error before its logarithm; `errors.FLOOR` of the typical one
    typical: Float32  # (rows, S, F) median level
    spread: Float32  # (rows, S, F) from the median level to the 99 % quantile
    anchor: Float32  # (rows, S, F) level above which a feature exceeds: about the 95 % quantile
    channel_typical: Float32  # (rows, CHANNELS) median of each channel
    channel_spread: Float32  # (rows, CHANNELS) from there to the 99 % quantile, at least 1

    @staticmethod
    def shapes(rows: int, scales: int, features: int) -> dict[str, tuple[int, ...]]:
        """Shape of each table."""
        wide = dict.fromkeys(("floor", "typical", "spread", "anchor"), (rows, scales, features))
        return {**wide, "channel_typical": (rows, CHANNELS), "channel_spread": (rows, CHANNELS)}

    def tables(self) -> dict[str, Float32]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def root_spread(self) -> Float32:
        return np.sqrt(self.spread)

    @cached_property
    def unit(self) -> Float32:
        """`(rows,)`: the logarithm of an error, about, that one unit of evidence stands for."""
        unit: Float32 = self.channel_spread.mean(1) * self.root_spread.mean((1, 2))
        return unit
