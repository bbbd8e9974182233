"""A fitted detector: scaler, autoencoder, baseline and alert line, ready to score windows.

Inside: scoring batches of windows, explaining single ones, embedding them, drawing new ones.
Not inside: fitting (`models.fitting`), storage (`models.store`), the cutting of live windows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import PolicyError, ShapeError
from models.network.architecture import Architecture
from models.network.autoencoder import Autoencoder
from models.network.latents import LATENTS
from models.scaling import RobustScaler
from models.scoring import adaptation, attribution, errors, evidence, imputation
from models.scoring.alert_line import AlertPolicy, CalibrationEvidence, fit_lines, require_windows
from models.scoring.baseline import Baseline
from models.scoring.errors import Scales
from models.scoring.explanation import Explanation, deviation, half_width

Float32 = NDArray[np.float32]
Rows = NDArray[np.int64]

FLEET = 0  # row of streams the training never saw
BATCH = 256  # windows scored at once: the fastest size measured on one core
# Under 4 rows, matrix products take another path and round otherwise; padded to 8, a window's score
# has the same bits in every batch.
MIN_BATCH = 8


@dataclass(frozen=True, slots=True)
class Judged:
    """Scores of a batch of windows."""

    score: Float32  # (n,) 1.0 is the alert line, higher is more anomalous
    anomalous: Rows  # (k,) windows with a score of at least 1.0
    shares: Float32  # (k, features) share of each feature in those scores, sums to 1


@dataclass(frozen=True)
class Detector:
    """All a score depends on. Row 0 of every table is the fleet's, row 1 + i is `streams[i]`'s."""

    network: Autoencoder
    features: tuple[str, ...]
    streams: tuple[str, ...]
    scaler: RobustScaler
    baseline: Baseline
    line: Float32  # (rows,) evidence at which the score is 1.0
    interval_s: float  # typical seconds between readings of one stream
    report: dict[str, Any] = field(default_factory=dict)  # how the fit went; JSON values only
    policy: AlertPolicy = field(default_factory=AlertPolicy)  # what the line allows
    calibration: CalibrationEvidence | None = None  # what the line is computed from; None: an old bundle has none
    context: tuple[str, ...] = ()  # what is given beside the features: read by the network, not scored

    @property
    def architecture(self) -> Architecture:
        return self.network.architecture

    def with_policy(self, policy: AlertPolicy) -> Detector:
        """The same detector with the alert line of another policy; itself if it has that policy already.

        Ten thousand streams take about a second.

        Raises:
            PolicyError: The detector does not hold what the line was computed from, or too little of it.
        """
        if policy == self.policy:
            return self
        if self.calibration is None:
            raise PolicyError(
                "the alert line of this bundle is fixed, because an earlier version wrote it without calibration data; "
                f"the settings want {', '.join(policy.differences(self.policy))}: "
                "change them back, or run `streamer retrain`"
            )
        require_windows(self.calibration, policy)
        window, interval_s = self.architecture.window, self.interval_s
        line, report = fit_lines(self.calibration, policy, window=window, interval_s=interval_s)
        return dataclasses.replace(self, line=line, policy=policy, report={**self.report, **report})

    def rows(self, names: Sequence[str]) -> Rows:
        """Table rows of streams by name; `FLEET` for streams the training never saw."""
        known = {name: row for row, name in enumerate(self.streams, start=1)}
        return np.fromiter((known.get(name, FLEET) for name in names), np.int64, len(names))

    def prepare(self, values: Float32, rows: Rows) -> Float32:
        """Model units of readings `(n, features + context)` in raw units; the context stays as it is."""
        return self.scaler.transform(values, rows)

    def measured(self, windows: Float32) -> Float32:
        """Windows, or readings, without their context: a view of the features."""
        return windows[..., : len(self.features)]

    @cached_property
    def scales(self) -> Scales:
        """Time scales over which errors are pooled."""
        return Scales.of(self.architecture)

    def fill(self, windows: Float32) -> Float32:
        """Windows whose missing values, NaN, are filled from forecast and reconstruction.

        Args:
            windows: From `prepare`, `(n, window, features + context)`.

        Returns:
            Same shape; the same bits whatever the batch.
        """
        filled = np.empty_like(windows)
        with torch.inference_mode():
            for i in range(0, len(windows), BATCH):
                given = _padded(windows[i : i + BATCH])
                absent = torch.from_numpy(np.isnan(self.measured(given)))
                whole = torch.from_numpy(imputation.interpolate(given))
                own = whole[:, :, : absent.shape[2]]
                for number in range(imputation.PASSES):
                    made = self.network.reconstruct_and_forecast(whole)
                    own.copy_(imputation.refill(own, absent, *made, number))
                filled[i : i + BATCH] = whole.numpy()[: len(windows) - i]
        return filled

    def measure(self, windows: Float32, rows: Rows, *, has_missing: bool = False) -> tuple[Float32, Float32]:
        """First half of a score: what depends on nothing but the window.

        Args:
            windows: From `prepare`, `(n, window, features + context)`.
            rows: Table row of each window's stream, `(n,)`.
            has_missing: NaN is a missing value: filled for the network, and itself without error (`imputation`).

        Returns:
            Log errors `(n, scales, features)`, for `judge`; minus infinity where all that a scale
            spans is missing. Error `(n,)`: normalised reconstruction error of the whole window,
            1.0 is typical for the stream. The same bits whatever the batch; NaN where a window
            holds a value that is not finite, unless `has_missing` says what it means.
        """
        log_errors = np.empty((len(windows), len(self.scales), len(self.features)), np.float32)
        error = np.empty(len(windows), np.float32)
        with torch.inference_mode():
            for i in range(0, len(windows), BATCH):
                some = slice(i, i + BATCH)
                floor = self.baseline.floor[rows[some]]
                if has_missing:
                    pooled, nothing = _errors_with_missing(self, windows[some], rows[some])
                    log_errors[some] = np.where(nothing, -np.inf, errors.log_errors(pooled, floor))
                else:
                    given = torch.from_numpy(_padded(windows[some]))
                    pooled = self._errors(given, *self.network.reconstruct_and_forecast(given)).numpy()
                    pooled = pooled[: len(rows[some])]
                    log_errors[some] = errors.log_errors(pooled, floor)
                whole = self.scales.whole
                error[some] = errors.FLOOR * (pooled[:, whole] / floor[:, whole]).mean(1)
        return log_errors, error

    def _errors(self, given: Tensor, reconstruction: Tensor, forecast: Tensor | None) -> Tensor:
        own = given[:, :, : self.architecture.features]
        return errors.pooled_errors(own, reconstruction, forecast, self.scales, self.architecture.patch)

    def _evidence(self, log_errors: Float32, rows: Rows, drift: Float32 | None = None) -> tuple[Float32, Float32]:
        """Exceedance of each window `(n, S, F)` and its evidence `(n, CHANNELS)`."""
        beyond = evidence.exceedance(log_errors, drift, self.baseline, rows)
        return beyond, evidence.evidence(beyond, self.baseline, rows, self.scales.weights)

    def judge(
        self, log_errors: Float32, rows: Rows, streams: Rows, levels: Float32, windows: Rows, stride: int = 1
    ) -> Judged:
        """Second half of a score: against the baseline, slow drift taken off.

        Args:
            log_errors: From `measure`, neither NaN nor plus infinity; a stream's windows in time order.
            rows: Table row of each window's stream, `(n,)`.
            streams: Row of each window's stream in the state, `(n,)`.
            levels: State of `adaptation`, `(streams, scales, features)`, 0 at first; changed.
            windows: State, windows judged so far, `(streams,)`, 0 at first; changed.
            stride: Readings between two windows of a stream.
        """
        drift = adaptation.follow(log_errors, rows, streams, levels, windows, self.baseline, stride)
        score = np.empty(len(rows), np.float32)
        anomalous, shares = [np.empty(0, np.int64)], [np.empty((0, len(self.features)), np.float32)]
        for i in range(0, len(rows), 1024):  # a piece stays in the cache
            some = slice(i, i + 1024)
            beyond, found = self._evidence(log_errors[some], rows[some], None if drift is None else drift[some])
            score[some] = evidence.score(found, self.line, self.baseline, rows[some])
            above = np.flatnonzero(score[some] >= 1.0)
            anomalous.append(i + above)
            shares.append(self._shares(log_errors[some][above], beyond[above], found[above]))
        return Judged(score, np.concatenate(anomalous), np.concatenate(shares))

    def score(self, windows: Float32, rows: Rows) -> tuple[Float32, Float32]:
        """Score windows that stand alone: each as the first of its stream, no drift known.

        Args:
            windows: From `prepare`, `(n, window, features + context)`.
            rows: Table row of each window's stream, `(n,)`.

        Returns:
            Score `(n,)`: 1.0 is the alert line, higher is more anomalous. Error `(n,)`: see `measure`.

        Raises:
            ShapeError: Another shape, or a value that is not finite.
        """
        log_errors, error = self.measure(windows, rows)
        if not np.isfinite(log_errors).all():
            # NaN and infinity pass through every layer, so looking at the end is enough.
            wrong = int((~np.isfinite(log_errors).all((1, 2))).sum())
            raise ShapeError(f"windows must be finite; {wrong} of {len(windows)} are not")
        n = len(windows)
        fresh = np.zeros((n, *log_errors.shape[1:]), np.float32), np.zeros(n, np.int64)
        return self.judge(log_errors, rows, np.arange(n), *fresh).score, error

    def explain(self, window: Float32, row: int, shares: Float32 | None = None) -> Explanation:
        """Observed against expected of one window `(window, features + context)` from `prepare`.

        Args:
            window: Which; NaN is a missing value.
            row: Table row of its stream.
            shares: From `judge`; None finds them as `score` would, without drift.
        """
        has_missing = bool(np.isnan(window).any())
        given = self.fill(window[None]) if has_missing else window[None]
        with torch.inference_mode():
            expected = self.network(torch.from_numpy(given))[0].numpy()
        if shares is None:
            at = np.array([row])
            log_errors, _ = self.measure(window[None], at, has_missing=has_missing)
            shares = self._shares(log_errors, *self._evidence(log_errors, at))[0]
        half = half_width(self.baseline, np.array([row]), self.scales.whole)[0]
        return Explanation.of(self.measured(window), expected, half, shares, scaler=self.scaler, row=row)

    def _shares(self, log_errors: Float32, beyond: Float32, found: Float32) -> Float32:
        """Share of each feature; none for one of which the window holds nothing."""
        unseen = np.isneginf(log_errors[:, self.scales.whole])  # (n, F)
        if unseen.any():
            beyond = np.where(unseen[:, None], -np.inf, beyond)
        return attribution.shares(beyond, found.argmax(1), self.scales.weights)

    def embed(self, windows: Float32) -> Float32:
        """The latent of each window: where it lies among all others, for plots and nearest neighbours.

        Args:
            windows: From `prepare`, `(n, window, features + context)`.

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
                latents[i : i + BATCH] = self.network.encode(torch.from_numpy(_padded(some))).numpy()[: len(some)]
        return latents

    def generate(self, n: int, seed: int, row: int = FLEET, context: Float32 | None = None) -> Float32:
        """Windows that training says could have been: decoded draws from the prior of the latent.

        Args:
            n: How many.
            seed: Same seed, same windows.
            row: Table row of the stream whose units they are in.
            context: What they are drawn for, `(window, context)`, if the network has a context.

        Returns:
            Raw units, `(n, window, features)`.

        Raises:
            ShapeError: The regulariser gives the latent no distribution to draw from, or the context has another shape.
        """
        a = self.architecture
        if not LATENTS[a.regulariser].prior:
            able = ", ".join(name for name, kind in LATENTS.items() if kind.prior)
            raise ShapeError(
                f"windows can be drawn from a model with regulariser {able}; this one has {a.regulariser!r}, "
                "which knows of no distribution of its latents: retrain with another"
            )
        given = np.zeros((a.window, 0), np.float32) if context is None else context
        if given.shape != (a.window, a.context):
            raise ShapeError(f"the context of windows to be drawn must be {(a.window, a.context)}; got {given.shape}")
        beside = np.concatenate([np.zeros((a.window, a.features), np.float32), given], 1, dtype=np.float32)
        with torch.inference_mode():
            latents = torch.randn(n, a.latent, generator=torch.Generator().manual_seed(seed))
            windows = self.network.decode(latents, torch.from_numpy(beside).expand(n, -1, -1))
            inputs = windows.reshape(-1, a.features).numpy()
        return self.scaler.inverse(inputs, np.full(len(inputs), row)).reshape(n, a.window, a.features)


def deviations(detector: Detector, windows: Float32, rows: Rows) -> Float32:
    """`Explanation.deviation` of one or more windows, `(n, window, features)`; the same bits whatever the batch."""
    whole, places = detector.fill(windows) if np.isnan(windows).any() else windows, range(0, len(windows), BATCH)
    with torch.inference_mode():
        made = [detector.network(torch.from_numpy(_padded(whole[i : i + BATCH]))).numpy() for i in places]
    half = half_width(detector.baseline, rows, detector.scales.whole)[:, None]
    return deviation(detector.measured(windows), np.concatenate(made)[: len(windows)], half)


def _errors_with_missing(detector: Detector, windows: Float32, rows: Rows) -> tuple[Float32, NDArray[np.bool_]]:
    """Pooled errors `(n, S, F)` of windows with missing values, and where all that a scale spans is missing.

    Each pass of the network judges one fill and makes the next; the lowest errors count. Windows far
    enough below the line leave, the others go on.
    """
    patch, features = detector.architecture.patch, detector.architecture.features
    absent = torch.from_numpy(np.isnan(detector.measured(windows)))
    filled = torch.from_numpy(imputation.interpolate(windows))
    part, share = imputation.missing_share(absent, detector.scales, patch), absent.float().mean((1, 2)).numpy()
    floor = detector.baseline.floor[rows]
    typical = np.exp(detector.baseline.typical[rows]) - floor
    lowest = np.full(part.shape, np.inf, np.float32)
    going = np.arange(len(windows))
    for number in range(imputation.PASSES + 1):
        some = _padded(going)
        given, gone = filled[some], absent[some]
        reconstruction, forecast = detector.network.reconstruct_and_forecast(given)
        own = given[:, :, :features]
        filled[going, :, :features] = imputation.refill(own, gone, reconstruction, forecast, number)[: len(going)]
        imputation.ignore_filled(reconstruction, own, gone)
        if forecast is not None:
            imputation.ignore_filled(forecast, own[:, patch:], gone[:, patch:])
        pooled = detector._errors(given, reconstruction, forecast).numpy()[: len(going)]
        pooled = imputation.discount(pooled, part[going], share[going], typical[going])
        lowest[going] = np.minimum(lowest[going], pooled)
        if number:
            found = detector._evidence(errors.log_errors(lowest[going], floor[going]), rows[going])[1]
            going = going[~(found.max(1) < detector.line[rows[going]] - imputation.CALM)]
        if not len(going):
            break
    return lowest, np.asarray(part == 1.0)


def _padded(batch: NDArray[Any]) -> NDArray[Any]:
    """A batch of at least `MIN_BATCH` rows; those added repeat the others."""
    if len(batch) >= MIN_BATCH:
        return batch
    padded: NDArray[Any] = np.resize(batch, (MIN_BATCH, *batch.shape[1:]))
    return padded
