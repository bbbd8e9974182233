"""What a batch led to goes out: alerts and scores to the sinks, counts to the metrics, bad records as dead letters.

Not inside: how messages are delivered (`connectors`), when they must be (`checkpoints`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from streamer.connectors.kafka import RecordBatch
from streamer.connectors.sinks import KafkaSinks
from streamer.core.events import OPEN, RESOLVE
from streamer.core.outcome import Outcome
from streamer.core.pipeline import Pipeline
from streamer.formats.rejects import STREAM_LIMIT, Reject
from streamer.observability.metrics import EXPIRED, OUTSIDE_SESSION, OVERFLOW, Metrics
from streamer.runtime.positions import Positions
from streamer.runtime.refusals import RefusalLog

ALERTS_LOGGED = 20  # of one poll: a fault of the whole fleet must not drown the log

log = logging.getLogger(__name__)


class Publisher:
    """Publishes what one connection reads.

    Args:
        sinks: Where alerts, scores and dead letters go.
        positions: Alerts of records before `publish_from` were published already.
        pipeline: Knows streams by name, and the version that scored.
        topic: Input topic, for the log.
        scores: Whether every score is published too.
        metrics: Counts.
        refusals: Told of refused records.
        clock: Seconds since 1970, for metrics.
    """

    def __init__(
        self,
        sinks: KafkaSinks,
        positions: Positions,
        *,
        pipeline: Pipeline,
        topic: str,
        scores: bool,
        metrics: Metrics,
        refusals: RefusalLog,
        clock: Callable[[], float],
    ) -> None:
        self._sinks, self._positions, self._pipeline = sinks, positions, pipeline
        self._topic, self._refusals = topic, refusals
        self._scores, self._metrics, self._clock = scores, metrics, clock

    def publish(self, outcome: Outcome, *, late_sent_on: int = 0) -> None:
        """Alerts, scores and counts of one batch of readings; `late_sent_on` of the late ones are dead letters."""
        self._publish_alerts(outcome)
        self._publish_scores(outcome)
        self._publish_corrections(outcome)
        metrics, readings, scores = self._metrics, outcome.readings, outcome.scores
        metrics.records_windowed.inc(outcome.taken)
        metrics.records_duplicate.inc(outcome.duplicates)
        metrics.records_late.inc(outcome.late - late_sent_on)
        metrics.readings_corrected.inc(outcome.rescored.readings)
        metrics.records_dropped.labels(OVERFLOW).inc(outcome.overflow)
        metrics.records_dropped.labels(EXPIRED).inc(outcome.forgotten)
        metrics.records_dropped.labels(OUTSIDE_SESSION).inc(outcome.outside)
        metrics.records_reordered.inc(outcome.reordered)
        if outcome.carried is not None:
            metrics.readings_carried.inc(int((outcome.carried > 0).sum()))
        metrics.window_resets.labels("gap").inc(outcome.resets)
        metrics.streams_expired.inc(outcome.expired)
        metrics.streams_moved.inc(outcome.moved)
        metrics.filled_values.inc(int(np.isnan(readings.values).sum()))
        metrics.windows_sparse.inc(scores.sparse)
        metrics.scoring_failures.inc(scores.failures)
        if len(readings):
            metrics.last_event.set(float(readings.time_ns.max()) / 1e9)

    def dead_letter(self, batch: RecordBatch, rejects: Sequence[Reject]) -> None:
        """Send rejected records on, but for those over a limit, which are only counted."""
        self._refusals.add(batch, rejects)
        self._refusals.tell()
        for reject in rejects:
            log.debug(
                "%s[%d]@%d: %s: %s",
                batch.topic, batch.partition, batch.offsets[reject.row], reject.reason, reject.detail,
                extra={"topic": batch.topic, "partition": batch.partition, "offset": int(batch.offsets[reject.row])},
            )  # fmt: skip
            if reject.reason == STREAM_LIMIT:
                # A copy of every record of streams nobody asked for would be a second flood.
                self._metrics.records_rejected.labels(reject.reason).inc()
            else:
                self._sinks.publish_dead_letter(batch, reject)
                self._metrics.records_dead_lettered.labels(reject.reason).inc()

    def _publish_alerts(self, outcome: Outcome) -> None:
        metrics, published, unlogged = self._metrics, Counter[str](), Counter[str]()
        for alert, event, (partition, offset) in zip(outcome.alerts, outcome.events, outcome.triggers, strict=True):
            if offset < self._positions[partition].publish_from:
                continue
            self._sinks.publish_alert(alert)
            metrics.alerts_published.labels(event.event).inc()
            if event.muted:
                if event.event == OPEN:
                    metrics.incidents_muted.labels(event.muted).inc()
            elif event.event == OPEN or event.told_late:
                metrics.incidents_opened.labels(event.kind, alert.severity).inc()
            elif event.event == RESOLVE:
                metrics.incidents_resolved.labels(event.kind).inc()
            if published.total() < ALERTS_LOGGED:
                log.info(
                    "%s %s: %s%s", event.event, alert.incident_id[:8], alert.summary,
                    "" if alert.muted is None else f" (muted: {alert.muted})",
                    extra={
                        "event": event.event,
                        "stream": alert.stream,
                        "incident_id": alert.incident_id,
                        "alert_id": alert.alert_id,
                        "kind": event.kind,
                        "severity": alert.severity,
                        **({} if alert.muted is None else {"muted": alert.muted}),
                        "topic": self._topic,
                        "partition": partition,
                        "offset": offset,
                        "model_version": alert.model_version,
                    },
                )  # fmt: skip
            else:
                unlogged[event.event] += 1
            published[event.event] += 1
        if unlogged:
            counts = ", ".join(f"{count} {event}" for event, count in sorted(unlogged.items()))
            log.info(
                "%d more alerts published in this poll (%s); all of them are on the alerts topic",
                unlogged.total(), counts, extra={"topic": self._topic},
            )  # fmt: skip

    def _publish_corrections(self, outcome: Outcome) -> None:
        again = outcome.rescored
        if self._scores and len(again):
            names, version = self._pipeline.keys.names, self._pipeline.scorer.version
            streams = [names[code] for code in again.stream.tolist()]
            self._sinks.publish_scores(streams, again.time_ns, again.score, version, again.settled)

    def _publish_scores(self, outcome: Outcome) -> None:
        readings, scores = outcome.readings, outcome.scores
        scored = ~np.isnan(scores.score)
        if not scored.any():
            return
        codes = readings.stream[scored]
        if self._scores:
            self._sinks.publish_scores(
                [self._pipeline.keys.names[code] for code in codes],
                readings.time_ns[scored],
                scores.score[scored],
                self._pipeline.scorer.version,
            )
        self._metrics.windows_scored.inc(int(scored.sum()))
        self._metrics.last_window_scored.set(self._clock())
