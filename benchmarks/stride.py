"""What a stride costs and what it saves: faults caught, delay and false incidents at stride 1, 4, 8 and 16.

    python -m benchmarks.stride [--days 7] [--test-days 14] [--machines 6] [--budget 3] [--seed 0]

One fleet trains on its first days. In the days after, faults of ten readings and long ones come one at a time, half
a day apart on each machine, and the daemon's stations score the same readings at every stride, with a line calibrated
for it. An incident is true if it opens within a fault or a window's length after it; all others are false. Not inside:
real series (`accuracy`), the budget on clean data (`budget`).
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.budget import incidents, names
from models.detector import Detector
from models.fitting.calibration import calibrate
from models.fitting.learning import learn
from models.fitting.training import TrainingOptions
from models.network.architecture import Architecture
from models.scoring.alert_line import AlertPolicy
from streamer.offline.backtest.evaluation import likely_range
from streamer.offline.machines import FEATURES, INTERVAL_S, READINGS_A_DAY, Fault, Fleet

STRIDES = (1, 4, 8, 16)
SHORT = 10  # readings; a longer one is long
KINDS = (("spike", SHORT), ("drift", 150), ("decoupled", SHORT), ("stuck", 130), ("spike", SHORT), ("decoupled", 60))
APART = READINGS_A_DAY // 2  # readings from the beginning of one slot for a fault to the next


@dataclass(frozen=True, slots=True)
class Row:
    """What one stride showed."""

    caught: dict[bool, int]  # faults, by whether they are short
    delays: dict[bool, list[int]]  # readings from a fault's begin to its incident
    false: int  # incidents without a fault
    cpu_s: float


def main() -> None:
    """Print one row of a table for each stride."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--test-days", type=int, default=14)
    parser.add_argument("--machines", type=int, default=6)
    parser.add_argument("--budget", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cut = options.days * READINGS_A_DAY
    faults = scattered(options.machines, cut, cut + options.test_days * READINGS_A_DAY, options.seed)
    values = history(options.machines, options.days + options.test_days, options.seed, faults)
    learned = learn(
        {name: values[:cut, i] for i, name in enumerate(names(options.machines))},
        FEATURES,
        Architecture(features=len(FEATURES)),
        options=TrainingOptions(seed=options.seed),
    )
    made = calibrate(learned, interval_s=INTERVAL_S, policy=AlertPolicy(options.budget))
    weeks = options.machines * options.test_days / 7
    short = sum(fault.length == SHORT for fault in faults)
    print(
        "| stride | windows scored | CPU | short faults caught | delay | long faults caught | delay "
        f"| false a stream and week (budget {options.budget:g}) |\n|---|---|---|---|---|---|---|---|"
    )
    whole = None
    for stride in STRIDES:
        row = measure(made.with_policy(AlertPolicy(options.budget, stride=stride)), values, cut, faults)
        whole = whole or row.cpu_s
        low, high = (bound / weeks for bound in likely_range(row.false))
        print(
            f"| {stride} | {1 / stride:.1%} | {row.cpu_s / whole:.0%} "
            f"| {row.caught[True]} of {short} | {middle(row.delays[True])} "
            f"| {row.caught[False]} of {len(faults) - short} | {middle(row.delays[False])} "
            f"| {row.false / weeks:.2f} ({low:.2f} to {high:.2f}) |",
            flush=True,
        )


def scattered(machines: int, begin: int, end: int, seed: int) -> list[Fault]:
    """Faults between two steps: in each slot of every machine one, at any phase of any stride."""
    random = np.random.default_rng(seed)
    slots = range(begin, end - APART + 1, APART)
    return [
        Fault(kind, machine, slot + int(random.integers(100, 400)), length)
        for machine in range(machines)
        for number, slot in enumerate(slots)
        for kind, length in [KINDS[(number + machine) % len(KINDS)]]
    ]


def history(machines: int, days: int, seed: int, faults: list[Fault]) -> NDArray[np.float32]:
    """Readings `(steps, machines, features)`."""
    fleet = Fleet(machines, seed=seed, faults=faults)
    return np.stack([fleet.step()[0] for _ in range(days * READINGS_A_DAY)]).astype(np.float32)


def measure(made: Detector, values: NDArray[np.float32], cut: int, faults: list[Fault]) -> Row:
    """Score everything from step `cut` on, and set incidents against faults."""
    first = cut - made.architecture.window  # the first window is full when the days after begin
    began = time.process_time()
    opened = incidents(made, made.policy, values[first:])
    cpu_s = time.process_time() - began
    caught, delays, matched = {True: 0, False: 0}, {True: list[int](), False: list[int]()}, set[int]()
    for fault in faults:
        until = fault.end + made.architecture.window
        found = [
            number
            for number, (machine, step) in enumerate(opened)
            if machine == fault.machine and fault.start <= step + first < until
        ]
        matched.update(found)
        if found:
            is_short = fault.length == SHORT
            caught[is_short] += 1
            delays[is_short].append(min(opened[number][1] for number in found) + first - fault.start)
    return Row(caught, delays, len(opened) - len(matched), cpu_s)


def middle(delays: list[int]) -> str:
    return f"{statistics.median(delays):.0f}" if delays else "-"


if __name__ == "__main__":
    main()
