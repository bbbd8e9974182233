"""Fit the autoencoder: seeded, with early stopping on a held-out tail.

One loop for every backbone and regulariser; what differs are the hooks of `regularisers`.
Windows are gathered from the readings batch by batch, wherever these are: in memory, in a
mapped file or on a GPU; overlaps are never materialised. Not inside: scaling, calibration,
files, any printing (progress goes to callbacks), how several processes talk (`ranks`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.errors import ShapeError, TrainingError
from models.fitting.distributed import ALONE, Ranks
from models.fitting.regularisers import REGULARISERS, Regulariser
from models.fitting.windows import Runs
from models.network.architecture import Architecture
from models.network.autoencoder import Autoencoder

Rows = NDArray[np.int64]

# With a few hundred windows an epoch would be a step or two, and training would stop while the learning rate still
# rises. Measured on 20 series of some hundred windows each: the area under precision and recall rose from .37 to .43.
_FEWEST_STEPS = 30
_DEVICE_SHARE = 0.5  # of a GPU's free memory that readings may take; the rest is the network's


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How long and how carefully to train."""

    epochs: int = 24
    steps_per_epoch: int = 50  # at most; fewer when there are fewer windows, but 30 if allowed
    patience: int = 5  # epochs without a better held-out loss before stopping, in the second half
    batch_size: int = 256  # over all processes
    learning_rate: float = 3e-3
    seed: int = 0
    device: str = "cpu"  # where the network trains; "cuda:0" and so on
    clip_norm: float = 1.0
    strength: float | None = None  # of the regulariser, in its own unit; None: its default
    target_activation: float | None = None  # for sparse-kl; None: its default


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What one epoch brought.

    Losses are in model units, without the penalty: the mean squared error of the reconstruction,
    plus that of the forecast if the network has one.
    """

    epoch: int  # from 1
    epochs: int  # at most
    train_loss: float
    held_out_loss: float
    best: bool


OnEpoch = Callable[[EpochReport], None]
OnStep = Callable[[int, int], None]  # steps done, steps at most


def gather(readings: Tensor, starts: Tensor, length: int) -> Tensor:
    """Windows `(n, length, width)` that begin at rows `starts` of `readings` `(rows, width)`."""
    return readings[starts.to(readings.device)[:, None] + torch.arange(length, device=readings.device)]


def train(
    architecture: Architecture,
    readings: Tensor,
    train_starts: Rows | Runs,
    held_out_starts: Rows | Runs,
    options: TrainingOptions,
    on_epoch: OnEpoch = lambda report: None,
    start_from: Autoencoder | None = None,
    *,
    on_step: OnStep = lambda done, most: None,
    ranks: Ranks = ALONE,
) -> tuple[Autoencoder, list[EpochReport]]:
    """Train one autoencoder; the weights of the best held-out epoch are returned.

    Args:
        architecture: What to build.
        readings: All streams' readings in model units, `(rows, features + context)`, one stream
            after another; on the CPU, may be a mapped file.
        train_starts: First rows of the windows to learn from.
        held_out_starts: First rows of the windows that decide when to stop.
        options: Length and care.
        on_epoch: Called after every epoch.
        start_from: A network of the same architecture whose weights are the first ones
            (warm start); None begins with random ones.
        on_step: Called after every step.
        ranks: The processes that train together; each is given the same arguments and
            returns the same network.

    Returns:
        The network, on the CPU in float32, and what each epoch brought.

    Raises:
        TrainingError: No windows, a batch that cannot be shared, or the loss stopped being finite.
        ShapeError: `start_from` is of another architecture.

    The same seed gives the same weights on the same machine and thread count, on the CPU.
    """
    if not len(train_starts) or not len(held_out_starts):
        raise TrainingError(
            f"training needs at least one window to learn from and one held out; got {len(train_starts)} and "
            f"{len(held_out_starts)}: give more readings, or a shorter window.length"
        )
    ranks.check(options.batch_size)
    trainer = _Trainer(architecture, readings, options, start_from, ranks, len(train_starts))
    order = np.random.default_rng(options.seed)
    # A few thousand held-out windows, spread evenly over all streams, are enough for the loss.
    judged = held_out_starts[np.arange(0, len(held_out_starts), max(1, len(held_out_starts) // 4096))]
    if len(judged) >= ranks.size:
        judged = ranks.share(judged)
    best_loss, best_weights, reports = np.inf, trainer.weights(), list[EpochReport]()
    since_best, steps = 0, trainer.steps
    for epoch in range(1, options.epochs + 1):
        drawn = steps * options.batch_size
        chosen = train_starts[order.choice(len(train_starts), drawn, replace=drawn > len(train_starts))]
        done = functools.partial(_report_step, on_step, (epoch - 1) * steps, options.epochs * steps)
        total = trainer.epoch(chosen.reshape(steps, options.batch_size), done)
        train_loss, held_out_loss, weight = ranks.sum(
            total / steps, evaluate(trainer.network, trainer.readings, judged) * len(judged), len(judged)
        )
        train_loss, held_out_loss = train_loss / ranks.size, held_out_loss / weight
        if not np.isfinite(train_loss + held_out_loss):
            raise TrainingError(
                f"the loss is no longer finite in epoch {epoch}; lower model.learning_rate "
                f"(now {options.learning_rate}) or look for wild values in the data"
            )
        better = held_out_loss < best_loss * (1 - 1e-4)
        if better:
            best_loss, since_best = held_out_loss, 0
            best_weights = {name: value.clone() for name, value in trainer.weights().items()}
        else:
            since_best += 1
        reports.append(EpochReport(epoch, options.epochs, train_loss, held_out_loss, better))
        on_epoch(reports[-1])
        # While the learning rate is high a pause says little.
        if since_best >= options.patience and 2 * epoch >= options.epochs:
            break
    trainer.network.load_state_dict(best_weights)
    return trainer.network.cpu().eval(), reports


def _report_step(on_step: OnStep, before: int, most: int, step: int) -> None:
    on_step(before + step, most)


class _Trainer:
    """One network in training: its optimiser, schedule and regulariser, and the steps they make together."""

    def __init__(
        self,
        architecture: Architecture,
        readings: Tensor,
        options: TrainingOptions,
        start_from: Autoencoder | None,
        ranks: Ranks,
        windows: int,
    ) -> None:
        self.options, self.ranks = options, ranks
        self.device = device = torch.device(options.device)
        self.network = network = _first_network(architecture, options.seed, start_from).to(device)
        self.regulariser = REGULARISERS[architecture.regulariser](
            architecture,
            strength=options.strength,
            target_activation=options.target_activation,
            seed=options.seed,
            device=device,
            ranks=ranks,
        )
        self.steps = steps = min(options.steps_per_epoch, max(windows // options.batch_size, _FEWEST_STEPS))
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=options.learning_rate, weight_decay=1e-5)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, options.learning_rate, total_steps=steps * options.epochs, pct_start=0.15
        )
        self.precision = mixed_precision(device, self.regulariser)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == torch.float16)
        self.readings = _near(readings, device)

    def weights(self) -> dict[str, Tensor]:
        return self.network.state_dict()

    def epoch(self, batches: Rows, on_step: Callable[[int], None]) -> float:
        """One step for each row of first rows `(steps, batch)`; the sum of their errors, without penalties."""
        self.network.train()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for step, batch in enumerate(batches, start=1):
            total += self._step(self.ranks.share(batch))
            on_step(step)
        return total.item()

    def _step(self, starts: Rows) -> Tensor:
        """Error of the windows that begin at `starts`, before the step they lead to."""
        network, regulariser = self.network, self.regulariser
        windows = _windows(self.readings, starts, network.architecture.window, self.device)
        given = regulariser.corrupt(windows)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
            code, forecast = network.read(given)
            latent = regulariser.sample(code.float())
            reconstruction = network.decode(latent, windows)
            penalty = regulariser.penalty(network, given, code.float(), latent)
        error = loss_of(reconstruction.float(), None if forecast is None else forecast.float(), windows)
        loss = error if penalty is None else error + penalty
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        # Averaged before the scale is taken out: an overflow anywhere makes every process skip the step.
        self.ranks.average_gradients(network.parameters())
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), self.options.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        regulariser.learn(latent.detach())
        return error.detach()


def _first_network(architecture: Architecture, seed: int, start_from: Autoencoder | None) -> Autoencoder:
    """Random weights, or those of `start_from`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Autoencoder(architecture)
    if start_from is not None:
        if different := architecture.differences(start_from.architecture):
            raise ShapeError(f"a warm start needs a network of the same architecture; wanted is {'; '.join(different)}")
        network.load_state_dict(start_from.state_dict())
    return network


def mixed_precision(device: torch.device, regulariser: Regulariser) -> torch.dtype | None:
    """What matrix products are computed in beside float32; None: nothing else.

    A CPU gains nothing from it here, and would no longer give the same bits everywhere.
    """
    if device.type != "cuda" or not regulariser.allows_mixed_precision:
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def _near(readings: Tensor, device: torch.device) -> Tensor:
    """The readings on the device, if they leave it room; else where they are."""
    if device.type != "cuda":
        return readings
    free, _ = torch.cuda.mem_get_info(device)
    return readings.to(device) if readings.nbytes <= _DEVICE_SHARE * free else readings


def _windows(readings: Tensor, starts: Rows, length: int, device: torch.device) -> Tensor:
    """Gathered windows on the device; from the host through pinned memory, while the device still computes."""
    windows = gather(readings, torch.from_numpy(starts), length)
    if windows.device.type == device.type:
        return windows
    return windows.pin_memory().to(device, non_blocking=True)


def loss_of(reconstruction: Tensor, forecast: Tensor | None, windows: Tensor) -> Tensor:
    """Mean squared error of the reconstruction, plus that of the forecast; what is beside the features counts not."""
    windows = windows[:, :, : reconstruction.shape[2]]
    error = nn.functional.mse_loss(reconstruction, windows)
    if forecast is None:
        return error
    return error + nn.functional.mse_loss(forecast, windows[:, -forecast.shape[1] :])


def evaluate(network: Autoencoder, readings: Tensor, starts: Rows, batch_size: int = 1024) -> float:
    """Loss of the windows that begin at `starts`, without any penalty."""
    network.eval()
    total, device = 0.0, network.bottleneck.weight.device
    with torch.inference_mode():
        for some in np.array_split(starts, -(-len(starts) // batch_size)):
            windows = _windows(readings, some, network.architecture.window, device)
            total += loss_of(*network.reconstruct_and_forecast(windows), windows).item() * len(some)
    return total / len(starts)
