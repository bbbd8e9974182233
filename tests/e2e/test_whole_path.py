"""From files to alerts over a broker, as a user does it: retrain, run, replay, backtest; every step a command."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.brokers import Broker
from tests.e2e.conftest import World
from tests.e2e.harness import DaemonProcess, Expected, Site, streamer


def test_retrain_run_replay_tells_what_a_backtest_tells(broker: Broker, world: World, tmp_path: Path) -> None:
    site = Site(broker, tmp_path / "site", tmp_path / "bundles").create_topics()
    trained = streamer("retrain", site, "--data", world.history_file)
    assert trained.code == 0, trained.err
    checked = streamer("check", site)
    assert checked.code == 0, checked.out

    with DaemonProcess(site) as daemon:
        replayed = streamer("replay", site, "--data", world.live_file)
        assert replayed.code == 0, replayed.err
        site.wait_until_done()
        metrics = daemon.metrics()
        readiness = daemon.get("/readyz")
        health = daemon.get("/healthz")
        daemon.terminate()

    sent = len(world.live)
    told = site.alerts()
    assert readiness == (200, "ok\n")
    assert health == (200, "ok\n")
    assert sum(site.ends().values()) == sent
    assert site.committed() == site.ends()
    assert site.dead_letters() == []
    assert metrics["streamer_records_consumed_total"] == sent
    assert metrics["streamer_records_windowed_total"] == sent
    assert metrics.accounted() == sent
    assert metrics["streamer_windows_scored_total"] == len(site.scores())
    assert metrics.total("streamer_alerts_published_total") == len(told)
    assert metrics.total("streamer_incidents_opened_total") == sum(alert["event"] == "open" for alert in told)
    assert metrics[f'streamer_model_info{{backbone="lstm",regulariser="plain",version="{trained.out.strip()}"}}'] == 1

    out = tmp_path / "backtest"
    tested = streamer("backtest", site, "--data", world.live_file, "--out", out)
    assert tested.code == 0, tested.err
    table = pd.read_csv(out / "scores.csv", parse_dates=["timestamp"]).dropna(subset=["score"])
    stamps = table["timestamp"].dt.as_unit("ns").astype("int64")
    scores = dict(zip(zip(table["stream"], stamps, strict=True), table["score"], strict=True))
    alerts = [json.loads(line) for line in (out / "alerts.jsonl").read_text().splitlines()]
    Expected(scores, {alert["alert_id"] for alert in alerts}, len(alerts)).hold(site, each_once=True)

    # The faults are there to be found: a fleet without alerts would prove little.
    assert {alert["stream"] for alert in told} >= {"machine-1", "machine-2", "machine-5"}
    assert {alert["event"] for alert in told} == {"open", "update", "resolve"}
    for alert in told:
        assert alert["model_version"] == trained.out.strip()
        shares = sum(part["share"] for part in alert["features"])
        assert shares == pytest.approx(1 if alert["kind"] == "anomaly" else 0, abs=1e-4)
