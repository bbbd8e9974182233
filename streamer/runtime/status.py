"""Whether the daemon is alive and ready: what `/healthz` and `/readyz` answer."""

from __future__ import annotations

import logging
from collections.abc import Callable

from streamer.observability.metrics import Metrics

STALLED_S = 60.0  # a loop not heard of for so long is not healthy

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
        self._busy_s = 0.0

    def turn(self) -> None:
        """The loop begins its next turn."""
        self.beat()
        self._metrics.last_poll.set(self._beat_at)

    def beat(self, busy_s: float = 0.0) -> None:
        """The loop is alive.

        To be called wherever one turn may rightly take long: while the broker is away, between the
        partitions of a checkpoint or a restore.

        Args:
            busy_s: How long the step that begins now may take, by a setting or a bound of its own.
        """
        # In this order: `/healthz` asks from another thread.
        self._busy_s = max(self._busy_s, busy_s)
        self._beat_at = self._clock()
        self._busy_s = busy_s

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
        silent_s = self._clock() - self._beat_at
        if silent_s < STALLED_S + self._busy_s:
            return None
        return f"the main loop has made no progress for {silent_s:.0f} s"
