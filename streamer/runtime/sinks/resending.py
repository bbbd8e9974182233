"""Telling again of incidents that are open, for sinks that forget what they do not hear of.

Not inside: which those are (`told`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

from streamer.connectors.alert_sinks import DELIVERED, FAILED, REFUSED, Answer, Sink
from streamer.runtime.sinks.attempts import Attempts
from streamer.runtime.sinks.told import Told

AT_ONCE = 100  # incidents

log = logging.getLogger(__name__)


class Resending:
    """Every `resend_s` of the sink, in pieces that leave time to poll.

    Args:
        sink: Told again.
        told: What is open.
        attempts: Of the sink.
        lookback_s: An incident of which nothing has come for so long is forgotten, as it would be by a restart.
        clock: Seconds since 1970.
    """

    def __init__(
        self, sink: Sink, told: Told, attempts: Attempts, *, lookback_s: float, clock: Callable[[], float]
    ) -> None:
        self._sink, self._told, self._attempts = sink, told, attempts
        self._lookback_s, self._clock = lookback_s, clock
        self._left: deque[str] = deque()
        self._next_s = 0.0

    def at_once(self) -> None:
        """Do not wait until it is time."""
        self._next_s = 0.0

    def turn(self, until_s: float) -> bool:
        """Whatever is due; False when the sink does not take it."""
        if self._sink.resend_s is None:
            return True
        if not self._left and self._clock() >= self._next_s:
            self._next_s = self._clock() + self._sink.resend_s
            self._forget_old()
            self._left.extend(incident.alert.incident_id for incident in self._told.incidents())
        while self._left and self._clock() < until_s:
            some = [self._left[i] for i in range(min(AT_ONCE, len(self._left)))]
            answer = self._resend(some)
            if answer.outcome == REFUSED and len(some) > 1:  # which of them?
                answer = next((found for one in some if (found := self._resend([one])).outcome == FAILED), answer)
            if answer.outcome == FAILED:
                return False
            for _ in some:
                self._left.popleft()
        return True

    def _resend(self, ids: Sequence[str]) -> Answer:
        incidents = [incident for each in ids if (incident := self._told.get(each)) is not None]
        if not incidents:
            return Answer(DELIVERED)
        answer = self._attempts.make(lambda now_s: self._sink.resend(incidents, now_s))
        if answer.outcome == REFUSED and len(ids) == 1:
            self._attempts.give_up(incidents[0].alert, REFUSED, answer.why)
            self._told.forget(ids[0])
        return answer

    def _forget_old(self) -> None:
        for incident in list(self._told.incidents()):
            if self._clock() - incident.taken_s > self._lookback_s:
                log.warning(
                    "sink %s: incident %s is not told of any more, nothing has come of it for %g s",
                    self._sink.name, incident.alert.incident_id, self._lookback_s,
                )  # fmt: skip
                self._told.forget(incident.alert.incident_id)
