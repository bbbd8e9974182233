"""The processing pipeline, from readings to alerts: one object that daemon and backtest share.

    event time -> score -> incidents, silence, rules, expiry -> alerts

Knows no broker, no clock, no metrics, no settings file. `process` takes readings and returns an `Outcome`; `export`
and `restore` move the state of streams, so a restart, another replica or another engine's keyed operator
goes on exactly where this one stopped. Not inside: decoding, publishing, storing.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from models.detector import Detector
from streamer.core.ahead import PAUSE, Ahead
from streamer.core.cold import WINDOWS, Cold
from streamer.core.corrections import NOTHING_RESCORED, Corrections
from streamer.core.detectors import fitted
from streamer.core.event_time.hindsight import BARS
from streamer.core.event_time.station import EventTime, InOrder
from streamer.core.events import MOVED, RECORDS_LOST, Event
from streamer.core.expiry import Bools, Expiry
from streamer.core.grouping import Ints
from streamer.core.incidents import Incidents
from streamer.core.keyed_state import KeyedState
from streamer.core.latest import Latest
from streamer.core.leaving import Gone, Leaving
from streamer.core.notifying import Notifying
from streamer.core.options import PipelineOptions
from streamer.core.ordering import Admitted
from streamer.core.outcome import Outcome, Scores
from streamer.core.portable import Portable
from streamer.core.readings import Readings
from streamer.core.retrospective import Retrospective
from streamer.core.rules import Rules
from streamer.core.scoring import Scorer
from streamer.core.silence import SilenceWatch
from streamer.core.telling import Telling, Told

Float32 = NDArray[np.float32]


class Pipeline(Portable):
    """All stations of one process.

    Args:
        options: Shapes and rules.
        detector: Scores; must fit `options`.
        version: Of the detector's bundle.

    Raises:
        ConfigError: The detector was made for other features or windows, or its alert line cannot be computed for
            these options.
    """

    def __init__(self, options: PipelineOptions, detector: Detector, version: str) -> None:
        self.options = options
        self.recomputed = options.policy.differences(detector.policy)  # why the line is not the bundle's; mostly empty
        detector = fitted(options, detector, version)
        self.keys = KeyedState()
        self.ahead = Ahead(self.keys, options.max_future_ns)
        self.event_time = EventTime.of(self.keys, options)
        corrects = self.event_time.hindsight is not None
        self.scorer = Scorer(
            self.keys, detector, stride=options.stride, version=version, history=BARS if corrects else 0
        )
        self.retrospective = Retrospective(self.keys, options.stride)
        self.incidents = Incidents(self.keys, options.rule, options.stride)
        grid_ns, stations = options.time.grid_ns, (self.scorer, self.retrospective, self.incidents)
        self.corrections = Corrections(self.keys, grid_ns, *stations) if corrects else None
        self.silence = SilenceWatch(
            self.keys,
            _silent_after_ns(options, detector),
            factor=options.silent_after or 1.0,
            grid_ns=options.time.grid_ns,
            sessions=options.sessions,
        )
        self.rules = Rules(self.keys, options.rules, options.sessions)
        self.expiry = Expiry(self.keys, options.stream_ttl_ns)
        self.cold = Cold(self.keys, WINDOWS * options.window, options.stream_ttl_ns)
        self.telling = Telling(self.keys, options, self.scorer)
        self.leaving = Leaving(self.telling, self.incidents, self.silence, self.rules)
        self.latest = Latest(self.keys)
        self.notifying = Notifying(self.keys, options.notifying) if options.notifying else None

    def process(self, readings: Readings) -> Outcome:
        """Take in one batch; any split of the same readings into batches gives the same scores and incidents."""
        whole, refused = readings, self._refused(readings)
        if len(refused):
            readings = readings.take(np.delete(np.arange(len(readings)), refused))
        parts: list[Outcome] = []
        closed: Told = []
        forgotten = 0
        while (back := self._first_return(readings)) is not None:
            # A stream comes back after its time to live: it is forgotten before its reading is taken in.
            row, code = back
            if row:
                parts += self._pieces(readings.take(slice(row)), closed)
                closed = []
            readings = readings.take(slice(row, None))
            ended = self.leaving.close(np.array([code]), np.zeros(1, np.int64), readings.time_ns[:1])
            closed += _decided(self.notifying, self.cold.mark(ended))
            held = self.event_time.holding
            self.keys.clear(np.array([code]))
            forgotten += held - self.event_time.holding
        outcome = Outcome.join(parts + self._pieces(readings, closed))
        if not forgotten and not len(refused):
            return outcome
        at = np.stack([whole.partition, whole.offset], axis=1)[refused]
        return dataclasses.replace(outcome, forgotten=outcome.forgotten + forgotten, future_at=at)

    def _refused(self, readings: Readings) -> Ints:
        self.keys.reach(readings.stream)
        newest_ns = self.event_time.ordering.columns["newest_ns"][readings.stream]
        usual_ns = int(PAUSE * self.scorer.detector.interval_s * 1e9)
        return self.ahead.refuse(readings, newest_ns, np.maximum(self.silence.limit_ns(readings.stream), usual_ns))

    def _pieces(self, readings: Readings, closed: Told) -> list[Outcome]:
        outcomes: list[Outcome] = []
        cuts = self.silence.cuts(readings.stream, readings.time_ns, readings.partition)
        for begin, end in itertools.pairwise([0, *cuts, len(readings)]):
            for piece in self.event_time.pieces(readings.take(slice(begin, end)) if cuts else readings):
                outcomes.append(self._process(piece, [] if outcomes else closed))
        return outcomes

    def lose_records(self, partition: int, offset: int) -> Outcome:
        """Records of a partition are gone unread: what was open resolves, and its streams begin anew, cold.

        Args:
            partition: Which.
            offset: From which on there are records; said to have triggered what comes of it.
        """
        codes = self.keys.streams_of(partition)
        self.keys.reach(codes)
        told = _decided(self.notifying, self.leaving.close_all(codes, self.silence.last_ns, RECORDS_LOST))
        self.forget(partition)
        self.begin_cold(partition)
        return Outcome.without_readings(told, self.event_time.width, (partition, offset))

    def turn_away(self, partition: int, times_ns: Ints, offset: int) -> Outcome:
        """Readings found no room. By their times, `(n,)`, one at least, streams may expire and make some.

        `offset` is said to have triggered what comes of it.
        """
        gone = self.expiry.go_on(partition, times_ns)
        told = self.cold.mark(self.leaving.close(gone.codes, np.zeros_like(gone.rows), times_ns[gone.rows]))
        told = _decided(self.notifying, told)
        outcome = Outcome.without_readings(told, self.event_time.width, (partition, offset))
        return dataclasses.replace(outcome, expired=len(gone.codes), forgotten=self._forget(gone.codes))

    def waits(self, partition: int) -> bool:
        """Whether there is anything for `release` to do."""
        return bool(len(self.event_time.holders(partition)) or len(self.silence.moves.gone(partition)))

    def release(self, partition: int, offset: int) -> Outcome:
        """Score what a partition's streams have held back, as nothing more is expected of them for now; streams that
        come to other partitions are forgotten.

        The one thing that depends on when it is called: the daemon does so when a partition has been idle for long.

        Args:
            partition: Which.
            offset: Said to have triggered what comes of it.
        """
        admitted, in_order = self.event_time.release(self.event_time.holders(partition), partition)
        scores, told = self._score(admitted)
        broken = _broken(self.rules, admitted, in_order, np.array([partition]))
        told += self.telling.all(broken)
        moved = self.silence.moves.gone(partition)
        told += self.leaving.close_all(moved, self.silence.last_ns, MOVED)
        at_once = [(dataclasses.replace(event, row=0), alert) for event, alert in told]
        told = self.cold.mark(at_once, self.cold.step(admitted, lambda: np.array([self.expiry.clock(partition)])))
        told = _decided(self.notifying, told)
        forgotten = self._forget(moved)
        events = [event for event, _ in told]
        triggers = [(partition, offset)] * len(told)
        outcome = Outcome.of(admitted, scores, [alert for _, alert in told], events, triggers, 0)
        return dataclasses.replace(outcome, moved=len(moved), forgotten=forgotten)

    def _first_return(self, readings: Readings) -> tuple[int, int] | None:
        moves = self.event_time.is_newer(readings)
        return self.expiry.first_return(readings.stream, readings.time_ns, readings.partition, moves)

    def _process(self, readings: Readings, closed: Told) -> Outcome:
        """Take in readings none of which come after their stream's time to live; `closed` goes with the first."""
        moves = self.event_time.is_newer(readings)
        if self.options.time.holds:
            # Nothing is released of a stream once it has left, though the same batch might.
            silences, gone = self._gone(readings, readings, moves)
            admitted, in_order = self.event_time.take(readings, gone.all)
        else:
            # What is not taken (a repeated message, an old one) is no sign of life where nothing is waited for.
            admitted, in_order = self.event_time.take(readings)
            silences, gone = self._gone(readings, admitted.readings, moves, admitted.rows)
        counted = self.cold.step(admitted, lambda: self.expiry.clocks)
        scores, told = self._score(admitted)
        told = closed + [(dataclasses.replace(e, row=int(admitted.rows[e.row])), alert) for e, alert in told]
        rescored, withdrawn = self.corrections.apply(admitted.corrected) if self.corrections else (NOTHING_RESCORED, [])
        told += self.telling.all(withdrawn)
        told += self.leaving.resolve(
            gone, readings, silences, _broken(self.rules, admitted, in_order, readings.partition)
        )
        told = self.cold.mark(told, counted)
        told = told[: len(closed)] + _decided(self.notifying, told[len(closed) :], readings)
        forgotten = self._forget(gone.all.codes)
        events = [event for event, _ in told]
        triggers = [(int(readings.partition[event.row]), int(readings.offset[event.row])) for event in events]
        outcome = Outcome.of(admitted, scores, [alert for _, alert in told], events, triggers, len(readings))
        late_at = np.stack([readings.partition, readings.offset], axis=1)[admitted.late_rows]
        return dataclasses.replace(
            outcome,
            rescored=rescored,
            late_at=late_at,
            expired=len(gone.expired.codes),
            moved=len(gone.moved.codes),
            forgotten=forgotten,
        )

    def _gone(
        self, readings: Readings, arrived: Readings, moves: Bools, rows: Ints | None = None
    ) -> tuple[list[Event], Gone]:
        """Silences that a batch leads to, and who has left; `arrived` are its signs of life, some `rows` or all."""
        silences = self.silence.step(arrived.stream, arrived.time_ns, arrived.partition)
        left = self.silence.left
        if rows is not None:
            silences = [dataclasses.replace(event, row=int(rows[event.row])) for event in silences]
            left = left.among(rows, True)
        expired = self.expiry.step(readings.stream, readings.time_ns, readings.partition, moves)
        return silences, Gone.of(expired, left)

    def _forget(self, codes: Ints) -> int:
        """Drop streams that have left; returns how many readings held back go with them."""
        held = self.event_time.holding
        if len(codes):
            self.keys.expire(codes)
        return held - self.event_time.holding

    def _score(self, admitted: Admitted) -> tuple[Scores, Told]:
        """Scores of readings of the model, and what their incidents come to, in the order of the readings."""
        kept, fresh = admitted.readings, admitted.fresh
        score, error, filled = np.full((3, len(kept)), np.nan, np.float32)
        failures, sparse, told = 0, 0, Told()
        timed = self.telling.times.look(kept.stream, kept.time_ns)
        for some in self.scorer.score(kept.stream, kept.values, fresh):
            score[some.rows], error[some.rows], filled[some.rows] = some.score, some.error, some.filled
            failures, sparse = failures + some.failures, sparse + some.sparse
            events = self.incidents.step(kept.stream[some.rows], kept.time_ns[some.rows], some.score)
            told += self.telling.scored(events, some, timed, kept.stream[some.rows])
            del some  # its windows go before the next are cut
        self.telling.times.step(timed)
        settled = self.retrospective.step(kept.stream, score, fresh)
        self.latest.step(kept.stream, fresh, score, settled, error)
        if self.corrections:
            self.corrections.step(kept.stream, kept.time_ns, score)
        return Scores(score, error, filled, settled, failures, sparse), sorted(told, key=lambda each: each[0].row)

    def swap(self, detector: Detector, version: str) -> None:
        """Score with another detector from the next batch on.

        Raises:
            ConfigError: It does not fit the options.
        """
        recomputed = self.options.policy.differences(detector.policy)
        detector = fitted(self.options, detector, version)
        self.scorer.swap(detector, version)
        self.retrospective.reset()
        if self.corrections:
            self.corrections.reset()
        self.recomputed = recomputed
        self.silence.after_ns = _silent_after_ns(self.options, detector)
        self.latest.blank()

    def sweep(self) -> None:
        """Free what expired streams held. Call it before a batch is decoded, since decoding names codes."""
        self.keys.sweep()

    def counts(self) -> dict[str, int]:
        """Streams by state: warming (no full window yet), active, alerting, silent."""
        return _counts(self)

    def begin_cold(self, partition: int) -> None:
        """A partition, forgotten before, has a past that could not be had: alerts of its streams say so for a while."""
        self.cold.begin(partition)

    def spread(self, partitions: Iterable[int], count: int) -> int:
        """Tell how many partitions the topic has, of which `partitions` are held here; see `Moves.spread`."""
        return self.silence.moves.spread(partitions, count)


def _silent_after_ns(options: PipelineOptions, detector: Detector) -> int | None:
    after = options.silent_after
    return None if after is None else min(int(after * detector.interval_s * 1e9), 1 << 61)


def _counts(pipeline: Pipeline) -> dict[str, int]:
    held = pipeline.keys.held()
    pipeline.keys.reach(held)
    warming = pipeline.scorer.windower.missing(held) > 0
    silent = pipeline.silence.is_silent[held]
    alerting = pipeline.incidents.is_open[held]
    return {
        "warming": int((warming & ~silent).sum()),
        "active": int((~warming & ~silent & ~alerting).sum()),
        "alerting": int((alerting & ~silent).sum()),
        "silent": int(silent.sum()),
    }


def _decided(notifying: Notifying | None, told: Told, readings: Readings | None = None) -> Told:
    """Who is told; without rules everybody."""
    return told if notifying is None else notifying.step(told, readings)


def _broken(rules: Rules, admitted: Admitted, in_order: InOrder | None, partitions: Ints) -> list[Event]:
    """What the rules say of readings as sent, in order; `row` is the reading of the batch that released them."""
    if not rules.spells:
        return []
    if in_order is None:
        kept, at = admitted.readings, admitted.rows
        return rules.step(kept.stream, kept.time_ns, kept.values, kept.sequence, kept.partition, kept.offset, at)
    rows, at = in_order.rows, in_order.trigger
    return rules.step(rows.code, rows.time_ns, rows.values, rows.sequence, partitions[at], rows.offset, at)
