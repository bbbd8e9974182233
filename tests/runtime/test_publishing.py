"""What a batch led to is published and counted; the log says it with fields, and in few lines."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.detector import Detector
from streamer.core.alerts import Alert
from streamer.core.events import incident_id
from streamer.core.outcome import Outcome
from streamer.core.pipeline import Pipeline
from streamer.observability.metrics import Metrics
from streamer.runtime.positions import Position
from streamer.runtime.publishing import ALERTS_LOGGED, Publisher
from streamer.runtime.refusals import RefusalLog
from tests import tiny
from tests.core import test_corrections
from tests.tiny import VERSION


class Sinks:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.alerts = list[Alert]()

    def publish_alert(self, alert: Alert) -> None:
        self.alerts.append(alert)


def outcome_of(detector: Detector, streams: int, **notifications: Any) -> tuple[Pipeline, Outcome]:
    """Every stream opens an incident with its last reading, of offset `streams * (LENGTH - 1) + code`."""
    pipeline = Pipeline(
        tiny.settings(alerting={"open_after": 1, "open_within": 1}, notifications=notifications).pipeline_options(),
        detector,
        VERSION,
    )
    for i in range(streams):
        pipeline.keys.add(f"press {i}")
    values = np.stack([tiny.wave(tiny.LENGTH)] * streams, 1)
    values[-1] += 50
    n = tiny.LENGTH * streams
    codes = [i % streams for i in range(n)]
    times = [tiny.START_NS + i // streams * tiny.MINUTE_NS for i in range(n)]
    return pipeline, pipeline.process(tiny.readings(codes, times, values.reshape(n, 2)))


def publish(pipeline: Pipeline, outcome: Outcome, *, publish_from: int = 0) -> tuple[Sinks, Metrics]:
    sinks: Any = Sinks()
    metrics = Metrics(CollectorRegistry())
    Publisher(
        sinks,
        {0: Position(0, publish_from, -1)},
        pipeline=pipeline,
        topic="readings",
        scores=False,
        metrics=metrics,
        refusals=RefusalLog("readings.dlq", lambda: 0.0),
        clock=lambda: 0.0,
    ).publish(outcome)
    return sinks, metrics


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "streamer.runtime.publishing")


def test_a_published_alert_is_logged_with_its_stream_incident_and_record(
    tiny_detector: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline, outcome = outcome_of(tiny_detector, 2)

    sinks, _ = publish(pipeline, outcome)

    first, second = caplog.records
    assert [alert.stream for alert in sinks.alerts] == ["press 0", "press 1"]
    incident = incident_id("readings", "press 1", "anomaly", outcome.events[1].onset_ns)
    named = vars(second)
    assert (named["stream"], named["incident_id"], named["event"]) == ("press 1", incident, "open")
    assert (named["topic"], named["partition"], named["offset"]) == ("readings", 0, 2 * tiny.LENGTH - 1)
    assert named["model_version"] == VERSION
    assert "press 0" in first.getMessage()


def test_a_fault_of_the_whole_fleet_is_a_few_lines_and_one_that_counts_the_rest(
    tiny_detector: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline, outcome = outcome_of(tiny_detector, ALERTS_LOGGED + 5)

    sinks, _ = publish(pipeline, outcome)

    *told, rest = caplog.records
    assert len(sinks.alerts) == ALERTS_LOGGED + 5
    assert len(told) == ALERTS_LOGGED
    assert "5 more alerts published in this poll (5 open)" in rest.getMessage()


def test_alerts_of_records_that_only_rebuild_state_are_neither_published_nor_logged(
    tiny_detector: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline, outcome = outcome_of(tiny_detector, 2)

    sinks, _ = publish(pipeline, outcome, publish_from=2 * tiny.LENGTH - 1)

    assert [alert.stream for alert in sinks.alerts] == ["press 1"]
    assert len(caplog.records) == 1


def test_late_readings_that_correct_are_counted_and_their_scores_sent_again(tiny_detector: Detector) -> None:
    sent: list[tuple[int, bool]] = []

    class Scores(Sinks):
        def publish_scores(self, streams: list[str], *columns: Any) -> None:
            sent.append((len(streams), len(columns) == 4))

    outcome, pipeline = test_corrections.run(
        tiny_detector, test_corrections.delayed(test_corrections.sent(60), [40, 41], 5)
    )
    metrics = Metrics(CollectorRegistry())
    Publisher(
        Scores(),  # type: ignore[arg-type]
        {0: Position(0, 0, -1)},
        pipeline=pipeline,
        topic="readings",
        scores=True,
        metrics=metrics,
        refusals=RefusalLog("readings.dlq", lambda: 0.0),
        clock=lambda: 0.0,
    ).publish(outcome)
    metrics.post(held=0)

    counted = metrics.registry.get_sample_value
    assert counted("streamer_readings_corrected_total") == 2
    assert counted("streamer_records_late_total") == 0
    scored = int((~np.isnan(outcome.scores.score)).sum())
    assert sent == [(scored, False), (len(outcome.rescored), True)]


def test_a_muted_alert_is_published_and_counted_apart_and_the_log_says_what_muted_it(
    tiny_detector: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    rule = {"name": "press 1 is tested", "streams": ["press 1"], "mute": True}
    pipeline, outcome = outcome_of(tiny_detector, 2, rules=[rule])

    sinks, metrics = publish(pipeline, outcome)

    assert [(alert.stream, alert.muted) for alert in sinks.alerts] == [
        ("press 0", None),
        ("press 1", "rule press 1 is tested"),
    ]
    told, muted = caplog.records
    assert "muted" not in told.getMessage()
    assert muted.getMessage().endswith("(muted: rule press 1 is tested)")
    assert vars(muted)["muted"] == "rule press 1 is tested"
    value = metrics.registry.get_sample_value
    assert value("streamer_incidents_muted_total", {"reason": "rule"}) == 1
    severities = ("info", "warning", "critical")
    opened = [value("streamer_incidents_opened_total", {"kind": "anomaly", "severity": one}) for one in severities]
    assert sum(filter(None, opened)) == 1
    assert value("streamer_alerts_published_total", {"event": "open"}) == 2
