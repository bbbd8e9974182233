"""Bundles come while the daemon runs: a good one is taken into use between two batches, a bad one is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.store.registry import Registry
from streamer.offline.retrain import retrain_from_files
from tests.e2e.conftest import NewSite, World
from tests.e2e.harness import MODEL, DaemonProcess, DaemonThread, Expected, Site, partitions_of, wait_until
from tests.e2e.test_state_travels import thirds
from tests.e2e.test_stops_and_crashes import halves


@pytest.fixture(scope="module")
def newer(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second bundle for the same machines, in a registry of its own."""
    directory = tmp_path_factory.mktemp("newer")

    class Nowhere:
        bootstrap_servers, min_session_ms = "127.0.0.1:1", 1000

    site = Site(Nowhere(), directory / "site", directory / "bundles", model={"seed": 1, **MODEL})  # type: ignore[arg-type]
    return directory / "bundles" / retrain_from_files(site.settings, [world.history_file])


def publish(site: Site, bundle: Path) -> str:
    directory = site.settings.model.directory
    shutil.copytree(bundle, directory / bundle.name)
    Registry(directory).promote(bundle.name)
    return bundle.name


def test_a_promoted_bundle_is_taken_into_use_without_losing_a_window(
    world: World, newer: Path, new_site: NewSite
) -> None:
    site = new_site(own_bundles=True)
    first, second = halves(world.live)

    with DaemonThread(site) as daemon:
        site.send(first)
        site.wait_until_done()
        before = len(site.alerts())
        version = publish(site, newer)
        wait_until(lambda: any(version in key for key in daemon.metrics()), "the new bundle")
        site.send(second)
        site.wait_until_done()
        metrics = daemon.metrics()

    told = site.alerts()
    assert [key for key in metrics if key.startswith("streamer_model_info")] == [
        f'streamer_model_info{{backbone="lstm",regulariser="plain",version="{version}"}}'
    ]
    assert metrics["streamer_model_reloads_total"] == 1
    assert metrics.total("streamer_model_reload_failures_total") == 0
    assert {alert["model_version"] for alert in told[:before]} == {world.version}
    assert {alert["model_version"] for alert in told[before:]} == {version}
    # Every reading but those that fill the first window of each machine.
    machines, length = len(world.live.names), site.settings.window.length
    assert metrics["streamer_windows_scored_total"] == len(world.live) - machines * (length - 1)
    assert site.scores().keys() == Expected.of(site, world.live).scores.keys()


def test_a_restart_with_another_bundle_loses_no_window(world: World, newer: Path, new_site: NewSite) -> None:
    """The snapshot is of the old bundle, which is still there: its windows are put into the new one's units."""
    site = new_site(own_bundles=True)
    first, second = halves(world.live)
    with DaemonThread(site):
        site.send(first)
        site.wait_until_done()
    publish(site, newer)

    with DaemonThread(site) as daemon:
        site.send(second)
        site.wait_until_done()
        metrics = daemon.metrics()

    assert metrics["streamer_records_replayed_total"] == 0
    assert metrics["streamer_windows_scored_total"] == len(second)
    assert metrics.accounted() == metrics["streamer_records_consumed_total"]
    assert site.scores().keys() == Expected.of(site, world.live).scores.keys()


def test_a_restart_without_the_old_bundle_reads_the_past_again(world: World, newer: Path, new_site: NewSite) -> None:
    site = new_site(own_bundles=True)
    first, second = halves(world.live)
    with DaemonThread(site):
        site.send(first)
        site.wait_until_done()
    publish(site, newer)
    shutil.rmtree(site.settings.model.directory / world.version)

    with DaemonThread(site) as daemon:
        site.send(second)
        site.wait_until_done()
        metrics = daemon.metrics()

    assert metrics["streamer_records_replayed_total"] == len(first)
    assert metrics["streamer_windows_scored_total"] == len(second)


def versions(site: Site) -> dict[tuple[str, int], set[str]]:
    """The bundles with whose scores each reading was told."""
    told: dict[tuple[str, int], set[str]] = {}
    for record in site.read(site.settings.kafka.scores_topic):
        columns = json.loads(record.value)
        for key in zip(columns["stream"], columns["time_ns"], strict=True):
            told.setdefault(key, set()).add(columns["model_version"])
    return told


@pytest.mark.parametrize("began", ["before", "with it"])
def test_what_was_read_since_the_last_commit_is_told_again_with_the_bundle_of_then(
    world: World, newer: Path, new_site: NewSite, began: str
) -> None:
    """The process is killed, and another bundle promoted before the next one starts."""
    site = new_site(own_bundles=True)
    first, second, third = thirds(world.live)
    if began == "before":
        with DaemonThread(site):
            site.send(first)
            site.wait_until_done()
    else:
        site.send(first)
    unhurried = site.copy("unhurried", state={"checkpoint_s": 3600.0, "directory": str(site.settings.state.directory)})
    with DaemonProcess(unhurried) as killed:
        site.send(second)
        newest = second.time_ns.max()
        wait_until(lambda: sum(at == newest for _, at in versions(site)) == len(second.names), "all to be told")
        killed.kill()
    version = publish(site, newer)

    with DaemonThread(site) as daemon:
        site.wait_until_done()
        wait_until(lambda: any(version in key for key in daemon.metrics()), "the new bundle")
        site.send(third)
        site.wait_until_done()

    told = versions(site)
    late = set(third.time_ns.tolist())
    assert [key for key, some in told.items() if len(some) > 1] == []
    assert {next(iter(some)) for (_, at), some in told.items() if at in late} == {version}
    assert site.scores().keys() == Expected.of(site, world.live).scores.keys()


def test_a_replica_that_takes_partitions_over_goes_on_with_the_bundle_that_told_what_is_not_committed(
    world: World, newer: Path, new_site: NewSite, tmp_path: Path
) -> None:
    """It uses a newer one already, and returns to that when it is where the other was killed."""
    one = new_site(partitions=2, own_bundles=True, state={"store": (tmp_path / "shared").as_uri()})
    other = one.copy("other", state={"checkpoint_s": 3600.0})
    first, second, third = thirds(world.live)

    with DaemonProcess(one) as lives, DaemonProcess(other) as killed:
        both = [lives, killed]
        wait_until(lambda: partitions_of(both) == [1, 1], "a partition each")
        one.send(first)
        wait_until(lambda: sum(some.metrics()["streamer_records_windowed_total"] for some in both) >= len(first), "it")
        wait_until(lambda: sum(some.metrics()["streamer_alerts_pending"] for some in both) == 0, "all to be told")
        killed.kill()
        version = publish(one, newer)
        wait_until(lambda: any(version in key for key in lives.metrics()), "the new bundle")
        one.send(second)
        wait_until(lambda: partitions_of([lives]) == [2], "both partitions")
        one.wait_until_done()
        wait_until(lambda: any(version in key for key in lives.metrics()), "the new bundle again")
        one.send(third)
        one.wait_until_done()
        metrics = lives.metrics()

    told = versions(one)
    late = set(third.time_ns.tolist())
    assert [key for key, some in told.items() if len(some) > 1] == []
    assert {next(iter(some)) for (_, at), some in told.items() if at in late} == {version}
    assert metrics["streamer_model_reloads_total"] == 3  # to the newer one, back, and to it again
    assert one.scores().keys() == Expected.of(one, world.live).scores.keys()


@pytest.mark.parametrize("damage", ["weights", "manifest", "pointer"])
def test_a_damaged_bundle_is_refused_and_the_old_one_stays(
    world: World, newer: Path, new_site: NewSite, damage: str
) -> None:
    site = new_site(own_bundles=True)
    directory = site.settings.model.directory
    first, second = halves(world.live)
    refused = 'streamer_model_reload_failures_total{reason="artifact"}'

    with DaemonThread(site) as daemon:
        site.send(first)
        site.wait_until_done()
        if damage == "pointer":
            (directory / "current").write_text("../../etc/passwd\n")
        else:
            publish(site, newer)
            name = {"weights": "weights.safetensors", "manifest": "manifest.json"}[damage]
            file = directory / newer.name / name
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 0xFF
            file.unlink()
            file.write_bytes(content)
        wait_until(lambda: daemon.metrics()[refused] >= 1, "the bundle to be refused")
        site.send(second)
        site.wait_until_done()
        metrics = daemon.metrics()
        assert daemon.ready()

    assert metrics["streamer_model_reloads_total"] == 0
    assert metrics[refused] == 1, "counted once, not at every look"
    assert metrics[f'streamer_model_info{{backbone="lstm",regulariser="plain",version="{world.version}"}}'] == 1
    (directory / "current").write_text(world.version + "\n")
    Expected.of(site, world.live).hold(site, each_once=True)


def test_without_a_bundle_it_says_what_to_do_and_starts_when_there_is_one(
    world: World, new_site: NewSite, tmp_path: Path
) -> None:
    site = new_site(model={"directory": str(tmp_path / "empty")})
    site.send(world.live)

    with DaemonThread(site) as daemon:
        reason = daemon.wait_until_not_ready("no bundle")
        health = daemon.get("/healthz")[0]
        publish(site, world.bundles / world.version)
        daemon.wait_until_ready()
        site.wait_until_done()

    assert "streamer retrain" in reason
    assert health == 200
    assert np.isfinite(list(site.scores().values())).all()
    Expected.of(site, world.live).hold(site, each_once=True)
