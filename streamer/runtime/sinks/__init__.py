"""Sinks in the daemon: for each a thread beside the loop, and a consumer group of its own on the alerts topic.

    courier          reads, delivers in order, commits
    alerts_topic     how it reads, also back in time
    told             incidents that are open and were told of
    resending        telling of them again
    attempts         pauses between attempts, counts

Inside: `SinkThreads`. The loop knows nothing of them: it writes alerts to the topic as without sinks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from streamer.config import Settings
from streamer.connectors.alert_sinks import open_sinks
from streamer.observability.metrics import Metrics
from streamer.runtime.sinks.alerts_topic import KafkaAlertsTopic, group_of
from streamer.runtime.sinks.courier import Courier

CLOSE_S = 3.0  # for all of them; what is not delivered by then waits on the topic

__all__ = ["SinkThreads", "group_of"]


class SinkThreads:
    """The sinks that are configured; without any there is no thread.

    Args:
        settings: All settings.
        metrics: Counts.
        clock: Seconds since 1970.

    Raises:
        ConfigError: A sink cannot be as configured.
    """

    def __init__(self, settings: Settings, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._couriers = {
            sink.name: Courier(
                sink,
                route,
                KafkaAlertsTopic(settings.kafka, sink.name),
                lookback_s=settings.sinks.lookback,
                metrics=metrics,
                clock=clock,
                stop=self._stop,
            )
            for sink, route in open_sinks(settings)
        }

    def start(self) -> None:
        """Begin; once is enough."""
        if self._threads:
            return
        # Daemon threads: one that waits for an answer must not keep the process.
        self._threads = [
            threading.Thread(target=courier.run, name=f"sink {name}", daemon=True)
            for name, courier in self._couriers.items()
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Finish the attempt under way, commit, leave the groups."""
        self._stop.set()
        deadline_s = time.monotonic() + CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
