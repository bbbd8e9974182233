"""What can be configured of who is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamer.core.notifying.maintenance import Maintenance
from streamer.core.notifying.matching import Match

ABOVE, BELOW, BOTH = "above", "below", "both"  # observed against expected


@dataclass(frozen=True, slots=True)
class Levels:
    """Peak scores from which an anomaly is of a severity."""

    warning: float
    critical: float


@dataclass(frozen=True, slots=True)
class Rule:
    """Settings of the incidents it matches; None: left to the rules that follow."""

    name: str
    match: Match = field(default_factory=Match)
    mute: bool | None = None
    direction: str | None = None
    least_deviation: float | None = None
    least_relative_deviation: float | None = None
    least_severity: str | None = None
    severity: Levels | None = None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many incidents of one stream are told."""

    at_most: int
    within_ns: int


@dataclass(frozen=True, slots=True)
class NotifyingOptions:
    """Who is told of what."""

    rules: tuple[Rule, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()
    per_stream: RateLimit | None = None
