"""A data set through the daemon's own pipeline: the score of every reading, and every alert.

Pure. Not inside: what incidents and labels come to (`evaluation`), files (`results`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.detector import Detector
from streamer.config import Settings
from streamer.connectors.files import DataSet
from streamer.core.alerts import Alert
from streamer.core.corrections import Rescored
from streamer.core.events import Event
from streamer.core.outcome import Outcome, Scores
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from streamer.core.retrospective import delay_in_scores
from streamer.core.segments import line_up
from streamer.errors import DataError
from streamer.offline.admission import MOST_OUTSIDE, OUTSIDE
from streamer.offline.backtest.evaluation import Timeline
from streamer.offline.progress import progress

Float32 = NDArray[np.float32]
Watch = Callable[[Readings, Float32], None]

log = logging.getLogger(__name__)

_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Backtest:
    """What a run gave; columns have one row per reading of `data`, in its order."""

    data: DataSet  # what the model saw: the readings given, or the bars made of them
    order: NDArray[np.int64]  # rows of `data` in the order in which they were scored
    score: Float32  # NaN where no window closed
    error: Float32
    settled: Float32  # with the readings after it in view; NaN where those are too few
    filled: Float32  # part of the window that was missing
    admitted: NDArray[np.bool_]  # neither skipped nor a duplicate nor late
    alerts: list[Alert]
    events: list[Event]  # one for each alert; `row` counts the readings given
    skipped: int  # rows with values that are no numbers
    duplicates: int
    late: int
    outside: int = 0  # rows outside of the sessions
    corrected: int = 0  # late readings that corrected recent bars; `late` counts the others
    carried: Float32 | None = None  # part of the features of a bar that was not measured; None: there are no bars


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
        watch: Called after each batch with the readings the model saw and their scores; the readings' offsets
            are places in those.
    """
    pipeline = Pipeline(settings.pipeline_options(), detector, version)
    for name in data.names:
        pipeline.keys.add(name)
    bars = settings.time.active
    complete = data.admitted(settings.records)
    gathered = _Gathered(len(data), as_given=not bars and not settings.context)
    with progress("backtest", len(data)) as advance:
        for readings in data.batches(batch, exact=bars):
            given = readings.take(complete[readings.offset])
            outcome = pipeline.process(given)
            gathered.add(outcome, given.offset)
            if watch is not None:
                watch(*_numbered(outcome))
            advance(len(readings))
        if bars:
            # The end of the data is the end of waiting.
            outcome = pipeline.release(0, len(data))
            gathered.add(outcome, np.array([len(data) - 1]))
            if watch is not None:
                watch(*_numbered(outcome))
    _require_inside(gathered.outside, int(complete.sum()), settings)
    span_ns = settings.pipeline_options().time.grid_ns
    return gathered.result(data, delay_in_scores(settings.window.stride), int((~complete).sum()), span_ns)


def _require_inside(outside: int, rows: int, settings: Settings) -> None:
    """Say how many rows the sessions dropped, and stop if they dropped all."""
    if rows and outside >= rows:
        raise DataError(f"all of {rows} rows {OUTSIDE} (now {settings.sessions.calendar})")
    if outside > MOST_OUTSIDE * rows:
        log.warning(
            "%d of %d rows are not scored: they lie outside of the sessions of %s",
            outside, rows, settings.sessions.calendar,
        )  # fmt: skip


def _numbered(outcome: Outcome) -> tuple[Readings, Float32]:
    readings = outcome.readings
    return dataclasses.replace(readings, offset=np.arange(len(readings))), outcome.scores.score


class _Gathered:
    """What batches led to.

    Args:
        rows: Of the data.
        as_given: The model sees the readings themselves, so there is a row for each that was given.
    """

    def __init__(self, rows: int, *, as_given: bool) -> None:
        self._rows, self._as_given = rows, as_given
        self._outcomes: list[tuple[Readings, Scores, Float32 | None]] = []
        self._alerts: list[Alert] = []
        self._events: list[Event] = []
        self._rescored: list[Rescored] = []
        self._duplicates = self._late = self.outside = 0

    def add(self, outcome: Outcome, given: NDArray[np.int64]) -> None:
        """Take in one outcome; `given` has the row of each reading of its batch."""
        self._outcomes.append((outcome.readings, outcome.scores, outcome.carried))
        self._alerts += outcome.alerts
        self._events += [dataclasses.replace(event, row=int(given[event.row])) for event in outcome.events]
        if outcome.rescored.readings:
            self._rescored.append(outcome.rescored)
        self._duplicates += outcome.duplicates
        self._late += outcome.late
        self.outside += outcome.outside

    def result(self, data: DataSet, delay: int, skipped: int, span_ns: int) -> Backtest:
        """All of it, settled scores beside the readings they are of."""
        seen = Readings.concatenate([readings for readings, _, _ in self._outcomes])
        scores = Scores.join([some for _, some, _ in self._outcomes])
        carried = [part for _, _, part in self._outcomes if part is not None]
        if self._as_given:
            rows, n, made, order = seen.offset, self._rows, data, data.sending_order()
        else:
            rows, n, order = np.arange(len(seen)), len(seen), np.arange(len(seen))
            label = None if data.label is None else _labels(seen, data, data.label, span_ns)
            made = DataSet(data.names, seen.stream, seen.time_ns, seen.values.astype(np.float64), label)
        columns = {}
        for name in ("score", "error", "settled", "filled"):
            columns[name] = np.full(n, np.nan, np.float32)
            columns[name][rows] = getattr(scores, name)
        admitted = np.zeros(n, np.bool_)
        admitted[rows] = True
        columns["settled"] = _at_its_reading(columns["settled"], columns["score"], made, delay)
        again = Rescored.join(self._rescored)
        _correct(columns["settled"], again, made)
        return Backtest(
            data=made,
            order=order,
            **columns,
            admitted=admitted,
            alerts=self._alerts,
            events=self._events,
            skipped=skipped,
            duplicates=self._duplicates,
            late=self._late,
            outside=self.outside,
            corrected=again.readings,
            carried=np.concatenate(carried) if carried else None,
        )


def _correct(settled: Float32, again: Rescored, data: DataSet) -> None:
    """Write settled scores that late readings have put right; `settled` changes."""
    told = ~np.isnan(again.settled)
    newest = dict(
        zip(
            zip(again.stream[told].tolist(), again.time_ns[told].tolist(), strict=True),
            again.settled[told].tolist(),
            strict=True,
        )
    )
    for row in np.flatnonzero(np.isin(data.time_ns, again.time_ns[told])).tolist():
        settled[row] = newest.get((int(data.stream[row]), int(data.time_ns[row])), settled[row])


def _labels(seen: Readings, data: DataSet, label: NDArray[np.bool_], span_ns: int) -> NDArray[np.bool_]:
    """Bars in whose time a reading is labelled."""
    order = np.lexsort((data.time_ns, data.stream))
    stream, time_ns = data.stream[order], data.time_ns[order]
    count = np.concatenate([[0], np.cumsum(label[order])])
    end_ns = seen.time_ns + span_ns if span_ns else data.time_ns[seen.offset] + 1
    twice = np.concatenate([seen.stream, seen.stream])
    line, edges = line_up(stream, time_ns, twice, np.concatenate([seen.time_ns, end_ns]))
    first, last = np.split(np.searchsorted(line, edges), 2)
    return np.asarray(count[last] > count[first])


def _at_its_reading(settled: Float32, score: Float32, data: DataSet, delay: int) -> Float32:
    """Settled scores, each moved from the reading that settled it to its own, `delay` scores before."""
    timeline = Timeline.of(data.stream, data.time_ns, ~np.isnan(score))
    own, settling = timeline.rows[:-delay], timeline.rows[delay:]
    same = timeline.stream[:-delay] == timeline.stream[delay:]
    moved = np.full_like(settled, np.nan)
    moved[own[same]] = settled[settling[same]]
    return moved
