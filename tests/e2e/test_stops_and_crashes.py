"""Stopped, killed, started again: the alerts and scores of all runs together are those of one uninterrupted run."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest

from streamer.connectors.files import DataSet
from streamer.core.outcome import Outcome
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from tests.e2e.conftest import NewSite, World
from tests.e2e.harness import DaemonProcess, DaemonThread, Expected, wait_until


def halves(data: DataSet, at: float = 0.5) -> tuple[DataSet, DataSet]:
    cut = np.unique(data.time_ns)[int(len(np.unique(data.time_ns)) * at)]
    return data.select(data.time_ns < cut), data.select(data.time_ns >= cut)


def test_sigterm_under_load_loses_nothing_and_repeats_nothing(world: World, new_site: NewSite) -> None:
    site = new_site(partitions=2)

    with site.feeding(world.live, limit=len(world.live) // 2):
        with DaemonProcess(site) as first:
            wait_until(lambda: first.metrics()["streamer_records_consumed_total"] > 300, "some records")
            first.terminate()
        committed, snapshots = site.committed(), site.snapshots()
        second = DaemonProcess(site)
    with second:
        site.wait_until_done()
        metrics = second.metrics()
        second.terminate()

    assert committed == snapshots
    assert 300 < sum(committed.values()) < len(world.live)
    assert metrics["streamer_records_replayed_total"] == 0
    assert metrics["streamer_records_consumed_total"] == len(world.live) - sum(committed.values())
    Expected.of(site, world.live).hold(site, each_once=True)


def test_kill_9_at_any_moment_loses_no_alert(world: World, new_site: NewSite) -> None:
    site, dice = new_site(partitions=2), random.Random(5)
    lives = dice.sample(range(1, 300), 4)  # records that each daemon consumes before it is killed
    limits = np.linspace(0, len(world.live), len(lives) + 2).astype(int)[1:-1]

    with site.feeding(world.live, limit=0) as feed:
        for enough, limit in zip(lives, limits.tolist(), strict=True):
            feed.limit = limit
            with DaemonProcess(site) as daemon:
                wait_until(lambda: daemon.metrics()["streamer_records_consumed_total"] >= enough, f"{enough} records")  # noqa: B023
                daemon.kill()
    with DaemonProcess(site) as daemon:
        site.wait_until_done()
        metrics = daemon.metrics()
        daemon.terminate()

    assert metrics.accounted() == metrics["streamer_records_consumed_total"]
    Expected.of(site, world.live).hold(site)


@pytest.mark.parametrize("lost", ["newest snapshot", "all snapshots"])
def test_snapshots_that_are_damaged_or_gone_are_made_good(world: World, new_site: NewSite, lost: str) -> None:
    site = new_site()
    directory = site.settings.state.directory
    assert directory is not None
    first, second = halves(world.live)
    with DaemonThread(site) as daemon:
        for part in halves(first):
            site.send(part)
            site.wait_until_done()
            daemon.wait_until_ready()
    told = len(site.alerts())
    assert told

    if lost == "newest snapshot":
        (newest,) = directory.rglob(f"{site.states()[0]}*")
        newest.write_bytes(newest.read_bytes()[:-1])
    else:
        shutil.rmtree(directory)
    with DaemonThread(site) as daemon:
        wait_until(lambda: daemon.metrics()["streamer_partitions_assigned"] == 1, "the partition")
        site.send(second)
        site.wait_until_done()
        metrics = daemon.metrics()

    # Where the snapshot is behind the commit, records are read again in silence.
    least, most = {"newest snapshot": (1, len(first) - 1), "all snapshots": (len(first),) * 2}[lost]
    assert least <= metrics["streamer_records_replayed_total"] <= most
    assert metrics["streamer_cold_starts_total"] == (lost == "all snapshots")
    assert metrics.accounted() == metrics["streamer_records_consumed_total"]
    Expected.of(site, world.live).hold(site, each_once=True)


def test_what_came_while_it_was_down_is_read_even_with_start_latest(world: World, new_site: NewSite) -> None:
    site = new_site(kafka={"start": "latest"})
    with DaemonThread(site) as daemon:
        wait_until(lambda: daemon.metrics()["streamer_commits_total"] == 1, "the commit of where it began")

    site.send(world.live)
    with DaemonThread(site) as daemon:
        site.wait_until_done()
        metrics = daemon.metrics()

    assert metrics["streamer_records_consumed_total"] == len(world.live)
    Expected.of(site, world.live).hold(site, each_once=True)


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_killed_before_its_first_checkpoint_a_group_that_starts_at_the_latest_record_goes_on_from_there(
    world: World, new_site: NewSite, client: str
) -> None:
    site = new_site(partitions=2, kafka={"start": "latest", "client": client}, state={"checkpoint_s": 1000})
    before, after = halves(world.live)
    site.send(before)
    with DaemonProcess(site) as daemon:
        wait_until(lambda: daemon.metrics()["streamer_partitions_assigned"] == 2, "both partitions")
        daemon.kill()
    site.send(after)
    with DaemonProcess(site) as daemon:
        wait_until(lambda: daemon.metrics()["streamer_records_consumed_total"] >= len(after), "what came since")
        daemon.wait_until_ready()
        consumed = daemon.metrics()["streamer_records_consumed_total"]
        daemon.terminate()

    assert consumed == len(after)
    assert site.committed() == site.ends()


def test_a_group_moved_back_by_hand_reads_and_tells_again(world: World, new_site: NewSite) -> None:
    site = new_site()
    if site.broker.kind == "embedded":
        pytest.skip("the embedded broker takes commits from members of the group alone")
    with DaemonThread(site) as daemon:
        # The newest snapshot may then be written while the group stands where it will be moved back to.
        wait_until(lambda: daemon.metrics()["streamer_commits_total"] == 1, "the commit of where it began")
        site.send(world.live)
        site.wait_until_done()
    told = site.alerts()

    site.commit({0: 0})
    with DaemonThread(site) as daemon:
        site.wait_until_done()
        metrics = daemon.metrics()

    assert metrics["streamer_windows_scored_total"] == len(Expected.of(site, world.live).scores)
    assert {alert["alert_id"] for alert in site.alerts()} == {alert["alert_id"] for alert in told}
    assert len(site.alerts()) == 2 * len(told)


def test_a_fault_of_ours_commits_nothing_that_was_not_done(
    world: World, new_site: NewSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = new_site()
    first, second = halves(world.live)
    process = Pipeline.process

    def fail(pipeline: Pipeline, readings: Readings) -> Outcome:
        process(pipeline, readings)  # what is remembered has changed already
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="a fault of ours"), DaemonThread(site) as daemon:  # noqa: PT012
        site.send(first)
        site.wait_until_done()
        monkeypatch.setattr(Pipeline, "process", fail)
        site.send(second)
        wait_until(lambda: not daemon.alive(), "the fault to end the daemon")
    monkeypatch.undo()
    committed = site.committed()
    with DaemonThread(site):
        site.wait_until_done()

    assert committed == {0: len(first)}
    Expected.of(site, world.live).hold(site)
