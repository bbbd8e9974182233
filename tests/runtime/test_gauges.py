"""What `/metrics` says of streams follows the pipeline, is capped, and goes when the streams go."""

from __future__ import annotations

import math

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.detector import Detector
from streamer.core.pipeline import Pipeline
from streamer.runtime.gauges import Gauges
from tests import tiny
from tests.observability.test_metrics import Series, of, scrape, series
from tests.tiny import VERSION


@pytest.fixture
def pipeline(tiny_detector: Detector) -> Pipeline:
    """One that has read: streams 0..5 in partition 0, 6 in partition 1; stream 4 has an open incident."""
    settings = tiny.settings(alerting={"open_after": 1, "open_within": 1})
    pipeline = Pipeline(settings.pipeline_options(), tiny_detector, VERSION)
    for i in range(7):
        pipeline.keys.add(f"s{i}")
    values = np.stack([tiny.wave(tiny.LENGTH)] * 7, 1)
    values[-2:, 4] += 50
    n = tiny.LENGTH * 7
    codes = [i % 7 for i in range(n)]
    times = [tiny.START_NS + i // 7 * tiny.MINUTE_NS for i in range(n)]
    readings = tiny.readings(codes, times, values.reshape(n, 2), partitions=[c == 6 for c in codes])
    pipeline.process(readings)
    return pipeline


def shown(gauges: Gauges, pipeline: Pipeline, lags: dict[int, int]) -> Series:
    gauges.refresh(pipeline, lags=lags, pending=2)
    return series(scrape(gauges.metrics))


def test_series_of_streams_are_capped_alerting_ones_first(pipeline: Pipeline) -> None:
    found = shown(Gauges(CollectorRegistry(), max_stream_series=3), pipeline, {0: 7})

    assert len(of(found, "stream_last_event_timestamp_seconds")) == 3
    alerting = of(found, "streams_tracked")[("alerting",)]
    assert alerting >= 1
    assert sum(of(found, "anomaly_active").values()) == min(alerting, 3)
    assert of(found, "stream_series_dropped") == {(): 4}
    assert of(found, "alerts_pending") == {(): 2}


def test_series_vanish_when_the_partition_leaves(pipeline: Pipeline) -> None:
    pipeline.forget(0)

    found = shown(Gauges(CollectorRegistry(), max_stream_series=3), pipeline, {})

    assert set(of(found, "stream_last_event_timestamp_seconds")) == {("s6",)}
    assert of(found, "stream_series_dropped") == {(): 0}


def test_a_lag_that_is_not_known_is_nan_and_a_partition_lost_to_a_fault_stays(pipeline: Pipeline) -> None:
    gauges = Gauges(CollectorRegistry(), max_stream_series=3)
    registry = gauges.metrics.registry

    def lags() -> list[float | None]:
        names = [("streamer_consumer_lag_records", {"partition": part}) for part in ("0", "1")]
        return [registry.get_sample_value(*name) for name in [*names, ("streamer_consumer_lag_known", {})]]

    gauges.refresh(pipeline, lags={0: 7, 1: 0}, pending=0)
    known = lags()
    gauges.refresh(pipeline, lags={0: 7, 1: math.nan}, pending=0)
    one_is_not = lags()
    gauges.refresh(pipeline, lags={}, pending=0, known=False)
    lost = lags()
    gauges.refresh(pipeline, lags={1: 3}, pending=0)
    moved = lags()

    assert known == [7, 0, 1]
    assert one_is_not[0] == 7
    assert math.isnan(one_is_not[1] or 0)
    assert one_is_not[2] == 0
    assert math.isnan(lost[0] or 0)
    assert math.isnan(lost[1] or 0)
    assert lost[2] == 0
    assert moved == [None, 3, 1]


def test_lag_of_a_partition_goes_with_it(pipeline: Pipeline) -> None:
    gauges = Gauges(CollectorRegistry(), max_stream_series=3)
    app = gauges.metrics.app()
    gauges.metrics.app = lambda: app  # type: ignore[method-assign]

    both = shown(gauges, pipeline, {0: 7, 1: 9})
    one = shown(gauges, pipeline, {1: 0})

    assert of(both, "consumer_lag_records") == {("0",): 7, ("1",): 9}
    assert of(one, "consumer_lag_records") == {("1",): 0}


def test_a_muted_incident_is_shown_apart_and_its_stream_is_not_active(tiny_detector: Detector) -> None:
    rule = {"name": "quiet", "streams": ["s1"], "mute": True}
    settings = tiny.settings(alerting={"open_after": 1, "open_within": 1}, notifications={"rules": [rule]})
    pipeline = Pipeline(settings.pipeline_options(), tiny_detector, VERSION)
    values = np.stack([tiny.wave(tiny.LENGTH)] * 2, 1)
    values[-1] += 50
    times = [tiny.START_NS + i // 2 * tiny.MINUTE_NS for i in range(2 * tiny.LENGTH)]
    for name in ("s0", "s1"):
        pipeline.keys.add(name)
    pipeline.process(tiny.readings([0, 1] * tiny.LENGTH, times, values.reshape(-1, 2)))

    found = shown(Gauges(CollectorRegistry(), max_stream_series=3), pipeline, {0: 0})

    assert of(found, "anomaly_active") == {("s0",): 1, ("s1",): 0}
    assert of(found, "incidents_open")[("anomaly",)] == 1
    assert of(found, "incidents_open_muted")[("anomaly",)] == 1
