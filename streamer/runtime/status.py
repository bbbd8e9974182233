"""Whether the daemon is alive and ready: what `/healthz` and `/readyz` answer.

`/healthz` is about a loop that hangs, which a restart cures; nothing else. `/readyz` is about everything that
keeps the daemon from seeing its records and telling of them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

from streamer.observability.metrics import Metrics

STALLED_S = 60.0  # a loop not heard of for so long is not healthy

log = logging.getLogger(__name__)


class Reason(StrEnum):
    """Why a daemon is not ready; the label of `streamer_not_ready`, the gravest first."""

    STARTING = "starting"
    NO_BUNDLE = "no_bundle"
    LOGIN_REFUSED = "login_refused"
    BROKER_UNREACHABLE = "broker_unreachable"
    NOT_PERMITTED = "not_permitted"
    TOPIC_MISSING = "topic_missing"
    TOPIC_RECREATED = "topic_recreated"
    BROKER_ERROR = "broker_error"
    STATE_STORE = "state_store"
    NOT_A_MEMBER = "not_a_member"
    NO_PARTITIONS = "no_partitions"
    PARTITIONS_PAUSED = "partitions_paused"
    NOTHING_READ = "nothing_read"
    SCHEMA_REGISTRY = "schema_registry"
    NOT_DELIVERED = "not_delivered"
    NOTHING_COMMITTED = "nothing_committed"


class NotReady(NamedTuple):
    """One reason, and what to tell a person."""

    reason: Reason
    text: str


class Status:
    """Heartbeat of the loop, and why the daemon is not ready.

    Args:
        metrics: `ready`, `not_ready` and `last_poll` follow what is set here.
        clock: Seconds since 1970.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics, self._clock = metrics, clock
        self._why: tuple[NotReady, ...] = (NotReady(Reason.STARTING, "starting"),)
        self._notes: dict[str, str] = {}
        self._noting = threading.Lock()
        self._beat_at = clock()
        self._busy_s = 0.0
        for reason in Reason:
            metrics.not_ready.labels(reason).set(reason is Reason.STARTING)

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

    def set_ready(self, why_not: Sequence[NotReady] = ()) -> None:
        """Ready if there is no reason why not."""
        why = tuple(why_not)
        if why == self._why:
            return
        self._why = why
        if why:
            log.warning("not ready: %s", self.not_ready(), extra={"reason": why[0].reason.value})
        else:
            log.info("ready")
        there = {each.reason for each in why}
        for reason in Reason:
            self._metrics.not_ready.labels(reason).set(reason in there)
        self._metrics.ready.set(not why)

    def note(self, about: str, text: str | None) -> None:
        """Something to know that is no reason not to be ready; None: no longer. From any thread."""
        with self._noting:
            if text == self._notes.get(about):
                return
            notes = {name: said for name, said in self._notes.items() if name != about}
            if text is not None:
                log.warning("%s", text)
                notes[about] = text
            self._notes = notes  # a new one: `/readyz` reads it from another thread

    def not_ready(self) -> str | None:
        """Why `/readyz` says no; None when it says yes."""
        return "; ".join(each.text for each in self._why) or None

    def notes(self) -> Sequence[str]:
        """What `/readyz` says besides."""
        return tuple(self._notes.values())

    def unhealthy(self) -> str | None:
        """Why `/healthz` says no; None when it says yes."""
        silent_s = self._clock() - self._beat_at
        if silent_s < STALLED_S + self._busy_s:
            return None
        return f"the main loop has made no progress for {silent_s:.0f} s"
