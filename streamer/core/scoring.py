"""Readings to scores: scale, cut windows, run the model over them in batches across streams.

The only station that runs the model. The same object serves daemon and backtest. Not inside: what a score
leads to (`incidents`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.detector import BATCH, FLEET, Detector, deviations
from models.errors import ShapeError
from models.scoring import imputation
from models.scoring.explanation import Explanation
from models.scoring.rarity import Rarities, Rarity
from streamer.core.grouping import Ints
from streamer.core.keyed_state import KeyedState
from streamer.core.windows import Windower, Windows

Float32 = NDArray[np.float32]

_UNKNOWN = -1
# Windows are kept until they are scored, so that anomalous ones can be explained. Those of a whole poll would be
# 1.3 GB at 1,024 features.
_KEPT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Scored:
    """Some windows just scored; those of a stream in time order. Columns have one row a window."""

    rows: Ints  # (k,) the reading that closed each
    score: Float32  # (k,) 1.0 is the alert line, higher is more anomalous; NaN where it could not be scored
    error: Float32  # (k,) reconstruction error, 1.0 is typical of the stream; NaN where there is no score
    filled: Float32  # (k,) part of the window that was missing and filled in
    windows: Float32  # (k, length, features + context) model units; NaN where a value is missing
    anomalous: Ints  # (a,) places of windows with a score of at least 1.0, rising
    shares: Float32  # (a, features) part of each feature in those scores
    failures: int  # windows whose score was not finite
    sparse: int  # windows of which more than `imputation.MOST_MISSING` was missing


class Scorer:
    """Windows of all streams and the detector that scores them.

    Args:
        state: Of all streams.
        detector: Scores windows of `window` readings.
        stride: Readings between two windows of a stream.
        version: Names the detector in alerts.
        history: Readings before a window that are kept, so that earlier ones can be scored again.
    """

    def __init__(self, state: KeyedState, detector: Detector, *, stride: int, version: str, history: int = 0) -> None:
        architecture = detector.architecture
        self.stride = stride
        self._state = state
        self.windower = Windower(state, architecture.window, stride, architecture.width, history)
        self._use(detector, version)

    def _use(self, detector: Detector, version: str) -> None:
        self.detector, self.version = detector, version
        self._rarities = Rarities.of(detector.report, detector.policy)
        # Table row of each stream in the detector; unknown until its name was looked up.
        self._rows = self._state.register("detector", {"row": (np.int64, (), _UNKNOWN)}, exported=False)
        # What adapts at run time: part of a stream's state, and worth nothing to another detector.
        shape = (len(detector.scales), len(detector.features))
        self._adaptation = self._state.register(
            "adaptation", {"levels": (np.float32, shape, 0.0), "windows": (np.int64, (), 0)}
        )

    def score(self, codes: Ints, values: Float32, fresh: NDArray[np.bool_]) -> Iterator[Scored]:
        """Push readings and score every window they close, a bounded number at a time.

        All readings are taken in only when the iterator is exhausted.

        Args:
            codes: Stream of each reading, `(n,)`.
            values: Raw units, `(n, features + context)`; NaN is a missing value.
            fresh: Where a stream's window is reset, `(n,)`.
        """
        if not len(codes):
            return
        self._state.reach(codes)
        rows = self._detector_rows(codes)
        inputs = self.detector.prepare(values, rows)
        most = max(BATCH, _KEPT_BYTES // inputs[:1].nbytes // self.windower.length)
        cut: list[tuple[Ints, Float32]] = []
        held = 0
        for some in _batches(self.windower.push(codes, inputs, fresh)):
            cut.append(some)
            held += len(some[0])
            if held >= most:
                yield self._score(cut, codes, rows)
                held = 0
        if cut:
            yield self._score(cut, codes, rows)

    def _score(self, cut: list[tuple[Ints, Float32]], codes: Ints, rows: Ints) -> Scored:
        """Score batches of windows, each with the readings that closed them; `cut` is empty afterwards."""
        measured = [self._measure(windows, rows[which]) for which, windows in cut]
        closed, windows = _join(cut)
        cut.clear()  # frees the copies
        log_errors, error, filled = (np.concatenate(parts) for parts in zip(*measured, strict=True))
        # Windows too sparse to be scored, and those at which the model itself failed; the others must not suffer.
        sound = np.flatnonzero((log_errors < np.inf).all((1, 2)))
        which = closed[sound]
        judged = self.detector.judge(
            log_errors[sound],
            rows[which],
            codes[which],
            self._adaptation["levels"],
            self._adaptation["windows"],
            self.stride,
        )
        score = np.full(len(closed), np.nan, np.float32)
        score[sound] = np.where(np.isfinite(judged.score), judged.score, np.nan)
        unscored = np.isnan(score)
        error[unscored] = np.nan
        sparse = int((filled[unscored] > imputation.MOST_MISSING).sum())
        failures = int(unscored.sum()) - sparse
        return Scored(closed, score, error, filled, windows, sound[judged.anomalous], judged.shares, failures, sparse)

    def _measure(self, windows: Float32, rows: Ints) -> tuple[Float32, Float32, Float32]:
        """`Detector.measure`, NaN for a window too sparse; and the part of each window that is missing."""
        filled = np.zeros(len(windows), np.float32)
        has_missing = np.isnan(windows.reshape(len(windows), -1).sum(1))
        if not has_missing.any():
            return *self.detector.measure(windows, rows), filled
        filled[has_missing] = np.isnan(self.detector.measured(windows[has_missing])).mean((1, 2))
        error = np.full(len(windows), np.nan, np.float32)
        log_errors = np.full((len(windows), *self._adaptation["levels"].shape[1:]), np.nan, np.float32)
        for some, missing in ((~has_missing, False), (has_missing & (filled <= imputation.MOST_MISSING), True)):
            log_errors[some], error[some] = self.detector.measure(windows[some], rows[some], has_missing=missing)
        return log_errors, error, filled

    def explain(self, window: Float32, shares: Float32, code: int) -> Explanation:
        """Observed, expected and the share of each feature in one anomalous window of a stream."""
        row = int(self._detector_rows(np.array([code]))[0])
        return self.detector.explain(window, row, shares)

    def deviations(self, windows: Float32, codes: Ints) -> Float32:
        """How far each reading of some windows deviates, `(n, length, features)`; see `models.detector.deviations`."""
        return deviations(self.detector, windows, self._detector_rows(codes))

    def rarity(self, code: int, peak: float) -> Rarity | None:
        """How rare a peak score of a stream is; None: the bundle holds no tail."""
        if self._rarities is None:
            return None
        row = int(self._detector_rows(np.array([code]))[0])
        return self._rarities.rarity(peak, float(self.detector.baseline.unit[row]))

    def in_training(self, code: int) -> bool:
        """Whether the detector was trained on a stream."""
        return int(self._detector_rows(np.array([code]))[0]) != FLEET

    def correct(self, code: int, values: Float32) -> None:
        """Replace the newest readings of a stream, `(n, features + context)`, oldest first, raw units."""
        rows = np.repeat(self._detector_rows(np.array([code])), len(values))
        self.windower.newest(code, len(values))[:] = self.detector.prepare(values, rows)

    def score_again(self, codes: Ints, windows: Sequence[Float32]) -> list[Float32]:
        """Scores of windows cut again, each lot by itself and of one stream, oldest first.

        What is known of drift counts as it is now and is not moved.
        """
        counts = [len(lot) for lot in windows]
        rows, lot = np.repeat(self._detector_rows(codes), counts), np.repeat(np.arange(len(codes)), counts)
        log_errors = self._measure(np.concatenate(windows), rows)[0]
        sound = np.flatnonzero((log_errors < np.inf).all((1, 2)))
        levels, seen = (self._adaptation[name][codes] for name in ("levels", "windows"))  # copies
        judged = self.detector.judge(log_errors[sound], rows[sound], lot[sound], levels, seen, self.stride)
        score = np.full(len(rows), np.nan, np.float32)
        score[sound] = np.where(np.isfinite(judged.score), judged.score, np.nan)
        return np.split(score, np.cumsum(counts)[:-1])

    def swap(self, detector: Detector, version: str) -> None:
        """Use another detector of the same window and features; windows are kept, rescaled to it.

        What was learned of slow drift is dropped: the other has its own baseline.

        Raises:
            ShapeError: The detector was made for other windows or features.
        """
        old, new = self.detector, detector
        if (new.architecture.window, new.features) != (old.architecture.window, old.features):
            raise ShapeError(
                f"wanted a bundle for window {old.architecture.window} and features {list(old.features)}; "
                f"got window {new.architecture.window} and {list(new.features)}"
            )
        if new.context != old.context:
            raise ShapeError(f"wanted a bundle for context {list(old.context)}; got {list(new.context)}")
        self._state.reach(np.empty(0, np.int64))
        strips, names = self.windower.strips, self._state.names
        for begin in range(0, len(names), 1000):  # a slab may be larger than memory has room for twice
            some = strips[begin : begin + 1000]
            codes = np.arange(begin, begin + len(some))
            flat, room = some.reshape(-1, some.shape[2]), some.shape[1]
            raw = old.scaler.inverse(flat, np.repeat(self._detector_rows(codes), room))
            rows = np.repeat(new.rows(names[begin : begin + 1000]), room)
            some[:] = new.prepare(raw, rows).reshape(some.shape)
        self._use(detector, version)

    def rescaled(self, newest: Float32, names: list[str], made_with: Detector) -> Float32:
        """Windows exported under another detector, `(streams, length, features + context)`, in units of the one in use.

        Raises:
            ValueError: They have another shape.
        """
        ours, (n, length, width) = self.detector, newest.shape
        if (made_with.features, made_with.context) != (ours.features, ours.context):
            raise ValueError(
                f"wanted windows of features {[*ours.features, *ours.context]}; "
                f"got {[*made_with.features, *made_with.context]}"
            )
        if width != ours.architecture.width or n != len(names):
            raise ValueError(f"wanted {ours.architecture.width} numbers a reading; got windows {newest.shape}")
        raw = made_with.scaler.inverse(newest.reshape(-1, width), np.repeat(made_with.rows(names), length))
        return ours.prepare(raw, np.repeat(ours.rows(names), length)).reshape(newest.shape)

    def _detector_rows(self, codes: Ints) -> Ints:
        table: Ints = self._rows["row"]
        rows: Ints = table[codes]
        if (rows == _UNKNOWN).any():
            new = np.unique(codes[rows == _UNKNOWN])
            table[new] = self.detector.rows([self._state.names[code] for code in new.tolist()])
            rows = table[codes]
        return rows


def _batches(pushed: Iterator[Windows]) -> Iterator[tuple[Ints, Float32]]:
    """Windows in batches of the model's size, those of a stream in time order, and the reading that closed each.

    A batch of many streams is cut as it is scored, while it is in the cache; windows of
    a few busy streams come in small lots and are put together first.
    """
    waiting: list[tuple[Ints, Float32]] = []
    count = 0
    for windows in pushed:
        for i in range(0, len(windows), BATCH):
            some = slice(i, i + BATCH)
            part = windows.rows[some], windows.take(some)
            if len(part[0]) == BATCH and not waiting:
                yield part
                continue
            waiting.append(part)
            count += len(part[0])
            if count >= BATCH:
                yield _join(waiting)
                waiting, count = [], 0
    if waiting:
        yield _join(waiting)


def _join(parts: list[tuple[Ints, Float32]]) -> tuple[Ints, Float32]:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([rows for rows, _ in parts]), np.concatenate([windows for _, windows in parts])
