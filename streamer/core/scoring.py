"""Readings to scores: scale, cut windows, run the model over them in batches across streams.

The only station that knows `models`. The same object serves daemon and backtest. Not
inside: what a score leads to (`incidents`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.detector import BATCH, Detector, Explanation
from models.errors import ShapeError
from models.scoring import imputation
from streamer.core.grouping import Ints
from streamer.core.keyed_state import Table
from streamer.core.windows import Windower, Windows

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Strange:
    """A window with a score of at least 1.0."""

    window: Float32  # (length, features), model units; NaN where a value is missing
    shares: Float32  # (features,) part of each in the score


@dataclass(frozen=True, slots=True)
class Scores:
    """One row for every reading of a batch; NaN where no window closed."""

    score: Float32  # (n,) 1.0 is the alert line, higher is stranger
    error: Float32  # (n,) reconstruction error of the window, 1.0 is usual for the stream
    filled: Float32  # (n,) part of the window that was missing and filled in; NaN where no window closed
    strange: dict[int, Strange]  # by row
    failures: int  # windows whose score was not finite; they count as not scored
    sparse: int  # windows of which more than `imputation.MOST_MISSING` was missing; not scored


class Scorer:
    """Windows of all streams and the detector that scores them.

    Args:
        detector: Scores windows of `window` readings.
        stride: Readings between two windows of a stream.
        version: Names the detector in alerts.
    """

    def __init__(self, detector: Detector, *, stride: int, version: str) -> None:
        architecture = detector.architecture
        self.stride = stride
        self.windower = Windower(architecture.window, stride, architecture.features)
        self._take(detector, version)

    def _take(self, detector: Detector, version: str) -> None:
        self.detector, self.version = detector, version
        # Table row of each stream in the detector; UNKNOWN until its name was looked up.
        self.table = Table({"row": (np.int64, (), _UNKNOWN)})
        # What adapts at run time: part of a stream's state, and worth nothing to another detector.
        shape = (len(detector.scales), len(detector.features))
        self.adapted = Table({"levels": (np.float32, shape, 0.0), "windows": (np.int64, (), 0)})

    def score(self, codes: Ints, values: Float32, fresh: NDArray[np.bool_], names: Sequence[str]) -> Scores:
        """Push readings and score every window they close.

        Args:
            codes: Stream of each reading, `(n,)`, an index into `names`.
            values: Raw units, `(n, features)`; NaN is a missing value.
            fresh: Where a stream begins anew, `(n,)`.
            names: Names of all streams.
        """
        rows = self._detector_rows(codes, names)
        inputs = self.detector.prepare(values, rows)
        score, error, filled = np.full((3, len(codes)), np.nan, np.float32)
        cut: list[tuple[Ints, Float32]] = []
        measured: list[Float32] = []
        for which, windows in _batches(self.windower.push(codes, inputs, fresh)):
            log_errors, error[which], filled[which] = self._measure(windows, rows[which])
            cut.append((which, windows))
            measured.append(log_errors)
        if not cut:
            return Scores(score, error, filled, {}, 0, 0)
        closed, log_errors = np.concatenate([which for which, _ in cut]), np.concatenate(measured)
        order = np.argsort(closed)  # a stream's windows in time order
        # Windows too sparse to be scored, and those at which the model itself gave way; the others must not suffer.
        sound = order[(log_errors[order] < np.inf).all((1, 2))]
        which = closed[sound]
        self.adapted.reach(int(codes.max(initial=-1)) + 1)
        judged = self.detector.judge(
            log_errors[sound], rows[which], codes[which], self.adapted["levels"], self.adapted["windows"], self.stride
        )
        score[which] = np.where(np.isfinite(judged.score), judged.score, np.nan)
        failed = closed[np.isnan(score[closed])]
        error[failed] = np.nan
        places = sound[judged.anomalous]
        begins = np.cumsum([0, *(len(windows) for _, windows in cut)])
        batches = np.searchsorted(begins, places, side="right") - 1
        found = zip(
            closed[places].tolist(), batches.tolist(), (places - begins[batches]).tolist(), judged.shares, strict=True
        )
        strange = {row: Strange(cut[batch][1][i], shares) for row, batch, i, shares in found}
        sparse = int((filled[failed] > imputation.MOST_MISSING).sum())
        return Scores(score, error, filled, strange, len(failed) - sparse, sparse)

    def _measure(self, windows: Float32, rows: Ints) -> tuple[Float32, Float32, Float32]:
        """`Detector.measure`, NaN for a window too sparse; and the part of each window that is missing."""
        filled = np.zeros(len(windows), np.float32)
        holed = np.isnan(windows.reshape(len(windows), -1).sum(1))
        if not holed.any():
            return *self.detector.measure(windows, rows), filled
        filled[holed] = np.isnan(windows[holed]).mean((1, 2))
        error = np.full(len(windows), np.nan, np.float32)
        log_errors = np.full((len(windows), len(self.detector.scales), windows.shape[2]), np.nan, np.float32)
        for some, holes in ((~holed, False), (holed & (filled <= imputation.MOST_MISSING), True)):
            log_errors[some], error[some] = self.detector.measure(windows[some], rows[some], has_missing=holes)
        return log_errors, error, filled

    def explain(self, strange: Strange, code: int, names: Sequence[str]) -> Explanation:
        """Observed, expected and the share of each feature in one window."""
        row = int(self._detector_rows(np.array([code]), names)[0])
        return self.detector.explain(strange.window, row, strange.shares)

    def swap(self, detector: Detector, version: str, names: Sequence[str]) -> None:
        """Take another detector of the same window and features; windows are kept, in its units.

        What was learned of slow drift is dropped: the other has its own view of what is normal.

        Raises:
            ShapeError: The detector was made for other windows or features.
        """
        old, new = self.detector, detector
        if (new.architecture.window, new.features) != (old.architecture.window, old.features):
            raise ShapeError(
                f"a bundle for window {old.architecture.window} and features {list(old.features)} was wanted; "
                f"got window {new.architecture.window} and {list(new.features)}"
            )
        strips = self.windower.table["strip"]
        for begin in range(0, len(strips), 1000):  # a slab may be larger than memory has room for twice
            some = strips[begin : begin + 1000]
            codes = np.arange(begin, begin + len(some))
            flat, room = some.reshape(-1, some.shape[2]), some.shape[1]
            raw = old.scaler.inverse(flat, np.repeat(self._detector_rows(codes, names), room))
            rows = np.repeat(new.rows([names[code] for code in codes.tolist()]), room)
            some[:] = new.prepare(raw, rows).reshape(some.shape)
        self._take(detector, version)

    def _detector_rows(self, codes: Ints, names: Sequence[str]) -> Ints:
        self.table.reach(int(codes.max(initial=-1)) + 1)
        table: Ints = self.table["row"]
        rows: Ints = table[codes]
        if (rows == _UNKNOWN).any():
            new = np.unique(codes[rows == _UNKNOWN])
            table[new] = self.detector.rows([names[code] for code in new.tolist()])
            rows = table[codes]
        return rows


_UNKNOWN = -1


def _batches(pushed: Iterator[Windows]) -> Iterator[tuple[Ints, Float32]]:
    """Windows in batches of the model's size, and the reading that closed each.

    A batch of many streams is cut as it is scored, while it is in the cache; windows of
    a few busy streams come in small lots and are put together first.
    """
    waiting: list[tuple[Ints, Float32]] = []
    count = 0
    for windows in pushed:
        for i in range(0, len(windows), BATCH):
            some = slice(i, i + BATCH)
            part = windows.rows[some], windows.take(some)
            if len(part[0]) == BATCH:
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
