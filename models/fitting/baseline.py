"""What is normal for each stream, from clean readings and a trained network.

Every figure of a stream is pulled to the fleet's as far as its history is short. Row 0 is for
streams that training never saw: some known ones, scaled as the fleet, are their stand-ins.
Not inside: training, scaling, the formulas (`models.scoring`), the alert line (`calibration`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.fitting.training import gather
from models.network.architecture import Architecture
from models.network.autoencoder import Autoencoder
from models.scaling import RobustScaler
from models.scoring import adaptation, errors, evidence
from models.scoring.alert_line import CalibrationEvidence, own_part
from models.scoring.baseline import Baseline
from models.scoring.errors import CHANNELS, Scales

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]

_WINDOWS = 200_000  # kept for calibration, over all streams ...
_NUMBERS = 50_000_000  # ... and the errors of them, 0.2 GB a table
_STAND_INS = 50  # streams that stand for those the training never saw
_SMALLEST_SPREAD = 0.3  # of a level: e ** 0.3, errors a third higher
_INDEPENDENT = 5.0  # windows that do not overlap: with so many a stream's own figures count as much as the fleet's
_MIX = 0.3  # part of all features' mean in what is typical for one: a nearly noiseless one must not rule


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
) -> tuple[Baseline, CalibrationEvidence]:
    """Tables of all streams, and the evidence of their windows under them.

    Typical errors come from held-out windows: those the network learned from are reconstructed too
    well. Quantiles come from all windows.

    Args:
        network: Trained.
        scaler: Row 1 + i is of stream i.
        readings: All streams in model units, `(rows, features + context)`.
        seen: First rows of each stream's windows that trained the network.
        held_out: The same of those that did not; they follow the seen ones.
    """
    length, scales = network.architecture.window, Scales.of(network.architecture)
    most = most_windows(len(seen), network.architecture)
    streams = []
    for before, after in zip(seen, held_out, strict=True):
        kept = np.concatenate([before, after])[-most:]
        tail = min(len(after), len(kept))
        streams.append(_Stream(pooled(network, readings, kept, scales), tail, len(kept) / length))
    some = range(0, len(seen), max(1, len(seen) // _STAND_INS))
    unseen = [pooled(*_as_unseen(network, readings, held_out[i][-most:], scaler, 1 + i), scales) for i in some]
    stand_ins = [_Stream(e, len(e), len(e) / length) for e in unseen]

    floor, typical, spread, anchor = _levels(streams, stand_ins, scales, length)
    rows = 1 + len(streams)
    nothing = np.zeros((rows, CHANNELS), np.float32)
    tables = Baseline(floor, typical, spread, anchor, nothing, nothing + 1)
    beyond = [_exceedance(stream, row, tables) for row, stream in enumerate(streams, start=1)]
    beyond_new = [_exceedance(stream, 0, tables) for stream in stand_ins]
    independent = np.array([stream.windows for stream in streams])
    channel_typical, channel_spread = _channels(beyond, beyond_new, independent, scales)
    tables = dataclasses.replace(tables, channel_typical=channel_typical, channel_spread=channel_spread)

    def found(beyond: Float32, row: int) -> Float32:
        own: Float32 = evidence.evidence(beyond, tables, np.full(len(beyond), row), scales.weights).max(1)
        return own

    return tables, CalibrationEvidence(
        np.concatenate([found(each, row) for row, each in enumerate(beyond, start=1)]),
        np.array([len(each) for each in beyond], np.int64),
        np.array([stream.held_out for stream in streams], np.int64),
        np.concatenate([found(each, 0) for each in beyond_new]),
        np.array([len(each) for each in beyond_new], np.int64),
    )


def most_windows(streams: int, a: Architecture) -> int:
    """How many of a stream's newest windows `fit` looks at: fewer of very many streams, or of very many features."""
    windows = min(_WINDOWS, _NUMBERS // (len(Scales.of(a)) * a.features))
    return max(2 * a.window, windows // streams)


def pooled(network: Autoencoder, readings: Tensor, starts: Ints, scales: Scales) -> Float32:
    """Pooled errors of the windows that begin at `starts`, `(n, S, F)`."""
    a, parts = network.architecture, []
    with torch.inference_mode():
        for some in np.array_split(starts, -(-len(starts) // 1024)):
            windows = gather(readings, torch.from_numpy(some), a.window)
            made = network.reconstruct_and_forecast(windows)
            parts.append(errors.pooled_errors(windows[:, :, : a.features], *made, scales, a.patch).numpy())
    return np.concatenate(parts)


def _as_unseen(
    network: Autoencoder, readings: Tensor, starts: Ints, scaler: RobustScaler, row: int
) -> tuple[Autoencoder, Tensor, Ints]:
    """One stream's windows under the fleet's scale instead of its own."""
    begin, end = int(starts[0]), int(starts[-1]) + network.architecture.window
    raw = scaler.inverse(readings[begin:end].numpy(), np.full(end - begin, row))
    return network, torch.from_numpy(scaler.transform(raw, np.zeros(end - begin, np.int64))), starts - begin


def _levels(
    streams: list[_Stream], stand_ins: list[_Stream], scales: Scales, length: int
) -> tuple[Float32, Float32, Float32, Float32]:
    """Tables `floor`, `typical`, `spread` and `anchor`."""
    independent = np.array([stream.windows for stream in streams])
    tails = np.array([stream.held_out / length for stream in streams])
    mean = np.stack([stream.tail[:, scales.longest].mean(0) for stream in streams]).astype(np.float64)
    fleet = np.average(mean, axis=0, weights=tails)
    blend = np.array([shrink_log(own, fleet, w) for own, w in zip(mean, tails, strict=True)])
    unknown = np.mean([stream.tail[:, scales.longest].mean(0) for stream in stand_ins], axis=0)
    floor = errors.FLOOR * _mixed(np.concatenate([unknown[None], blend]).clip(1e-9))

    own = np.stack([_quantiles(s, f) for s, f in zip(streams, floor[1:], strict=True)])  # (streams, 3, S, F)
    # A level is a logarithm already: what `shrink_log` does to errors is a plain mean here.
    fleet_levels = np.average(own, axis=0, weights=independent)
    part = own_part(independent, prior=_INDEPENDENT)[:, None, None, None]
    levels = part * own + (1 - part) * fleet_levels
    # Of the stand-ins the one reconstructed worst counts: a stream that is only new must not alert for good.
    worst = np.max([_quantiles(stream, floor[0]) for stream in stand_ins], axis=0)
    typical, high, highest = np.concatenate([worst[None], levels]).swapaxes(0, 1)
    spread = np.maximum(highest - typical, _SMALLEST_SPREAD)
    anchor = np.log(_mixed(np.exp(high)))
    return tuple(table.astype(np.float32) for table in (floor, typical, spread, anchor))  # type: ignore[return-value]


def _mixed(values: Float64) -> Float64:
    """Errors `(..., F)`, each drawn to the mean over features."""
    mixed: Float64 = _MIX * values.mean(-1, keepdims=True) + (1 - _MIX) * values
    return mixed


def _quantiles(stream: _Stream, floor: Float64) -> Float64:
    """Median, 95 and 99 % quantile of each level, `(3, S, F)`."""
    levels = errors.log_errors(stream.errors, floor.astype(np.float32))
    return np.asarray(np.quantile(levels, (0.5, 0.95, 0.99), axis=0), np.float64)


def _exceedance(stream: _Stream, row: int, tables: Baseline) -> Float32:
    """`evidence.exceedance` of a stream's windows, drift followed as at run time."""
    levels, windows, parts = np.zeros((1, *stream.errors.shape[1:]), np.float32), np.zeros(1, np.int64), []
    for begin in range(0, len(stream.errors), 4096):
        log_errors = errors.log_errors(stream.errors[begin : begin + 4096], tables.floor[row])
        rows = np.full(len(log_errors), row)
        drift = adaptation.follow(log_errors, rows, np.zeros(len(rows), np.int64), levels, windows, tables)
        parts.append(evidence.exceedance(log_errors, drift, tables, rows))
    return np.concatenate(parts)


def _channels(
    beyond: list[Float32], beyond_new: list[Float32], independent: Float64, scales: Scales
) -> tuple[Float32, Float32]:
    """Tables `channel_typical` and `channel_spread`."""

    def quantiles(some: list[Float32]) -> Float64:
        return np.stack([np.quantile(evidence.channels(each, scales.weights), (0.5, 0.99), axis=0) for each in some])

    own = quantiles(beyond)  # (streams, 2, CHANNELS)
    part = own_part(independent, prior=_INDEPENDENT)[:, None, None]
    blend = part * own + (1 - part) * np.average(own, axis=0, weights=independent)
    typical, highest = np.concatenate([quantiles(beyond_new).max(0)[None], blend]).swapaxes(0, 1)
    return typical.astype(np.float32), np.maximum(highest - typical, 1.0).astype(np.float32)


def shrink_log(own: Float64, fleet: Float64, weight: float) -> Float64:
    """Pull a stream's positive figures to the fleet's, in logs; `weight` is its independent windows."""
    part = weight / (weight + _INDEPENDENT)
    result: Float64 = np.exp(part * np.log(np.maximum(own, 1e-12)) + (1 - part) * np.log(np.maximum(fleet, 1e-12)))
    return result
