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
from streamer.columns import Ints, Table
from streamer.windows import Windower, Windows

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scores:
    """One row for every reading of a batch; NaN where no window closed."""

    score: Float32  # (n,) 1.0 is the alert line, higher is stranger
    error: Float32  # (n,) reconstruction error of the window, 1.0 is usual for the stream
    strange: dict[int, Float32]  # windows with a score of at least 1.0, in model units, by row
    failures: int  # windows whose score was not finite; they count as not scored


class Scorer:
    """Windows of all streams and the detector that scores them.

    Args:
        detector: Scores windows of `window` readings.
        stride: Readings between two windows of a stream.
        version: Names the detector in alerts.
    """

    def __init__(self, detector: Detector, *, stride: int, version: str) -> None:
        architecture = detector.architecture
        self.detector, self.version = detector, version
        self.windower = Windower(architecture.window, stride, architecture.features)
        # Table row of each stream in the detector; UNKNOWN until its name was looked up.
        self.table = Table({"row": (np.int64, (), _UNKNOWN)})

    def score(self, codes: Ints, values: Float32, fresh: NDArray[np.bool_], names: Sequence[str]) -> Scores:
        """Push readings and score every window they close.

        Args:
            codes: Stream of each reading, `(n,)`, an index into `names`.
            values: Raw units, `(n, features)`.
            fresh: Where a stream begins anew, `(n,)`.
            names: Names of all streams.
        """
        rows = self._detector_rows(codes, names)
        inputs = self.detector.prepare(values, rows)
        score = np.full(len(codes), np.nan, np.float32)
        error = np.full(len(codes), np.nan, np.float32)
        strange: dict[int, Float32] = {}
        failures = 0
        for which, windows in _batches(self.windower.push(codes, inputs, fresh)):
            try:
                score[which], error[which] = self.detector.score(windows, rows[which])
            except ShapeError:
                # Admitted readings are finite, so the model itself gave way; the others must not suffer.
                for one, window in zip(which, windows, strict=True):
                    try:
                        score[one : one + 1], error[one : one + 1] = self.detector.score(
                            window[None], rows[one : one + 1]
                        )
                    except ShapeError:
                        failures += 1
            for i in np.flatnonzero(score[which] >= 1.0).tolist():
                strange[int(which[i])] = windows[i]
        return Scores(score, error, strange, failures)

    def explain(self, window: Float32, code: int, names: Sequence[str]) -> Explanation:
        """Observed, expected and the share of each feature in one window in model units."""
        return self.detector.explain(window, int(self._detector_rows(np.array([code]), names)[0]))

    def swap(self, detector: Detector, version: str, names: Sequence[str]) -> None:
        """Take another detector of the same window and features; windows are kept, in its units.

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
        self.table = Table({"row": (np.int64, (), _UNKNOWN)})
        self.detector, self.version = detector, version

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
