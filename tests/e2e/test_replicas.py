"""More replicas of one group: partitions move, and their state with them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.e2e.conftest import NewSite, World
from tests.e2e.harness import DaemonThread, Expected, wait_until


@pytest.mark.parametrize("state", ["shared", "own"])
def test_partitions_move_between_replicas_and_no_alert_is_lost(world: World, new_site: NewSite, state: str) -> None:
    one = new_site(partitions=4)
    directory = one.settings.state.directory
    assert directory is not None
    other = one.copy("other", state={"directory": str(directory)} if state == "shared" else {})
    steps = np.unique(world.live.time_ns)
    early, middle, late = (world.live.select(np.isin(world.live.time_ns, some)) for some in np.array_split(steps, 3))

    with DaemonThread(other) as second:
        with DaemonThread(one) as first:

            def assigned(*wanted: int) -> bool:
                return [int(d.metrics()["streamer_partitions_assigned"]) for d in (first, second)] == list(wanted)

            wait_until(lambda: assigned(2, 2), "two partitions each")
            one.send(early)
            one.wait_until_done()
            with one.feeding(middle):
                wait_until(lambda: one.committed() != {}, "some commits")
                first.stop()
        wait_until(lambda: second.metrics()["streamer_partitions_assigned"] == 4, "all partitions")
        with DaemonThread(one) as first:
            with one.feeding(late):
                wait_until(lambda: assigned(2, 2), "two partitions each again")
            one.wait_until_done()
            scrapes = [first.metrics(), second.metrics()]

    for metrics in scrapes:
        assert metrics.accounted() == metrics["streamer_records_consumed_total"] > 0
    if state == "shared":
        assert sum(metrics["streamer_records_replayed_total"] for metrics in scrapes) == 0
    assert one.committed() == one.ends()
    Expected.of(one, world.live).hold(one)
