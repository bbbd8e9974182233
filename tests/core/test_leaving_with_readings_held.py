"""Streams that leave while readings of theirs are held back: the same comes of it however the arrivals are cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.detector import Detector
from streamer.core.outcome import Outcome
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from tests import tiny
from tests.tiny import MINUTE_NS, START_NS, VERSION

STREAMS = ("gone", "here", "other")


def pipeline(detector: Detector, ttl: str = "15m", lateness: str = "10m") -> Pipeline:
    options = tiny.settings(
        time={"lateness": lateness},
        records={"stream_ttl": ttl},
        alerting={"open_after": 1, "open_within": 1, "silent_after": 5.0},
    ).pipeline_options()
    made = Pipeline(options, detector, VERSION)
    for name in STREAMS:
        made.keys.add(name)
    return made


def paused(jump: int) -> Readings:
    """Half an hour of two streams; after a pause of both only one goes on."""
    minutes = [(code, minute) for minute in range(30) for code in (0, 1)]
    minutes += [(1, minute) for minute in range(jump, jump + 20)]
    codes, at = zip(*minutes, strict=True)
    return tiny.readings(codes, [START_NS + minute * MINUTE_NS for minute in at], tiny.wave(len(minutes)))


def come_of(made: Pipeline, parts: Sequence[Readings]) -> dict[str, object]:
    """What a user sees of it."""
    outcomes = [made.process(part) for part in parts]

    def scored(outcome: Outcome) -> list[tuple[int, int, str]]:
        kept = outcome.readings
        return list(zip(kept.stream.tolist(), kept.time_ns.tolist(), map(str, outcome.scores.score), strict=True))

    counts = ("taken", "late", "forgotten", "expired", "overflow", "reordered")
    return {name: sum(getattr(outcome, name) for outcome in outcomes) for name in counts} | {
        "held": made.event_time.holding,
        "scores": [each for outcome in outcomes for each in scored(outcome)],
        "alerts": sorted(
            (alert.stream, alert.kind, alert.event, alert.time) for outcome in outcomes for alert in outcome.alerts
        ),
    }


@pytest.mark.parametrize("jump", [31, 100, 160, 170, 200, 400, 2000])
def test_a_stream_that_expires_while_readings_are_held_loses_the_same_ones_in_any_batches(
    tiny_detector: Detector, jump: int
) -> None:
    whole = paused(jump)
    one_by_one = [whole.take(slice(row, row + 1)) for row in range(len(whole))]

    together = come_of(pipeline(tiny_detector), [whole])

    assert come_of(pipeline(tiny_detector), one_by_one) == together


def test_readings_held_of_an_expired_stream_are_forgotten_though_their_time_comes_later_in_the_batch(
    tiny_detector: Detector,
) -> None:
    found = come_of(pipeline(tiny_detector), [paused(200)])

    assert (found["forgotten"], found["expired"]) == (11, 1)


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([0, 0, 1, 1, 1, 2, 3, 5, 12, 40, 140, 600]), st.integers(0, 12)),
    min_size=1,
    max_size=60,
)


@hypothesis_settings(max_examples=150, deadline=None)
@given(
    steps=STEPS,
    times=st.sampled_from([("15m", "10m"), ("11m", "10m"), ("1h", "2m"), ("1h", "50m")]),
    cuts=st.lists(st.integers(1, 59), max_size=8),
)
def test_expiry_and_lateness_together_do_not_depend_on_the_batches(
    tiny_detector: Detector, steps: list[tuple[int, int, int]], times: tuple[str, str], cuts: list[int]
) -> None:
    newest = np.cumsum([step for _, step, _ in steps])
    minutes = [max(0, int(at) - back) for at, (_, _, back) in zip(newest, steps, strict=True)]
    codes = [code for code, _, _ in steps]
    whole = tiny.readings(codes, [START_NS + at * MINUTE_NS for at in minutes], tiny.wave(len(codes)))

    together = come_of(pipeline(tiny_detector, *times), [whole])

    assert come_of(pipeline(tiny_detector, *times), list(tiny.split(whole, cuts))) == together
