"""What a configuration makes of a sample, and how it is said.

Not inside: how it is found out (`examining`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

HALF = 0.5  # refused: more, and nothing good can come of training


@dataclass(slots=True)
class Examined:
    """What a configuration makes of a sample."""

    origin: str
    messages: int = 0
    readings: int = 0
    ignored: int = 0  # of metrics that are not configured
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)  # by reason: how many, and the first
    samples: list[str] = field(default_factory=list)  # decoded readings, in words
    faults: Sequence[str] = ()  # what is not as the configuration says, and the remedy
    remarks: Sequence[str] = ()

    @property
    def share(self) -> float:
        """Of messages that are refused."""
        return sum(count for count, _ in self.refused.values()) / self.messages if self.messages else 0.0

    @property
    def hopeless(self) -> bool:
        """Nothing good can come of reading it so."""
        return bool(self.faults) or self.share > HALF or (self.messages > 0 and not self.readings)

    def lines(self) -> list[str]:
        """What was found, in words."""
        lines = []
        if self.messages:
            lines.append(
                f"{sum(count for count, _ in self.refused.values())} of {self.messages} messages of {self.origin} "
                f"({self.share:.1%}) would be refused; {self.readings} readings"
                + (f", {self.ignored} of other metrics" if self.ignored else "")
            )
        for reason, (count, first) in sorted(self.refused.items(), key=lambda one: -one[1][0]):
            lines.append(f"{count} {reason}, e.g. {first}")
        return [*lines, *self.faults, *self.remarks]

    def reason(self) -> str:
        """Why nothing good can come of it, in one sentence or a few."""
        if self.faults:
            return f"{self.origin} is not what the configuration says: {'; '.join(self.faults)}"
        parts = [f"{count} {reason} (e.g. {first})" for reason, (count, first) in self.refused.items()]
        if parts:
            return (
                f"{self.share:.0%} of {self.messages} messages of {self.origin} would be refused: {', '.join(parts)}; "
                f"`streamer inspect` shows what they look like"
            )
        return f"none of {self.messages} messages of {self.origin} holds a reading of the features configured"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "messages": self.messages,
            "readings": self.readings,
            "share": self.share,
            "by_reason": {reason: {"count": count, "first": first} for reason, (count, first) in self.refused.items()},
            "faults": list(self.faults),
            "remarks": list(self.remarks),
        }
