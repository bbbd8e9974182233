"""What `test_ranks` has `torchrun` start: each process trains with the others and writes what came of it."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import torch

from models.fitting import training
from models.fitting.distributed import Ranks, join
from models.fitting.training import TrainingOptions
from models.fitting.windows import Runs
from models.network.architecture import Architecture
from tests import tiny

KINDS = ("plain", "denoising", "sparse", "sparse-kl", "contractive", "variational", "adversarial", "context")
OPTIONS = TrainingOptions(epochs=6, steps_per_epoch=12, batch_size=32, learning_rate=1e-2)


def learn(kind: str, ranks: Ranks) -> tuple[list[float], list[tuple[float, float]]]:
    """All weights, and the losses of each epoch."""
    context = 2 if kind == "context" else 0
    regulariser = "plain" if context else kind
    architecture = Architecture(2, window=16, patch=4, hidden=8, latent=3, regulariser=regulariser, context=context)
    readings = torch.from_numpy((tiny.wave(300) - [20, 5]) / [3, 2]).float()
    clock = 2 * torch.pi * torch.arange(300) / 24
    readings = torch.cat([readings, torch.stack([clock.sin(), clock.cos()], 1)[:, :context]], 1)
    seen, held_out = Runs(*torch.tensor([[0], [200]]).numpy()), Runs(*torch.tensor([[200], [285]]).numpy())
    # An empty stretch at this rate of learning: all must agree on when to stop.
    options = dataclasses.replace(OPTIONS, patience=1) if kind == "sparse" else OPTIONS
    network, reports = training.train(architecture, readings, seen, held_out, options, ranks=ranks)
    weights = [float(value) for tensor in network.state_dict().values() for value in tensor.flatten()]
    return weights, [(report.train_loss, report.held_out_loss) for report in reports]


def main() -> None:
    ranks = join()
    found = {"size": ranks.size, "said": ranks.gather(f"I am {ranks.rank} ü"), **{k: learn(k, ranks) for k in KINDS}}
    (Path(sys.argv[1]) / f"{ranks.rank}.json").write_text(json.dumps(found))
    ranks.leave()


if __name__ == "__main__":
    main()
