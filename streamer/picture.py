"""Pictures: one stream with its score, one incident with what was expected.

Returns PNG bytes; writes no files.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from models.detector import Detector
from streamer.alerts import Alert
from streamer.events import OPEN, RESOLVE

mpl.use("Agg")

_OBSERVED, _EXPECTED, _ERROR, _LINE = "#1f4e79", "#e07b00", "#b3261e", "#b3261e"
_MOST_FEATURES = 6


def expected_series(
    detector: Detector, values: NDArray[np.float32], row: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the detector expects of each reading, from the window that ends with its patch.

    Args:
        detector: Rebuilds the windows.
        values: One stream's readings in time order, raw units, `(n, features)`.
        row: Table row of the stream.

    Returns:
        Expected values `(n, features)` in raw units, and the squared error in model
        units `(n, features)`; NaN before the first window.
    """
    a = detector.architecture
    inputs = detector.prepare(values.astype(np.float32), np.full(len(values), row))
    expected = np.full(values.shape, np.nan, np.float32)
    error = np.full(values.shape, np.nan, np.float32)
    for end in range(a.window, len(values) + 1, a.patch):
        newest = slice(end - a.patch, end)
        why = detector.explain(inputs[end - a.window : end], row)
        expected[newest] = why.expected[-a.patch :]
        rebuilt = detector.prepare(why.expected[-a.patch :], np.full(a.patch, row))
        error[newest] = (rebuilt - inputs[newest]) ** 2
    return expected, error


def draw_incident(
    title: str,
    time_ns: NDArray[np.int64],
    observed: NDArray[np.float32],
    expected: NDArray[np.float32],
    error: NDArray[np.float32],
    score: NDArray[np.float32],
    features: Sequence[str],
    shown: Sequence[int],
    span: tuple[int, int],
) -> bytes:
    """Observed against expected for the features that matter most, their error, and the score.

    Args:
        title: Over the picture.
        time_ns: `(n,)`.
        observed: `(n, features)`; `expected` and `error` likewise, from `expected_series`.
        expected: See there.
        error: See there.
        score: `(n,)`, 1.0 is the alert line.
        features: Names.
        shown: Features to draw, most important first.
        span: Onset and end of the incident, ns.
    """
    shown = list(shown)[:_MOST_FEATURES]
    time = time_ns.astype("datetime64[ns]")
    figure, axes = _figure(len(shown) + 2, title)
    for axis, f in zip(axes, shown, strict=False):
        axis.plot(time, observed[:, f], color=_OBSERVED, lw=1.3, label="observed")
        axis.plot(time, expected[:, f], color=_EXPECTED, lw=1.3, ls="--", label="expected")
        axis.fill_between(time, observed[:, f], expected[:, f], color=_EXPECTED, alpha=0.25, lw=0)
        axis.set_ylabel(features[f])
    axes[0].legend(loc="upper left", frameon=False, ncols=2)
    axes[-2].plot(time, np.nan_to_num(error).mean(1), color=_ERROR, lw=1)
    axes[-2].set_ylabel("error\n(model units²)")
    _draw_score(axes[-1], time, score)
    for axis in axes:
        axis.axvspan(np.datetime64(span[0], "ns"), np.datetime64(span[1], "ns"), color="#b3261e", alpha=0.08, lw=0)
    return _png(figure)


def draw_stream(
    title: str,
    time_ns: NDArray[np.int64],
    values: NDArray[Any],
    score: NDArray[np.float32],
    features: Sequence[str],
    alerts: Sequence[Alert],
) -> bytes:
    """A whole stream: its features, its score against the line, its incidents as bands."""
    shown = list(range(len(features)))[:_MOST_FEATURES]
    time = time_ns.astype("datetime64[ns]")
    figure, axes = _figure(len(shown) + 1, title)
    for axis, f in zip(axes, shown, strict=False):
        axis.plot(time, values[:, f], color=_OBSERVED, lw=0.7)
        axis.set_ylabel(features[f])
    _draw_score(axes[-1], time, score)
    ends = {alert.incident_id: alert.time for alert in alerts if alert.event == RESOLVE}
    for alert in alerts:
        if alert.event == OPEN:
            begin = np.datetime64(alert.onset[:-1], "ns")
            end = np.datetime64(ends[alert.incident_id][:-1], "ns") if alert.incident_id in ends else time[-1]
            for axis in axes:
                axis.axvspan(begin, end, color="#b3261e", alpha=0.15, lw=0)
    return _png(figure)


def _draw_score(axis: Any, time: NDArray[Any], score: NDArray[np.float32]) -> None:
    axis.plot(time, score, color=_OBSERVED, lw=1)
    axis.axhline(1.0, color=_LINE, lw=1.2, ls=":")
    axis.annotate("alert line", (1, 1.0), xycoords=("axes fraction", "data"), va="bottom", ha="right", color=_LINE)
    axis.set_yscale("symlog", linthresh=1.0)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set_ylim(bottom=0)
    axis.set_ylabel("score")


def _figure(rows: int, title: str) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(11, 1.4 * rows + 0.8), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    figure.suptitle(title, fontsize=12)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    return figure, list(axes)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
