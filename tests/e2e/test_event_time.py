"""Trades as they come, late and out of order, become bars in the daemon: the bars and alerts of a backtest."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from streamer.connectors.files import DataSet
from streamer.offline.retrain import retrain
from tests.brokers import Broker
from tests.e2e.harness import DaemonProcess, DaemonThread, Expected, Site, wait_until
from tests.offline.backtest.test_bars import trades

S = 1_000_000_000


QUICK = 60  # times as fast, so that a bar is a second and nobody waits for a minute


def quick(data: DataSet) -> DataSet:
    """The same readings in less time: what was a minute is a second."""
    begin = int(pd.Timestamp("2026-01-05T14:30Z").value)
    return dataclasses.replace(data, time_ns=begin + (data.time_ns - begin) // QUICK)


def disordered(data: DataSet, lateness_s: float, share: float, *, seed: int = 3) -> DataSet:
    """The same readings, some of which arrive late by up to `lateness_s`."""
    random = np.random.default_rng(seed)
    late = np.where(random.random(len(data)) < share, random.uniform(0, lateness_s, len(data)) * S, 0)
    return data.select(np.argsort(data.time_ns + late, kind="stable"))


@pytest.fixture
def site(broker: Broker, tmp_path: Path) -> Site:
    made = Site(
        broker,
        tmp_path / "site",
        tmp_path / "bundles",
        records={"features": ["price", "size"]},
        time={
            "lateness": 20 / QUICK,
            "grid": 60 / QUICK,
            "features": {"return": "last(price) | log_return", "swing": "range(price)", "volume": "sum(size) | log1p"},
        },
        window={"length": 16, "patch": 4},
        alerting={"budget_per_stream_per_week": 20},
    ).create_topics()
    retrain(made.settings, quick(trades(500)))
    return made


def test_trades_in_any_order_become_the_bars_of_a_backtest_across_kills_and_stops(site: Site) -> None:
    in_order = quick(trades(240, seed=1, wild=(120, 135)))
    sent = disordered(in_order, 20 / QUICK, 0.08)
    expected = Expected.of(site, sent)
    assert expected == Expected.of(site, in_order), "what comes within the lateness is as good as in order"
    assert expected.opened

    cuts = [0, len(sent) // 3, len(sent) // 2, len(sent)]
    for begin, end in itertools.pairwise(cuts):
        part = sent.select(slice(begin, end))
        site.sections["time"]["idle"] = 1 if end == len(sent) else 60
        site.save()
        if end == cuts[1]:
            with DaemonProcess(site) as process:
                site.send(part)
                site.wait_until_done()
                process.kill()
        else:
            with DaemonThread(site) as daemon:
                site.send(part)
                site.wait_until_done()
                if end == len(sent):
                    wait_until(lambda: site.scores().keys() == expected.scores.keys(), "the last bars, once idle")
                    metrics = daemon.metrics()
                    assert metrics["streamer_records_held"] == 0
                    assert metrics["streamer_records_reordered_total"] > 0
                metrics = daemon.metrics()
                assert metrics.accounted() == metrics["streamer_records_consumed_total"]

    expected.hold(site)


def test_what_comes_too_late_is_counted_and_sent_on_if_wanted(site: Site) -> None:
    site.sections["time"]["dead_letter_late"] = True
    site.save()
    site.sections["time"]["idle"] = 1
    site.save()
    data = quick(trades(60, seed=4))
    too_late = data.select(np.arange(100, 105))
    sent = dataclasses.replace(
        data,
        stream=np.concatenate([data.stream, too_late.stream]),
        time_ns=np.concatenate([data.time_ns, too_late.time_ns]),
        values=np.concatenate([data.values, too_late.values]),
        label=None,
    )

    with DaemonThread(site) as daemon:
        site.send(sent)
        site.wait_until_done()
        wait_until(lambda: daemon.metrics()["streamer_records_held"] == 0, "the partition to be idle")
        metrics = daemon.metrics()
        assert metrics.accounted() == metrics["streamer_records_consumed_total"] == len(sent)

    letters = site.dead_letters()
    assert [dict(letter.headers)["streamer.dlq.reason"] for letter in letters] == [b"late"] * 5
    assert b"time.lateness, 0.333333 s" in dict(letters[0].headers)["streamer.dlq.error"]
