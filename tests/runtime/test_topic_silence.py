"""Nothing comes from the topic: told once, by the wall clock, and over when records come again."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.detector import Detector
from streamer.core.alerts import Alert
from streamer.core.pipeline import Pipeline
from streamer.core.sessions import Sessions
from streamer.observability.metrics import Metrics
from streamer.runtime.topic_silence import TopicSilence
from tests import tiny

SECOND = 1_000_000_000


class Site:
    """A topic, and a clock that the test moves."""

    def __init__(
        self,
        detector: Detector,
        *,
        silent_after: float | None = 10.0,
        market: Sessions | None = None,
        **notifications: Any,
    ) -> None:
        self.now_s = 1000.0
        options = tiny.settings(alerting={"silent_after": silent_after}, notifications=notifications).pipeline_options()
        options = dataclasses.replace(options, sessions=market)
        self.metrics = Metrics(CollectorRegistry())
        self.watch = TopicSilence(options, Pipeline(options, detector, tiny.VERSION), self.metrics, lambda: self.now_s)

    def after(self, seconds: float, *, heard: bool = False, partitions: int = 2) -> Alert | None:
        self.now_s += seconds
        return self.watch.look(heard=heard, partitions=partitions)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"streamer_{name}", labels)


def test_a_topic_that_brings_nothing_is_told_once_and_over_with_the_next_record(tiny_detector: Detector) -> None:
    site = Site(tiny_detector)  # its streams send once a minute, so ten minutes

    assert [site.after(5, heard=True), site.after(599)] == [None, None]
    opened = site.after(2)
    assert [site.after(600), site.metric("topic_silent")] == [None, 1.0]
    over = site.after(9, heard=True)

    assert opened is not None
    assert over is not None
    assert (opened.event, opened.kind, opened.scope, opened.severity) == ("open", "silence", "topic", "critical")
    assert opened.stream == "readings"
    assert opened.summary == "Nothing has come from topic readings since 1970-01-01 00:16:45 UTC (2 partitions read)."
    assert (over.event, over.incident_id, over.reason) == ("resolve", opened.incident_id, "quiet")
    assert msgspec.json.decode(over.encode())["summary"] == "Records of topic readings are coming again after 20 min."
    assert site.metric("topic_silent") == 0.0
    assert site.metric("incidents_opened_total", kind="silence", severity="critical") == 1
    assert site.metric("incidents_resolved_total", kind="silence") == 1


def test_a_fast_topic_is_given_a_minute(tiny_detector: Detector) -> None:
    site = Site(dataclasses.replace(tiny_detector, interval_s=0.002))
    site.after(0, heard=True)

    assert site.after(59) is None
    assert site.after(2) is not None


def test_a_producer_that_pauses_by_itself_is_measured_by_its_pauses(tiny_detector: Detector) -> None:
    site = Site(tiny_detector)
    told = [site.after(590, heard=True) for _ in range(4)]

    assert told == [None] * 4
    assert site.after(1700) is None
    assert site.after(100) is not None


def test_a_closed_market_is_no_silence_of_the_topic(tiny_detector: Detector) -> None:
    market = Sessions(np.array([0, 90_000]) * SECOND, np.array([1100, 99_000]) * SECOND)
    site = Site(tiny_detector, market=market)
    site.after(50, heard=True)

    assert site.after(80_000) is None
    assert site.after(9_000) is None
    assert site.after(700) is not None


@pytest.mark.parametrize("why", ["off", "no partitions", "paused"])
def test_where_nothing_is_expected_nothing_is_told(tiny_detector: Detector, why: str) -> None:
    site = Site(tiny_detector, silent_after=None if why == "off" else 10.0)

    for _ in range(30):
        assert site.after(100, partitions=0 if why == "no partitions" else 1) is None
        if why == "paused":
            site.watch.restart()


def test_a_daemon_that_stops_leaves_no_incident_open(tiny_detector: Detector) -> None:
    site = Site(tiny_detector)
    opened = site.after(700)

    closed = site.watch.stop()

    assert opened is not None
    assert closed is not None
    assert (closed.event, closed.incident_id, closed.reason) == ("resolve", opened.incident_id, "expired")
    assert site.watch.stop() is None


WASH = {"name": "wash", "streams": ["readings"], "begin": "1970-01-01T00:00:00Z", "lasts": "1h"}


def test_a_silence_in_a_maintenance_window_is_muted_to_its_end(tiny_detector: Detector) -> None:
    site = Site(tiny_detector, maintenance=[WASH])
    site.after(5, heard=True)

    opened, over = site.after(601), site.after(9, heard=True)

    assert opened is not None
    assert over is not None
    assert opened.muted == over.muted == "maintenance wash until 1970-01-01T01:00Z"
    assert site.metric("topic_silent") == 0.0
    assert site.metric("incidents_opened_total", kind="silence", severity="critical") == 0
    assert site.metric("incidents_resolved_total", kind="silence") == 0
    assert site.metric("incidents_muted_total", reason="maintenance") == 1


def test_a_silence_that_outlasts_the_maintenance_window_is_told_once_when_it_is_over(tiny_detector: Detector) -> None:
    site = Site(tiny_detector, maintenance=[WASH])
    site.after(5, heard=True)
    opened = site.after(601)

    told = [site.after(3600 - site.now_s - 1), site.after(1), site.after(1), site.after(1, heard=True)]

    assert opened is not None
    assert told[0] is None
    assert told[2] is None
    late, over = told[1], told[3]
    assert late is not None
    assert over is not None
    assert (late.event, late.muted, late.incident_id) == ("update", None, opened.incident_id)
    assert (over.event, over.muted) == ("resolve", None)
    assert site.metric("incidents_opened_total", kind="silence", severity="critical") == 1
