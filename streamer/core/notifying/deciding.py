"""One incident at one moment: how severe it is, and whether and why it is muted.

Of the rules, the first that matches and says something of a setting decides that setting. Not inside: what was decided
before, and how many incidents a stream has had (`station`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from streamer.core.alerts import Alert, iso
from streamer.core.durations import duration_text
from streamer.core.events import ANOMALY, severity
from streamer.core.notifying.maintenance import Maintenance
from streamer.core.notifying.options import ABOVE, BOTH, NotifyingOptions, RateLimit, Rule

RULE, MAINTENANCE, DIRECTION, DEVIATION = "rule", "maintenance", "direction", "deviation"
LEAST_SEVERITY, RATE_LIMIT = "severity", "rate_limit"
REASONS = (RULE, MAINTENANCE, DIRECTION, DEVIATION, LEAST_SEVERITY, RATE_LIMIT)  # why an incident is muted
SEVERITIES = ("info", "warning", "critical")
_REMEMBERED = 65_536  # streams whose rules are known; found again for others


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an incident when it is decided on."""

    stream: str
    kind: str
    at_ns: int
    severity: str  # by the thresholds that hold for all
    peak: float = 0.0
    feature: str | None = None  # the leading one
    observed: float | None = None
    expected: float | None = None

    @classmethod
    def of(cls, alert: Alert, at_ns: int) -> Facts:
        """Of the incident an alert is about."""
        facts = cls(alert.stream, alert.kind, at_ns, alert.severity, alert.peak_score)
        if not alert.features:
            return facts
        lead = alert.features[0]
        return cls(
            alert.stream, alert.kind, at_ns, alert.severity, alert.peak_score, lead.name, lead.observed, lead.expected
        )


@dataclass(frozen=True, slots=True)
class Muted:
    """Why nobody is told."""

    reason: str  # of REASONS
    words: str  # which rule or window, and why
    until_ns: int | None = None  # then it is decided anew


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of an incident."""

    severity: str
    muted: Muted | None


class Decider:
    """Rules and maintenance windows, each asked whether it is for a stream once for that stream.

    Args:
        options: Those of the configuration.
    """

    def __init__(self, options: NotifyingOptions) -> None:
        self._options = options
        self._of_stream = lru_cache(_REMEMBERED)(self._find)

    def decide(self, facts: Facts) -> Decision:
        """Severity, and the first reason not to tell anybody."""
        rules, windows = self._of_stream(facts.stream)
        rules = tuple(rule for rule in rules if rule.match.of_incident(facts.kind, facts.feature))
        severe = _severity(rules, facts)
        muted = (
            _by_rule(rules)
            or _by_maintenance(windows, facts)
            or _by_direction(rules, facts)
            or _by_deviation(rules, facts)
            or _by_severity(rules, severe)
        )
        return Decision(severe, muted)

    def settings(self, facts: Facts) -> dict[str, tuple[str, Any]]:
        """Each setting that a rule makes for an incident: the name of the rule, and the value."""
        rules = [rule for rule in self._of_stream(facts.stream)[0] if rule.match.of_incident(facts.kind, facts.feature)]
        names = ("mute", "direction", "least_deviation", "least_relative_deviation", "least_severity", "severity")
        return {name: (rule.name, value) for name in names for rule, value in _first(rules, name)}

    def windows(self, facts: Facts) -> list[str]:
        """Maintenance windows that an incident is in at that moment, in words."""
        return [_in_words(one, until) for one, until in _open(self._of_stream(facts.stream)[1], facts)]

    def _find(self, stream: str) -> tuple[tuple[Rule, ...], tuple[Maintenance, ...]]:
        rules, windows = self._options.rules, self._options.maintenance
        return (
            tuple(rule for rule in rules if rule.match.of_stream(stream)),
            tuple(window for window in windows if window.match.of_stream(stream)),
        )


def by_rate(limit: RateLimit) -> Muted:
    """That too many incidents of a stream were told already."""
    within = duration_text(limit.within_ns / 1e9)
    return Muted(RATE_LIMIT, f"rate limit: {limit.at_most} incident(s) of this stream were told within {within}")


def _first(rules: tuple[Rule, ...] | list[Rule], setting: str) -> list[tuple[Rule, Any]]:
    """The first rule that makes a setting, and its value; empty: none does."""
    found = ((rule, getattr(rule, setting)) for rule in rules)
    return [each for each in found if each[1] is not None][:1]


def _severity(rules: tuple[Rule, ...], facts: Facts) -> str:
    if facts.kind == ANOMALY:
        for _, levels in _first(rules, "severity"):
            return severity(facts.peak, levels.warning, levels.critical)
    return facts.severity


def _by_rule(rules: tuple[Rule, ...]) -> Muted | None:
    for rule, mute in _first(rules, "mute"):
        if mute:
            return Muted(RULE, f"rule {rule.name}")
    return None


def _open(windows: tuple[Maintenance, ...], facts: Facts) -> list[tuple[Maintenance, int]]:
    mine = [window for window in windows if window.match.of_incident(facts.kind, facts.feature)]
    found = [(window, window.until_ns(facts.at_ns)) for window in mine]
    return [(window, until) for window, until in found if until is not None]


def _by_maintenance(windows: tuple[Maintenance, ...], facts: Facts) -> Muted | None:
    """The window that ends last."""
    found = _open(windows, facts)
    if not found:
        return None
    window, until_ns = max(found, key=lambda each: each[1])
    return Muted(MAINTENANCE, _in_words(window, until_ns), until_ns)


def _in_words(window: Maintenance, until_ns: int) -> str:
    return f"maintenance {window.name} until {iso(until_ns).replace('.000Z', 'Z').replace(':00Z', 'Z')}"


def _by_direction(rules: tuple[Rule, ...], facts: Facts) -> Muted | None:
    for rule, wanted in _first(rules, "direction"):
        if wanted == BOTH or facts.observed is None or facts.expected is None:
            continue
        if (facts.observed > facts.expected) != (wanted == ABOVE) or facts.observed == facts.expected:
            figures = f"observed {facts.observed:g}, expected {facts.expected:g}"
            return Muted(DIRECTION, f"rule {rule.name}: {facts.feature} is not {wanted} what was expected ({figures})")
    return None


def _by_deviation(rules: tuple[Rule, ...], facts: Facts) -> Muted | None:
    if facts.observed is None or facts.expected is None:
        return None
    deviation = abs(facts.observed - facts.expected)
    for rule, least in _first(rules, "least_deviation"):
        if deviation < least:
            return Muted(
                DEVIATION, f"rule {rule.name}: {facts.feature} deviates by {deviation:.6g}, less than {least:g}"
            )
    for rule, least in _first(rules, "least_relative_deviation"):
        if deviation < least * abs(facts.expected):
            part = deviation / abs(facts.expected)
            return Muted(DEVIATION, f"rule {rule.name}: {facts.feature} deviates by {part:.4g} of {facts.expected:g}, "
                                    f"less than {least:g}")  # fmt: skip
    return None


def _by_severity(rules: tuple[Rule, ...], severe: str) -> Muted | None:
    for rule, least in _first(rules, "least_severity"):
        if SEVERITIES.index(severe) < SEVERITIES.index(least):
            return Muted(LEAST_SEVERITY, f"rule {rule.name}: severity {severe}, told from {least}")
    return None
