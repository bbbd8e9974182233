"""Which alerts a sink is told.

Pure. Not inside: rules that mute (an alert names the rule that muted it), sinks.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from streamer.core.alerts import Alert
from streamer.core.events import RESOLVE

SEVERITIES = ("info", "warning", "critical")
SEND, MUTED, FILTERED = "send", "muted", "filtered"


@dataclass(frozen=True, slots=True)
class Route:
    """Conditions that must all hold; an empty one always does."""

    streams: tuple[str, ...] = ()  # patterns, any of them
    kinds: tuple[str, ...] = ()
    severity: str = "info"  # at least
    scopes: tuple[str, ...] = ()
    events: tuple[str, ...] = ()

    def takes(self, alert: Alert) -> bool:
        """Whether all conditions but that on the event hold."""
        return (
            (not self.streams or any(fnmatchcase(alert.stream, pattern) for pattern in self.streams))
            and (not self.kinds or alert.kind in self.kinds)
            and (not self.scopes or alert.scope in self.scopes)
            and _rank(alert.severity) >= _rank(self.severity)
        )

    def decide(self, alert: Alert, *, told: bool) -> str:
        """`send`, or why not: `muted` or `filtered`.

        Args:
            alert: Of which the sink may be told.
            told: Whether it was told of the incident before; then it is told of its end, whoever muted it since.
        """
        if self.events and alert.event not in self.events:
            return FILTERED
        if told and alert.event == RESOLVE:
            return SEND
        if not self.takes(alert):
            return FILTERED
        return MUTED if alert.muted is not None else SEND


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
