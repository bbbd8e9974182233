"""Train a network on the readings of many streams: the part of a fit before calibration.

Inside: which streams can be used, scaling, which windows train and which are held out. Not
inside: the training loop (`training`), baseline and alert line (`calibration`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.detector import Detector
from models.errors import ShapeError, TrainingError
from models.fitting.distributed import ALONE, Ranks
from models.fitting.training import EpochReport, OnEpoch, OnStep, TrainingOptions, train
from models.fitting.windows import Runs, held_out_count, runs_of, split
from models.network.architecture import Architecture, check_context
from models.network.autoencoder import Autoencoder
from models.scaling import RobustScaler

Float32 = NDArray[np.float32]
Rows = NDArray[np.int64]

_AT_ONCE = 1 << 19  # numbers checked or scaled at once, so that no second copy of a long stream is made


@dataclass(frozen=True, slots=True)
class Learned:
    """A trained network and what it was trained on: all that calibration needs."""

    network: Autoencoder
    features: tuple[str, ...]
    context: tuple[str, ...]
    streams: tuple[str, ...]
    scaler: RobustScaler
    readings: torch.Tensor  # (rows, features + context) model units, one stream after another
    seen: Runs  # first rows of the windows learned from, of every stream
    held_out: Runs  # and of those held out
    reports: list[EpochReport]


def learn(
    series: Mapping[str, Float32],
    features: Sequence[str],
    architecture: Architecture,
    *,
    context: Sequence[str] = (),
    options: TrainingOptions | None = None,
    holdout: float = 0.15,
    breaks: Mapping[str, Rows] | None = None,
    on_epoch: OnEpoch = lambda report: None,
    on_step: OnStep = lambda done, most: None,
    start_from: Detector | None = None,
    room: Callable[[int, int], Float32] = lambda rows, width: np.empty((rows, width), np.float32),
    ranks: Ranks = ALONE,
) -> Learned:
    """The part of `fit` before calibration; arguments and errors that both share are described there.

    Args:
        on_step: Called after every step of training.
        room: Gives an array `(rows, width)` for the readings in model units. Those of `series`
            are read in pieces, so with mapped files for both, little of either is in memory.
        ranks: The processes that learn together; all are given the same readings.
    """
    options = options or TrainingOptions()
    length = architecture.window
    _check(series, features, context, architecture, start_from)
    breaks = breaks or {}
    cut = {name: runs_of(len(v), _checked_breaks(name, breaks, len(v)), length) for name, v in series.items()}
    counts = {name: int((ends - begins).sum()) for name, (begins, ends) in cut.items()}
    kept = {name: held_out_count(count, length, holdout) for name, count in counts.items()}
    names = sorted(name for name, count in kept.items() if count)
    if not names:
        raise TrainingError(_too_short(series, breaks, length, holdout))
    offsets = np.concatenate([[0], np.cumsum([len(series[name]) for name in names])])
    shifted = [(cut[name][0] + begin, cut[name][1] + begin) for name, begin in zip(names, offsets, strict=False)]
    seen, held_out = split(shifted, [kept[name] for name in names])
    # A held-out window ends in the tail; it may begin before it, as a live one would.
    first_kept = held_out.begins[held_out.first_runs()]
    tails = first_kept + length - 1 - offsets[:-1]
    scaler = RobustScaler.fit([series[name][:tail, : len(features)] for name, tail in zip(names, tails, strict=True)])
    readings = room(int(offsets[-1]), architecture.width)
    for row, (name, begin) in enumerate(zip(names, offsets, strict=False), start=1):
        for some in _pieces(len(series[name]), architecture.width):
            values = series[name][some].astype(np.float32, copy=False)
            readings[begin:][some] = scaler.transform(values, np.full(len(values), row))
    first, scaled = None if start_from is None else start_from.network, torch.from_numpy(readings)
    network, reports = train(
        architecture, scaled, seen, held_out, options, on_epoch, first, on_step=on_step, ranks=ranks
    )
    return Learned(network, tuple(features), tuple(context), tuple(names), scaler, scaled, seen, held_out, reports)


def _check(
    series: Mapping[str, Float32],
    features: Sequence[str],
    context: Sequence[str],
    architecture: Architecture,
    start_from: Detector | None,
) -> None:
    check_context(context, architecture)
    if start_from is not None and start_from.features != tuple(features):
        raise ShapeError(
            f"a warm start needs the features of the detector it starts from, {list(start_from.features)}; "
            f"got {list(features)}"
        )
    if start_from is not None and start_from.context != tuple(context):
        raise ShapeError(
            f"a warm start needs the context of the detector it starts from, {list(start_from.context)}; "
            f"got {list(context)}"
        )
    for name, values in series.items():
        if values.ndim != 2 or values.shape[1] != architecture.width or architecture.features != len(features):
            raise ShapeError(f"stream {name!r}: wanted (rows, {architecture.width}); got {values.shape}")
        if not all(np.isfinite(values[some]).all() for some in _pieces(len(values), architecture.width)):
            raise ShapeError(f"stream {name!r}: readings must be finite; fill or drop the others first")


def _checked_breaks(name: str, breaks: Mapping[str, Rows], rows: int) -> Rows:
    found = np.asarray(breaks.get(name, ()), np.int64)
    if len(found) and not (found[0] > 0 and found[-1] < rows and (np.diff(found) > 0).all()):
        raise ShapeError(f"stream {name!r}: breaks must rise and lie between 1 and {rows - 1}; got {found[:5]}...")
    return found


def _too_short(series: Mapping[str, Float32], breaks: Mapping[str, Rows], length: int, holdout: float) -> str:
    longest = max((len(v) for v in series.values()), default=0)
    says = (
        f"training needs a stream of at least {int(length / (1 - holdout)) + 1} readings (window.length {length} "
        f"before the held-out {holdout:.0%}); the longest of {len(series)} has {longest}"
    )
    if not any(len(breaks.get(name, ())) for name in series):
        return says
    edges = (np.concatenate([[0], breaks.get(name, ()), [len(v)]]) for name, v in series.items())
    unbroken = int(max(np.diff(edge).max() for edge in edges))
    return (
        f"{says}, at most {unbroken} of them without a gap in between: no window reaches across a gap, so take a "
        "shorter window.length, or a larger window.max_gap_s if readings so far apart belong together"
    )


def _pieces(rows: int, width: int) -> Iterator[slice]:
    """Slices that cover `rows`, of at most `_AT_ONCE` numbers each."""
    step = max(1, _AT_ONCE // width)
    return (slice(i, min(i + step, rows)) for i in range(0, rows, step))
