"""The street between bytes and alerts, as one object that daemon and backtest share.

    decode -> admit -> score -> settle, incidents -> alerts

Knows no broker, no clock, no metrics. What it remembers of a partition's streams can be
frozen and restored (`freeze`, `thaw`), so a restart or another replica goes on exactly
where it stopped. Not inside: reading, publishing, storing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.detector import Detector
from models.errors import ModelError
from streamer.config import Settings
from streamer.core import alerts
from streamer.core.events import ANOMALY, RESOLVE, Event
from streamer.core.grouping import Ints
from streamer.core.incidents import Incidents, Rule
from streamer.core.keyed_state import StreamTable
from streamer.core.ordering import Ordering
from streamer.core.readings import Readings
from streamer.core.retrospective import Retrospective
from streamer.core.scoring import Scorer, Scores
from streamer.core.silence import SilenceWatch
from streamer.errors import ConfigError, StateError
from streamer.formats.json_objects import JsonDecoder


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one batch of readings led to; columns have one row per admitted reading."""

    readings: Readings
    scores: Scores
    settled: NDArray[np.float32]  # (n,) settled score of the reading `settling.DELAY` scores before; NaN if none
    alerts: list[alerts.Alert]
    events: list[Event]  # one for each alert
    triggers: list[tuple[int, int]]  # partition and offset of the record behind each alert
    duplicates: int
    late: int
    resets: int  # windows begun anew because of a gap


class Pipeline:
    """All stations of one process.

    Args:
        settings: Shapes and rules.
        detector: Scores; must fit `settings`.
        version: Of the detector's bundle.

    Raises:
        ConfigError: The detector was made for other features or windows.
    """

    def __init__(self, settings: Settings, detector: Detector, version: str) -> None:
        check_fit(settings, detector, version)
        self.settings = settings
        self.streams = StreamTable()
        self.decoder = JsonDecoder.of(settings.records, self.streams)
        gap = settings.window.max_gap_s
        self.ordering = Ordering(None if gap is None else int(gap * 1e9))
        self.scorer = Scorer(detector, stride=settings.window.stride, version=version)
        rule = settings.alerting
        self.retrospective = Retrospective()
        self.incidents = Incidents(
            Rule(rule.open_after, rule.open_within, rule.exit_below, rule.resolve_after, rule.update_factor)
        )
        self.silence = SilenceWatch(self._silent_after_ns(detector))
        # How the features of each open incident took part when it was last told of.
        self.parts: dict[int, list[alerts.Attribution]] = {}

    def process(self, readings: Readings) -> Outcome:
        """Take in one batch; any split of the same readings into batches gives the same scores and incidents."""
        admitted = self.ordering.admit(readings)
        kept = admitted.readings
        scores = self.scorer.score(kept.stream, kept.values, admitted.fresh, self.streams.names)
        settled = self.retrospective.step(kept.stream, scores.score, admitted.fresh)
        events = self.incidents.step(kept.stream, kept.time_ns, scores.score)
        events += self.silence.step(kept.stream, kept.time_ns, kept.partition)
        told = [self._tell(event, scores) for event in events]
        triggers = [(int(kept.partition[event.row]), int(kept.offset[event.row])) for event in events]
        return Outcome(
            kept,
            scores,
            settled,
            told,
            events,
            triggers,
            admitted.duplicates,
            admitted.late,
            int(admitted.fresh.sum()),
        )

    def swap(self, detector: Detector, version: str) -> None:
        """Score with another detector from the next batch on.

        Raises:
            ConfigError: It does not fit the settings.
        """
        check_fit(self.settings, detector, version)
        self.scorer.swap(detector, version, self.streams.names)
        self.silence.after_ns = self._silent_after_ns(detector)

    def counts(self) -> dict[str, int]:
        """Streams by state: warming (no full window yet), active, alerting, silent."""
        held = np.flatnonzero(self.silence.table["partition"] >= 0)
        warming = self.scorer.windower.missing(held) > 0
        silent = self.silence.table["silent_since_ns"][held] >= 0
        self.incidents.table.reach(len(self.streams))
        alerting = self.incidents.table["open"][held]
        return {
            "warming": int((warming & ~silent).sum()),
            "active": int((~warming & ~silent & ~alerting).sum()),
            "alerting": int((alerting & ~silent).sum()),
            "silent": int(silent.sum()),
        }

    def freeze(self, partition: int) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything remembered of one partition's streams: columns, and the rest as JSON values."""
        codes = self._codes_of(partition)
        columns = {
            f"{station}.{name}": column
            for station, frozen in (
                ("frames", self.ordering.table.take(codes)),
                ("windows", self.scorer.windower.freeze(codes)),
                ("adapted", self.scorer.adapted.take(codes)),
                ("settling", self.retrospective.table.take(codes)),
                ("incidents", self.incidents.table.take(codes)),
                ("silence", self.silence.table.take(codes)),
            )
            for name, column in frozen.items()
        }
        rest = {
            "streams": [self.streams.names[code] for code in codes],
            "clock": self.silence.clocks.get(partition),
            "model_version": self.scorer.version,
            "parts": {
                self.streams.names[code]: msgspec.to_builtins(self.parts[code])
                for code in codes.tolist()
                if code in self.parts
            },
        }
        return columns, rest

    def thaw(
        self,
        partition: int,
        columns: dict[str, NDArray[Any]],
        rest: dict[str, Any],
        made_with: Detector | None = None,
    ) -> None:
        """Take over a partition that `freeze` gave.

        Args:
            partition: Which.
            columns: From `freeze`.
            rest: From `freeze`.
            made_with: The detector of `rest["model_version"]`, if it is not the one in use:
                windows are put from its units into ours, what it learned of drift is dropped.

        Raises:
            StateError: It was frozen with another detector than given, or does not fit.
        """
        if rest.get("model_version") != self.scorer.version:
            if made_with is None:
                raise StateError(
                    f"the snapshot is of model {rest.get('model_version')}, the one in use is {self.scorer.version}"
                )
            columns = columns | {"windows.newest": self._in_our_units(columns, rest, made_with)}
        try:
            codes = np.array([self.streams.add(str(name)) for name in rest["streams"]], np.int64)
            parts: dict[str, dict[str, NDArray[Any]]] = {}
            for key, column in columns.items():
                station, _, name = key.partition(".")
                parts.setdefault(station, {})[name] = column
            # First: `forget` finds by it what to undo.
            self.silence.table.put(codes, parts["silence"])
            self.ordering.table.put(codes, parts["frames"])
            self.scorer.windower.thaw(codes, parts["windows"])
            if made_with is None:
                self.scorer.adapted.put(codes, parts["adapted"])
            self.retrospective.table.put(codes, parts["settling"])
            self.incidents.table.put(codes, parts["incidents"])
            if rest["clock"] is not None:
                newest, clock = rest["clock"]
                self.silence.clocks[partition] = int(newest), int(clock)
            for name, part in rest["parts"].items():
                self.parts[self.streams.codes[name]] = msgspec.convert(part, list[alerts.Attribution])
        except (KeyError, ValueError, TypeError, msgspec.ValidationError) as error:
            self.forget(partition)
            raise StateError(f"the snapshot does not fit: {error}") from None

    def _in_our_units(
        self, columns: dict[str, NDArray[Any]], rest: dict[str, Any], made_with: Detector
    ) -> NDArray[np.float32]:
        ours = self.scorer.detector
        try:
            newest, names = columns["windows.newest"], [str(name) for name in rest["streams"]]
            n, length, features = newest.shape
            if features != len(ours.features) or made_with.features != ours.features or n != len(names):
                raise StateError(f"the snapshot is of features {list(made_with.features)}")
            raw = made_with.scaler.inverse(newest.reshape(-1, features), np.repeat(made_with.rows(names), length))
        except (KeyError, ValueError, IndexError) as error:
            raise StateError(f"the snapshot does not fit: {error}") from None
        return ours.prepare(raw, np.repeat(ours.rows(names), length)).reshape(newest.shape)

    def forget(self, partition: int) -> None:
        """Drop a partition's streams; they warm up anew if they come back."""
        codes = self._codes_of(partition)
        scorer = self.scorer
        for table in (
            self.ordering.table,
            scorer.windower.table,
            scorer.adapted,
            self.retrospective.table,
            self.incidents.table,
            self.silence.table,
        ):
            table.blank(codes)
        self.silence.clocks.pop(partition, None)
        for code in codes.tolist():
            self.parts.pop(code, None)

    def held(self) -> Ints:
        """Streams this process is responsible for now."""
        return np.flatnonzero(self.silence.table["partition"] >= 0)

    def _codes_of(self, partition: int) -> Ints:
        return np.flatnonzero(self.silence.table["partition"] == partition)

    def _silent_after_ns(self, detector: Detector) -> int | None:
        after = self.settings.alerting.silent_after
        return None if after is None else min(int(after * detector.interval_s * 1e9), 1 << 61)

    def _tell(self, event: Event, scores: Scores) -> alerts.Alert:
        parts: Sequence[alerts.Attribution] = ()
        if event.kind == ANOMALY:
            if event.row in scores.strange:
                why = self.scorer.explain(scores.strange[event.row], event.code, self.streams.names)
                self.parts[event.code] = alerts.attribute(
                    self.settings.records.features, why.observed, why.expected, why.shares
                )
            # When it resolves the window is normal again; what was last told stands.
            parts = self.parts.get(event.code, ())
            if event.event == RESOLVE:
                self.parts.pop(event.code, None)
        return alerts.build(
            event,
            topic=self.settings.kafka.topic,
            stream=self.streams.names[event.code],
            attributions=parts,
            model_version=self.scorer.version,
            dashboard_url=self.settings.alerting.dashboard_url,
            filled=float(scores.filled[event.row]) if event.kind == ANOMALY else 0.0,
        )


def check_fit(settings: Settings, detector: Detector, version: str) -> None:
    """Whether a bundle serves a configuration.

    Raises:
        ConfigError: Names the key that differs.
    """
    made_for = detector.architecture
    for key, wanted, got in (
        ("records.features", list(settings.records.features), list(detector.features)),
        ("window.length", settings.window.length, made_for.window),
        ("window.patch", settings.window.patch, made_for.patch),
    ):
        if wanted != got:
            raise ConfigError(
                f"{key}: the configuration says {wanted!r}, bundle {version} was trained with {got!r}; retrain"
            )


def canary(detector: Detector) -> None:
    """Score windows at the centre of what is normal and see that the scores are numbers.

    Raises:
        ModelError: They are not.
    """
    a = detector.architecture
    try:
        score, _ = detector.score(np.zeros((2, a.window, a.features), np.float32), np.zeros(2, np.int64))
    except (RuntimeError, ValueError, IndexError) as error:
        raise ModelError(f"a window of zeros cannot be scored: {error}") from error
    if not (np.isfinite(score).all() and (score >= 0).all()):
        raise ModelError(f"a window of zeros scored {score.tolist()}; wanted finite numbers")
