"""The thread of the daemon that keeps the store of incidents up to date.

Beside the loop, with connections of its own: whatever happens to the store, its file or the broker's answers, scoring
goes on, and `/readyz` mentions it without being less ready. Not inside: reading and keeping
(`connectors.incident_store`).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from streamer.config import Settings
from streamer.connectors.incident_store import (
    ActionsTopic,
    Follower,
    IncidentStore,
    StoreTaken,
    StoreUnavailable,
    check_store,
    open_to_write,
)
from streamer.errors import BrokerError, ConfigError
from streamer.observability.metrics import Metrics
from streamer.runtime.incident_pages import IncidentPages
from streamer.runtime.status import Status

TURN_S = 1.0  # between two looks at the topics
MOST_WAIT_S = 60.0  # after failures, twice as long each time
TAKEN_S = 5.0  # while another replica writes
SWEEP_S = 60.0  # between two looks for what is too old
YIELD = 4  # times as long as a transaction took, the loop has to itself while much is caught up
_NOTE = "incident store"

log = logging.getLogger(__name__)


class IncidentThread:
    """Follows the topics until it is told to stop; `pages` answers what is asked over HTTP.

    Args:
        settings: Where the store is, topics, retention.
        metrics: Lag and failures.
        status: Told what is wrong, in words.
        clock: Seconds since 1970; for retention.
    """

    def __init__(self, settings: Settings, metrics: Metrics, status: Status, clock: Callable[[], float]) -> None:
        self._settings, self._metrics, self._status, self._clock = settings, metrics, status, clock
        self._stop = threading.Event()
        self._store: IncidentStore | None = None
        self._follower: Follower | None = None
        self.pages = IncidentPages(settings)
        self._swept_s = float("-inf")
        self._thread = threading.Thread(target=self._run, name="incidents", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._metrics.incident_store_lag.set(math.nan)
        self._thread.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """Stop; a transaction that takes longer is left behind, and rolled back when the process ends."""
        self._stop.set()
        if self._thread.ident:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        wait_s = TURN_S
        while not self._stop.is_set():
            try:
                self.turn()
                wait_s = TURN_S
                self._status.note(_NOTE, None)
            except StoreTaken:
                wait_s = TAKEN_S
                self._metrics.incident_store_lag.set(math.nan)
                self._status.note(_NOTE, None)
            except Exception as error:  # whatever it is: this thread tries again
                if self._stop.is_set():
                    break
                known = isinstance(error, (BrokerError, ConfigError))
                self._metrics.incident_store_failures.inc()
                self._metrics.incident_store_lag.set(math.nan)
                self._let_go(store=not known or isinstance(error, StoreUnavailable))
                why = str(error) if known else f"{type(error).__name__}: {error}"
                self._status.note(_NOTE, f"the store of incidents is not up to date; scoring goes on: {why}")
                if not known:
                    log.error("the store of incidents failed in a way that was not foreseen", exc_info=True)
                wait_s = min(2 * wait_s, MOST_WAIT_S)
            self._stop.wait(wait_s)
        self._let_go()

    def turn(self) -> None:
        """Take in what is new; now and then remove what is old.

        Raises:
            BrokerError: The store or a topic cannot be used now.
        """
        if self._store is None:
            self._store = IncidentStore(open_to_write(self._settings))
        if self._follower is None:
            self._prepare()
            self._follower = Follower(
                self._settings, self._store, pause=self._pause, on_refused=self._metrics.incident_store_refused.inc
            )
        self._follower.turn(self._metrics.incident_store_lag.set)
        self._sweep()

    def _prepare(self) -> None:
        """Make the topic of actions if that is granted; without it alerts are kept all the same."""
        actions = ActionsTopic(self._settings)
        try:
            actions.prepare()
        except BrokerError as error:
            log.warning("%s", error)
        finally:
            actions.close()

    def _sweep(self) -> None:
        if time.monotonic() - self._swept_s < SWEEP_S or self._store is None:
            return
        config = self._settings.incidents
        before_ms = round((self._clock() - config.keep_for) * 1000)
        removed = 0
        while not self._stop.is_set() and (some := self._store.remove_old(before_ms, config.keep_at_most_mb * 2**20)):
            removed += some
        self._swept_s = time.monotonic()
        if removed:
            log.info("%d resolved incidents removed from the store: incidents.keep_for, keep_at_most_mb", removed)

    def _pause(self, took_s: float) -> None:
        self._stop.wait(min(1.0, YIELD * took_s))
        if self._stop.is_set():
            raise BrokerError("stopping")

    def _let_go(self, *, store: bool = True) -> None:
        """Close what the next turn opens again: the readers, and the store, whose file is then looked through."""
        leaving = [self._follower, self._store if store else None]
        self._follower, self._store = None, None if store else self._store
        for each in leaving:
            if each is not None:
                try:
                    each.close()
                except Exception:
                    log.debug("closing", exc_info=True)


def open_incident_thread(
    settings: Settings, metrics: Metrics, status: Status, clock: Callable[[], float]
) -> IncidentThread | None:
    """What `incidents.store` asks for; None: nothing.

    Raises:
        ConfigError: Something that it needs is not installed.
    """
    if settings.incidents.store is None:
        return None
    check_store(settings)
    return IncidentThread(settings, metrics, status, clock)
