"""Readings that come after their bar was scored put things right in the daemon as in a backtest, whatever stops it."""

from __future__ import annotations

import itertools
import json

import numpy as np

from streamer.connectors.files import DataSet
from tests.e2e.harness import DaemonProcess, DaemonThread, Expected, Site, wait_until
from tests.e2e.test_event_time import S, disordered, quick, site
from tests.offline.backtest.test_bars import trades

__all__ = ["site"]


def outage(data: DataSet, begin_minute: int, end_minute: int, later_s: float) -> DataSet:
    """The first symbol's larger trades of some minutes arrive later."""
    second = (data.time_ns - data.time_ns[0]) / S
    held = (second >= 60 * begin_minute) & (second < 60 * end_minute) & (data.stream == 0) & (data.values[:, 1] > 2)
    return data.select(np.argsort(data.time_ns + held * later_s * S, kind="stable"))


def test_late_trades_correct_bars_scores_and_incidents_across_kills_and_stops(site: Site) -> None:
    site.sections["time"]["correct"] = True
    site.save()
    sent = quick(outage(disordered(trades(240, seed=1), 240, 0.02), 100, 107, 500))
    expected = Expected.of(site, sent)

    corrected = 0.0
    cuts = [0, len(sent) * 2 // 5, len(sent) * 9 // 20, len(sent)]
    for begin, end in itertools.pairwise(cuts):
        site.sections["time"]["idle"] = 1 if end == len(sent) else 60
        site.save()
        if end == cuts[1]:
            with DaemonProcess(site) as process:
                site.send(sent.select(slice(begin, end)))
                site.wait_until_done()
                process.kill()
            continue
        with DaemonThread(site) as daemon:
            site.send(sent.select(slice(begin, end)))
            site.wait_until_done()
            if end == len(sent):
                wait_until(lambda: site.scores().keys() == expected.scores.keys(), "the last bars, once idle")
            metrics = daemon.metrics()
            corrected += metrics["streamer_readings_corrected_total"]
            assert metrics.accounted() == metrics["streamer_records_consumed_total"]

    expected.hold(site)
    assert corrected > 20
    assert "corrected" in [alert["reason"] for alert in site.alerts()]
    told = [json.loads(record.value) for record in site.read(site.settings.kafka.scores_topic)]
    again = [message for message in told if message.get("corrected")]
    assert again
    assert all(len(message["settled"]) == len(message["score"]) for message in again)
