"""A stream's figures on `/metrics` are those of the window it has now; without one there are none."""

from __future__ import annotations

import numpy as np
import pytest

from models.detector import Detector
from streamer.core.pipeline import Pipeline
from streamer.observability.metrics import StreamSeries
from streamer.observability.stream_series import stream_series
from tests import tiny
from tests.tiny import LENGTH, MINUTE_NS, START_NS, VERSION

NEWER = "20260202T030405Z-5e6f7a8b"


@pytest.fixture
def pipeline(tiny_detector: Detector) -> Pipeline:
    """Two streams of one partition, both scored; a gap of an hour resets a window."""
    settings = tiny.settings(window={"max_gap_s": 3600.0})
    pipeline = Pipeline(settings.pipeline_options(), tiny_detector, VERSION)
    for name in tiny.STREAMS:
        pipeline.keys.add(name)
    rows = LENGTH + 20  # settled scores come sixteen scores later
    pipeline.process(tiny.fleet({0: tiny.wave(rows), 1: tiny.wave(rows, seed=1, level=10)}))
    return pipeline


def shown(pipeline: Pipeline) -> dict[str, StreamSeries]:
    views, _ = stream_series(pipeline, 10)
    return {view.stream: view for view in views}


def figures(view: StreamSeries) -> list[float | None]:
    return [view.score, view.settled, view.error]


def test_a_scored_stream_shows_its_newest_figures(pipeline: Pipeline) -> None:
    for view in shown(pipeline).values():
        assert None not in figures(view)


def test_a_partition_that_comes_back_shows_no_score_from_before_it_left(pipeline: Pipeline) -> None:
    pipeline.forget(0)
    gone = shown(pipeline)
    code = pipeline.keys.add("a")
    pipeline.process(tiny.readings([code], [START_NS + 100 * MINUTE_NS]))

    back = shown(pipeline)

    assert gone == {}
    assert figures(back["a"]) == [None, None, None]


def test_after_a_gap_the_score_before_it_is_not_shown(pipeline: Pipeline) -> None:
    code = pipeline.keys.codes["a"]
    pipeline.process(tiny.readings([code], [START_NS + 1000 * MINUTE_NS], tiny.wave(1)))

    after = shown(pipeline)

    assert figures(after["a"]) == [None, None, None]
    assert None not in figures(after["b"])


def test_a_window_filled_again_after_a_gap_is_shown(pipeline: Pipeline) -> None:
    code = pipeline.keys.codes["a"]
    times = [START_NS + (1000 + i) * MINUTE_NS for i in range(LENGTH)]
    outcome = pipeline.process(tiny.readings([code] * LENGTH, times, tiny.wave(LENGTH)))

    after = shown(pipeline)["a"]

    assert after.score == pytest.approx(float(outcome.scores.score[-1]))
    assert after.settled is None
    assert np.isnan(outcome.scores.score[:-1]).all()


def test_after_a_swap_of_bundles_the_earlier_bundles_scores_are_not_shown(
    pipeline: Pipeline, tiny_detector: Detector
) -> None:
    pipeline.swap(tiny_detector, NEWER)
    swapped = shown(pipeline)
    code = pipeline.keys.codes["a"]
    pipeline.process(tiny.readings([code], [START_NS + 36 * MINUTE_NS], tiny.wave(37)[-1:]))

    after = shown(pipeline)

    assert [figures(view) for view in swapped.values()] == [[None, None, None]] * 2
    assert after["a"].score is not None
    assert figures(after["b"]) == [None, None, None]


def test_a_silent_stream_is_no_anomaly(tiny_detector: Detector) -> None:
    settings = tiny.settings(alerting={"silent_after": 5.0})
    made = Pipeline(settings.pipeline_options(), tiny_detector, VERSION)
    for name in tiny.STREAMS:
        made.keys.add(name)
    rows = 4 * LENGTH
    made.process(tiny.fleet({0: tiny.wave(LENGTH), 1: tiny.wave(rows, seed=1, level=10)}))

    views = shown(made)

    assert made.counts()["silent"] == 1
    assert {name: view.active for name, view in views.items()} == {"a": False, "b": False}
