"""Partitions are added to the input topic while replicas run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from streamer.connectors import files as datafiles
from streamer.core.partitioners import murmur2
from streamer.offline.machines import INTERVAL_S, Fault, Fleet
from tests.brokers import Broker
from tests.e2e.conftest import HISTORY_STEPS, START, NewSite
from tests.e2e.harness import DaemonThread, wait_until

STREAMS = 40
STEPS, GROWN = 240, 120


def test_streams_that_come_to_other_partitions_are_not_silent(
    new_site: NewSite, broker: Broker, tmp_path: Path
) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker cannot add partitions to a topic")
    alerting = {"silent_after": 5.0, "resolve_after": 64}
    one = new_site(partitions=2, alerting=alerting, kafka={"session_timeout_ms": 30_000})
    two = one.copy("two", state={"directory": str(one.settings.state.directory)})
    # An anomaly of every machine, not over when partitions are added.
    faults = [Fault("decoupled", number, GROWN - 30, 30) for number in range(STREAMS)]
    fleet = Fleet(STREAMS, seed=11, faults=faults)
    file = tmp_path / "fleet.parquet"
    fleet.history(STEPS, START + pd.Timedelta(seconds=HISTORY_STEPS * INTERVAL_S)).to_parquet(file, index=False)
    data = datafiles.load([file], one.settings.records)
    since = np.unique(data.time_ns)[GROWN]

    with DaemonThread(one) as first, DaemonThread(two) as second:

        def assigned(count: int) -> bool:
            return [d.metrics()["streamer_partitions_assigned"] for d in (first, second)] == [count, count]

        wait_until(lambda: assigned(1), "a partition each")
        one.send(data.select(data.time_ns < since))
        one.wait_until_done()
        broker.add_partitions(one.settings.kafka.topic, 4)
        wait_until(lambda: assigned(2), "two partitions each", within_s=120)
        one.send(data.select(data.time_ns >= since))
        one.wait_until_done()
        scrapes = [first.metrics(), second.metrics()]
        assert [scrape["streamer_topic_partitions"] for scrape in scrapes] == [4, 4]

    alerts = one.alerts()
    assert [alert["summary"] for alert in alerts if alert["kind"] == "silence"] == []
    names = {alert["stream"] for alert in alerts}
    here, there = ({name: murmur2(name.encode()) % count for name in names} for count in (2, 4))
    moved = {name for name in names if here[name] != there[name]}
    before = [a for a in alerts if a["stream"] in moved and pd.Timestamp(a["onset"]).value < since]
    opened, resolved = ({a["incident_id"] for a in before if a["event"] == event} for event in ("open", "resolve"))
    assert opened
    assert opened == resolved
    assert {alert["stream"] for alert in alerts if alert["reason"] == "moved"} <= moved
    assert "moved" in {alert["reason"] for alert in alerts}
    assert sum(metrics["streamer_streams_moved_total"] for metrics in scrapes) > 0
    for metrics in scrapes:
        assert metrics.accounted() == metrics["streamer_records_consumed_total"] > 0
