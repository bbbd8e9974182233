"""Training is seeded, learns, stops early and says why it cannot go on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from models.errors import TrainingError
from models.fitting import training
from models.fitting.distributed import Ranks
from models.fitting.regularisers import REGULARISERS
from models.fitting.training import EpochReport, TrainingOptions
from models.fitting.windows import Runs
from models.network.architecture import Architecture
from models.network.autoencoder import Autoencoder
from tests import tiny

ARCHITECTURE = Architecture(features=2, window=16, patch=4, hidden=8, latent=3)
READINGS = torch.from_numpy(((tiny.wave(300) - [20, 5]) / [3, 2]).astype(np.float32))
SEEN, HELD_OUT = np.arange(200), np.arange(200, 284)
OPTIONS = TrainingOptions(epochs=4, steps_per_epoch=20, batch_size=10, learning_rate=1e-2)


def weights(options: TrainingOptions) -> list[float]:
    network, _ = training.train(ARCHITECTURE, READINGS, SEEN, HELD_OUT, options)
    return [float(v) for value in network.state_dict().values() for v in value.flatten()]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one, again, other = weights(OPTIONS), weights(OPTIONS), weights(dataclasses.replace(OPTIONS, seed=1))

    assert one == again
    assert one != other


def test_training_does_not_touch_the_global_random_state() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)

    training.train(ARCHITECTURE, READINGS, SEEN, HELD_OUT, OPTIONS)

    assert torch.equal(torch.rand(1), expected)


def test_the_loss_falls_and_each_epoch_is_reported() -> None:
    told: list[EpochReport] = []

    _, reports = training.train(ARCHITECTURE, READINGS, SEEN, HELD_OUT, OPTIONS, told.append)

    assert told == reports
    assert [report.epoch for report in reports] == [1, 2, 3, 4]
    assert reports[-1].held_out_loss < 0.8 * reports[0].held_out_loss
    assert reports[-1].train_loss < reports[0].train_loss


def test_the_weights_are_those_of_the_best_epoch() -> None:
    network, reports = training.train(ARCHITECTURE, READINGS, SEEN, HELD_OUT, OPTIONS)

    best = min(report.held_out_loss for report in reports)
    assert training.evaluate(network, READINGS, HELD_OUT) == pytest.approx(best, rel=1e-3)
    assert not network.training


def test_the_weights_go_back_to_the_best_epoch_when_later_ones_are_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    losses, seen = [3.0, 1.0, 2.0, 2.0], list[torch.Tensor]()

    def scripted(network: Autoencoder, *_: object) -> float:
        seen.append(network.head.bias.detach().clone())
        return losses[len(seen) - 1]

    monkeypatch.setattr(training, "evaluate", scripted)
    network, _ = training.train(ARCHITECTURE, READINGS, SEEN, HELD_OUT, OPTIONS)

    assert torch.equal(network.head.bias, seen[1])
    assert not torch.equal(network.head.bias, seen[3])


def test_training_stops_when_the_held_out_loss_no_longer_falls() -> None:
    options = dataclasses.replace(OPTIONS, epochs=6, patience=2, learning_rate=1e-30)

    _, reports = training.train(ARCHITECTURE, READINGS, SEEN, HELD_OUT, options)

    # best  -  -     nothing is learned at this rate
    assert [report.best for report in reports] == [True, False, False]


def test_training_does_not_stop_in_the_first_half() -> None:
    options = dataclasses.replace(OPTIONS, epochs=12, patience=2, learning_rate=1e-30)

    _, reports = training.train(ARCHITECTURE, READINGS, SEEN, HELD_OUT, options)

    assert len(reports) == 6


def test_the_forecast_of_a_patch_knows_nothing_of_it_or_of_later_ones() -> None:
    network = Autoencoder(ARCHITECTURE).eval()
    windows = READINGS[None, :16]
    other = windows.clone()
    other[:, 8:] += 1.0  # the third of four patches, and the last

    _, forecast = network.read(windows)
    _, after = network.read(other)

    assert forecast is not None
    assert after is not None
    assert forecast.shape == (1, 12, 2)  # of patches 2, 3 and 4
    assert torch.equal(forecast[:, :8], after[:, :8])
    assert not torch.equal(forecast[:, 8:], after[:, 8:])


def test_training_teaches_the_forecast() -> None:
    network, _ = training.train(ARCHITECTURE, READINGS, SEEN, HELD_OUT, dataclasses.replace(OPTIONS, epochs=12))
    windows = training.gather(READINGS, torch.from_numpy(HELD_OUT), 16)

    _, forecast = network.read(windows)

    assert forecast is not None
    assert (forecast - windows[:, 4:]).square().mean() < 0.3 * windows.var()


def test_one_epoch_of_one_window_is_enough() -> None:
    options = TrainingOptions(epochs=1, steps_per_epoch=1, batch_size=1)

    _, reports = training.train(ARCHITECTURE, READINGS, SEEN[:1], HELD_OUT[:1], options)

    assert len(reports) == 1


@pytest.mark.parametrize(("seen", "held_out"), [(SEEN[:0], HELD_OUT), (SEEN, HELD_OUT[:0])])
def test_without_windows_training_says_what_to_give(seen: training.Rows, held_out: training.Rows) -> None:
    with pytest.raises(
        TrainingError, match=r"at least one window to learn from and one held out; got .* shorter window"
    ):
        training.train(ARCHITECTURE, READINGS, seen, held_out, OPTIONS)


def test_a_loss_that_is_no_number_is_an_error_that_names_the_learning_rate() -> None:
    with pytest.raises(TrainingError, match=r"no longer finite in epoch 1; lower model\.learning_rate"):
        training.train(ARCHITECTURE, READINGS * torch.nan, SEEN, HELD_OUT, OPTIONS)


def test_gathered_windows_are_slices_of_the_readings() -> None:
    windows = training.gather(READINGS, torch.tensor([0, 7]), 5)

    assert torch.equal(windows, torch.stack([READINGS[0:5], READINGS[7:12]]))


def test_evaluation_does_not_depend_on_the_batch_size() -> None:
    network, _ = training.train(ARCHITECTURE, READINGS, SEEN, HELD_OUT, dataclasses.replace(OPTIONS, epochs=1))

    losses = [training.evaluate(network, READINGS, HELD_OUT, batch_size=size) for size in (1, 10, 1024)]

    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_runs_stand_for_all_their_rows() -> None:
    runs = Runs(np.array([0, 10, 20]), np.array([3, 10, 22]))

    assert len(runs) == 5
    assert runs[np.arange(5)].tolist() == [0, 1, 2, 20, 21]
    assert [some.tolist() for some in runs.newest(2)] == [[1, 2], [], [20, 21]]


def test_windows_from_a_mapped_file_give_the_same_weights(tmp_path: Path) -> None:
    READINGS.numpy().tofile(tmp_path / "readings")
    mapped = torch.from_numpy(np.memmap(tmp_path / "readings", np.float32, "r+", shape=tuple(READINGS.shape)))

    in_memory, _ = training.train(ARCHITECTURE, READINGS, SEEN, HELD_OUT, OPTIONS)
    in_file, _ = training.train(
        ARCHITECTURE, mapped, Runs(SEEN[:1], SEEN[-1:] + 1), Runs(HELD_OUT[:1], HELD_OUT[-1:] + 1), OPTIONS
    )

    for one, other in zip(in_memory.parameters(), in_file.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("clip_norm", "held"), [(0.01, True), (1e9, False)])
def test_a_step_never_sees_a_gradient_beyond_the_limit(clip_norm: float, held: bool) -> None:
    norms = list[float]()

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        gradients = [p.grad.norm() for group in optimizer.param_groups for p in group["params"]]
        norms.append(float(torch.stack(gradients).norm()))

    hook = register_optimizer_step_pre_hook(look)
    try:
        training.train(ARCHITECTURE, READINGS, SEEN, HELD_OUT, dataclasses.replace(OPTIONS, clip_norm=clip_norm))
    finally:
        hook.remove()

    assert (max(norms) <= 0.01 * 1.001) is held


def test_every_step_is_told() -> None:
    told = list[tuple[int, int]]()

    training.train(
        ARCHITECTURE, READINGS, SEEN, HELD_OUT, OPTIONS, on_step=lambda done, most: told.append((done, most))
    )

    assert told == [(step, 80) for step in range(1, 81)]


def test_mixed_precision_learns_as_well_and_leaves_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    # not every CPU has an LSTM in half precision
    architecture = dataclasses.replace(ARCHITECTURE, backbone="dense")
    _, plain = training.train(architecture, READINGS, SEEN, HELD_OUT, OPTIONS)
    monkeypatch.setattr(training, "mixed_precision", lambda *_: torch.bfloat16)

    network, mixed = training.train(architecture, READINGS, SEEN, HELD_OUT, OPTIONS)

    assert mixed[-1].held_out_loss != plain[-1].held_out_loss
    assert mixed[-1].held_out_loss == pytest.approx(plain[-1].held_out_loss, rel=0.1)
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("device", "regulariser", "bf16", "expected"),
    [
        ("cpu", "plain", True, None),
        ("cuda", "plain", True, torch.bfloat16),
        ("cuda", "plain", False, torch.float16),
        ("cuda", "contractive", True, None),  # its finite difference would drown in the rounding
    ],
)
def test_what_is_computed_in_half_precision(
    monkeypatch: pytest.MonkeyPatch, device: str, regulariser: str, bf16: bool, expected: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    kind = REGULARISERS[regulariser](ARCHITECTURE)

    assert training.mixed_precision(torch.device(device), kind) == expected


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"model\.batch_size .* must be a multiple of them; got 10 for 4"):
        training.train(ARCHITECTURE, READINGS, SEEN, HELD_OUT, OPTIONS, ranks=Ranks(0, 4))
