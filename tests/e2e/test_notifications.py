"""A maintenance window silences a fault, and the next one is told; what is muted is on the alerts topic."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np

from streamer.core.alerts import iso
from tests.e2e.conftest import NewSite, World
from tests.e2e.harness import DaemonThread, Expected

MINUTE_NS = 60_000_000_000


def test_a_maintenance_window_silences_a_fault_and_the_next_is_told_also_over_a_restart(
    world: World, new_site: NewSite
) -> None:
    # machine-6 is anomalous from minute 241 to 286 and again from minute 422
    begin = int(world.live.time_ns.min())
    site = new_site(
        notifications={
            "maintenance": [
                {"name": "wash", "streams": ["machine-6"], "begin": iso(begin + 230 * MINUTE_NS), "lasts": "2h"}
            ]
        }
    )

    cuts = np.searchsorted(world.live.time_ns, [begin + minute * MINUTE_NS for minute in (0, 260, 1000)])
    for first, last in itertools.pairwise(cuts.tolist()):
        with DaemonThread(site) as daemon:
            site.send(world.live.select(slice(first, last)))
            site.wait_until_done()
            metrics = daemon.metrics()
            if first == 0:
                assert metrics['streamer_incidents_muted_total{reason="maintenance"}'] == 1
                assert metrics['streamer_anomaly_active{stream="machine-6"}'] == 0

    Expected.of(site, world.live).hold(site)
    mine = [alert for alert in site.alerts() if alert["stream"] == "machine-6" and alert["kind"] == "anomaly"]
    muted = Counter((alert["event"], alert["muted"]) for alert in mine)
    until = iso(begin + 350 * MINUTE_NS).replace(":00.000Z", "Z")
    assert muted[("open", f"maintenance wash until {until}")] == 1
    assert muted[("resolve", f"maintenance wash until {until}")] == 1
    assert muted[("open", None)] == 1
    others = {alert["muted"] for alert in site.alerts() if alert["stream"] != "machine-6"}
    assert others == {None}
