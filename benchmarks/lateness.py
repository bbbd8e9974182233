"""What late readings cost, and what waiting for them gives back: incidents of the same readings in three orders.

    python -m benchmarks.lateness [--share 0.08] [--late 30] [--seed 0]

Simulated machines send a reading every five seconds; three faults are injected. One model is trained on their past, in
order. The days after are then scored as they were measured, and as they would arrive if a share of the readings came
late, once without waiting and once with `time.lateness`. All three runs are backtests, so they go through the daemon's
own pipeline. Not inside: a broker; tests/e2e/test_event_time.py has the same with one.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from models.store.registry import Registry
from streamer.config import Settings
from streamer.config.event_time import TimeConfig
from streamer.config.records import RecordsConfig
from streamer.config.schema import AlertingConfig, ModelConfig
from streamer.connectors.files import DataSet
from streamer.offline import backtest
from streamer.offline.machines import FEATURES, INTERVAL_S, Fault, Fleet
from streamer.offline.retrain import retrain

EVERY_S = 5
MACHINES, PAST, LIVE = 4, 4000, 2500
FAULTS = (Fault("spike", 0, PAST + 600, 8), Fault("decoupled", 2, PAST + 1200, 60), Fault("stuck", 1, PAST + 1800, 120))


def main() -> None:
    """Print a row for each order."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--share", type=float, default=0.08, help="of the readings that come late")
    parser.add_argument("--late", type=float, default=30.0, help="most seconds by which they do")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    fleet = Fleet(MACHINES, seed=options.seed, faults=FAULTS)
    past, live = readings(fleet, PAST), readings(fleet, LIVE)
    late = arriving(live, options.share, options.late, options.seed)
    with tempfile.TemporaryDirectory() as directory:
        plain = settings(Path(directory), 0.0)
        version = retrain(plain, past)
        detector, _ = Registry(Path(directory)).load(version)
        runs = (
            ("in order", live, 0.0),
            (f"{options.share:.0%} late, not waited for", late, 0.0),
            (f"{options.share:.0%} late, time.lateness {options.late:g} s", late, options.late),
        )
        print(f"{'readings':<32}{'dropped as late':>16}{'incidents':>11}{'silences':>10}   same as in order")
        first: set[str] | None = None
        for name, data, lateness in runs:
            result = backtest.run(settings(Path(directory), lateness), detector, version, data)
            opened = {alert.incident_id for alert in result.alerts if alert.event == "open"}
            silences = sum(alert.event == "open" and alert.kind == "silence" for alert in result.alerts)
            first = opened if first is None else first
            print(
                f"{name:<32}{result.late:>16}{len(opened) - silences:>11}{silences:>10}   "
                f"{len(opened & first)} of {len(first)}"
            )


def settings(directory: Path, lateness_s: float) -> Settings:
    """Of the machines, with bundles in a directory."""
    return Settings(
        records=RecordsConfig(features=FEATURES),
        time=TimeConfig(lateness=lateness_s),
        model=ModelConfig(directory=directory, epochs=8),
        alerting=AlertingConfig(budget_per_stream_per_week=5),
    )


def readings(fleet: Fleet, steps: int) -> DataSet:
    """The next readings of all machines, in order, five seconds apart."""
    began = pd.Timestamp("2026-01-05", tz="UTC")
    frame = fleet.history(steps, began + pd.Timedelta(seconds=fleet.step_number * INTERVAL_S))
    step = (frame["timestamp"] - began).dt.total_seconds() / INTERVAL_S
    time_ns = began.value + np.asarray(step * EVERY_S * 1e9, np.int64)
    codes, names = pd.factorize(frame["stream"], sort=True)
    return DataSet(list(names), codes.astype(np.int64), time_ns, frame[list(FEATURES)].to_numpy(np.float64))


def arriving(data: DataSet, share: float, most_s: float, seed: int) -> DataSet:
    """The same readings in the order of arrival when some are late."""
    random = np.random.default_rng(seed)
    delay = np.where(random.random(len(data)) < share, random.uniform(0, most_s * 1e9, len(data)), 0)
    return data.select(np.argsort(data.time_ns + delay, kind="stable"))


if __name__ == "__main__":
    main()
