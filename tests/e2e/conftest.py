"""Fixtures of the end-to-end tests: simulated machines, one small bundle trained on them, sites to run daemons in."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from streamer.connectors import files as datafiles
from streamer.connectors.files import DataSet
from streamer.offline.machines import INTERVAL_S, Fault, Fleet
from streamer.offline.retrain import retrain_from_files
from tests.brokers import Broker
from tests.e2e.harness import Site

MACHINES = 6
HISTORY_STEPS = 2200
LIVE_STEPS = 500
START = pd.Timestamp("2025-01-06T00:00:00Z")
FAULTS = (
    ("decoupled", 1, 70, 40),
    ("spike", 0, 130, 8),
    ("stuck", 3, 180, 90),
    ("decoupled", 4, 230, 40),
    ("drift", 2, 260, 150),
    ("decoupled", 0, 330, 40),
    ("dropout", 1, 350, 60),
    ("spike", 5, 420, 8),
)


@dataclass(frozen=True)
class World:
    """Files of the machines' past and of what is to be sent, and the registry trained on the past."""

    history_file: Path
    live_file: Path
    live: DataSet
    bundles: Path
    version: str


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> World:
    directory = tmp_path_factory.mktemp("world")
    fleet = Fleet(MACHINES, seed=11)
    history, live = directory / "history.parquet", directory / "live.parquet"
    fleet.history(HISTORY_STEPS, START).to_parquet(history, index=False)
    fleet.faults = [Fault(kind, machine, HISTORY_STEPS + start, length) for kind, machine, start, length in FAULTS]
    fleet.history(LIVE_STEPS, START + pd.Timedelta(seconds=HISTORY_STEPS * INTERVAL_S)).to_parquet(live, index=False)
    site = Site(broker, directory / "site", directory / "bundles")
    version = retrain_from_files(site.settings, [history])
    return World(history, live, datafiles.load([live], site.settings.records), directory / "bundles", version)


NewSite = Callable[..., Site]


@pytest.fixture
def new_site(broker: Broker, world: World, tmp_path: Path) -> NewSite:
    """Makes a site with the trained bundle and topics of its own: `new_site(partitions=1, kafka={...}, ...)`."""
    made = 0

    def make(partitions: int = 1, *, own_bundles: bool = False, **sections: Any) -> Site:
        nonlocal made
        made += 1
        if partitions > 1:
            # Silence is measured against the other streams of the partition, and a backtest knows one partition.
            sections["alerting"] = {"silent_after": None} | sections.get("alerting", {})
        bundles = world.bundles
        if own_bundles:
            bundles = tmp_path / f"bundles-{made}"
            shutil.copytree(world.bundles, bundles)
        return Site(broker, tmp_path / f"site-{made}", bundles, **sections).create_topics(partitions)

    return make
