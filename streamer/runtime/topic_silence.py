"""That nothing comes from the topic at all: said by the daemon, by the wall clock.

The one silence that no reading can show, so the one that depends on when it was looked for: a replay does not tell it.
With several replicas each speaks of the partitions it reads. Not inside: silence of streams (`core.silence`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

import msgspec
import numpy as np

from streamer.core import alerts
from streamer.core.alerts import Alert
from streamer.core.events import EXPIRED, OPEN, QUIET, RESOLVE, SILENCE, TOPIC, UPDATE, Event
from streamer.core.keyed_state import NO_STREAM
from streamer.core.notifying import Decider, Facts, Muted
from streamer.core.options import PipelineOptions
from streamer.core.pipeline import Pipeline
from streamer.observability.metrics import Metrics

LEAST_S = 60.0  # nobody is told of a shorter silence
PAUSE_S = 1.0  # longer ones between two polls with records are remembered
PAUSES = 32
TIMES = 3  # a silence this many times the longest usual pause is none of the producer's own

log = logging.getLogger(__name__)


class TopicSilence:
    """Watches whether anything comes.

    Args:
        options: Topic, market hours, how many intervals make a silence.
        pipeline: Knows the usual interval and the version in use.
        metrics: Counts.
        clock: Seconds since 1970.
    """

    def __init__(
        self, options: PipelineOptions, pipeline: Pipeline, metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        self._options, self._pipeline, self._metrics, self._clock = options, pipeline, metrics, clock
        self._last_s = clock()
        self._pauses: deque[float] = deque(maxlen=PAUSES)  # newest last
        self._since_s: float | None = None  # last record before the silence that was told
        self._decider = Decider(options.notifying) if options.notifying else None
        self._muted: Muted | None = None  # why nobody was told of it

    @property
    def limit_s(self) -> float | None:
        """Seconds without a record that count as silence; None: it is not watched.

        So many intervals of a stream, or three times the second longest of the newest pauses, which one outage does
        not move; at least a minute.
        """
        after = self._options.silent_after
        if after is None:
            return None
        interval_s = max(self._pipeline.scorer.detector.interval_s, self._options.time.grid_ns / 1e9)
        pauses = sorted(self._pauses)
        usual_s = TIMES * pauses[-2] if len(pauses) > 1 else 0.0
        return max(LEAST_S, after * interval_s, usual_s)

    def restart(self) -> None:
        """Nothing was looked for until now: start-up, a broker that was away, polling that paused."""
        self._last_s = self._clock()

    def look(self, *, heard: bool, partitions: int) -> Alert | None:
        """What to tell after a poll.

        Args:
            heard: It brought records.
            partitions: How many are read; without any, nothing is expected.
        """
        now_s = self._clock()
        if heard:
            pause_s = self._between(self._last_s, now_s)
            if pause_s > PAUSE_S and self._since_s is None:
                self._pauses.append(pause_s)
            self._last_s = now_s
            return self._resolve(now_s, QUIET)
        if not partitions:
            self._last_s = now_s
            return self._resolve(now_s, EXPIRED)
        if self._since_s is not None:
            return self._outlasted(now_s, partitions)
        limit_s = self.limit_s
        if limit_s is None or self._between(self._last_s, now_s) <= limit_s:
            return None
        self._since_s = self._last_s
        self._muted = self._why_muted(now_s)
        if self._muted is None:
            self._count_told()
        else:
            self._metrics.incidents_muted.labels(self._muted.reason).inc()
        return self._tell(OPEN, now_s, "", partitions)

    def stop(self) -> Alert | None:
        """Nobody watches from now on."""
        return self._resolve(self._clock(), EXPIRED)

    def _resolve(self, now_s: float, reason: str) -> Alert | None:
        if self._since_s is None:
            return None
        alert = self._tell(RESOLVE, now_s, reason, 0)
        self._since_s = None
        self._metrics.topic_silent.set(0)
        if self._muted is None:
            self._metrics.incidents_resolved.labels(SILENCE).inc()
        return alert

    def _outlasted(self, now_s: float, partitions: int) -> Alert | None:
        """Of a silence that goes on: something to tell only when the maintenance window it was muted in is over."""
        before = self._muted
        if before is None or before.until_ns is None or now_s * 1e9 < before.until_ns:
            return None
        self._muted = self._why_muted(now_s)
        if self._muted is not None:
            return None
        self._count_told()
        return self._tell(UPDATE, now_s, "", partitions)

    def _why_muted(self, now_s: float) -> Muted | None:
        if self._decider is None:
            return None
        return self._decider.decide(Facts(self._options.topic, SILENCE, round(now_s * 1e9), "critical")).muted

    def _count_told(self) -> None:
        self._metrics.topic_silent.set(1)
        self._metrics.incidents_opened.labels(SILENCE, "critical").inc()

    def _tell(self, event: str, now_s: float, reason: str, partitions: int) -> Alert:
        assert self._since_s is not None
        onset_ns, at_ns = round(self._since_s * 1e9), round(now_s * 1e9)
        details = {"partitions": partitions} if partitions else {}
        told = Event(event, SILENCE, NO_STREAM, onset_ns, at_ns, 0.0, 0.0, 0, reason, scope=TOPIC, details=details)
        alert = alerts.build(
            told,
            topic=self._options.topic,
            stream=self._options.topic,
            attributions=(),
            model_version=self._pipeline.scorer.version,
            dashboard_url=None,
        )
        if self._muted is not None:
            alert = msgspec.structs.replace(alert, muted=self._muted.words)
        self._metrics.alerts_published.labels(event).inc()
        log.log(
            logging.INFO if event == RESOLVE or self._muted is not None else logging.WARNING,
            "%s %s: %s%s", event, alert.incident_id[:8], alert.summary,
            "" if self._muted is None else f" (muted: {self._muted.words})",
            extra={"topic": self._options.topic, "incident_id": alert.incident_id, "kind": SILENCE, "event": event},
        )  # fmt: skip
        return alert

    def _between(self, from_s: float, to_s: float) -> float:
        """Seconds between two moments, those of a closed market left out."""
        market = self._options.sessions
        if market is None:
            return to_s - from_s
        moments = np.array([from_s * 1e9, to_s * 1e9]).astype(np.int64)
        return float(market.open_time_between(moments[:1], moments[1:])[0]) / 1e9
