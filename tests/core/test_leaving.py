"""Streams that leave: one that has expired in a batch does not fall silent in the rest of it."""

from __future__ import annotations

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
