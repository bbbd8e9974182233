"""What the rest of streamer sees of a sink, whatever it is.

    Answer       what came of one attempt
    Incident     what a sink is told: the newest alert, and the severities told so far
    Sink         takes alerts, one attempt at a time

Types only. Not inside: when to try again (`runtime.sinks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from streamer.core.alerts import Alert
from streamer.errors import StreamerError

DELIVERED, REFUSED, FAILED = "delivered", "refused", "failed"


class SinkUnreachable(StreamerError):
    """A sink does not answer, or not as it should."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt."""

    outcome: str  # delivered; refused: it will never be taken; failed: try again
    why: str = ""  # without any secret
    retry_after_s: float | None = None  # as the other side asks


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident as a sink knows it."""

    alert: Alert  # the newest
    severities: tuple[str, ...]  # told so far, that of the alert included
    taken_s: float  # when the broker took the newest alert


class Sink(Protocol):
    """Makes one attempt at a time, bounded in time and memory; used from one thread."""

    name: str
    resend_s: float | None  # open incidents are told again so often; None: never
    give_up_after_s: float | None  # an alert that failed for so long is given up; None: never

    def deliver(self, incident: Incident, now_s: float) -> Answer:
        """Tell of the newest alert of an incident."""
        ...

    def resend(self, incidents: Sequence[Incident], now_s: float) -> Answer:
        """Tell of incidents that are still open."""
        ...

    def prove(self) -> str:
        """See that the sink can be reached, without telling it anything; what was found.

        Raises:
            SinkUnreachable: It cannot.
        """
        ...
