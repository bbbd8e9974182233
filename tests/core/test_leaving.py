"""Streams that leave: one that has expired in a batch does not fall silent in the rest of it."""

from __future__ import annotations

import numpy as np

from models.detector import Detector
from streamer.core.pipeline import Pipeline
from tests import tiny
from tests.tiny import MINUTE_NS, VERSION


def test_a_stream_that_has_expired_does_not_fall_silent_with_the_rest_of_the_batch(tiny_detector: Detector) -> None:
    # It is silent after 60 intervals and forgotten after 30: one batch shows both, however it is cut.
    options = tiny.settings(alerting={"silent_after": 60.0}, records={"stream_ttl": 1800.0}).pipeline_options()
    minutes = list(range(150))
    codes, times = [0, *([1] * len(minutes))], [0, *minutes]
    whole = tiny.readings(codes, [tiny.START_NS + at * MINUTE_NS for at in times], tiny.wave(len(codes)))
    told = []
    for step in (len(whole), 7, 1):
        made = Pipeline(options, tiny_detector, VERSION)
        for name in ("a", "b"):
            made.keys.add(name)
        outcomes = [made.process(part) for part in tiny.split(whole, range(0, len(whole), step))]
        told.append([a.alert_id for outcome in outcomes for a in outcome.alerts if a.kind == "silence"])
        assert sum(outcome.expired for outcome in outcomes) == 1

    assert told == [[], [], []]


def test_streams_expire_by_readings_that_found_no_room_and_what_was_open_of_them_resolves(
    tiny_detector: Detector,
) -> None:
    alerting = {"silent_after": None, "open_after": 2, "open_within": 3, "resolve_after": 90}
    options = tiny.settings(alerting=alerting, records={"stream_ttl": 3600.0}).pipeline_options()
    made = Pipeline(options, tiny_detector, VERSION)
    made.keys.add("a")
    values = tiny.wave(60)
    values[40:, 1] += 8
    opened = made.process(tiny.readings([0] * 60, [tiny.START_NS + at * MINUTE_NS for at in range(60)], values))

    later = [tiny.START_NS + np.arange(at, at + 10) * MINUTE_NS for at in range(60, 140, 10)]
    outcomes = [made.turn_away(0, times_ns, offset) for offset, times_ns in enumerate(later)]
    made.sweep()

    (incident,) = {alert.incident_id for alert in opened.alerts}
    ends = [alert for outcome in outcomes for alert in outcome.alerts]
    assert [(end.incident_id, end.event, end.reason) for end in ends] == [(incident, "resolve", "expired")]
    assert [outcome.expired for outcome in outcomes] == [0] * 6 + [1, 0], "an hour after its last reading"
    assert len(made.keys) == 0
