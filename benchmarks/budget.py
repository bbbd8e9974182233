"""How true an alert budget is on clean data: incidents that open on simulated fleets without any fault.

    python -m benchmarks.budget [--days 7] [--test-days 28] [--machines 1,4,10] [--budgets 1,3,10] [--seed 0]

Each fleet trains on its first days and is then scored by the daemon's stations for the days after. Printed is the
realised rate in ratio to the budget, with the range of true ratios that so many incidents leave open (95 %, Poisson).
Not inside: faults; how they are found is another benchmark's question (`family`, `accuracy`).
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray

from models.detector import Detector
from models.fitting.calibration import calibrate
from models.fitting.learning import learn
from models.fitting.training import TrainingOptions
from models.network.architecture import Architecture
from models.scoring.alert_line import AlertPolicy
from streamer.config import Settings
from streamer.core.events import OPEN
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from streamer.offline.backtest.evaluation import likely_range
from streamer.offline.machines import FEATURES, INTERVAL_S, READINGS_A_DAY, Fleet
from streamer.offline.progress import progress

_BATCH = 500  # steps of a fleet taken in at once


def main() -> None:
    """Print one line for each fleet and budget."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--test-days", type=int, default=28)
    parser.add_argument("--machines", default="1,4,10")
    parser.add_argument("--budgets", default="1,3,10")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("machines  budget a week  allowed  opened  realised / budget  95 %")
    for machines in map(int, options.machines.split(",")):
        values = history(machines, options.days + options.test_days, options.seed)
        cut = options.days * READINGS_A_DAY
        learned = learn(
            {name: values[:cut, i] for i, name in enumerate(names(machines))},
            FEATURES,
            Architecture(features=len(FEATURES)),
            options=TrainingOptions(seed=options.seed),
        )
        for budget in map(float, options.budgets.split(",")):
            policy = AlertPolicy(budget)
            made = calibrate(learned, interval_s=INTERVAL_S, policy=policy)
            # The first window is full when the days after begin.
            opened = len(incidents(made, policy, values[cut - made.architecture.window :]))
            allowed = budget * machines * options.test_days / 7
            low, high = (bound / allowed for bound in likely_range(opened))
            print(
                f"{machines:>8}  {budget:>13g}  {allowed:>7.0f}  {opened:>6}  {opened / allowed:>17.2f}  "
                f"{low:.2f} to {high:.2f}",
                flush=True,
            )


def history(machines: int, days: int, seed: int) -> NDArray[np.float32]:
    """Readings `(steps, machines, features)` without faults."""
    fleet = Fleet(machines, seed=seed)
    return np.stack([fleet.step()[0] for _ in range(days * READINGS_A_DAY)]).astype(np.float32)


def names(machines: int) -> list[str]:
    return [f"machine-{i + 1}" for i in range(machines)]


def settings(policy: AlertPolicy) -> Settings:
    """Those of a daemon that works under the policy."""
    return Settings.model_validate(
        {
            "records": {"features": FEATURES},
            "window": {"stride": policy.stride},
            "alerting": {
                "budget_per_stream_per_week": policy.budget_per_stream_per_week,
                "open_after": policy.open_after,
                "open_within": policy.open_within,
                "silent_after": None,
            },
        }
    )


def incidents(made: Detector, policy: AlertPolicy, values: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Machine and step at which each incident opens on `(steps, machines, features)`."""
    steps, machines, features = values.shape
    pipeline = Pipeline(settings(policy).pipeline_options(), made, "benchmark")
    for name in names(machines):
        pipeline.keys.add(name)
    opened = []
    with progress("scoring", steps) as advance:
        for begin in range(0, steps, _BATCH):
            some = values[begin : begin + _BATCH]
            step = begin + np.arange(len(some)) + 1
            n = len(some) * machines
            readings = Readings(
                np.tile(np.arange(machines), len(some)),
                np.repeat(step * INTERVAL_S * 1_000_000_000, machines),
                some.reshape(n, features),
                np.zeros(n, np.int64),
                begin * machines + np.arange(n),
            )
            events = pipeline.process(readings).events
            opened += [(e.code, e.at_ns // (INTERVAL_S * 1_000_000_000) - 1) for e in events if e.event == OPEN]
            advance(len(some))
    return opened


if __name__ == "__main__":
    main()
