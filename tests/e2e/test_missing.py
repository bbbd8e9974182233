"""Values that are missing are filled, across a restart too, and what is told is what a backtest tells."""

from __future__ import annotations

import dataclasses

import numpy as np

from streamer.connectors.files import DataSet
from tests.e2e.conftest import NewSite, World
from tests.e2e.harness import DaemonThread, Expected


def with_holes(whole: DataSet, part: float) -> DataSet:
    """A part of all values missing, here and there all of a reading."""
    values, random = whole.values.copy(), np.random.default_rng(4)
    values[random.random(values.shape) < part] = np.nan
    values[::97] = np.nan
    return dataclasses.replace(whole, values=values)


def test_missing_values_are_filled_and_the_faults_still_told_of(world: World, new_site: NewSite) -> None:
    site = new_site(records={"missing": "fill"})
    sent = with_holes(world.live, 0.15)
    half = np.arange(len(sent)) < len(sent) // 2
    empty = np.isnan(sent.values).all(1)

    filled = windowed = 0.0
    for part in (half, ~half):
        with DaemonThread(site) as daemon:
            site.send(sent.select(part))
            site.wait_until_done()
            metrics = daemon.metrics()
        filled += metrics["streamer_filled_values_total"]
        windowed += metrics["streamer_records_windowed_total"]
        assert metrics.accounted() == metrics["streamer_records_consumed_total"] == part.sum()

    assert windowed == (~empty).sum()
    assert filled == np.isnan(sent.values[~empty]).sum()
    letters = site.dead_letters()
    assert len(letters) == empty.sum() > 10
    assert {dict(letter.headers)["streamer.dlq.reason"] for letter in letters} == {b"schema"}
    Expected.of(site, sent).hold(site, each_once=True)

    told = [alert for alert in site.alerts() if alert["kind"] == "anomaly" and alert["event"] != "resolve"]
    assert {alert["stream"] for alert in told} >= {"machine-1", "machine-2", "machine-5"}
    for alert in told:
        assert 0 < alert["filled"] < 0.5
        assert f"({alert['filled']:.0%} of the window's values were missing and filled in)" in alert["summary"]


def test_refused_as_before_where_nobody_asked(world: World, new_site: NewSite) -> None:
    site = new_site()
    sent = with_holes(world.live.select(np.arange(len(world.live)) < 600), 0.02)

    with DaemonThread(site) as daemon:
        site.send(sent)
        site.wait_until_done()
        metrics = daemon.metrics()

    assert metrics['streamer_records_dead_lettered_total{reason="schema"}'] == (~sent.complete).sum() > 0
    assert metrics["streamer_filled_values_total"] == 0
    Expected.of(site, sent).hold(site, each_once=True)
