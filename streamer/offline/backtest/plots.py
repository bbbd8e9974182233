"""Plots: one stream with its score, one incident with expected values, a map of windows.

Returns PNG bytes; writes no files. However long a series is, a plot has at most two points per pixel column: the
lowest and the highest value in it, so that no spike is lost.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from streamer.core.alerts import Attribution
from streamer.core.grouping import Ints
from streamer.offline.backtest.evaluation import Incident, Labelled

mpl.use("Agg")

Float32 = NDArray[np.float32]
Span = tuple[int, int]  # from, to: ns
AttributionHistory = Sequence[tuple[int, Sequence[Attribution]]]  # time in ns and attributions of each alert

# Of the features with the largest shares, in their order; the others are grey.
COLORS = ("#1f4e79", "#e07b00", "#3a8f5d", "#8b5fbf", "#c2185b", "#00838f", "#a1887f", "#c0a000")
OTHER_COLOR = "#b8c0c8"
_OBSERVED, _EXPECTED, _ERROR, _LINE = "#1f4e79", "#e07b00", "#b3261e", "#b3261e"
_INCIDENT, _LABEL = "#b3261e", "#6a3fb5"
_MOST_FEATURES = 6
_DPI = 100
_COLUMNS = 1000  # roughly the width of a plot in pixels


def thin(time_ns: Ints, values: NDArray[Any], columns: int = _COLUMNS) -> tuple[NDArray[Any], NDArray[Any]]:
    """At most two points per pixel column: the lowest and the highest value in it.

    Args:
        time_ns: Rising, `(n,)`.
        values: `(n,)`, NaN where there is none.
        columns: Of pixels.

    Returns:
        Times as datetime64 and values; all of them if there are no more than four per column.
    """
    time = time_ns.astype("datetime64[ns]")
    if len(time_ns) <= 4 * columns:
        return time, values
    share = (time_ns - time_ns[0]) / max(1, int(time_ns[-1] - time_ns[0]))
    begin = np.flatnonzero(np.diff(np.minimum((share * columns).astype(int), columns - 1), prepend=-1))
    last = np.append(begin[1:], len(time_ns)) - 1
    extremes = np.stack([np.fmin.reduceat(values, begin), np.fmax.reduceat(values, begin)], 1)
    return time[np.stack([begin, last], 1).ravel()], extremes.ravel()


def draw_incident(
    title: str,
    time_ns: Ints,
    observed: Float32,
    expected: Float32,
    error: Float32,
    score: Float32,
    features: Sequence[str],
    shown: Sequence[int],
    span: Span,
    *,
    attributions: AttributionHistory = (),
    colors: Mapping[str, str] | None = None,
    labelled: Sequence[Span] = (),
) -> bytes:
    """Observed and expected values of the most important features, their error, and the score.

    Args:
        title: Above the plot.
        time_ns: `(n,)`.
        observed: `(n, features)`; `expected` and `error` likewise, from `expected_series`.
        expected: See there.
        error: See there.
        score: `(n,)`, 1.0 is the alert line.
        features: Names.
        shown: Features to draw, most important first.
        span: Onset and end of the incident, ns.
        attributions: Of each alert; draws the shares over the incident.
        colors: Of the features distinguished there; the others are grey.
        labelled: Known anomalies, ns.
    """
    shown = list(shown)[:_MOST_FEATURES]
    figure, axes = _figure(len(shown) + 2 + bool(attributions), title, beside=1.1 if attributions else 0.3)
    for axis, f in zip(axes, shown, strict=False):
        time, seen = thin(time_ns, observed[:, f])
        predicted = thin(time_ns, expected[:, f])[1]
        axis.plot(time, seen, color=_OBSERVED, lw=1.3, label="observed")
        axis.plot(time, predicted, color=_EXPECTED, lw=1.3, ls="--", label="expected")
        axis.fill_between(time, seen, predicted, color=_EXPECTED, alpha=0.25, lw=0)
        _name(axis, features[f])
    handles, words = axes[0].get_legend_handles_labels()
    _mark(axes, [span], labelled)
    if labelled:
        handles, words = [*handles, Patch(color=_LABEL)], [*words, "labelled"]
    _legend(axes[0], handles, words)
    if attributions:
        _draw_shares(axes[-3], attributions, span, colors or {})
    wrong = np.nan_to_num(error).mean(1)
    axes[-2].plot(*thin(time_ns, wrong), color=_ERROR, lw=1)
    axes[-2].set_ylabel("error\n(model units²)")
    _draw_score(axes[-1], time_ns, score)
    return _png(figure)


def draw_stream(
    title: str,
    time_ns: Ints,
    values: NDArray[Any],
    score: Float32,
    features: Sequence[str],
    shown: Sequence[int],
    incidents: Sequence[Incident],
    labelled: Sequence[Labelled] = (),
    numbers: Mapping[int, int] | None = None,
) -> bytes:
    """A whole stream: some of its features, its score against the line, its incidents as bands.

    Args:
        title: Above the plot.
        time_ns: Rising, `(n,)`.
        values: `(n, features)`, raw units.
        score: `(n,)`, 1.0 is the alert line.
        features: Names.
        shown: Features to draw, most important first.
        incidents: Of this stream.
        labelled: Known anomalies of this stream.
        numbers: Of some incidents, with their onset, ns; written over the score.
    """
    shown = list(shown)[:_MOST_FEATURES]
    figure, axes = _figure(len(shown) + 1, title, height=1.05)
    for axis, f in zip(axes, shown, strict=False):
        axis.plot(*thin(time_ns, values[:, f]), color=_OBSERVED, lw=0.7)
        _name(axis, features[f])
    _draw_score(axes[-1], time_ns, score)
    _mark(axes, [(one.onset_ns, one.end_ns) for one in incidents], [(one.begin_ns, one.end_ns) for one in labelled])
    kinds = [(Patch(color=_INCIDENT, alpha=0.3), "incident")] if incidents else []
    kinds += [(Patch(color=_LABEL), "labelled")] if labelled else []
    _legend(axes[0], [key for key, _ in kinds], [word for _, word in kinds])
    place = axes[-1].get_xaxis_transform()
    for number, onset_ns in (numbers or {}).items():
        at = np.datetime64(onset_ns, "ns")
        axes[-1].text(at, 1.01, f"{number}", transform=place, fontsize=7, color=_INCIDENT)  # type: ignore[arg-type]
    return _png(figure)


def draw_map(points: Float32, score: Float32, peaks: Float32, numbers: Sequence[int]) -> bytes:
    """Windows along the two directions of greatest variance, coloured by score.

    Args:
        points: `(n, 2)`.
        score: `(n,)`, 1.0 is the alert line.
        peaks: Peak windows of some incidents, `(k, 2)`.
        numbers: Of those incidents, `(k,)`.
    """
    figure = Figure(figsize=(8.5, 6), layout="constrained")
    axis = figure.subplots()
    order = np.argsort(score)  # the most anomalous on top
    dots = axis.scatter(
        points[order, 0],
        points[order, 1],
        c=np.clip(score[order], 0.1, 10),
        s=7,
        lw=0,
        cmap="viridis",
        norm=mpl.colors.LogNorm(0.1, 10),
    )
    axis.scatter(peaks[:, 0], peaks[:, 1], s=34, facecolors="none", edgecolors=_INCIDENT, lw=1.1)
    for (x, y), number in zip(peaks, numbers, strict=False):
        axis.annotate(f"{number}", (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8, color=_INCIDENT)
    bar = figure.colorbar(dots, ax=axis, label="score (1: the alert line)", extend="both")
    bar.ax.yaxis.set_major_formatter("{x:g}")
    bar.ax.axhline(1.0, color=_LINE, lw=1.5)
    axis.set_xlabel("first principal component of the latent")
    axis.set_ylabel("second")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
    return _png(figure)


def _draw_score(axis: Axes, time_ns: Ints, score: Float32) -> None:
    axis.plot(*thin(time_ns, score), color=_OBSERVED, lw=1)
    axis.axhline(1.0, color=_LINE, lw=1.2, ls=":")
    axis.annotate("alert line", (1, 1.0), xycoords=("axes fraction", "data"), va="bottom", ha="right", color=_LINE)
    axis.set_yscale("symlog", linthresh=1.0)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set_ylim(bottom=0, top=max(1.6, 1.6 * float(np.nanmax(score, initial=0))))
    axis.set_ylabel("score")


def _draw_shares(axis: Axes, attributions: AttributionHistory, span: Span, colors: Mapping[str, str]) -> None:
    """Share of each feature in the error, from one alert to the next."""
    by_name = [{one.name: one.share for one in some} for _, some in attributions]
    shares = np.array([[some.get(name, 0.0) for name in colors] for some in by_name]).reshape(-1, len(colors))
    stacked = np.cumsum(np.column_stack([shares, np.maximum(0, 1 - shares.sum(1))]), 1).T
    # From the onset, which is before the first alert, to the end.
    edges = np.array([span[0], *(at for at, _ in attributions[1:]), max(span[1], attributions[-1][0])], np.int64)
    low = np.zeros(len(attributions))
    for name, high, color in zip([*colors, "others"], stacked, [*colors.values(), OTHER_COLOR], strict=True):
        seen = bool((high - low > 0.05).any())
        axis.stairs(
            high, edges.astype("datetime64[ns]"), baseline=low, fill=True, color=color, label=name if seen else None
        )
        low = high
    axis.set_ylim(0, 1)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_ylabel("share in\nthe error")
    legend = axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=7, handlelength=1)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _mark(axes: Sequence[Axes], incidents: Sequence[Span], labelled: Sequence[Span]) -> None:
    """Incidents as bands, labels as a bar along the upper edge."""
    for spans, low, height, color, alpha in ((incidents, 0.0, 1.0, _INCIDENT, 0.15), (labelled, 0.93, 0.07, _LABEL, 1)):
        times = np.array(spans, np.int64).reshape(-1, 2).astype("datetime64[ns]")
        begins, ends = np.asarray(date2num(times)).T  # type: ignore[no-untyped-call]
        where = list(zip(begins.tolist(), (ends - begins).tolist(), strict=True))
        for axis in axes:
            limits = axis.get_xlim()
            place = axis.get_xaxis_transform()
            # The thin edge keeps a band visible that is narrower than a pixel.
            axis.broken_barh(where, (low, height), transform=place, color=color, alpha=alpha, lw=0.8, zorder=0.5)
            axis.set_xlim(*limits)


def _name(axis: Axes, feature: str) -> None:
    """The feature's name beside its axis; a long one is cut."""
    axis.set_ylabel(feature if len(feature) <= 16 else feature[:15] + "…", fontsize=9, parse_math=False)
    axis.ticklabel_format(axis="y", useOffset=False)


def _legend(axis: Axes, handles: Sequence[Any], words: Sequence[str]) -> None:
    """Above the axis, where it hides nothing."""
    if handles:
        axis.legend(
            handles, words, loc="lower left", bbox_to_anchor=(0, 1), frameon=False, ncols=len(words), borderaxespad=0
        )


def _figure(rows: int, title: str, *, height: float = 1.4, beside: float = 0.3) -> tuple[Figure, list[Axes]]:
    """Axes one under another; with margins in inches, because finding them takes as long as drawing."""
    wide, left, above, below, high = 11.0, 0.9, 0.65 if title else 0.4, 0.5, height * rows
    figure = Figure(figsize=(wide, above + high + below))
    axes = figure.subplots(
        rows,
        1,
        sharex=True,
        squeeze=False,
        gridspec_kw={
            "left": left / wide,
            "right": 1 - beside / wide,
            "bottom": below / (above + high + below),
            "top": 1 - above / (above + high + below),
            "hspace": 0.25,
        },
    )[:, 0]
    if title:
        # Names of streams and features are shown as they are; `$...$` in them is not a formula.
        figure.suptitle(title, fontsize=12, y=1 - 0.2 / (above + high + below), va="center", parse_math=False)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
        axis.margins(x=0.01)
        axis.yaxis.set_label_coords(-0.58 / (wide - left - beside), 0.5)
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes[-1].xaxis.set_major_locator(locator)
    axes[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    return figure, list(axes)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the page has it in letters.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")
        figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
