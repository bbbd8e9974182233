"""One list of laws that every backbone with every regulariser obeys.

Each is fitted once, tiny, on two channels that follow one sine. What only some can do
(draw windows, sparse codes) stands below the laws.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.detector import Detector
from models.errors import ShapeError
from models.fitting import training
from models.fitting.fit import fit as fit_detector
from models.fitting.regularisers import REGULARISERS as REGULARISER_KINDS
from models.fitting.regularisers import Contractive, SparseKl, Variational
from models.fitting.training import EpochReport, TrainingOptions
from models.network.architecture import BACKBONES, REGULARISERS, Architecture
from models.network.autoencoder import Autoencoder
from models.network.backbones import BACKBONES as BACKBONE_KINDS
from models.store import bundle
from streamer.config import ModelConfig
from tests import tiny
from tests.tiny import LENGTH, PATCH

Float32 = NDArray[np.float32]

OPTIONS = TrainingOptions(epochs=6, steps_per_epoch=30, batch_size=32, learning_rate=1e-2)
# Backbone, regulariser, layers, columns of context.
FAMILY: list[tuple[str, str, int, int]] = [
    (backbone, regulariser, 1, context)
    for context, backbone, regulariser in itertools.product((0, 2), BACKBONES, REGULARISERS)
]
STACKED: list[tuple[str, str, int, int]] = [
    (backbone, "plain", 2, context) for context, backbone in itertools.product((0, 2), BACKBONES)
]
CONTEXT = "time-of-day"

every_member = pytest.mark.parametrize(("backbone", "regulariser", "layers", "context"), FAMILY + STACKED)
with_context = pytest.mark.parametrize(("backbone", "regulariser"), list(itertools.product(BACKBONES, REGULARISERS)))


def clocked(values: Float32, columns: int) -> Float32:
    """Readings that begin at midnight of a day of 24 readings, and what a clock says beside them."""
    turn = 2 * np.pi * np.arange(len(values)) / 24
    clock = np.stack([np.sin(turn), np.cos(turn)], 1).astype(np.float32)
    return np.concatenate([values, clock[:, :columns]], 1)


def series(context: int) -> dict[str, Float32]:
    return {name: clocked(tiny.wave(600, seed=i, level=10.0 * i), context) for i, name in enumerate(tiny.STREAMS)}


SERIES = series(0)


def make(backbone: str, regulariser: str, layers: int = 1, context: int = 0) -> Architecture:
    return Architecture(
        features=2,
        window=LENGTH,
        patch=PATCH,
        hidden=16,
        latent=4,
        layers=layers,
        backbone=backbone,
        regulariser=regulariser,
        context=context,
    )


def fit(a: Architecture, **changes: Any) -> tuple[Detector, list[EpochReport]]:
    reports: list[EpochReport] = []
    fitted = fit_detector(
        series(a.context),
        tiny.FEATURES,
        a,
        interval_s=60,
        context=[CONTEXT][: a.context],
        holdout=0.25,
        on_epoch=reports.append,
        **{"options": OPTIONS} | changes,
    )
    return fitted, reports


@functools.cache
def fitted(backbone: str, regulariser: str, layers: int = 1, context: int = 0) -> tuple[Detector, list[EpochReport]]:
    """One of the family, made once for all laws; never changed by a test."""
    return fit(make(backbone, regulariser, layers, context))


def windows(model: Detector, values: Float32, row: int = 1) -> tuple[Float32, NDArray[np.int64]]:
    """Every window of a stream's readings, in model units, and its table row."""
    inputs = model.prepare(clocked(values, model.architecture.context), np.full(len(values), row))
    cut = np.lib.stride_tricks.sliding_window_view(inputs, LENGTH, axis=0).transpose(0, 2, 1)
    return np.ascontiguousarray(cut), np.full(len(cut), row)


def weights(network: Autoencoder) -> list[bytes]:
    return [value.numpy().tobytes() for value in network.state_dict().values()]


# -------------------------------------------------------------------------------------------------------- the laws


@every_member
def test_windows_keep_their_shape_and_latents_have_the_bottlenecks(
    backbone: str, regulariser: str, layers: int, context: int
) -> None:
    model, _ = fitted(backbone, regulariser, layers, context)
    cut, rows = windows(model, tiny.wave(40, seed=3))

    score, error = model.score(cut, rows)

    with torch.inference_mode():
        assert model.network(torch.from_numpy(cut)).shape == (len(cut), LENGTH, 2)
    assert model.embed(cut).shape == (len(cut), 4)
    assert score.shape == error.shape == (len(cut),)
    assert model.explain(cut[0], 1).shares.sum() == pytest.approx(1, abs=1e-5)


@every_member
def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_random_state_alone(
    backbone: str, regulariser: str, layers: int, context: int
) -> None:
    readings = torch.from_numpy(clocked(((tiny.wave(120) - [20, 5]) / [3, 2]).astype(np.float32), context))
    state = torch.random.get_rng_state()

    def trained(seed: int) -> list[bytes]:
        options = TrainingOptions(epochs=1, steps_per_epoch=3, batch_size=16, seed=seed)
        a = make(backbone, regulariser, layers, context)
        return weights(training.train(a, readings, np.arange(80), np.arange(80, 100), options)[0])

    assert trained(0) == trained(0) != trained(1)
    assert torch.equal(torch.random.get_rng_state(), state)


@every_member
def test_scores_do_not_depend_on_chance(backbone: str, regulariser: str, layers: int, context: int) -> None:
    model, _ = fitted(backbone, regulariser, layers, context)
    cut, rows = windows(model, tiny.wave(40, seed=3))

    for one, other in zip(model.score(cut, rows), model.score(cut, rows), strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(model.embed(cut), model.embed(cut))


@every_member
def test_a_loaded_one_scores_and_embeds_as_the_saved_one(
    backbone: str, regulariser: str, layers: int, context: int, tmp_path: Path
) -> None:
    model, _ = fitted(backbone, regulariser, layers, context)
    cut, rows = windows(model, tiny.wave(40, seed=3))

    bundle.save(model, tmp_path, created=datetime(2026, 1, 2, tzinfo=UTC), fingerprint="")
    loaded, _ = bundle.load(tmp_path)

    assert loaded.architecture == model.architecture
    assert np.array_equal(loaded.score(cut, rows)[0], model.score(cut, rows)[0])
    assert np.array_equal(loaded.embed(cut), model.embed(cut))
    # Nothing but the autoencoder is stored: no discriminator.
    parts = {name.split(".")[0] for name in model.network.state_dict()}
    assert parts - {"forecaster"} == {"encoder", "bottleneck", "decoder", "head"}
    assert ("forecaster" in parts) == (backbone in ("lstm", "gru"))


@every_member
def test_scores_and_latents_differ_by_less_than_a_millionth_whatever_the_batch(
    backbone: str, regulariser: str, layers: int, context: int
) -> None:
    model, _ = fitted(backbone, regulariser, layers, context)
    values = tiny.wave(60, seed=9)
    values[40] += [0, 8]
    cut, rows = windows(model, values)

    together, embedded = model.score(cut, rows)[0], model.embed(cut)
    for size in (1, 7):
        parts = [slice(i, i + size) for i in range(0, len(cut), size)]
        alone = np.concatenate([model.score(cut[part], rows[part])[0] for part in parts])
        assert alone == pytest.approx(together, rel=1e-6, abs=1e-6)
        assert np.concatenate([model.embed(cut[part]) for part in parts]) == pytest.approx(embedded, rel=1e-6, abs=1e-6)


@every_member
def test_the_loss_falls(backbone: str, regulariser: str, layers: int, context: int) -> None:
    _, reports = fitted(backbone, regulariser, layers, context)

    assert min(report.held_out_loss for report in reports) < 0.8 * reports[0].held_out_loss
    assert reports[-1].train_loss < 0.8 * reports[0].train_loss


@every_member
@pytest.mark.parametrize("fault", ["spike", "stuck", "decoupled"])
def test_an_obvious_anomaly_scores_higher(
    backbone: str, regulariser: str, layers: int, context: int, fault: str
) -> None:
    model, _ = fitted(backbone, regulariser, layers, context)
    values = tiny.wave(200, seed=11)
    begin = 100
    if fault == "spike":
        values[begin : begin + 2] += [9.0, -6.0]
    elif fault == "stuck":
        values[begin : begin + 16] = values[begin] + [3.0, 2.0]
    else:  # one channel follows the sine turned over
        values[begin : begin + 16, 1] = 10 - values[begin : begin + 16, 1]

    score, _ = model.score(*windows(model, values))

    # Window k ends at reading k + LENGTH - 1.
    ends = np.arange(len(score)) + LENGTH - 1
    clean, faulty = score[ends < begin], score[(ends >= begin) & (ends < begin + 16)]
    assert faulty.max() > 1.2 * clean.max()


@every_member
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_windows_that_are_not_finite_are_refused(
    backbone: str, regulariser: str, layers: int, context: int, bad: float
) -> None:
    model, _ = fitted(backbone, regulariser, layers, context)
    cut, rows = windows(model, tiny.wave(20, seed=3))
    cut[2, 5, 1] = bad

    with pytest.raises(ShapeError, match="windows must be finite; 1 of 5 are not"):
        model.score(cut, rows)
    with pytest.raises(ShapeError, match="windows must be finite; 1 of 5 are not"):
        model.embed(cut)


@every_member
def test_windows_of_another_shape_are_refused(backbone: str, regulariser: str, layers: int, context: int) -> None:
    model, _ = fitted(backbone, regulariser, layers, context)

    with pytest.raises(ShapeError, match=rf"windows must be \(batch, 16, {2 + context}\); got \(20, 16, 5\)"):
        model.embed(np.zeros((20, LENGTH, 5), np.float32))


@every_member
def test_a_warm_start_begins_where_the_earlier_one_ended(
    backbone: str, regulariser: str, layers: int, context: int
) -> None:
    earlier, cold = fitted(backbone, regulariser, layers, context)

    a, few = make(backbone, regulariser, layers, context), dataclasses.replace(OPTIONS, epochs=1, steps_per_epoch=5)
    warm = fit(a, start_from=earlier, options=few)[1]
    alone = fit(a, options=few)[1]

    # Five steps from there against the same five from nothing.
    assert warm[0].held_out_loss < 0.8 * alone[0].held_out_loss
    assert warm[0].held_out_loss < 1.1 * cold[0].held_out_loss


# ----------------------------------------------------------------------------------------------------- with a context


@with_context
def test_a_context_is_read_but_neither_scored_nor_explained(backbone: str, regulariser: str) -> None:
    model, _ = fitted(backbone, regulariser, context=2)
    cut, rows = windows(model, tiny.wave(40, seed=3))
    off = cut.copy()
    off[:, :, 2:] *= -1  # twelve hours later

    log_errors, _ = model.measure(cut, rows)
    why = model.explain(cut[0], 1)

    assert log_errors.shape == (len(cut), len(model.scales), 2)
    assert why.observed.shape == why.expected.shape == (LENGTH, 2)
    assert why.shares.shape == (2,)
    assert model.baseline.typical.shape[2] == model.scaler.center.shape[1] == 2
    # The network was taught that the wave follows the clock.
    assert np.median(model.measure(off, rows)[1]) > 1.02 * np.median(model.measure(cut, rows)[1])


@with_context
def test_with_a_context_missing_values_are_filled_and_counted_in_the_features_alone(
    backbone: str, regulariser: str
) -> None:
    model, _ = fitted(backbone, regulariser, context=2)
    values = tiny.wave(60, seed=5)
    values[30:34, 1] = np.nan
    cut, rows = windows(model, values)

    filled = model.fill(cut)
    log_errors, error = model.measure(cut, rows, has_missing=True)

    there = ~np.isnan(cut)
    assert np.array_equal(filled[there], cut[there])
    assert np.isfinite(filled).all()
    assert not np.isnan(log_errors).any()  # where all of a patch was missing there is no error: its log is -inf
    assert np.isfinite(error).all()
    with torch.inference_mode():
        batch = model.network(torch.from_numpy(filled[:3])).numpy()
    assert np.abs(batch - model.network(torch.from_numpy(filled))[:3].detach().numpy()).max() < 1e-5


def test_noise_of_training_leaves_the_context_as_it_is() -> None:
    given = torch.zeros(3, LENGTH, 4)

    noisy = REGULARISER_KINDS["denoising"](make("dense", "denoising", context=2)).corrupt(given)

    assert (noisy[:, :, :2] != 0).all()
    assert not noisy[:, :, 2:].any()


def test_windows_are_drawn_for_the_context_they_are_to_have() -> None:
    model, _ = fitted("dense", "variational", context=2)
    clock = clocked(np.zeros((LENGTH, 2), np.float32), 2)[:, 2:]

    day, night = (model.generate(50, seed=4, row=1, context=sign * clock) for sign in (1, -1))

    assert day.shape == (50, LENGTH, 2)
    assert not np.allclose(day, night)
    with pytest.raises(ShapeError, match=r"context of windows to be drawn must be \(16, 2\); got \(16, 0\)"):
        model.generate(1, seed=0)


@pytest.mark.parametrize(
    ("names", "columns"), [((), 2), (("time-of-day",), 0), (("time-of-day", "day-of-week", "session-phase"), 2)]
)
def test_a_context_without_its_names_or_names_without_a_context_are_refused(
    names: tuple[str, ...], columns: int
) -> None:
    with pytest.raises(ShapeError, match=f"a network with {columns} columns of context needs names"):
        fit_detector(
            series(columns), tiny.FEATURES, make("dense", "plain", context=columns), interval_s=60, context=names
        )


# ------------------------------------------------------------------------------------------------- what fits together


def test_every_word_has_its_class_and_the_configuration_knows_it() -> None:
    fields = ModelConfig.model_fields

    assert set(BACKBONES) == set(BACKBONE_KINDS) == set(get_args(fields["backbone"].annotation))
    assert set(REGULARISERS) == set(REGULARISER_KINDS) == set(get_args(fields["regulariser"].annotation))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backbone": "conv", "layers": 3}, r"16 / 4 = 4 patches and layers 3: take fewer layers"),
        ({"backbone": "conv", "patch": 16}, r"16 / 16 = 1 patches and layers 1"),
        ({"regulariser": "sparse-kl", "latent": 1}, "with latent 1 most windows would have no active unit"),
    ],
)
def test_what_makes_no_sense_together_is_refused_in_words(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        Architecture(**{"features": 2, "window": 16, "patch": 4, "layers": 1} | change)


def test_a_warm_start_from_another_make_is_refused_with_what_differs() -> None:
    earlier, _ = fitted("gru", "plain")

    with pytest.raises(ShapeError, match="wanted is backbone 'lstm', not 'gru'; regulariser 'sparse', not 'plain'"):
        fit(make("lstm", "sparse"), start_from=earlier)
    with pytest.raises(ShapeError, match=r"needs the features of the detector it starts from, \['heat', 'current'\]"):
        fit_detector(SERIES, ["current", "heat"], make("gru", "plain"), interval_s=60, start_from=earlier)


def test_a_warm_start_from_another_context_is_refused() -> None:
    earlier, _ = fitted("gru", "plain", context=2)
    a = make("gru", "plain", context=2)

    with pytest.raises(ShapeError, match="wanted is context 0, not 2"):
        fit(make("gru", "plain"), start_from=dataclasses.replace(earlier, context=()))
    with pytest.raises(ShapeError, match=r"needs the context of the detector it starts from, \['time-of-day'\]; got"):
        fit_detector(series(2), tiny.FEATURES, a, interval_s=60, context=["time-of-day of XNYS"], start_from=earlier)


def test_a_warm_start_leaves_the_earlier_one_as_it_was() -> None:
    earlier, _ = fitted("dense", "plain")
    before = weights(earlier.network)

    fit(make("dense", "plain"), start_from=earlier, options=TrainingOptions(epochs=1, steps_per_epoch=2, batch_size=16))

    assert weights(earlier.network) == before


# --------------------------------------------------------------------------------------------- what only some can do


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("regulariser", ["variational", "adversarial"])
def test_drawn_windows_look_like_the_stream_and_follow_their_seed(backbone: str, regulariser: str) -> None:
    model, _ = fitted(backbone, regulariser)

    drawn = model.generate(300, seed=4, row=1)

    assert drawn.shape == (300, LENGTH, 2)
    assert np.array_equal(drawn, model.generate(300, seed=4, row=1))
    assert not np.array_equal(drawn, model.generate(300, seed=5, row=1))
    # Stream "a" swings between 17 and 23, and 3 and 7; its channels are opposites.
    assert drawn.mean((0, 1)) == pytest.approx([20, 5], abs=1)
    assert np.corrcoef(drawn[..., 0].ravel(), drawn[..., 1].ravel())[0, 1] < -0.8
    assert 0.3 < drawn[..., 0].std() / tiny.wave(600)[:, 0].std() < 1.7


@pytest.mark.parametrize("regulariser", sorted(set(REGULARISERS) - {"variational", "adversarial"}))
def test_what_has_no_prior_draws_no_windows_and_says_which_can(regulariser: str) -> None:
    model, _ = fitted("dense", regulariser)

    with pytest.raises(ShapeError, match=f"regulariser variational, adversarial; this one has '{regulariser}'"):
        model.generate(1, seed=0)


def latents(regulariser: str, strength: float | None) -> Float32:
    """Of every window of a stream, after training with this strength."""
    model, _ = fit(make("dense", regulariser), options=dataclasses.replace(OPTIONS, strength=strength))
    return model.embed(windows(model, tiny.wave(200, seed=3))[0])


def test_sparse_latents_shrink_with_strength() -> None:
    assert np.abs(latents("sparse", 0.1)).mean() < 0.5 * np.abs(latents("plain", None)).mean()


def test_activations_of_sparse_kl_come_near_their_target() -> None:
    near, free = latents("sparse-kl", 10.0), latents("sparse-kl", 1e-9)

    assert ((near > 0) & (near < 1)).all()
    assert np.abs(near.mean(0) - 0.05).max() < 0.02
    assert np.abs(free.mean(0) - 0.05).min() > 0.2


@pytest.mark.parametrize("regulariser", ["variational", "adversarial"])
def test_latents_are_drawn_to_the_middle_of_a_standard_normal(regulariser: str) -> None:
    held, free = latents(regulariser, None), latents(regulariser, 1e-9)

    assert np.abs(held.mean(0)).mean() < 0.6 * np.abs(free.mean(0)).mean()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_contractive_penalty_is_the_squared_norm_of_the_jacobian(backbone: str) -> None:
    torch.manual_seed(0)
    network = Autoencoder(make(backbone, "contractive")).eval()
    x = torch.randn(2, LENGTH, 2, requires_grad=True)
    rows = [torch.autograd.grad(network.encode(x)[:, k].sum(), x)[0] for k in range(4)]
    exact = torch.stack(rows)  # (latent, batch, window, features)
    wanted = float(exact.square().sum((0, 2, 3)).mean())

    many = x.detach().repeat(4000, 1, 1)
    with torch.no_grad():
        estimate = float(Contractive(network.architecture, seed=3).squared_norm(network, many, network.encode(many)))

    assert estimate == pytest.approx(wanted, rel=0.05)


def test_a_contractive_encoder_moves_less() -> None:
    a = make("dense", "contractive")
    x = torch.from_numpy(windows(fitted("dense", "plain")[0], tiny.wave(200, seed=3))[0])

    def norm(strength: float) -> float:
        model, _ = fit(a, options=TrainingOptions(epochs=3, steps_per_epoch=20, batch_size=32, strength=strength))
        with torch.no_grad():
            return float(Contractive(a).squared_norm(model.network, x, model.network.encode(x)))

    assert norm(1.0) < 0.5 * norm(1e-6)


def test_the_variational_penalty_is_the_divergence_from_a_standard_normal() -> None:
    network, x = Autoencoder(make("dense", "variational")), torch.zeros(1, LENGTH, 2)
    code = torch.tensor([[1.0, 0, 0, 0, 0, np.log(4.0), 0, 0]])  # mean 1 of the first, variance 4 of the second

    penalty = Variational(network.architecture, strength=0.5).penalty(network, x, code, code[:, :4])

    # 1/2 from the mean, (4 - 1 - log 4) / 2 from the variance; twice the strength over 32 values
    assert float(penalty) == pytest.approx((0.5 + (3 - np.log(4)) / 2) / 32, rel=1e-5)


def test_the_divergence_of_sparse_kl_is_zero_at_its_target() -> None:
    network, x = Autoencoder(make("dense", "sparse-kl")), torch.zeros(1, LENGTH, 2)
    kind = SparseKl(network.architecture, strength=1.0, target_activation=0.2)

    at, off = (
        float(kind.penalty(network, x, latent, latent)) for latent in (torch.full((3, 4), v) for v in (0.2, 0.5))
    )

    assert at == pytest.approx(0, abs=1e-6)
    assert off == pytest.approx(0.2 * np.log(0.4) + 0.8 * np.log(1.6), rel=1e-5)


def test_a_denoising_network_rebuilds_a_noisy_window_better() -> None:
    noise = np.random.default_rng(1).normal(size=(185, LENGTH, 2)).astype(np.float32)

    def error(regulariser: str) -> float:
        model, _ = fit(
            make("dense", regulariser),
            options=TrainingOptions(epochs=8, steps_per_epoch=30, batch_size=32, learning_rate=1e-2, strength=0.7),
        )
        clean = windows(model, tiny.wave(200, seed=3))[0]
        with torch.inference_mode():
            rebuilt = model.network(torch.from_numpy(clean + 0.7 * noise)).numpy()
        return float(((rebuilt - clean) ** 2).mean())

    assert error("denoising") < 0.9 * error("plain")
