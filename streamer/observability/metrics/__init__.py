"""Every metric the process exports, in one place; the only code that imports prometheus_client.

The registry is a parameter, so that tests and several daemons in one process do not
share counters. Label sets are known in advance or capped: series of single streams
exist for at most `http.max_stream_series` streams, alerting ones first, and go when
the stream goes (`streams`). Not inside: the HTTP server (`web`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, make_wsgi_app
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from streamer import __version__
from streamer.core.events import ANOMALY, KINDS, OPEN, RESOLVE, SEVERITY, SILENCE, UPDATE
from streamer.core.notifying.deciding import REASONS as REASONS_TO_MUTE
from streamer.formats.rejects import REASONS, STREAM_LIMIT
from streamer.observability.books import Account, Books, OneMoment
from streamer.observability.metrics.streams import StreamCollector, StreamSeries

# A second series beside every counter that says when it was made: twice the series for nothing here.
disable_created_metrics()  # type: ignore[no-untyped-call]

__all__ = ["CATALOGUE", "CollectorRegistry", "Metrics", "StreamSeries"]

SEVERITIES = ("info", "warning", "critical")
STATES = ("warming", "active", "alerting", "silent")
OVERFLOW, OUTSIDE_SESSION, EXPIRED = "overflow", "outside_session", "expired"  # why readings are dropped
RELOAD_REASONS = ("artifact", "config", "canary")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BYTES = tuple(4.0**power for power in range(5, 15))  # 1 KiB to 256 MiB


class Metrics:
    """The catalogue. Attributes are named as the metrics, without the prefix.

    Args:
        registry: Where all of them are registered.
        streams: Gives the streams with series of their own, at each scrape.
    """

    def __init__(self, registry: CollectorRegistry, streams: Callable[[], Sequence[StreamSeries]] = list) -> None:
        self.registry = registry
        self.catalogue: dict[str, tuple[str, ...]] = {}
        counter, account, gauge, histogram = self._counter, self._account, self._gauge, self._histogram
        self.books = Books()

        self.records_consumed = account("records_consumed_total", "Records read from the input topic.")
        self.records_windowed = account(
            "records_windowed_total", "Readings added to their stream's window, alone or in a bar."
        )
        self.records_duplicate = account(
            "records_duplicate_total", "Readings with the event time of the one before; dropped."
        )
        self.records_late = account(
            "records_late_total", "Readings older than their stream's newest by more than time.lateness."
        )
        self.readings_corrected = account(
            "readings_corrected_total", "Late readings that corrected bars already scored, with time.correct."
        )
        self.records_dropped = account(
            "records_dropped_total",
            "Readings dropped: too many of a stream waiting (overflow), outside of the sessions, of an expired stream.",
            ["reason"],
        )
        self.records_reordered = counter(
            "records_reordered_total", "Readings that came late, within time.lateness, and were put in their place."
        )
        self.records_held = gauge(
            "records_held", "Readings held back until nothing can overtake them or their bar is complete."
        )
        self.records_taken_over = account(
            "records_taken_over_total", "Readings held back that came with the state of a partition."
        )
        self.records_handed_over = account(
            "records_handed_over_total", "Readings held back that left with the state of a partition."
        )
        self.readings_carried = counter(
            "readings_carried_total", "Readings of the model with values that were carried or filled in over a gap."
        )
        self.watermark_lag = gauge(
            "watermark_lag_seconds",
            "Event time from where the stream that waits longest stands to the newest reading.",
        )
        self.records_dead_lettered = account(
            "records_dead_lettered_total", "Records sent to the dead-letter topic.", ["reason"]
        )
        self.records_rejected = account(
            "records_rejected_total", "Records rejected by a limit and not dead-lettered.", ["reason"]
        )
        self.records_replayed = account(
            "records_replayed_total",
            "Records reprocessed to rebuild state; nothing is published for them, and no other counter includes them.",
        )
        self.records_unpacked = account(
            "records_unpacked_total", "Readings beyond the first one of records that hold several."
        )
        self.records_ignored = account(
            "records_ignored_total", "Readings with nothing that is configured: other metrics, or no value at all."
        )
        self.headers_unreadable = counter(
            "headers_unreadable_total", "Records read without their headers, one of which has a name that is not UTF-8."
        )
        self.filled_values = counter("filled_values_total", "Missing values of readings, filled in for scoring.")
        self.windows_sparse = counter("windows_sparse_total", "Windows not scored because too many values are missing.")
        self.windows_scored = counter("windows_scored_total", "Windows scored.")
        self.scoring_failures = counter("scoring_failures_total", "Windows whose score was not a finite number.")
        self.window_resets = counter("window_resets_total", "Window buffers reset.", ["reason"])
        self.streams_expired = counter(
            "streams_expired_total", "Streams forgotten after records.stream_ttl without readings."
        )
        self.streams_moved = counter(
            "streams_moved_total", "Streams forgotten as they come to another partition since partitions were added."
        )
        self.incidents_opened = counter("incidents_opened_total", "Incidents told of.", ["kind", "severity"])
        self.incidents_resolved = counter("incidents_resolved_total", "Incidents told of that resolved.", ["kind"])
        self.incidents_muted = counter("incidents_muted_total", "Incidents muted when they opened.", ["reason"])
        self.alerts_published = counter("alerts_published_total", "Alerts handed to the producer.", ["event"])
        self.delivery_failures = counter(
            "delivery_failures_total",
            "Flushes that left alerts, dead letters or scores unacknowledged; they are sent again.",
        )
        self.sink_deliveries = counter(
            "sink_deliveries_total", "Alerts that a sink is done with, by what became of them.", ["sink", "outcome"]
        )
        self.sink_failures = counter("sink_failures_total", "Attempts to deliver that failed; repeated.", ["sink"])
        self.sink_backlog = gauge("sink_backlog", "Alerts on the alerts topic that a sink is not done with.", ["sink"])
        self.sink_oldest = gauge(
            "sink_oldest_undelivered_seconds",
            "Age of the oldest alert a sink has not taken; without one, for how long it or the alerts topic fails.",
            ["sink"],
        )
        self.messages_cut = counter(
            "messages_cut_total",
            "Dead letters, alerts and scores cut or split, because their topic takes no message so large.",
        )
        self.checkpoints = counter("checkpoints_total", "Checkpoints completed.")
        self.checkpoint_failures = counter(
            "checkpoint_failures_total", "Checkpoints that failed; the next one tries again."
        )
        self.commits = counter("commits_total", "Offset commits acknowledged, one per partition.")
        self.commit_failures = counter("commit_failures_total", "Offset commits that failed.")
        self.offset_resets = counter(
            "offset_resets_total", "Times the wanted offset was no longer in the log; records were lost."
        )
        self.cold_starts = counter(
            "cold_starts_total", "Partitions that began without their state although the group has been there before."
        )
        self.topics_recreated = counter(
            "topics_recreated_total", "Times the input topic turned out to be another one under the same name."
        )
        self.broker_errors = counter(
            "broker_errors_total",
            "Connections begun anew, errors the client reported while polling, and proofs of readiness that failed.",
        )
        self.model_reloads = counter("model_reloads_total", "Bundles switched to while running.")
        self.model_reload_failures = counter(
            "model_reload_failures_total", "Bundles refused; the previous one stays in use.", ["reason"]
        )
        self.scoring_duration = histogram("scoring_duration_seconds", "Time to decode, score and publish one poll.")
        self.checkpoint_duration = histogram("checkpoint_duration_seconds", "Duration of one checkpoint.")
        self.state_write_duration = histogram(
            "state_write_duration_seconds", "Time to keep one partition's snapshot in the state store, beside the loop."
        )
        self.state_restore_duration = histogram(
            "state_restore_duration_seconds",
            "Time to read one partition's snapshot from the state store and decode it.",
        )
        self.state_bytes = histogram(
            "state_bytes", "Size of one partition's snapshot as kept in the state store.", buckets=_BYTES
        )
        self.event_to_score = histogram(
            "event_to_score_seconds", "From the broker's timestamp of a poll's newest record to its score."
        )
        self.consumer_lag = gauge(
            "consumer_lag_records",
            "Records on the broker that have not been read yet; NaN while that is not known.",
            ["partition"],
        )
        self.consumer_lag_known = gauge(
            "consumer_lag_known", "1 while the lag of every partition of this replica is known."
        )
        self.partitions_poisoned = gauge(
            "partitions_poisoned", "Partitions paused because one of their batches cannot be read."
        )
        self.streams_cold = gauge(
            "streams_cold", "Streams of partitions that began without their state, which have too little history since."
        )
        self.partitions_assigned = gauge("partitions_assigned", "Partitions assigned to this process.")
        self.topic_partitions = gauge("topic_partitions", "Partitions of the input topic; 0: not known.")
        self.streams_tracked = gauge("streams_tracked", "Streams by state.", ["state"])
        self.incidents_open = gauge("incidents_open", "Incidents open now that people were told of.", ["kind"])
        self.incidents_open_muted = gauge("incidents_open_muted", "Incidents open now that are muted.", ["kind"])
        self.topic_silent = gauge(
            "topic_silent", "1 while nothing comes from the input topic, unless muted; see docs/silence.md."
        )
        self.alerts_pending = gauge("alerts_pending", "Messages not yet acknowledged by the broker.")
        self.incident_store_lag = gauge(
            "incident_store_lag_records", "Alerts and actions not yet in the store of incidents; NaN: not known."
        )
        self.incident_store_failures = counter(
            "incident_store_failures_total", "Attempts to bring the store of incidents up to date that failed."
        )
        self.incident_store_refused = counter(
            "incident_store_refused_total",
            "Messages that are no alert or no action, and not in the store of incidents.",
        )
        self.ready = gauge("ready", "1 while records would be seen, scored, told of and committed.")
        self.not_ready = gauge(
            "not_ready", "1 for each reason why this replica is not ready; /readyz has it in words.", ["reason"]
        )
        self.last_poll = gauge("last_poll_timestamp_seconds", "When the loop last polled.")
        self.last_record = gauge("last_record_timestamp_seconds", "When a record was last received.")
        self.last_event = gauge("last_event_timestamp_seconds", "Newest event time.")
        self.last_window_scored = gauge("last_window_scored_timestamp_seconds", "When a window was last scored.")
        self.last_checkpoint = gauge("last_checkpoint_timestamp_seconds", "When a checkpoint last completed.")
        self.last_commit = gauge("last_commit_timestamp_seconds", "When a commit was last acknowledged.")
        self.model_info = gauge("model_info", "Bundle in use.", ["version", "backbone", "regulariser"])
        self.model_trained = gauge("model_trained_timestamp_seconds", "When the bundle in use was trained.")
        self.stream_series_dropped = gauge(
            "stream_series_dropped", "Streams without series of their own: more than http.max_stream_series."
        )
        gauge("build_info", "Version of the program.", ["version"]).labels(__version__).set(1)

        # A series that is missing until its first event cannot be alerted on.
        for reason in REASONS:
            if reason != STREAM_LIMIT:
                self.records_dead_lettered.labels(reason)
        self.records_rejected.labels(STREAM_LIMIT)
        for reason in (OVERFLOW, OUTSIDE_SESSION, EXPIRED):
            self.records_dropped.labels(reason)
        self.window_resets.labels("gap")
        for kind in KINDS:
            self.incidents_resolved.labels(kind)
            self.incidents_open.labels(kind)
            self.incidents_open_muted.labels(kind)
        for reason in REASONS_TO_MUTE:
            self.incidents_muted.labels(reason)
        for severity in SEVERITIES:
            self.incidents_opened.labels(ANOMALY, severity)
        for kind, severity in SEVERITY.items():
            self.incidents_opened.labels(kind, severity)
        self.incidents_opened.labels(SILENCE, "critical")  # of the whole topic
        for event in (OPEN, UPDATE, RESOLVE):
            self.alerts_published.labels(event)
        for state in STATES:
            self.streams_tracked.labels(state)
        for reason in RELOAD_REASONS:
            self.model_reload_failures.labels(reason)
        collector = StreamCollector(streams)
        self.catalogue |= collector.catalogue
        registry.register(collector)

    def app(self) -> Any:
        """A WSGI application that answers with all metrics."""
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        return make_wsgi_app(OneMoment(self.registry, self.books))

    def post(self, held: int) -> None:
        """What was counted of records becomes visible, together with how many readings are held back."""
        self.books.post(self.records_held, held)

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        self.catalogue[f"streamer_{name}"] = tuple(labels)
        return Counter(f"streamer_{name}", text, labels, registry=self.registry)

    def _account(self, name: str, text: str, labels: Sequence[str] = ()) -> Account:
        """A counter of what became of a record: visible when it is posted, with all the others."""
        return self.books.account(self._counter(name, text, labels))

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        self.catalogue[f"streamer_{name}"] = tuple(labels)
        return Gauge(f"streamer_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float] = _SECONDS) -> Histogram:
        for suffix in ("", "_bucket", "_sum", "_count"):
            self.catalogue[f"streamer_{name}{suffix}"] = ("le",) if suffix == "_bucket" else ()
        return Histogram(f"streamer_{name}", text, registry=self.registry, buckets=buckets)


# Metric names and their labels; dashboards and rules are held against it.
CATALOGUE = Metrics(CollectorRegistry()).catalogue
