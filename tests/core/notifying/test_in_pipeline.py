"""Who is told, in the pipeline that daemon and backtest share: whatever the batches, and over a restart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.detector import Detector
from streamer.core.alerts import Alert, iso
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from tests import tiny
from tests.tiny import MINUTE_NS, START_NS, VERSION

ROWS = 400
CUTS = st.lists(st.integers(1, 3 * ROWS), max_size=6)


def at(minute: int) -> str:
    return iso(START_NS + minute * MINUTE_NS)


NOTIFICATIONS: dict[str, Any] = {
    "rules": [
        {"name": "b is often hot", "streams": "b", "features": "heat", "least_deviation": 12.0},
        {"name": "levels", "severity": {"warning": 5, "critical": 40}},
    ],
    "maintenance": [
        {"name": "wash", "streams": ["a", "c"], "begin": at(60), "lasts": "45m"},
        {"name": "night", "kinds": "silence", "begin": at(150), "lasts": "60m"},
    ],
    "incidents_per_stream": {"at_most": 2, "within": "4h"},
}


def fleet() -> Readings:
    """Three streams: faults short and long, within maintenance and out of it, and a silence."""
    series = {code: tiny.wave(ROWS, seed=code, level=10.0 * code) for code in range(3)}
    for code, begin, end, height in (
        (0, 62, 70, 9), (0, 95, 118, 7), (0, 200, 210, 8), (0, 260, 268, 8), (0, 330, 335, 30),
        (1, 100, 110, 9), (1, 112, 118, 30), (1, 250, 262, 25), (2, 80, 84, 12),
    ):  # fmt: skip
        series[code][begin:end, 0] += height
    whole = tiny.fleet(series)
    minute = (whole.time_ns - START_NS) // MINUTE_NS
    return whole.take(np.flatnonzero(~((whole.stream == 2) & (minute >= 160) & (minute < 300))))


WHOLE = fleet()


def made(detector: Detector, **sections: Any) -> Pipeline:
    options = tiny.settings(
        **{"alerting": {"silent_after": 8.0, "resolve_after": 8}, "notifications": NOTIFICATIONS, **sections}
    ).pipeline_options()
    return Pipeline(options, detector, VERSION)


def run(detector: Detector, cuts: Sequence[int], restarts: Sequence[int] = (), **sections: Any) -> list[Alert]:
    pipeline = made(detector, **sections)
    for name in "abc":
        pipeline.keys.add(name)
    told: list[Alert] = []
    for number, part in enumerate(tiny.split(WHOLE, cuts)):
        if number in restarts:
            state = pipeline.export_partition(0)
            pipeline = made(detector, **sections)
            for name in "abc":
                pipeline.keys.add(name)
            pipeline.restore(state)
        told += pipeline.process(part).alerts
    return told


def test_some_are_told_and_some_are_muted_by_each_of_the_reasons(tiny_detector: Detector) -> None:
    alerts = run(tiny_detector, [])

    muted = {alert.muted.split()[0] for alert in alerts if alert.muted}
    assert muted >= {"maintenance", "rate", "rule"}
    late = [alert for alert in alerts if "Not told before" in alert.summary]
    assert {alert.kind for alert in late} == {"anomaly", "silence"}
    assert len({alert.alert_id for alert in alerts}) == len(alerts)


def test_an_incident_is_told_from_one_alert_on_or_never(tiny_detector: Detector) -> None:
    by_incident: dict[str, list[bool]] = {}
    for alert in run(tiny_detector, []):
        by_incident.setdefault(alert.incident_id, []).append(alert.muted is not None)

    for muted in by_incident.values():
        assert muted == sorted(muted, reverse=True), "once told, an incident is told to its end"


def test_all_that_was_told_without_rules_is_there_and_neither_ids_nor_scores_differ(tiny_detector: Detector) -> None:
    without = {alert.alert_id: alert for alert in run(tiny_detector, [], notifications={})}
    alerts = {alert.alert_id: alert for alert in run(tiny_detector, [])}

    assert without.keys() <= alerts.keys()
    extra = [alert for name, alert in alerts.items() if name not in without]
    assert all("Not told before" in alert.summary for alert in extra)
    for name, alert in without.items():
        assert alert.muted is None
        assert (alerts[name].score, alerts[name].peak_score) == (alert.score, alert.peak_score)


def test_alerts_of_a_process_without_rules_are_as_they_were(tiny_detector: Detector) -> None:
    assert made(tiny_detector, notifications={}).notifying is None


@settings(max_examples=25, deadline=None)
@given(cuts=CUTS, restarts=st.lists(st.integers(0, 7), max_size=3))
@pytest.mark.parametrize("lateness", ["0s", "150s"])
def test_decisions_are_the_same_whatever_the_batches_and_wherever_it_was_restarted(
    tiny_detector: Detector, lateness: str, cuts: list[int], restarts: list[int]
) -> None:
    whole = run(tiny_detector, [], time={"lateness": lateness})

    parts = run(tiny_detector, cuts, restarts, time={"lateness": lateness})

    assert by_id(parts) == by_id(whole)


def by_id(alerts: Sequence[Alert]) -> dict[str, tuple[Any, ...]]:
    return {alert.alert_id: (alert.event, alert.stream, alert.muted, alert.severity, alert.summary) for alert in alerts}
