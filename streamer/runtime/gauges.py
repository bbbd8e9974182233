"""What `/metrics` says of streams and partitions between two refreshes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from streamer.core.events import ANOMALY, SILENCE
from streamer.core.pipeline import Pipeline
from streamer.core.silence.watch import silent_together
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

    def refresh(self, pipeline: Pipeline, *, lags: Mapping[int, float], pending: int, known: bool = True) -> None:
        """Show the present state.

        Args:
            pipeline: Streams and incidents.
            lags: Records not read yet, by partition; NaN where that is not known.
            pending: Messages not acknowledged yet.
            known: Whether partitions and what waits in them can be known.
        """
        metrics = self.metrics
        for state, count in pipeline.counts().items():
            metrics.streams_tracked.labels(state).set(count)
        opened = {ANOMALY: pipeline.incidents.open_count, SILENCE: int(pipeline.silence.is_silent.sum())}
        muted = _muted(pipeline)
        for kind, count in (opened | dict(pipeline.rules.open_counts())).items():
            metrics.incidents_open.labels(kind).set(count - muted.get(kind, 0))
            metrics.incidents_open_muted.labels(kind).set(muted.get(kind, 0))
        metrics.streams_cold.set(pipeline.cold.streams)
        metrics.alerts_pending.set(pending)
        metrics.watermark_lag.set(pipeline.event_time.behind_ns / 1e9)
        self._show_lags(lags, known=known)
        self._streams, dropped = stream_series(pipeline, self._max_stream_series)
        metrics.stream_series_dropped.set(dropped)

    def lag_unknown(self) -> None:
        """The connection is gone."""
        self._show_lags({}, known=False)

    def _show_lags(self, lags: Mapping[int, float], *, known: bool) -> None:
        if not known:
            # Partitions lost to a fault have not gone to another replica: what waits in them is not known.
            lags = {**dict.fromkeys(self._lag_shown, math.nan), **lags}
        lag = self.metrics.consumer_lag
        for partition in self._lag_shown - lags.keys():
            lag.remove(str(partition))
        for partition, records in lags.items():
            lag.labels(str(partition)).set(records)
        self._lag_shown = set(lags)
        self.metrics.consumer_lag_known.set(known and not any(map(math.isnan, lags.values())))


def _muted(pipeline: Pipeline) -> Mapping[str, int]:
    """Open incidents that nobody was told of, by kind; silent streams, also where many are one incident."""
    notifying = pipeline.notifying
    if notifying is None:
        return {}
    counts, partitions = notifying.open_muted(), notifying.partitions_muted
    together = sum(silent_together(pipeline.silence, partition) for partition in partitions)
    return {**counts, SILENCE: counts.get(SILENCE, 0) + together}
