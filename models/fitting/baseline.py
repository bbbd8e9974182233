"""What is normal for each stream, and its alert line, from clean readings and a trained network.

Every figure of a stream is pulled to the fleet's as far as its history is short. Row 0
is for streams nobody has seen: some known ones, scaled as the fleet, stand in for them.
Not inside: training, scaling, the formulas (`scores`), the tail fit itself (`calibration`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.fitting import calibration
from models.fitting.training import gather
from models.network.architecture import Architecture
from models.network.autoencoder import Autoencoder
from models.scaling import RobustScaler
from models.scoring import adaptation as drift
from models.scoring import errors as scores
from models.scoring.errors import Normal, Scales

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]

_WINDOWS = 200_000  # kept for calibration, over all streams ...
_NUMBERS = 50_000_000  # ... and the errors of them, 0.2 GB a table
_STRANGERS = 50  # streams that stand for those the training never saw
_SMALLEST_SPREAD = 0.3  # of a level: e ** 0.3, errors a third higher
_CLUSTERS = 20.0  # exceedances at which a stream's own tail counts as much as the fleet's
_MIX = 0.3  # part of all features' mean in what is usual for one: a nearly noiseless one must not rule


@dataclass(frozen=True, slots=True)
class AlertBudget:
    """What the alert line is set to allow, and the rule that opens an incident."""

    per_stream_per_week: float = 1.0
    open_after: int = 3
    open_within: int = 5


@dataclass(frozen=True, slots=True)
class _Stream:
    """Pooled errors of one stream's windows, `(n, S, F)`, and how many of the newest were held out."""

    errors: Float32
    held_out: int
    windows: float  # of them that do not overlap

    @property
    def tail(self) -> Float32:
        return self.errors[-self.held_out :]


def fit(
    network: Autoencoder,
    scaler: RobustScaler,
    readings: Tensor,
    seen: Sequence[Ints],
    held_out: Sequence[Ints],
    *,
    interval_s: float,
    budget: AlertBudget,
) -> tuple[Normal, dict[str, Any]]:
    """Tables of all streams, and what is to be told of the fit.

    Usual errors come from held-out windows: those the network learned from are rebuilt too
    well. Quantiles and the line come from all windows, for a tail of a few days does not hold what
    happens once a week; unless the held-out part crosses that line more often than chance allows.

    Args:
        network: Trained.
        scaler: Row 1 + i is of stream i.
        readings: All streams in model units, `(rows, features)`.
        seen: First rows of each stream's windows that trained the network.
        held_out: The same of those that did not; they follow the seen ones.
        interval_s: Seconds between readings.
        budget: Sets the line.
    """
    length, scales = network.architecture.window, Scales.of(network.architecture)
    most = most_windows(len(seen), network.architecture)
    streams = []
    for before, after in zip(seen, held_out, strict=True):
        kept = np.concatenate([before, after])[-most:]
        tail = min(len(after), len(kept))
        streams.append(_Stream(errors(network, readings, kept, scales), tail, len(kept) / length))
    some = range(0, len(seen), max(1, len(seen) // _STRANGERS))
    strange = [errors(*_as_stranger(network, readings, held_out[i][-most:], scaler, 1 + i), scales) for i in some]
    strangers = [_Stream(e, len(e), len(e) / length) for e in strange]

    floor, usual, spread, anchor = _levels(streams, strangers, scales, length)
    rows = 1 + len(streams)
    nothing = np.zeros((rows, scores.HEADS), np.float32)
    normal = Normal(floor, usual, spread, anchor, nothing, nothing + 1, np.zeros(rows, np.float32))
    far = [_far(stream, row, normal) for row, stream in enumerate(streams, start=1)]
    far_new = [_far(stream, 0, normal) for stream in strangers]
    independent = np.array([stream.windows for stream in streams])
    head_usual, head_spread = _heads(far, far_new, independent, scales)
    normal = dataclasses.replace(normal, head_usual=head_usual, head_spread=head_spread)

    def opening(far: Float32, row: int) -> Float64:
        strange = scores.evidence(far, normal, np.full(len(far), row), scales.weights).max(1)
        return calibration.opening_statistic(strange.astype(np.float64), budget.open_after, budget.open_within)

    every = [opening(f, row) for row, f in enumerate(far, start=1)]
    held_out_part = [values[-stream.held_out :] for values, stream in zip(every, streams, strict=True)]
    lines, report = _lines(every, held_out_part, [opening(f, 0) for f in far_new], length, interval_s, budget)
    return dataclasses.replace(normal, line=lines), report


def most_windows(streams: int, a: Architecture) -> int:
    """How many of a stream's newest windows `fit` looks at: fewer of very many streams, or of very many features."""
    windows = min(_WINDOWS, _NUMBERS // (len(Scales.of(a)) * a.features))
    return max(2 * a.window, windows // streams)


def errors(network: Autoencoder, readings: Tensor, starts: Ints, scales: Scales) -> Float32:
    """Pooled errors of the windows that begin at `starts`, `(n, S, F)`."""
    a, parts = network.architecture, []
    with torch.inference_mode():
        for some in np.array_split(starts, -(-len(starts) // 1024)):
            windows = gather(readings, torch.from_numpy(some), a.window)
            rebuilt, foreseen = network.rebuild_and_foresee(windows)
            parts.append(scores.pooled_errors(windows, rebuilt, foreseen, scales, a.patch).numpy())
    return np.concatenate(parts)


def _as_stranger(
    network: Autoencoder, readings: Tensor, starts: Ints, scaler: RobustScaler, row: int
) -> tuple[Autoencoder, Tensor, Ints]:
    """One stream's windows under the fleet's scale instead of its own."""
    begin, end = int(starts[0]), int(starts[-1]) + network.architecture.window
    raw = scaler.inverse(readings[begin:end].numpy(), np.full(end - begin, row))
    return network, torch.from_numpy(scaler.transform(raw, np.zeros(end - begin, np.int64))), starts - begin


def _levels(
    streams: list[_Stream], strangers: list[_Stream], scales: Scales, length: int
) -> tuple[Float32, Float32, Float32, Float32]:
    """Tables `floor`, `usual`, `spread` and `anchor`."""
    independent = np.array([stream.windows for stream in streams])
    tails = np.array([stream.held_out / length for stream in streams])
    mean = np.stack([stream.tail[:, scales.longest].mean(0) for stream in streams]).astype(np.float64)
    fleet = np.average(mean, axis=0, weights=tails)
    blend = np.array([calibration.shrink_log(own, fleet, w) for own, w in zip(mean, tails, strict=True)])
    unknown = np.mean([stream.tail[:, scales.longest].mean(0) for stream in strangers], axis=0)
    floor = scores.FLOOR * _mixed(np.concatenate([unknown[None], blend]).clip(1e-9))

    own = np.stack([_quantiles(s, f) for s, f in zip(streams, floor[1:], strict=True)])  # (streams, 3, S, F)
    # A level is a logarithm already: what `shrink_log` does to errors is a plain mean here.
    fleet_levels = np.average(own, axis=0, weights=independent)
    part = calibration.own_part(independent)[:, None, None, None]
    levels = part * own + (1 - part) * fleet_levels
    # Of the stand-ins the one rebuilt worst counts: a stream that is only new must not alert for good.
    worst = np.max([_quantiles(stream, floor[0]) for stream in strangers], axis=0)
    usual, high, highest = np.concatenate([worst[None], levels]).swapaxes(0, 1)
    spread = np.maximum(highest - usual, _SMALLEST_SPREAD)
    anchor = np.log(_mixed(np.exp(high)))
    return tuple(table.astype(np.float32) for table in (floor, usual, spread, anchor))  # type: ignore[return-value]


def _mixed(errors: Float64) -> Float64:
    """Errors `(..., F)`, each drawn to the mean over features."""
    mixed: Float64 = _MIX * errors.mean(-1, keepdims=True) + (1 - _MIX) * errors
    return mixed


def _quantiles(stream: _Stream, floor: Float64) -> Float64:
    """Median, 95 and 99 % quantile of each level, `(3, S, F)`."""
    levels = scores.log_errors(stream.errors, floor.astype(np.float32))
    return np.asarray(np.quantile(levels, (0.5, 0.95, 0.99), axis=0), np.float64)


def _far(stream: _Stream, row: int, normal: Normal) -> Float32:
    """`scores.beyond` of a stream's windows, drift followed as at run time."""
    levels, windows, parts = np.zeros((1, *stream.errors.shape[1:]), np.float32), np.zeros(1, np.int64), []
    for begin in range(0, len(stream.errors), 4096):
        log_errors = scores.log_errors(stream.errors[begin : begin + 4096], normal.floor[row])
        rows = np.full(len(log_errors), row)
        away = drift.follow(log_errors, rows, np.zeros(len(rows), np.int64), levels, windows, normal)
        parts.append(scores.beyond(log_errors, away, normal, rows))
    return np.concatenate(parts)


def _heads(far: list[Float32], far_new: list[Float32], independent: Float64, scales: Scales) -> tuple[Float32, Float32]:
    """Tables `head_usual` and `head_spread`."""

    def quantiles(some: list[Float32]) -> Float64:
        return np.stack([np.quantile(scores.heads(f, scales.weights), (0.5, 0.99), axis=0) for f in some])

    own = quantiles(far)  # (streams, 2, HEADS)
    part = calibration.own_part(independent)[:, None, None]
    blend = part * own + (1 - part) * np.average(own, axis=0, weights=independent)
    usual, highest = np.concatenate([quantiles(far_new).max(0)[None], blend]).swapaxes(0, 1)
    return usual.astype(np.float32), np.maximum(highest - usual, 1.0).astype(np.float32)


def _lines(
    every: list[Float64],
    held_out: list[Float64],
    new: list[Float64],
    length: int,
    interval_s: float,
    budget: AlertBudget,
) -> tuple[Float32, dict[str, Any]]:
    """Table `line`, and the report; from opening statistics of all windows, of held-out ones, of the stand-ins."""
    per_week = budget.per_stream_per_week

    def line(fit: calibration.TailFit) -> float:
        return calibration.alert_line(fit, budget_per_week=per_week, interval_s=interval_s)

    fit, own_tail = (calibration.fit_tail(sample, run=length) for sample in (every, held_out))
    weeks = sum(map(len, held_out)) * interval_s / (7 * 86_400.0)
    crossed = sum(len(calibration.cluster_peaks(values, line(fit), length)) for values in held_out)
    if calibration.contradicts(crossed, per_week * weeks) and line(own_tail) > line(fit):
        fit = own_tail
    fleet = line(fit)
    own = [calibration.fit_tail([values], run=length) for values in every]
    part = calibration.own_part(np.array([o.clusters for o in own], np.float64), prior=_CLUSTERS)
    blend = part * np.array([line(o) for o in own]) + (1 - part) * fleet
    unknown = max(fleet, line(calibration.fit_tail(new, run=length)))
    lines = np.concatenate([[unknown], blend]).astype(np.float32)

    above = (len(calibration.cluster_peaks(v, at, length)) for v, at in zip(held_out, lines[1:], strict=True))
    report = {
        "budget_per_stream_per_week": per_week,
        "open_after": budget.open_after,
        "open_within": budget.open_within,
        "tail": {
            "threshold": fit.threshold,
            "scale": fit.scale,
            "shape": fit.shape,
            "clusters": fit.clusters,
            "stream_days": fit.readings * interval_s / 86_400.0,
        },
        "lines": {"fleet": fleet, "lowest": float(lines[1:].min()), "highest": float(lines[1:].max())},
        "held_out_windows": sum(map(len, held_out)),
        "incidents_in_held_out": sum(above),
        "incidents_allowed_in_held_out": per_week * weeks,
    }
    return lines, report
