"""Series of single streams, as many as may have some of their own.

Not inside: which streams those are (`stream_series`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamer.core.alerts import Attribution


@dataclass(frozen=True, slots=True)
class StreamSeries:
    """One stream as `/metrics` shows it."""

    stream: str
    score: float | None
    settled: float | None
    error: float | None
    active: bool
    last_event_s: float
    attributions: Sequence[Attribution] = field(default_factory=tuple)  # only while an incident is open


class StreamCollector(Collector):
    """Series of single streams, created at each scrape: nothing is kept per stream in between."""

    catalogue: ClassVar[dict[str, tuple[str, ...]]] = {
        "streamer_anomaly_score_ratio": ("stream",),
        "streamer_settled_score_ratio": ("stream",),
        "streamer_reconstruction_error": ("stream",),
        "streamer_anomaly_active": ("stream",),
        "streamer_stream_last_event_timestamp_seconds": ("stream",),
        "streamer_feature_error_share": ("stream", "feature"),
        "streamer_feature_observed": ("stream", "feature"),
        "streamer_feature_expected": ("stream", "feature"),
    }
    _help: ClassVar[dict[str, str]] = {
        "streamer_anomaly_score_ratio": "Score of the newest window; 1 is the alert line.",
        "streamer_settled_score_ratio": "Settled score of the reading 16 readings before the newest scored one.",
        "streamer_reconstruction_error": "Reconstruction error of the newest window; 1 is typical for the stream.",
        "streamer_anomaly_active": "1 while an anomaly of the stream is open and not muted.",
        "streamer_stream_last_event_timestamp_seconds": "Newest event time of the stream.",
        "streamer_feature_error_share": "Share of the feature in an open incident's error; sums to 1.",
        "streamer_feature_observed": "Observed value of the feature where an open incident deviates most.",
        "streamer_feature_expected": "Expected value of the feature at the same reading.",
    }

    def __init__(self, streams: Callable[[], Sequence[StreamSeries]]) -> None:
        self._streams = streams

    def describe(self) -> Iterable[Metric]:
        return [GaugeMetricFamily(name, self._help[name], labels=labels) for name, labels in self.catalogue.items()]

    def collect(self) -> Iterable[Metric]:
        score, settled, error, active, last, share, observed, expected = families = [
            GaugeMetricFamily(name, self._help[name], labels=labels) for name, labels in self.catalogue.items()
        ]
        for one in self._streams():
            label = [one.stream]
            if one.score is not None:
                score.add_metric(label, one.score)
            if one.settled is not None:
                settled.add_metric(label, one.settled)
            if one.error is not None:
                error.add_metric(label, one.error)
            active.add_metric(label, float(one.active))
            last.add_metric(label, one.last_event_s)
            for feature in one.attributions:
                share.add_metric([one.stream, feature.name], feature.share)
                observed.add_metric([one.stream, feature.name], feature.observed)
                expected.add_metric([one.stream, feature.name], feature.expected)
        return families
