"""A fitted detector: scaler, autoencoder and calibration, ready to score windows.

Inside: fitting one from the readings of many streams, scoring batches of windows,
explaining single ones, embedding them, drawing new ones. Not inside: storage (`bundle`), the cutting of live windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import calibration, scores
from models.autoencoder import Architecture, Autoencoder
from models.errors import ShapeError, TrainingError
from models.regularisers import REGULARISERS
from models.scaling import RobustScaler
from models.training import EpochReport, OnEpoch, TrainingOptions, gather, train

Float32 = NDArray[np.float32]
Rows = NDArray[np.int64]

FLEET = 0  # row of streams the training never saw
BATCH = 256  # windows scored at once: the fastest size measured on one core
_STRANGERS = 50  # streams that stand for those the training never saw
# Under 4 rows, matrix products take another path and round otherwise; filled up, a window's score
# has the same bits in every batch.
FEWEST = 8
_CALIBRATION_WINDOWS = 200_000  # held-out windows kept for calibration, over all streams


@dataclass(frozen=True, slots=True)
class AlertBudget:
    """What the alert line is set to allow, and the rule that opens an incident."""

    per_stream_per_week: float = 1.0
    open_after: int = 3
    open_within: int = 5


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one window is strange; arrays in raw units unless said otherwise."""

    observed: Float32  # (window, features)
    expected: Float32  # (window, features)
    shares: Float32  # (features,) part of each feature in the error, sums to 1


@dataclass(frozen=True)
class Detector:
    """All a score depends on. Row 0 of every table is the fleet's, row 1 + i is `streams[i]`'s."""

    network: Autoencoder
    features: tuple[str, ...]
    streams: tuple[str, ...]
    scaler: RobustScaler
    error_scale: Float32  # (1 + streams, features) usual squared error, model units
    usual: Float32  # (1 + streams, scales) usual pooled error, after division by error_scale
    line: float  # evidence at which the score is 1.0
    interval_s: float  # usual seconds between readings of one stream
    report: dict[str, Any] = field(default_factory=dict)  # how the fit went; JSON values only

    @property
    def architecture(self) -> Architecture:
        return self.network.architecture

    def rows(self, names: Sequence[str]) -> Rows:
        """Table rows of streams by name; `FLEET` for streams the training never saw."""
        known = {name: row for row, name in enumerate(self.streams, start=1)}
        return np.fromiter((known.get(name, FLEET) for name in names), np.int64, len(names))

    def prepare(self, values: Float32, rows: Rows) -> Float32:
        """Model units of readings `(n, features)` in raw units."""
        return self.scaler.transform(values, rows)

    def score(self, windows: Float32, rows: Rows) -> tuple[Float32, Float32]:
        """Score windows.

        Args:
            windows: From `prepare`, `(n, window, features)`.
            rows: Table row of each window's stream, `(n,)`.

        Returns:
            Score `(n,)`: error in ratio to the alert line, 1.0 is the line, higher is
            stranger. Error `(n,)`: normalised reconstruction error of the whole window,
            1.0 is usual for the stream. Equal whatever the batch, within 1e-6 of its size.

        Raises:
            ShapeError: Another shape, or a value that is not finite.
        """
        score = np.empty(len(windows), np.float32)
        error = np.empty(len(windows), np.float32)
        for i in range(0, len(windows), BATCH):
            some = slice(i, i + BATCH)
            count = len(rows[some])
            strange, size = self._evidence(torch.from_numpy(_filled(windows[some])), _filled(rows[some]))
            score[some] = (strange - self.line).exp_().numpy()[:count]
            error[some] = size.numpy()[:count]
        if not np.isfinite(score).all():
            # NaN and infinity pass through every layer, so looking at the end is enough.
            raise ShapeError(f"windows must be finite; {int((~np.isfinite(score)).sum())} of {len(score)} are not")
        return score, error

    def explain(self, window: Float32, row: int) -> Explanation:
        """Observed against expected of one window `(window, features)` from `prepare`."""
        with torch.inference_mode():
            x = torch.from_numpy(window)[None]
            rebuilt = self.network(x)
            errors = scores.patch_errors(x, rebuilt, self.architecture.patch)
            errors = errors / torch.from_numpy(self.error_scale[row])
            shares = scores.feature_shares(errors, self._scales, scores.scale_weights(self._scales))[0]
        rows = np.full(len(window), row)
        return Explanation(
            self.scaler.inverse(window, rows), self.scaler.inverse(rebuilt[0].numpy(), rows), shares.numpy()
        )

    def embed(self, windows: Float32) -> Float32:
        """The latent of each window: where it lies among all others, for plots and nearest neighbours.

        Args:
            windows: From `prepare`, `(n, window, features)`.

        Returns:
            `(n, latent)`; the mean where the latent has a distribution. Equal within 1e-6
            whatever the batch.

        Raises:
            ShapeError: Another shape, or a value that is not finite.
        """
        finite = int(np.isfinite(windows).all((1, 2)).sum())  # a sigmoid or a rectifier may hide infinity
        if finite < len(windows):
            raise ShapeError(f"windows must be finite; {len(windows) - finite} of {len(windows)} are not")
        latents = np.empty((len(windows), self.architecture.latent), np.float32)
        with torch.inference_mode():
            for i in range(0, len(windows), BATCH):
                some = windows[i : i + BATCH]
                latents[i : i + BATCH] = self.network.encode(torch.from_numpy(_filled(some))).numpy()[: len(some)]
        return latents

    def generate(self, n: int, seed: int, row: int = FLEET) -> Float32:
        """Windows that training says could have been: decoded draws from the prior of the latent.

        Args:
            n: How many.
            seed: Same seed, same windows.
            row: Table row of the stream whose units they are in.

        Returns:
            Raw units, `(n, window, features)`.

        Raises:
            ShapeError: The regulariser gives the latent no distribution to draw from.
        """
        a = self.architecture
        if not REGULARISERS[a.regulariser].prior:
            able = ", ".join(name for name, kind in REGULARISERS.items() if kind.prior)
            raise ShapeError(
                f"windows can be drawn from a model with regulariser {able}; this one has {a.regulariser!r}, "
                "which knows of no distribution of its latents: retrain with another"
            )
        with torch.inference_mode():
            latents = torch.randn(n, a.latent, generator=torch.Generator().manual_seed(seed))
            inputs = self.network.decode(latents).reshape(-1, a.features).numpy()
        return self.scaler.inverse(inputs, np.full(len(inputs), row)).reshape(n, a.window, a.features)

    @property
    def _scales(self) -> tuple[int, ...]:
        return scores.time_scales(self.architecture.steps)

    # What every batch needs of the tables, made once.

    @cached_property
    def _weights(self) -> Tensor:
        """Square root of each feature's weight in the error, `(1 + streams, features)`."""
        return torch.from_numpy(1.0 / np.sqrt(self.error_scale))

    @cached_property
    def _log_usual(self) -> Tensor:
        return torch.from_numpy(self.usual).log()

    @cached_property
    def _pooling(self) -> Tensor:
        return scores.pooling(self._scales)

    @cached_property
    def _scale_weights(self) -> Tensor:
        return scores.scale_weights(self._scales)

    def _evidence(self, windows: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Evidence and normalised whole-window error of each window, both `(n,)`."""
        which = torch.from_numpy(rows)
        with torch.inference_mode():
            rebuilt = self.network(windows)
            errors = scores.weighted_errors(windows, rebuilt, self.architecture.patch, self._weights[which])
            pooled = errors @ self._pooling  # (n, scales)
            usual = self._log_usual[which]
            error = pooled[:, -1] / usual[:, -1].exp()
            return scores.evidence(pooled, usual, self._scale_weights), error


def fit(
    series: Mapping[str, Float32],
    features: Sequence[str],
    architecture: Architecture,
    *,
    interval_s: float,
    options: TrainingOptions | None = None,
    budget: AlertBudget | None = None,
    holdout: float = 0.15,
    on_epoch: OnEpoch = lambda report: None,
    start_from: Detector | None = None,
) -> Detector:
    """Fit scaler, autoencoder and calibration on unlabelled readings.

    Args:
        series: Readings of each stream in time order, `(rows, features)`, raw units.
        features: Names of the columns.
        architecture: The network; `architecture.features` must be `len(features)`.
        interval_s: Usual seconds between readings.
        options: Training.
        budget: Sets the alert line.
        holdout: Newest part of each stream that trains nothing: it stops the training
            early and calibrates the line.
        on_epoch: Called after every epoch.
        start_from: Training begins with this detector's weights (warm start). Scaler and
            calibration are fitted anew, on these readings alone.

    Raises:
        ShapeError: Wrong width, values that are not finite, or `start_from` has another
            architecture or other features.
        TrainingError: No stream is long enough; says how long the longest is.
    """
    options, budget = options or TrainingOptions(), budget or AlertBudget()
    length = architecture.window
    if start_from is not None and start_from.features != tuple(features):
        raise ShapeError(
            f"a warm start needs the features of the detector it starts from, {list(start_from.features)}; "
            f"got {list(features)}"
        )
    for name, values in series.items():
        if values.ndim != 2 or values.shape[1] != len(features) or architecture.features != len(features):
            raise ShapeError(f"stream {name!r}: wanted (rows, {architecture.features}); got {values.shape}")
        if not np.isfinite(values).all():
            raise ShapeError(f"stream {name!r}: readings must be finite; fill or drop the others first")
    # Both parts of a stream must hold at least one window.
    usable = {name: v for name, v in series.items() if int(len(v) * holdout) >= 1 and len(v) * (1 - holdout) >= length}
    if not usable:
        longest = max((len(v) for v in series.values()), default=0)
        raise TrainingError(
            f"training needs a stream of at least {int(length / (1 - holdout)) + 1} readings (window.length {length} "
            f"before the held-out {holdout:.0%}); the longest of {len(series)} has {longest}"
        )
    names = sorted(usable)
    cut = {name: len(usable[name]) - max(1, int(len(usable[name]) * holdout)) for name in names}
    scaler = RobustScaler.fit([usable[name][: cut[name]] for name in names])
    scaled = [
        scaler.transform(usable[name].astype(np.float32, copy=False), np.full(len(usable[name]), row))
        for row, name in enumerate(names, start=1)
    ]
    offsets = np.cumsum([0, *(len(values) for values in scaled)])
    seen = [np.arange(begin, begin + cut[name] - length + 1) for begin, name in zip(offsets, names, strict=False)]
    # A held-out window ends in the tail; it may begin before it, as a live one would.
    held_out = [
        np.arange(begin + cut[name] - length + 1, end - length + 1)
        for begin, end, name in zip(offsets, offsets[1:], names, strict=False)
    ]
    readings = torch.from_numpy(np.concatenate(scaled))
    network, reports = train(
        architecture,
        readings,
        np.concatenate(seen),
        np.concatenate(held_out),
        options,
        on_epoch,
        None if start_from is None else start_from.network,
    )
    return _calibrate(
        network, tuple(features), tuple(names), scaler, readings, seen, held_out, interval_s, budget, reports
    )


def _filled(batch: NDArray[Any]) -> NDArray[Any]:
    """A batch of at least `FEWEST` rows; those added repeat the others."""
    if len(batch) >= FEWEST:
        return batch
    filled: NDArray[Any] = np.resize(batch, (FEWEST, *batch.shape[1:]))
    return filled


def _calibrate(
    network: Autoencoder,
    features: tuple[str, ...],
    names: tuple[str, ...],
    scaler: RobustScaler,
    readings: Tensor,
    seen: list[NDArray[np.int64]],
    held_out: list[NDArray[np.int64]],
    interval_s: float,
    budget: AlertBudget,
    reports: list[EpochReport],
) -> Detector:
    """What is usual for each stream, and the line.

    Usual errors come from held-out windows alone: those the network learned from are
    rebuilt too well. The line is the higher of the held-out tail's and that of all
    windows: a tail of a few days cannot say what happens once a week, and windows seen
    in training that are still rebuilt badly are evidence of what normal life brings.
    """
    architecture = network.architecture
    steps, length = architecture.steps, architecture.window
    time_scales = scores.time_scales(steps)
    # With very many streams the newest windows of each are enough.
    most = max(length, _CALIBRATION_WINDOWS // len(names))
    kept = [starts[-most:] for starts in held_out]
    errors = [_patch_errors(network, readings, starts) for starts in kept]  # each (windows, steps, features)
    independent = np.array([len(e) / length for e in errors])

    # Streams nobody has seen are scaled as the fleet and so are rebuilt otherwise; these stand for them.
    some = range(0, len(kept), max(1, len(kept) // _STRANGERS))
    strangers = [_as_stranger(network, readings, kept[i], scaler, 1 + i) for i in some]

    own = np.stack([e.mean((0, 1)) for e in errors]).astype(np.float64)
    fleet = np.average(own, axis=0, weights=independent)
    # A channel that is nearly noiseless would else rule the mean over channels: the scale is
    # partly the feature's own and partly that of all features.
    blend = np.array([calibration.shrink_log(o, fleet, w) for o, w in zip(own, independent, strict=True)])
    tables = np.concatenate([np.mean([e.mean((0, 1)) for e in strangers], axis=0)[None], blend])
    error_scale = (0.3 * tables.mean(1, keepdims=True) + 0.7 * tables).clip(1e-9).astype(np.float32)

    weights = scores.scale_weights(time_scales)
    pooling = scores.pooling(time_scales)

    def pooled_errors(patches: Float32, row: int) -> Tensor:
        return torch.from_numpy((patches / error_scale[row]).mean(2)) @ pooling

    pooled = [pooled_errors(e, row) for row, e in enumerate(errors, start=1)]
    own_usual = np.stack([p.median(0).values.numpy() for p in pooled]).astype(np.float64)
    fleet_usual = np.exp(np.average(np.log(own_usual.clip(1e-12)), axis=0, weights=independent))
    usual = np.array([calibration.shrink_log(o, fleet_usual, w) for o, w in zip(own_usual, independent, strict=True)])
    # Of the stand-ins the one rebuilt worst counts: a stream that is only new must not alert for good.
    stranger_usual = np.max([pooled_errors(e, FLEET).median(0).values.numpy() for e in strangers], axis=0)
    usual = np.concatenate([stranger_usual[None].clip(1e-12), usual]).astype(np.float32)

    def opening(pooled: Tensor, row: int) -> NDArray[np.float64]:
        strange = scores.evidence(pooled, torch.from_numpy(usual[row]).log(), weights).numpy().astype(np.float64)
        return calibration.opening_statistic(strange, budget.open_after, budget.open_within)

    held_out_opening = [opening(p, row) for row, p in enumerate(pooled, start=1)]
    seen_opening = [
        opening(pooled_errors(_patch_errors(network, readings, starts[-most:]), row), row)
        for row, starts in enumerate(seen, start=1)
    ]
    both = [np.concatenate(pair) for pair in zip(seen_opening, held_out_opening, strict=True)]
    tails = [calibration.fit_tail(sample, run=length) for sample in (held_out_opening, both)]
    lines = [
        calibration.alert_line(tail, budget_per_week=budget.per_stream_per_week, interval_s=interval_s)
        for tail in tails
    ]
    line, tail = max(lines), tails[int(np.argmax(lines))]
    best = min(reports, key=lambda report: report.held_out_loss)
    report = {
        "epochs": len(reports),
        "best_epoch": best.epoch,
        "train_loss": best.train_loss,
        "held_out_loss": best.held_out_loss,
        "held_out_windows": int(sum(len(starts) for starts in kept)),
        "budget_per_stream_per_week": budget.per_stream_per_week,
        "open_after": budget.open_after,
        "open_within": budget.open_within,
        "tail": {
            "threshold": tail.threshold,
            "scale": tail.scale,
            "shape": tail.shape,
            "clusters": tail.clusters,
            "stream_days": tail.readings * interval_s / 86_400.0,
        },
        "incidents_in_held_out": int(sum(len(calibration.cluster_peaks(o, line, length)) for o in held_out_opening)),
    }
    return Detector(network, features, names, scaler, error_scale, usual, line, interval_s, report)


def _as_stranger(
    network: Autoencoder, readings: Tensor, starts: NDArray[np.int64], scaler: RobustScaler, row: int
) -> Float32:
    """Patch errors of one stream's windows under the fleet's scale instead of its own."""
    begin, end = int(starts[0]), int(starts[-1]) + network.architecture.window
    raw = scaler.inverse(readings[begin:end].numpy(), np.full(end - begin, row))
    strange = torch.from_numpy(scaler.transform(raw, np.full(end - begin, FLEET)))
    return _patch_errors(network, strange, starts - begin)


def _patch_errors(network: Autoencoder, readings: Tensor, starts: NDArray[np.int64]) -> Float32:
    parts = []
    with torch.inference_mode():
        for some in np.array_split(starts, -(-len(starts) // 1024)):
            windows = gather(readings, torch.from_numpy(some), network.architecture.window)
            parts.append(scores.patch_errors(windows, network(windows), network.architecture.patch).numpy())
    result: Float32 = np.concatenate(parts)
    return result
