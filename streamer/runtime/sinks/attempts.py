"""Attempts of one sink: what is counted and said of them, and when the next may be made.

Not inside: what is attempted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from streamer.connectors.alert_sinks import DELIVERED, FAILED, REFUSED, Answer
from streamer.core.alerts import Alert
from streamer.core.routing import FILTERED, MUTED
from streamer.observability.metrics import Metrics

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0

UNREADABLE, GIVEN_UP = "unreadable", "given_up"
OUTCOMES = (DELIVERED, REFUSED, GIVEN_UP, UNREADABLE, MUTED, FILTERED)

log = logging.getLogger(__name__)


class Attempts:
    """The pause after a failed attempt doubles with each, and an attempt that does not fail ends it.

    Args:
        sink: Name of the sink.
        metrics: Counts.
        clock: Seconds since 1970.
        jitter: A number between 0 and 1, so that replicas do not ask all at once.
    """

    def __init__(self, sink: str, metrics: Metrics, clock: Callable[[], float], jitter: Callable[[], float]) -> None:
        self._sink, self._metrics, self._clock, self._jitter = sink, metrics, clock, jitter
        self._pause_s, self._next_s = FIRST_PAUSE_S, 0.0
        self.failing_since_s: float | None = None
        metrics.sink_failures.labels(sink)
        for outcome in OUTCOMES:  # a series that is missing until its first event cannot be alerted on
            metrics.sink_deliveries.labels(sink, outcome)

    @property
    def wait_s(self) -> float:
        """Until the next attempt may be made."""
        return max(0.0, self._next_s - self._clock())

    def make(self, attempt: Callable[[float], Answer]) -> Answer:
        """One attempt; it is told the time."""
        answer = attempt(self._clock())
        now_s = self._clock()
        if answer.outcome != FAILED:
            if self.failing_since_s is not None:
                log.info("sink %s takes alerts again, after %.0f s", self._sink, now_s - self.failing_since_s)
            self._pause_s, self._next_s, self.failing_since_s = FIRST_PAUSE_S, 0.0, None
            return answer
        self._metrics.sink_failures.labels(self._sink).inc()
        if self.failing_since_s is None:
            self.failing_since_s = now_s
            log.warning("sink %s fails, alerts wait on the alerts topic: %s", self._sink, answer.why)
        self._next_s = now_s + max(self._pause_s * (0.5 + self._jitter() / 2), answer.retry_after_s or 0.0)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return answer

    def count(self, outcome: str) -> None:
        """What became of an alert."""
        self._metrics.sink_deliveries.labels(self._sink, outcome).inc()

    def give_up(self, alert: Alert, outcome: str, why: str) -> None:
        """It will never be delivered."""
        log.error(
            "sink %s: alert %s of incident %s given up: %s",
            self._sink, alert.alert_id, alert.incident_id, why,
            extra={"stream": alert.stream, "alert_id": alert.alert_id, "incident_id": alert.incident_id},
        )  # fmt: skip
        self.count(outcome)
