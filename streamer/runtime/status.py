"""Whether the daemon is alive and ready: what `/healthz` and `/readyz` answer."""

from __future__ import annotations

import logging
from collections.abc import Callable

from streamer.observability.metrics import Metrics

STALLED_S = 60.0  # a loop that has not turned for so long is not healthy

log = logging.getLogger(__name__)


class Status:
    """Heartbeat of the loop, and the reason why the daemon is not ready.

    Args:
        metrics: `ready` and `last_poll` follow what is set here.
        clock: Seconds since 1970.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics, self._clock = metrics, clock
        self._reason: str | None = "starting"
        self._beat_at = clock()

    def beat(self) -> None:
        """The loop has turned."""
        self._beat_at = self._clock()
        self._metrics.last_poll.set(self._beat_at)

    def set_ready(self, reason: str | None) -> None:
        """None: ready; else why not."""
        if reason != self._reason:
            log.log(logging.INFO if reason is None else logging.WARNING, "ready" if reason is None else reason)
        self._reason = reason
        self._metrics.ready.set(reason is None)

    def not_ready(self) -> str | None:
        """Why `/readyz` says no; None when it says yes."""
        return self._reason

    def unhealthy(self) -> str | None:
        """Why `/healthz` says no; None when it says yes."""
        still = self._clock() - self._beat_at
        return None if still < STALLED_S else f"the loop has not turned for {still:.0f} s"
