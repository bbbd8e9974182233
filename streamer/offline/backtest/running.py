"""A data set through the daemon's own pipeline: the score of every reading, and every alert.

Pure. Not inside: what incidents and labels come to (`evaluation`), files (`results`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.detector import Detector
from streamer.config import Settings
from streamer.connectors.files import DataSet
from streamer.core.alerts import Alert
from streamer.core.events import Event
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from streamer.core.retrospective import delay_in_scores
from streamer.offline.backtest.evaluation import Timeline
from streamer.offline.progress import progress

Float32 = NDArray[np.float32]
Watch = Callable[[Readings, Float32], None]

_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Backtest:
    """What a run gave; columns have one row per reading of the data, in its order."""

    score: Float32  # NaN where no window closed
    error: Float32
    settled: Float32  # with the readings after it in view; NaN where those are too few
    filled: Float32  # part of the window that was missing
    admitted: NDArray[np.bool_]  # neither skipped nor a duplicate nor late
    alerts: list[Alert]
    events: list[Event]  # one for each alert; `row` counts readings of the data
    skipped: int  # rows with values that are no numbers
    duplicates: int
    late: int


def run(
    settings: Settings,
    detector: Detector,
    version: str,
    data: DataSet,
    *,
    batch: int = _BATCH,
    watch: Watch | None = None,
) -> Backtest:
    """Score every reading of `data` causally.

    Readings are taken in the order in which their streams sent them (`DataSet.sending_order`); the scores are those
    that the daemon gives for the same readings in that order.

    Args:
        settings: Of the daemon.
        detector: Scores.
        version: Of its bundle.
        data: Readings.
        batch: Readings taken in at once.
        watch: Called after each batch with the readings processed, and the scores of all readings so far.
    """
    pipeline = Pipeline(settings.pipeline_options(), detector, version)
    for name in data.names:
        pipeline.keys.add(name)
    score = np.full(len(data), np.nan, np.float32)
    error = np.full(len(data), np.nan, np.float32)
    settled = np.full(len(data), np.nan, np.float32)
    admitted = np.zeros(len(data), np.bool_)
    filled = np.full(len(data), np.nan, np.float32)
    complete = data.admitted(settings.records)
    alerts: list[Alert] = []
    events: list[Event] = []
    duplicates = late = 0
    with progress("backtest", len(data)) as advance:
        for readings in data.batches(batch):
            given = readings.take(complete[readings.offset])
            outcome = pipeline.process(given)
            rows = outcome.readings.offset
            score[rows], error[rows], settled[rows] = outcome.scores.score, outcome.scores.error, outcome.scores.settled
            filled[rows], admitted[rows] = outcome.scores.filled, True
            alerts += outcome.alerts
            events += [dataclasses.replace(event, row=int(given.offset[event.row])) for event in outcome.events]
            duplicates, late = duplicates + outcome.duplicates, late + outcome.late
            if watch is not None:
                watch(given, score)
            advance(len(readings))
    settled = _at_its_reading(settled, score, data, delay_in_scores(settings.window.stride))
    return Backtest(score, error, settled, filled, admitted, alerts, events, int((~complete).sum()), duplicates, late)


def _at_its_reading(settled: Float32, score: Float32, data: DataSet, delay: int) -> Float32:
    """Settled scores, each moved from the reading that settled it to its own, `delay` scores before."""
    timeline = Timeline.of(data.stream, data.time_ns, ~np.isnan(score))
    own, settling = timeline.rows[:-delay], timeline.rows[delay:]
    same = timeline.stream[:-delay] == timeline.stream[delay:]
    moved = np.full_like(settled, np.nan)
    moved[own[same]] = settled[settling[same]]
    return moved
