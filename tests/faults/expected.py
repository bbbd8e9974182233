"""What must have been told, worked out from the input topic alone.

An independent program: plain, slow and obvious, one stream after the other, one reading after the other. It shares
with the product only the detector (`models`): how a window becomes a score. Order, windows, gaps, missing values,
incidents and their ids are written here anew, after the README and the pages on scoring and event time. What it cannot
say is which model was in use when; where bundles are swapped it takes that from the scores that were published.

Not inside: silence, whose rule is long; its alerts are compared with those of one undisturbed run (`rounds`).
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.detector import Detector
from models.scoring.alert_line import AlertPolicy
from models.scoring.imputation import MOST_MISSING

Key = tuple[str, int]  # stream, event time in ns


@dataclass(frozen=True)
class Rules:
    """Settings of the daemon, as the README describes them; counts are readings."""

    topic: str
    features: tuple[str, ...]
    length: int
    stride: int = 1
    max_gap_ns: int | None = None
    fill: bool = False
    open_after: int = 3
    open_within: int = 5
    exit_below: float = 0.8
    resolve_after: int = 32
    update_factor: float = 1.5
    budget: float = 1.0  # false incidents a stream and week, for which the alert line is computed

    @property
    def policy(self) -> AlertPolicy:
        return AlertPolicy(self.budget, self.open_after, self.open_within, self.stride)


@dataclass(frozen=True)
class Record:
    """One message of the input topic."""

    partition: int
    offset: int
    value: bytes | None


@dataclass
class Told:
    """What a run tells, or should."""

    scores: dict[Key, float] = field(default_factory=dict)
    alerts: dict[str, dict[str, Any]] = field(default_factory=dict)  # by alert_id


@dataclass
class Swaps:
    """Which bundle was in use at an offset of a partition: rising first offsets, and the version from each on."""

    first: str
    changes: Mapping[int, list[tuple[int, str]]] = field(default_factory=dict)

    def since_first(self, partition: int, offset: int) -> list[str]:
        """All that were in use up to there, the one in use last."""
        changes = self.changes.get(partition, [])
        place = bisect_right(changes, offset, key=lambda change: change[0])
        return [self.first, *(version for _, version in changes[:place])]


@dataclass
class _Reading:
    partition: int
    offset: int
    time_ns: int
    values: list[float]


def places(records: Iterable[Record], rules: Rules) -> dict[Key, tuple[int, int]]:
    """Partition and offset of each reading that counts."""
    return {
        (stream, reading.time_ns): (reading.partition, reading.offset)
        for stream, readings in _admitted(records, rules).items()
        for reading in readings
    }


def expected(records: Iterable[Record], rules: Rules, detectors: Mapping[str, Detector], swaps: Swaps) -> Told:
    """Scores and alerts (of kind anomaly) of a whole topic, given partition by partition in the order of offsets."""
    told = Told()
    detectors = {version: detector.with_policy(rules.policy) for version, detector in detectors.items()}
    for stream, readings in _admitted(records, rules).items():
        scored = _scores(stream, readings, rules, detectors, swaps)
        told.scores.update({(stream, at): score for at, score in scored})
        for alert in _incidents(stream, scored, rules):
            told.alerts[alert["alert_id"]] = alert
    return told


# Messages to readings, in order.


def _admitted(records: Iterable[Record], rules: Rules) -> dict[str, list[_Reading]]:
    """Readings of each stream that are newer than all before them; copies and late ones are dropped."""
    streams: dict[str, list[_Reading]] = {}
    for record in records:
        found = _decode(record, rules)
        if found is None:
            continue
        stream, reading = found
        line = streams.setdefault(stream, [])
        if not line or reading.time_ns > line[-1].time_ns:
            line.append(reading)
    return streams


def _decode(record: Record, rules: Rules) -> tuple[str, _Reading] | None:
    """The stream and reading of a message; None if it is none."""
    try:
        message = json.loads(record.value or b"")
    except ValueError:
        return None
    if not isinstance(message, dict) or not isinstance(message.get("stream"), str):
        return None
    time_ms = message.get("timestamp")
    if not isinstance(time_ms, int):
        return None
    values = []
    for name in rules.features:
        value = message.get(name)
        if value is None and rules.fill:
            values.append(math.nan)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            values.append(float(value))
        else:
            return None
    return message["stream"], _Reading(record.partition, record.offset, time_ms * 1_000_000, values)


# Readings to scores.


def _scores(
    stream: str, readings: list[_Reading], rules: Rules, detectors: Mapping[str, Detector], swaps: Swaps
) -> list[tuple[int, float]]:
    """Event time and score of every window of one stream; windows that cannot be scored are left out."""
    found: list[tuple[int, float]] = []
    line: list[np.ndarray[Any, Any]] = []  # newest readings in units of the model, oldest first
    run, before_ns, version, swapped = 0, None, swaps.first, 0
    waiting: list[tuple[int, np.ndarray[Any, Any]]] = []  # windows of one model, to be scored together

    def score_waiting() -> None:
        if waiting:
            found.extend(_score(detectors[version], stream, waiting, rules.stride))
            waiting.clear()

    for reading in readings:
        used = swaps.since_first(reading.partition, reading.offset)
        for now in used[swapped + 1 :]:  # several, and maybe the same again, where the stream was silent meanwhile
            score_waiting()
            if line:  # what is in the windows is put into the units of the other model
                line = list(_to(detectors[now], stream, _from(detectors[version], stream, np.array(line))))
            version = now
        swapped = len(used) - 1
        if before_ns is not None and rules.max_gap_ns is not None and reading.time_ns - before_ns > rules.max_gap_ns:
            run = 0
        before_ns = reading.time_ns
        run += 1
        line.append(_to(detectors[version], stream, np.array([reading.values], np.float32))[0])
        del line[: -rules.length]
        if run >= rules.length and (run - rules.length) % rules.stride == 0:
            waiting.append((reading.time_ns, np.array(line)))
    score_waiting()
    return found


def _to(detector: Detector, stream: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(detector.prepare(values, np.repeat(detector.rows([stream]), len(values))))


def _from(detector: Detector, stream: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(detector.scaler.inverse(values, np.repeat(detector.rows([stream]), len(values))))


def _score(
    detector: Detector, stream: str, windows: list[tuple[int, np.ndarray[Any, Any]]], stride: int
) -> list[tuple[int, float]]:
    """Windows of one stream in order, drift followed from the first of them on."""
    row = detector.rows([stream])
    whole, some_missing = [], []
    for number, (_, window) in enumerate(windows):
        part = float(np.isnan(window).mean())
        if part == 0.0:
            whole.append(number)
        elif part <= MOST_MISSING:
            some_missing.append(number)
    shape = len(detector.scales), len(detector.features)
    log_errors = np.full((len(windows), *shape), np.nan, np.float32)
    for numbers, missing in ((whole, False), (some_missing, True)):
        if numbers:
            given = np.stack([windows[number][1] for number in numbers]).astype(np.float32)
            rows = np.repeat(row, len(numbers))
            log_errors[numbers] = detector.measure(given, rows, has_missing=missing)[0]
    sound = [number for number in range(len(windows)) if (log_errors[number] < np.inf).all()]
    levels, seen = np.zeros((1, *shape), np.float32), np.zeros(1, np.int64)
    rows, streams = np.repeat(row, len(sound)), np.zeros(len(sound), np.int64)
    judged = detector.judge(log_errors[sound], rows, streams, levels, seen, stride)
    scores = judged.score.tolist()
    return [(windows[number][0], score) for number, score in zip(sound, scores, strict=True) if math.isfinite(score)]


# Scores to incidents.


def _incidents(stream: str, scored: list[tuple[int, float]], rules: Rules) -> list[dict[str, Any]]:
    """What is told of one stream: n of the last m open, a higher peak updates, a quiet time resolves."""
    need = math.ceil(rules.open_after / rules.stride)
    within = math.ceil(rules.open_within / rules.stride)
    patience = math.ceil(rules.resolve_after / rules.stride)
    told: list[dict[str, Any]] = []
    newest: list[tuple[int, float] | None] = []  # of the last m scores the anomalous ones
    is_open, onset_ns, peak, reported, quiet = False, 0, 0.0, 0.0, 0

    def tell(event: str, at_ns: int, score: float) -> None:
        told.append(_alert(rules.topic, stream, event, onset_ns, at_ns, score, peak))

    for at_ns, score in scored:
        anomalous = score >= 1.0
        newest.append((at_ns, score) if anomalous else None)
        del newest[:-within]
        if not is_open:
            counting = [each for each in newest if each is not None]
            if anomalous and len(counting) >= need:
                is_open, quiet = True, 0
                onset_ns, peak = counting[0][0], max(each[1] for each in counting)
                reported = peak
                tell("open", at_ns, score)
            continue
        peak = max(peak, score)
        quiet = quiet + 1 if score < rules.exit_below else 0
        if peak >= reported * rules.update_factor:
            reported = peak
            tell("update", at_ns, score)
        if quiet >= patience:
            is_open, newest = False, []
            tell("resolve", at_ns, score)
    return told


def _alert(topic: str, stream: str, event: str, onset_ns: int, at_ns: int, score: float, peak: float) -> dict[str, Any]:
    incident = _digest(topic, stream, "anomaly", str(onset_ns))
    return {
        "alert_id": _digest(incident, event, str(at_ns)),
        "incident_id": incident,
        "event": event,
        "stream": stream,
        "score": score,
        "peak_score": peak,
    }


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
