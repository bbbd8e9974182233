"""Silence of a stream, and what batching must not change about it."""

from __future__ import annotations

import itertools
import time

import pandas as pd
import pytest

from models.store.registry import Registry
from streamer.connectors import files as datafiles
from streamer.connectors.files import DataSet
from streamer.offline import backtest
from streamer.offline.machines import INTERVAL_S, Fault, Fleet
from tests.e2e.conftest import HISTORY_STEPS, MACHINES, START, NewSite, World
from tests.e2e.harness import DaemonThread, Expected, wait_until


@pytest.fixture
def dropout(world: World, new_site: NewSite) -> DataSet:
    """Readings of all machines; one of them sends nothing for an hour and comes back."""
    fleet = Fleet(MACHINES, seed=11, faults=[Fault("dropout", 2, 60, 60)])
    frame = fleet.history(200, START + pd.Timedelta(seconds=HISTORY_STEPS * INTERVAL_S))
    file = world.live_file.with_name("dropout.parquet")
    frame.to_parquet(file, index=False)
    return datafiles.load([file], new_site().settings.records)


def test_a_silence_is_told_when_it_begins_and_when_it_ends(dropout: DataSet, new_site: NewSite) -> None:
    site = new_site()
    cuts = [dropout.time_ns[0] + minutes * 60_000_000_000 for minutes in (0, 100, 1000)]

    with DaemonThread(site) as daemon:
        for begin, end in itertools.pairwise(cuts):
            site.send(dropout.select((dropout.time_ns >= begin) & (dropout.time_ns < end)))
            site.wait_until_done()
            if end == cuts[1]:
                wait_until(lambda: daemon.metrics()['streamer_incidents_open{kind="silence"}'] == 1, "an open silence")

    told = [(a["event"], a["stream"]) for a in site.alerts() if a["kind"] == "silence"]
    assert told == [("open", "machine-3"), ("resolve", "machine-3")]


def test_a_silence_is_told_however_readings_are_batched(dropout: DataSet, new_site: NewSite) -> None:
    site = new_site()
    detector, manifest = Registry(site.settings.model.directory).load()

    told = [
        {
            (alert.event, alert.alert_id)
            for alert in backtest.run(site.settings, detector, manifest["version"], dropout, batch=size).alerts
        }
        for size in (1, 7, 10_000)
    ]

    assert told[0] == told[1] == told[2]


def test_a_silence_is_told_while_catching_up(dropout: DataSet, new_site: NewSite) -> None:
    site = new_site()
    site.send(dropout)  # all of it is there before the daemon starts, and comes in one poll

    with DaemonThread(site):
        site.wait_until_done()

    assert [a["event"] for a in site.alerts() if a["kind"] == "silence"] == ["open", "resolve"]
    Expected.of(site, dropout).hold(site)


def test_silence_of_the_whole_topic_is_told_by_the_wall_clock(world: World, new_site: NewSite) -> None:
    site, ahead = new_site(), [0.0]

    def told() -> list[tuple[str, str, str]]:
        return [(a["event"], a["scope"], a["stream"]) for a in site.alerts() if a["scope"] == "topic"]

    with DaemonThread(site, clock=lambda: time.time() + ahead[0]) as daemon:
        site.send(world.live.select(slice(0, 300)))
        site.wait_until_done()
        daemon.wait_until_ready()
        ahead[0] += 2 * 24 * 3600  # two days pass at once
        wait_until(lambda: daemon.metrics()["streamer_topic_silent"] == 1, "the silence of the topic")
        wait_until(lambda: len(told()) == 1, "its alert")
        site.send(world.live.select(slice(300, 600)))
        wait_until(lambda: daemon.metrics()["streamer_topic_silent"] == 0, "the end of the silence")
        site.wait_until_done()

    topic = site.settings.kafka.topic
    assert told() == [("open", "topic", topic), ("resolve", "topic", topic)]
