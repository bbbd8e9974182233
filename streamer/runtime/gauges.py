"""What `/metrics` says of streams and partitions between two refreshes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamer.core.events import ANOMALY, SILENCE
from streamer.core.pipeline import Pipeline
from streamer.observability.metrics import CollectorRegistry, Metrics, StreamSeries
from streamer.observability.stream_series import stream_series


class Gauges:
    """The metrics of one daemon, and the gauges that follow its state.

    Args:
        registry: Where metrics are registered.
        max_stream_series: Streams with series of their own.
    """

    def __init__(self, registry: CollectorRegistry, *, max_stream_series: int) -> None:
        self.metrics = Metrics(registry, lambda: self._streams)
        self._max_stream_series = max_stream_series
        self._streams: Sequence[StreamSeries] = []
        self._lag_shown: set[int] = set()

    def refresh(self, pipeline: Pipeline, *, lags: Mapping[int, int], pending: int) -> None:
        """Show the present state.

        Args:
            pipeline: Streams and incidents.
            lags: Records not read yet, by partition.
            pending: Messages not acknowledged yet.
        """
        metrics = self.metrics
        for state, count in pipeline.counts().items():
            metrics.streams_tracked.labels(state).set(count)
        metrics.incidents_open.labels(ANOMALY).set(pipeline.incidents.open_count)
        metrics.incidents_open.labels(SILENCE).set(int(pipeline.silence.is_silent.sum()))
        for kind, count in pipeline.rules.open_counts().items():
            metrics.incidents_open.labels(kind).set(count)
        metrics.streams_cold.set(pipeline.cold.streams)
        metrics.alerts_pending.set(pending)
        metrics.watermark_lag.set(pipeline.event_time.behind_ns / 1e9)
        for partition in self._lag_shown - lags.keys():
            metrics.consumer_lag.remove(str(partition))
        for partition, lag in lags.items():
            metrics.consumer_lag.labels(str(partition)).set(lag)
        self._lag_shown = set(lags)
        self._streams, dropped = stream_series(pipeline, self._max_stream_series)
        metrics.stream_series_dropped.set(dropped)
