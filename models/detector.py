"""A fitted detector: scaler, autoencoder and calibration, ready to score windows.

Inside: fitting one from the readings of many streams, scoring batches of windows,
explaining single ones, embedding them, drawing new ones. Not inside: storage (`bundle`), the cutting of live windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import ShapeError, TrainingError
from models.fitting import baseline as normality
from models.fitting.baseline import AlertBudget
from models.fitting.distributed import ALONE, Ranks
from models.fitting.regularisers import REGULARISERS
from models.fitting.training import EpochReport, OnEpoch, OnStep, TrainingOptions, train
from models.fitting.windows import Runs, held_out_count, runs_of, split
from models.network.architecture import Architecture
from models.network.autoencoder import Autoencoder
from models.scaling import RobustScaler
from models.scoring import adaptation as drift
from models.scoring import errors as scores
from models.scoring import imputation as gaps
from models.scoring.errors import Normal, Scales

Float32 = NDArray[np.float32]
Rows = NDArray[np.int64]

FLEET = 0  # row of streams the training never saw
BATCH = 256  # windows scored at once: the fastest size measured on one core
# Under 4 rows, matrix products take another path and round otherwise; filled up, a window's score
# has the same bits in every batch.
FEWEST = 8
_AT_ONCE = 1 << 19  # numbers checked or scaled at once, so that no second copy of a long stream is made


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one window is strange; arrays in raw units unless said otherwise."""

    observed: Float32  # (window, features); NaN where a value is missing
    expected: Float32  # (window, features)
    shares: Float32  # (features,) part of each feature in the error, sums to 1


@dataclass(frozen=True, slots=True)
class Judged:
    """What a batch of windows came to."""

    score: Float32  # (n,) 1.0 is the alert line, higher is stranger
    strange: Rows  # (k,) windows with a score of at least 1.0
    shares: Float32  # (k, features) part of each feature in those scores, sums to 1


@dataclass(frozen=True)
class Detector:
    """All a score depends on. Row 0 of every table is the fleet's, row 1 + i is `streams[i]`'s."""

    network: Autoencoder
    features: tuple[str, ...]
    streams: tuple[str, ...]
    scaler: RobustScaler
    normal: Normal
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

    @cached_property
    def scales(self) -> Scales:
        """Time scales over which errors are pooled."""
        return Scales.of(self.architecture)

    def fill(self, windows: Float32) -> Float32:
        """Windows whose missing values, NaN, are filled from forecast and reconstruction.

        Args:
            windows: From `prepare`, `(n, window, features)`.

        Returns:
            Same shape; the same bits whatever the batch.
        """
        filled = np.empty_like(windows)
        with torch.inference_mode():
            for i in range(0, len(windows), BATCH):
                given = _filled(windows[i : i + BATCH])
                absent, whole = torch.from_numpy(np.isnan(given)), torch.from_numpy(gaps.first_guess(given))
                for number in range(gaps.PASSES):
                    whole = gaps.refill(whole, absent, *self.network.rebuild_and_foresee(whole), number)
                filled[i : i + BATCH] = whole.numpy()[: len(windows) - i]
        return filled

    def measure(self, windows: Float32, rows: Rows, *, holed: bool = False) -> tuple[Float32, Float32]:
        """First half of a score: what depends on nothing but the window.

        Args:
            windows: From `prepare`, `(n, window, features)`.
            rows: Table row of each window's stream, `(n,)`.
            holed: NaN is a missing value: filled for the network, and itself without error (`gaps`).

        Returns:
            Log errors `(n, scales, features)`, for `judge`; minus infinity where all that a scale
            spans is missing. Error `(n,)`: normalised reconstruction error of the whole window,
            1.0 is usual for the stream. The same bits whatever the batch; NaN where a window
            holds a value that is not finite, unless `holed` says what it means.
        """
        log_errors = np.empty((len(windows), len(self.scales), len(self.features)), np.float32)
        error = np.empty(len(windows), np.float32)
        with torch.inference_mode():
            for i in range(0, len(windows), BATCH):
                some = slice(i, i + BATCH)
                floor = self.normal.floor[rows[some]]
                if holed:
                    errors, nothing = self._errors_of_holed(windows[some], rows[some])
                    log_errors[some] = np.where(nothing, -np.inf, scores.log_errors(errors, floor))
                else:
                    given = torch.from_numpy(_filled(windows[some]))
                    pooled = self._errors(given, *self.network.rebuild_and_foresee(given))
                    errors = pooled.numpy()[: len(rows[some])]
                    log_errors[some] = scores.log_errors(errors, floor)
                whole = self.scales.whole
                error[some] = scores.FLOOR * (errors[:, whole] / floor[:, whole]).mean(1)
        return log_errors, error

    def _errors(self, given: Tensor, rebuilt: Tensor, foreseen: Tensor | None) -> Tensor:
        return scores.pooled_errors(given, rebuilt, foreseen, self.scales, self.architecture.patch)

    def _errors_of_holed(self, windows: Float32, rows: Rows) -> tuple[Float32, NDArray[np.bool_]]:
        """Pooled errors `(n, S, F)` of windows with missing values, and where all that a scale spans is missing.

        Each pass of the network judges one fill and makes the next; the lowest errors count. Windows that have
        become calm leave, the others go on.
        """
        patch = self.architecture.patch
        absent, filled = torch.from_numpy(np.isnan(windows)), torch.from_numpy(gaps.first_guess(windows))
        part, share = gaps.missing_part(absent, self.scales, patch), absent.float().mean((1, 2)).numpy()
        floor = self.normal.floor[rows]
        usual = np.exp(self.normal.usual[rows]) - floor
        lowest = np.full(part.shape, np.inf, np.float32)
        going = np.arange(len(windows))
        for number in range(gaps.PASSES + 1):
            some = _filled(going)
            given, gone = filled[some], absent[some]
            rebuilt, foreseen = self.network.rebuild_and_foresee(given)
            filled[going] = gaps.refill(given, gone, rebuilt, foreseen, number)[: len(going)]
            gaps.hush(rebuilt, given, gone)
            if foreseen is not None:
                gaps.hush(foreseen, given[:, patch:], gone[:, patch:])
            errors = self._errors(given, rebuilt, foreseen).numpy()[: len(going)]
            errors = gaps.discount(errors, part[going], share[going], usual[going])
            lowest[going] = np.minimum(lowest[going], errors)
            if number:
                heads = self._alone(scores.log_errors(lowest[going], floor[going]), rows[going])[1]
                going = going[~(heads.max(1) < self.normal.line[rows[going]] - gaps.CALM)]
            if not len(going):
                break
        return lowest, np.asarray(part == 1.0)

    def _alone(self, log_errors: Float32, rows: Rows) -> tuple[Float32, Float32]:
        """How far each window is beyond normal `(n, S, F)`, and its evidence; no drift known."""
        far = scores.beyond(log_errors, None, self.normal, rows)
        return far, scores.evidence(far, self.normal, rows, self.scales.weights)

    def judge(
        self, log_errors: Float32, rows: Rows, streams: Rows, levels: Float32, windows: Rows, stride: int = 1
    ) -> Judged:
        """Second half of a score: against what is normal, slow drift taken off.

        Args:
            log_errors: From `measure`, neither NaN nor plus infinity; a stream's windows in time order.
            rows: Table row of each window's stream, `(n,)`.
            streams: Row of each window's stream in the state, `(n,)`.
            levels: State of `drift`, `(streams, scales, features)`, 0 at first; changed.
            windows: State, windows judged so far, `(streams,)`, 0 at first; changed.
            stride: Readings between two windows of a stream.
        """
        away = drift.follow(log_errors, rows, streams, levels, windows, self.normal, stride)
        score = np.empty(len(rows), np.float32)
        strange, shares = [], []
        weights = self.scales.weights
        for i in range(0, len(rows), 1024):  # a piece stays in the cache
            some = slice(i, i + 1024)
            far = scores.beyond(log_errors[some], None if away is None else away[some], self.normal, rows[some])
            heads = scores.evidence(far, self.normal, rows[some], weights)
            score[some] = scores.score(heads, self.normal, rows[some])
            loud = np.flatnonzero(score[some] >= 1.0)
            strange.append(i + loud)
            shares.append(self._shares(log_errors[some][loud], far[loud], heads[loud]))
        if not strange:
            return Judged(score, np.empty(0, np.int64), np.empty((0, len(self.features)), np.float32))
        return Judged(score, np.concatenate(strange), np.concatenate(shares))

    def score(self, windows: Float32, rows: Rows) -> tuple[Float32, Float32]:
        """Score windows that stand alone: each as the first of its stream, no drift known.

        Args:
            windows: From `prepare`, `(n, window, features)`.
            rows: Table row of each window's stream, `(n,)`.

        Returns:
            Score `(n,)`: 1.0 is the alert line, higher is stranger. Error `(n,)`: see `measure`.

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
        """Observed against expected of one window `(window, features)` from `prepare`.

        Args:
            window: Which; NaN is a missing value.
            row: Table row of its stream.
            shares: From `judge`; None finds them as `score` would, without drift.
        """
        holed = bool(np.isnan(window).any())
        with torch.inference_mode():
            rebuilt = self.network(torch.from_numpy(self.fill(window[None]) if holed else window[None]))[0].numpy()
        if shares is None:
            at = np.array([row])
            log_errors, _ = self.measure(window[None], at, holed=holed)
            shares = self._shares(log_errors, *self._alone(log_errors, at))[0]
        rows = np.full(len(window), row)
        return Explanation(self.scaler.inverse(window, rows), self.scaler.inverse(rebuilt, rows), shares)

    def _shares(self, log_errors: Float32, far: Float32, heads: Float32) -> Float32:
        """Part of each feature; none for one of which the window holds nothing."""
        unseen = np.isneginf(log_errors[:, self.scales.whole])  # (n, F)
        if unseen.any():
            far = np.where(unseen[:, None], -np.inf, far)
        return scores.shares(far, heads.argmax(1), self.scales.weights)

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


@dataclass(frozen=True, slots=True)
class Learned:
    """A trained network and what it was trained on: all that calibration needs."""

    network: Autoencoder
    features: tuple[str, ...]
    streams: tuple[str, ...]
    scaler: RobustScaler
    readings: torch.Tensor  # (rows, features) model units, one stream after another
    seen: Runs  # first rows of the windows learned from, of every stream
    held_out: Runs  # and of those held out
    reports: list[EpochReport]


def fit(
    series: Mapping[str, Float32],
    features: Sequence[str],
    architecture: Architecture,
    *,
    interval_s: float,
    options: TrainingOptions | None = None,
    budget: AlertBudget | None = None,
    holdout: float = 0.15,
    breaks: Mapping[str, Rows] | None = None,
    on_epoch: OnEpoch = lambda report: None,
    start_from: Detector | None = None,
) -> Detector:
    """Fit scaler, autoencoder and calibration on unlabelled readings: `learn`, then `calibrate`.

    Args:
        series: Readings of each stream in time order, `(rows, features)`, raw units.
        features: Names of the columns.
        architecture: The network; `architecture.features` must be `len(features)`.
        interval_s: Usual seconds between readings.
        options: Training.
        budget: Sets the alert line.
        holdout: Newest part of each stream that trains nothing: it stops the training
            early and calibrates the line.
        breaks: For each stream the rows at which it begins anew, rising, above 0: no window
            straddles one. A stream without an entry is unbroken.
        on_epoch: Called after every epoch.
        start_from: Training begins with this detector's weights (warm start). Scaler and
            calibration are fitted anew, on these readings alone.

    Raises:
        ShapeError: Wrong width, values that are not finite, breaks that do not rise or lie outside
            the stream, or `start_from` has another architecture or other features.
        TrainingError: No stream is long enough; says how long the longest is.
    """
    learned = learn(
        series,
        features,
        architecture,
        options=options,
        holdout=holdout,
        breaks=breaks,
        on_epoch=on_epoch,
        start_from=start_from,
    )
    return calibrate(learned, interval_s=interval_s, budget=budget)


def learn(
    series: Mapping[str, Float32],
    features: Sequence[str],
    architecture: Architecture,
    *,
    options: TrainingOptions | None = None,
    holdout: float = 0.15,
    breaks: Mapping[str, Rows] | None = None,
    on_epoch: OnEpoch = lambda report: None,
    on_step: OnStep = lambda done, most: None,
    start_from: Detector | None = None,
    room: Callable[[int, int], Float32] = lambda rows, width: np.empty((rows, width), np.float32),
    ranks: Ranks = ALONE,
) -> Learned:
    """The part of `fit` before calibration; arguments and errors it shares are described there.

    Args:
        on_step: Called after every step of training.
        room: Gives an array `(rows, width)` for the readings in model units. Those of `series`
            are read in pieces, so with mapped files for both, little of either is in memory.
        ranks: The processes that learn together; all are given the same readings.
    """
    options = options or TrainingOptions()
    length = architecture.window
    if start_from is not None and start_from.features != tuple(features):
        raise ShapeError(
            f"a warm start needs the features of the detector it starts from, {list(start_from.features)}; "
            f"got {list(features)}"
        )
    for name, values in series.items():
        if values.ndim != 2 or values.shape[1] != len(features) or architecture.features != len(features):
            raise ShapeError(f"stream {name!r}: wanted (rows, {architecture.features}); got {values.shape}")
        if not all(np.isfinite(values[some]).all() for some in _pieces(len(values), len(features))):
            raise ShapeError(f"stream {name!r}: readings must be finite; fill or drop the others first")
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
    scaler = RobustScaler.fit([series[name][:tail] for name, tail in zip(names, tails, strict=True)])
    scaled = room(int(offsets[-1]), len(features))
    for row, (name, begin) in enumerate(zip(names, offsets, strict=False), start=1):
        for some in _pieces(len(series[name]), len(features)):
            values = series[name][some].astype(np.float32, copy=False)
            scaled[begin:][some] = scaler.transform(values, np.full(len(values), row))
    readings = torch.from_numpy(scaled)
    first = None if start_from is None else start_from.network
    network, reports = train(
        architecture, readings, seen, held_out, options, on_epoch, first, on_step=on_step, ranks=ranks
    )
    return Learned(network, tuple(features), tuple(names), scaler, readings, seen, held_out, reports)


def calibrate(learned: Learned, *, interval_s: float, budget: AlertBudget | None = None) -> Detector:
    """The part of `fit` after training: what is usual for each stream, and the line."""
    most = normality.most_windows(len(learned.streams), learned.network.architecture)
    normal, calibrated = normality.fit(
        learned.network,
        learned.scaler,
        learned.readings,
        learned.seen.newest(most),
        learned.held_out.newest(most),
        interval_s=interval_s,
        budget=budget or AlertBudget(),
    )
    best = min(learned.reports, key=lambda report: report.held_out_loss)
    report = {
        "epochs": len(learned.reports),
        "best_epoch": best.epoch,
        "train_loss": best.train_loss,
        "held_out_loss": best.held_out_loss,
        **calibrated,
    }
    return Detector(learned.network, learned.features, learned.streams, learned.scaler, normal, interval_s, report)


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


def _filled(batch: NDArray[Any]) -> NDArray[Any]:
    """A batch of at least `FEWEST` rows; those added repeat the others."""
    if len(batch) >= FEWEST:
        return batch
    filled: NDArray[Any] = np.resize(batch, (FEWEST, *batch.shape[1:]))
    return filled
