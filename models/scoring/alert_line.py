"""The alert line: evidence at which the score is 1.0, from a policy and from what calibration saw.

A policy says how many false incidents are allowed, when an incident opens, and how often
windows are scored. The line is the level that clean data crosses as often as the policy allows.
It is computed when a detector is fitted, and again, by the same function, whenever a detector is
to work under another policy: nothing has to be trained for that. Not inside: the tail fit
(`tail`), what the evidence is (`evidence`), the incidents themselves.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import PolicyError
from models.scoring.tail import LOWEST_LINE, Openings, TailFit, contradicts

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]

_WEEK_S = 7 * 86_400.0
_CLUSTERS = 20.0  # exceedances at which a stream's own tail counts as much as the fleet's


@dataclass(frozen=True, slots=True)
class AlertPolicy:
    """What the alert line is set to allow, and the rule that opens an incident; counts are readings.

    Raises:
        PolicyError: A value out of range.
    """

    budget_per_stream_per_week: float = 1.0  # false incidents
    open_after: int = 3  # readings at or above the line that open an incident ...
    open_within: int = 5  # ... among so many newest ones
    stride: int = 1  # readings between two scored windows of a stream

    def __post_init__(self) -> None:
        budget = self.budget_per_stream_per_week
        if not isinstance(budget, int | float) or not math.isfinite(budget) or budget <= 0:
            raise PolicyError(f"budget_per_stream_per_week must be a number above 0; got {budget!r}")
        for name in ("open_after", "open_within", "stride"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise PolicyError(f"{name} must be a whole number of at least 1; got {value!r}")
        if self.open_after > self.open_within:
            raise PolicyError(f"open_after must be at most open_within; got {self.open_after} of {self.open_within}")

    def rule(self) -> tuple[int, int]:
        """The same n of m, counted in scored windows: a score counts for the `stride` readings that end with it.

        >>> [AlertPolicy(open_after=3, open_within=5, stride=stride).rule() for stride in (1, 2, 4, 16)]
        [(3, 5), (2, 3), (1, 2), (1, 1)]
        """
        n = -(-self.open_after // self.stride)
        return n, max(n, -(-self.open_within // self.stride))

    def rate_per_window(self, interval_s: float) -> float:
        """False incidents allowed per scored window, where readings are `interval_s` seconds apart."""
        return self.budget_per_stream_per_week * interval_s * self.stride / _WEEK_S

    def differences(self, other: AlertPolicy) -> list[str]:
        """What parts this from another, in words; empty if they are the same.

        >>> AlertPolicy(stride=4).differences(AlertPolicy())
        ['stride 4, not 1']
        """
        ours, theirs = asdict(self), asdict(other)
        return [f"{name} {ours[name]:g}, not {theirs[name]:g}" for name in ours if ours[name] != theirs[name]]


@dataclass(frozen=True, slots=True)
class CalibrationEvidence:
    """All that a line is computed from: evidence of clean windows, a window for every reading.

    Streams one after another, windows in time order. A stand-in is a known stream seen as
    one that training never saw.
    """

    values: Float32  # (sum(counts),)
    counts: Ints  # (streams,) windows of each stream, at least 1
    held_out: Ints  # (streams,) how many of its newest trained nothing, 1 to `counts`
    stand_in_values: Float32  # (sum(stand_in_counts),)
    stand_in_counts: Ints  # (stand-ins,)

    def tables(self) -> dict[str, NDArray[Any]]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def flaw(self, streams: int) -> str | None:
        """What makes it unusable for so many streams, in words; None if nothing does."""
        for name, table in self.tables().items():
            wanted = np.float32 if name.endswith("values") else np.int64
            if table.ndim != 1 or table.dtype != wanted:
                return f"{name} must be a row of {np.dtype(wanted)}; got {table.dtype} {table.shape}"
        if len(self.counts) != streams or len(self.held_out) != streams:
            return f"wanted counts of {streams} streams; got {len(self.counts)} and {len(self.held_out)}"
        for values, counts in ((self.values, self.counts), (self.stand_in_values, self.stand_in_counts)):
            # A count is bounded first: the sum of wild ones may come round to anything.
            if (counts < 1).any() or (counts > len(values)).any() or int(counts.sum()) != len(values):
                return f"counts must be positive and sum to {len(values)} values"
            if not np.isfinite(values).all():
                return "values must be finite"
        if (self.held_out < 1).any() or (self.held_out > self.counts).any():
            return "held-out counts must be at least 1 and at most those of all windows"
        return None


def fit_lines(
    evidence: CalibrationEvidence, policy: AlertPolicy, *, window: int, interval_s: float
) -> tuple[Float32, dict[str, Any]]:
    """The line of every stream under a policy.

    The fleet's line is that of all windows, for a tail of a few days does not hold what happens
    once a week; unless the held-out windows cross it more often than chance allows: then it is theirs.
    A stream's own is pulled to the fleet's as far as its history has few exceedances.

    Args:
        evidence: Of clean windows.
        policy: What the line is to allow.
        window: Readings in a window.
        interval_s: Seconds between readings of a stream.

    Returns:
        Lines `(1 + streams,)`; the first is for streams that training never saw. And figures for
        the fit report, JSON values.
    """
    (n, m), stride = policy.rule(), policy.stride
    run = -(-window // stride)  # windows that overlap exceed together: one fault is one cluster
    every = Openings.of(evidence.values, evidence.counts, evidence.held_out, n=n, m=m, stride=stride)
    new = evidence.stand_in_counts
    unseen = Openings.of(evidence.stand_in_values, new, new, n=n, m=m, stride=stride)
    held_out = every.only_held_out()
    weeks = len(held_out.values) * interval_s / _WEEK_S
    allowed = policy.budget_per_stream_per_week * weeks

    def line(fit: TailFit) -> float:
        return alert_line(fit, policy, interval_s=interval_s)

    def crossed(above: float | Float64) -> int:
        return round(len(held_out.clusters(above, run)[0]) / stride)

    fit, own_tail = every.fit(run), held_out.fit(run)
    if not fit.clusters:
        # Wide n of m on short histories: the statistic stays at its highest value for longer than the tail.
        fit = every.fit(run, below_highest=True)
    if contradicts(crossed(line(fit)), allowed) and line(own_tail) > line(fit):
        fit = own_tail
    fleet = line(fit)
    own = every.fit_each(run, len(evidence.counts))
    part = own_part(np.array([one.independent_clusters for one in own], np.float64), prior=_CLUSTERS)
    blend = part * np.array([line(one) for one in own]) + (1 - part) * fleet
    lines = np.concatenate([[max(fleet, line(unseen.fit(run)))], blend]).astype(np.float32)
    report = {
        **asdict(policy),
        "tail": {
            "threshold": fit.threshold,
            "scale": fit.scale,
            "shape": fit.shape,
            "clusters": round(fit.independent_clusters),
            "stream_days": fit.windows * interval_s / 86_400.0,
        },
        "lines": {"fleet": fleet, "lowest": float(lines[1:].min()), "highest": float(lines[1:].max())},
        "held_out_windows": len(held_out.values),
        "incidents_in_held_out": crossed(lines[1:][held_out.streams].astype(np.float64)),
        "incidents_allowed_in_held_out": allowed,
    }
    return lines, report


def require_windows(evidence: CalibrationEvidence, policy: AlertPolicy) -> None:
    """Refuse a policy that looks at more windows than any stream has.

    Raises:
        PolicyError: Says how many there are.
    """
    _, m = policy.rule()
    most = -(-int(evidence.counts.max(initial=0)) // policy.stride)
    if most < m:
        raise PolicyError(
            f"open_within {policy.open_within} needs {m} scored windows of a stream to calibrate the alert line; this "
            f"bundle keeps at most {most}: lower it, or train on more data"
        )


def alert_line(fit: TailFit, policy: AlertPolicy, *, interval_s: float) -> float:
    """Evidence at which the score is 1.0, for one tail; `interval_s` seconds between readings."""
    return max(LOWEST_LINE, fit.level(policy.rate_per_window(interval_s)))


def own_part(weight: Float64, prior: float) -> Float64:
    """How far a stream's own figures count beside the fleet's, 0 to 1: half at a `weight` of `prior`."""
    return weight / (weight + prior)
