"""Training speed: gathering windows from a mapped file, from memory, and from written-out overlaps.

    python -m benchmarks.training

    mapped / in memory      windows trained a second, readings in a mapped file against in memory
    gathered / overlaps     the same, gathered from readings in memory against every window written out
    overlaps / readings     bytes of every window written out against bytes of the readings

The loop is the product's; written-out windows are given to it as readings that never overlap. Medians of
several rounds, all sides in turn. Not inside: files larger than memory (docs/training.md has figures of one).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time

import numpy as np
import torch

from models.fitting.training import TrainingOptions, train
from models.fitting.windows import Runs
from models.network.architecture import Architecture

ROWS, FEATURES = 100_000, 8
OPTIONS = TrainingOptions(epochs=1, steps_per_epoch=25)


def measure(rounds: int = 5) -> tuple[dict[str, float], dict[str, float]]:
    """The ratios, and absolute figures for scale."""
    architecture = Architecture(features=FEATURES)
    length = architecture.window
    values = np.random.default_rng(0).normal(size=(ROWS, FEATURES)).astype(np.float32)
    overlaps = np.lib.stride_tricks.sliding_window_view(values, length, axis=0).transpose(0, 2, 1)  # a view
    written = torch.from_numpy(overlaps.reshape(-1, FEATURES))  # now a copy
    starts = np.arange(len(overlaps))
    few = Runs(starts[:1], starts[:1] + 64)  # held out: the least, for it is not what is measured
    every = Runs(starts[:1], starts[-1:] + 1)
    rates: dict[str, list[float]] = {"memory": [], "mapped": [], "overlaps": []}
    with tempfile.TemporaryFile() as file:
        file.write(values.tobytes())
        file.flush()
        mapped = torch.from_numpy(np.memmap(file, np.float32, "r+", 0, values.shape))
        for round_ in range(rounds + 1):
            sides = (("memory", torch.from_numpy(values), every), ("mapped", mapped, every))
            for name, readings, seen in (*sides, ("overlaps", written, starts * length)):
                began = time.perf_counter()
                train(architecture, readings, seen, few, OPTIONS)
                if round_:  # the first warms up
                    windows = OPTIONS.steps_per_epoch * OPTIONS.batch_size
                    rates[name].append(windows / (time.perf_counter() - began))

    def ratio(above: str, below: str) -> float:
        return statistics.median(a / b for a, b in zip(rates[above], rates[below], strict=True))

    ratios = {
        "mapped / in memory": ratio("mapped", "memory"),
        "gathered / overlaps": ratio("memory", "overlaps"),
        "overlaps / readings": written.nbytes / values.nbytes,
    }
    return ratios, {"windows trained a second": statistics.median(rates["memory"])}


def main() -> int:
    torch.set_num_threads(1)
    ratios, scale = measure()
    for name, value in {**ratios, **scale}.items():
        print(f"{name:<26}{value:>10,.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
