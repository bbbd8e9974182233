"""How seldom clean data has a peak as high as this one. Not inside: the tail fit (`tail`), the line (`alert_line`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.scoring.alert_line import AlertPolicy

# Times the calibration data. What is rarer the tail cannot tell: hydrologists draw floods no further from a record.
FURTHEST = 4.0
_WEEK_S, _DAY_S = 7 * 86_400.0, 86_400.0


@dataclass(frozen=True, slots=True)
class Rarity:
    """Time of one stream between two such peaks in clean data."""

    seconds: float
    at_least: bool  # rarer still; the data does not say how much


@dataclass(frozen=True, slots=True)
class Rarities:
    """How rare peaks are under one fitted tail.

    At the line, a score of 1.0, clean data has as many incidents as the policy allows; above it they become rarer as
    the fleet's generalised Pareto tail falls. That tail is of the n-th largest of m scores, which a peak exceeds a
    little, so the time is rather too long than too short.
    """

    at_line_s: float  # between two incidents that the policy allows
    scale: float  # of the tail above the line, in units of evidence
    shape: float
    furthest_s: float  # what is rarer is not told

    @classmethod
    def of(cls, report: Mapping[str, Any], policy: AlertPolicy) -> Rarities | None:
        """From a fit report, which may hold anything as it came from a file; None if it tells of no tail."""
        try:
            tail = report["tail"]
            threshold, scale, shape = (float(tail[name]) for name in ("threshold", "scale", "shape"))
            line, days = float(report["lines"]["fleet"]), float(tail["stream_days"])
        except (KeyError, TypeError, ValueError):
            return None
        at_line_s, scale = _WEEK_S / policy.budget_per_stream_per_week, scale + shape * max(0.0, line - threshold)
        if not (scale > 0 and days > 0 and all(map(math.isfinite, (scale, shape, days)))):
            return None
        return cls(at_line_s, scale, shape, max(at_line_s, FURTHEST * days * _DAY_S))

    def rarity(self, peak: float, unit: float) -> Rarity:
        """How rare a peak score is; `unit` is the stream's `Baseline.unit`.

        >>> some = Rarities(at_line_s=7 * 86_400.0, scale=0.5, shape=0.0, furthest_s=280 * 86_400.0)
        >>> [round(some.rarity(peak, unit=1.0).seconds / 86_400) for peak in (1.0, 2.0)]
        [7, 28]
        >>> some.rarity(50.0, unit=1.0)
        Rarity(seconds=24192000.0, at_least=True)
        """
        beyond = math.log(max(peak, 1.0)) / unit / self.scale
        # How much longer, as a logarithm: a peak may be e^80.
        if abs(self.shape) < 1e-6:
            longer = beyond
        elif (grown := 1.0 + self.shape * beyond) > 0:
            longer = math.log(grown) / self.shape
        else:  # beyond the end of a bounded tail
            longer = math.inf
        if longer >= math.log(self.furthest_s / self.at_line_s):
            return Rarity(self.furthest_s, at_least=True)
        return Rarity(self.at_line_s * math.exp(longer), at_least=False)
