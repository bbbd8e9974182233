"""Which readings of an incident are the anomalous ones: a spike of four minutes, though windows remember it for hours.

A reading belongs to the anomaly if a leading feature lies outside of its expected band, by a fair part of what the
worst reading of the incident does: next to a spike, what is expected is a little wrong too. Windows are looked at when
an alert is told, and every half window while an incident is open, so no reading of it is missed. Pure. Not
inside: the band (`models.scoring.explanation`), when an incident begins and ends (`incidents`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.core.alerts import Attribution
from streamer.core.grouping import Ints

Float32 = NDArray[np.float32]

_LEADING = 0.5  # of the largest share: a feature with less does not say where the anomaly lies
_FAIR = 0.25  # of the worst reading's deviation: one with less is only next to it


@dataclass(frozen=True, slots=True)
class Part:
    """The anomalous part of an incident, as far as it is known."""

    begin_ns: int  # its first reading
    end_ns: int  # its last one
    step_ns: int  # usual time between two readings: the last one stands for as long
    worst: float  # deviation of the worst reading, in half widths of its band

    def encode(self) -> list[int | float]:
        return [self.begin_ns, self.end_ns, self.step_ns, self.worst]

    @classmethod
    def decode(cls, value: Any) -> Part:
        begin_ns, end_ns, step_ns, worst = value
        return cls(int(begin_ns), int(end_ns), int(step_ns), float(worst))


def leading(names: Sequence[str], attributions: Sequence[Attribution]) -> Ints:
    """Columns of the features that an anomaly shows in: the one with the largest share, and others half as strong.

    >>> some = [Attribution(name, share, 0, 0) for name, share in (("c", 0.5), ("a", 0.4), ("b", 0.1))]
    >>> leading(("a", "b", "c"), some)
    array([0, 2])
    """
    least = _LEADING * max((one.share for one in attributions), default=0.0)
    strong = {one.name for one in attributions if one.share >= least}
    return np.array([column for column, name in enumerate(names) if name in strong], np.int64)


def anomalous_part(known: Part | None, deviation: Float32, times_ns: Ints) -> Part | None:
    """The anomalous part of an incident after a look at one of its windows.

    What is known of it grows at its end. Where nothing is known, it begins with the readings around the worst one: an
    earlier slip in the same window is not of it.

    Args:
        known: From earlier looks.
        deviation: Of the leading features, `(window, features)`; NaN where a value is missing.
        times_ns: Of the newest readings of the window, oldest first.
    """
    if not deviation.shape[1] or not len(times_ns):
        return known
    worst_each = np.where(np.isnan(deviation), 0.0, deviation).max(1)[-len(times_ns) :]
    times_ns = times_ns[-len(worst_each) :]
    worst = max(float(worst_each.max()), known.worst if known else 0.0)
    places = np.flatnonzero(worst_each >= max(1.0, _FAIR * worst))
    if not len(places):
        return known
    step_ns = int(np.median(np.diff(times_ns))) if len(times_ns) > 1 else 0
    if known is not None:
        return Part(known.begin_ns, max(known.end_ns, int(times_ns[places[-1]])), step_ns, worst)
    apart = np.flatnonzero(np.diff(places) > max(1, len(worst_each) // 8))
    first = apart[places[apart] < int(worst_each.argmax())]
    begin = places[first[-1] + 1] if len(first) else places[0]
    return Part(int(times_ns[begin]), int(times_ns[places[-1]]), step_ns, worst)
