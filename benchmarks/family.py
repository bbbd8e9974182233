"""Every member of the model family on one simulated fleet: a table for docs/models.md.

    python -m benchmarks.family                       all backbones plain, the default with every regulariser
    python -m benchmarks.family conv/variational ...  these alone

Each trains on the same readings with the same options on one thread, then scores a day with
known faults. Times are the processor's, so a busy machine does not lengthen them. Not inside:
accuracy on real series, ratios of speed (`python -m benchmarks`).
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.detector import BATCH, Detector
from models.fitting.fit import fit
from models.fitting.training import TrainingOptions
from models.network.architecture import BACKBONES, REGULARISERS, Architecture
from streamer.offline.machines import FEATURES, INTERVAL_S, READINGS_A_DAY, Fault, Fleet

MACHINES, DAYS = 6, 3
KINDS = {"spike": 4, "drift": 150, "stuck": 130, "decoupled": 60}  # those a score can see, and their length
APART = 320  # readings from one fault of a machine to its next
OPTIONS = TrainingOptions(epochs=15, steps_per_epoch=80)


@dataclass(frozen=True, slots=True)
class Row:
    """What one member showed."""

    train_s: float
    held_out_loss: float
    windows_per_s: float
    caught: int  # faults with a score of at least 1
    false_share: float  # of clean windows with a score of at least 1


def readings() -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]], list[Fault]]:
    """History to learn from, the day after it, and the faults of that day; steps count from the day's begin."""
    begin, day = DAYS * READINGS_A_DAY, len(KINDS) * APART
    faults = [
        Fault(kind, machine, begin + 150 + APART * ((k + machine) % len(KINDS)), length)
        for machine in range(MACHINES)
        for k, (kind, length) in enumerate(KINDS.items())
    ]
    fleet = Fleet(MACHINES, seed=7, faults=faults)
    taken = [fleet.step()[0] for _ in range(begin + day)]
    values = np.stack(taken, 1).astype(np.float32)  # (machines, steps, features)
    past = {name: v[:begin] for name, v in zip(fleet.names, values, strict=True)}
    later = {name: v[begin:] for name, v in zip(fleet.names, values, strict=True)}
    return past, later, [Fault(f.kind, f.machine, f.start - begin, f.length) for f in faults]


def measure(architecture: Architecture) -> Row:
    """Train one member and score the day with faults."""
    past, later, faults = readings()
    began = time.process_time()
    model = fit(past, FEATURES, architecture, interval_s=INTERVAL_S, options=OPTIONS)
    train_s = time.process_time() - began
    length, scores = architecture.window, []
    for name, values in later.items():
        row = model.rows([name]).repeat(len(values))
        inputs = model.prepare(values, row)
        windows = np.lib.stride_tricks.sliding_window_view(inputs, length, axis=0).transpose(0, 2, 1)
        score, _ = model.score(np.ascontiguousarray(windows), row[length - 1 :])
        scores.append(np.concatenate([np.zeros(length - 1, np.float32), score]))
    # A window holds a part of a fault until a window's length after its end.
    touched = np.zeros((MACHINES, len(scores[0])), bool)
    caught = 0
    for fault in faults:
        part = slice(fault.start, fault.end + length)
        touched[fault.machine, part] = True
        caught += bool((scores[fault.machine][part] >= 1.0).any())
    clean = np.stack(scores)[~touched]
    return Row(train_s, model.report["held_out_loss"], speed(model), caught, float((clean >= 1.0).mean()))


def speed(model: Detector) -> float:
    """Windows scored in a second, in batches of the usual size; best of several runs."""
    a = model.architecture
    windows = np.random.default_rng(0).normal(size=(8 * BATCH, a.window, a.features)).astype(np.float32)
    rows, best = np.ones(len(windows), np.int64), np.inf
    for _ in range(8):
        began = time.process_time()
        model.score(windows, rows)
        best = min(best, time.process_time() - began)
    return len(windows) / best


def main() -> int:
    torch.set_num_threads(1)
    asked = sys.argv[1:] or [f"{b}/plain" for b in BACKBONES] + [f"lstm/{r}" for r in REGULARISERS[1:]]
    print("| backbone | regulariser | training, CPU s | held-out loss | windows/CPU s | faults caught | false |")
    print("|---|---|---|---|---|---|---|")
    for member in asked:
        backbone, _, regulariser = member.partition("/")
        row = measure(Architecture(len(FEATURES), backbone=backbone, regulariser=regulariser or "plain"))
        print(
            f"| `{backbone}` | `{regulariser or 'plain'}` | {row.train_s:.1f} | {row.held_out_loss:.3f} | "
            f"{row.windows_per_s:,.0f} | {row.caught} of {MACHINES * len(KINDS)} | {row.false_share:.2%} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
