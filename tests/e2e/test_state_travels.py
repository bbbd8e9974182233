"""State moves with its partition between replicas that share nothing but the broker, or a folder."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.connectors.files import DataSet
from tests.brokers import Broker
from tests.e2e.conftest import NewSite, World
from tests.e2e.harness import DaemonProcess, DaemonThread, Expected, Site, partitions_of, streamer, wait_until
from tests.runtime.state import s3

STORES = ("topic", "folder")


def store(kind: str, directory: Path) -> dict[str, Any]:
    return {"store": {"topic": "topic", "bucket": "s3://snapshots/here"}.get(kind, (directory / "shared").as_uri())}


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3]:
    pytest.importorskip("obstore", reason="the extra object-store is not installed")
    pytest.importorskip("moto.server", reason="moto, which plays S3, is not installed")
    with s3.running(tmp_path_factory.mktemp("s3")) as server:
        yield server


def thirds(data: DataSet) -> list[DataSet]:
    steps = np.array_split(np.unique(data.time_ns), 3)
    return [data.select(np.isin(data.time_ns, some)) for some in steps]


def hold(site: Site, data: DataSet, metrics: list[Mapping[str, float]]) -> None:
    """Alerts and scores are those of one undisturbed run, and no partition began without its state."""
    expected = Expected.of(site, data)
    expected.hold(site)
    alerts = site.alerts()
    opened = {alert["incident_id"] for alert in alerts if alert["event"] == "open"}
    ended = {alert["incident_id"] for alert in alerts if alert["event"] == "resolve"}
    assert len(opened) == expected.opened
    assert ended <= opened  # under the id they opened with
    assert sum(each["streamer_cold_starts_total"] for each in metrics) == 0
    assert site.committed() == site.ends()


@pytest.mark.parametrize(
    ("kind", "stride", "leaving"),
    [
        ("topic", 1, "SIGTERM"),
        ("topic", 4, "kill -9"),
        ("folder", 4, "SIGTERM"),
        ("folder", 1, "kill -9"),
        ("bucket", 1, "kill -9"),
    ],
)
def test_a_partition_goes_to_a_replica_with_another_directory_and_nothing_changes(
    request: pytest.FixtureRequest, world: World, new_site: NewSite, tmp_path: Path, kind: str, stride: int,
    leaving: str,
) -> None:  # fmt: skip
    one = new_site(partitions=2, state=store(kind, tmp_path), window={"stride": stride})
    other = one.copy("other")
    if kind == "bucket":
        for site in (one, other):
            site.environment.update(request.getfixturevalue("s3_server").environment)
    early, middle, late = thirds(world.live)

    with DaemonProcess(other) as second:
        with DaemonProcess(one) as first:
            wait_until(lambda: partitions_of([first, second]) == [1, 1], "a partition each")
            one.send(early)
            one.wait_until_done()
            with one.feeding(middle):
                wait_until(lambda: first.metrics()["streamer_checkpoints_total"] > 2, "some checkpoints")
                if leaving == "SIGTERM":
                    first.terminate()
                else:
                    first.kill()
                wait_until(lambda: partitions_of([second]) == [2], "both partitions")
        one.wait_until_done()
        with DaemonProcess(one) as first:  # and back again, while there is nothing to do
            wait_until(lambda: partitions_of([first, second]) == [1, 1], "a partition each again")
            one.send(late)
            one.wait_until_done()
            scrapes = [first.metrics(), second.metrics()]

    assert min(each["streamer_state_restore_duration_seconds_count"] for each in scrapes) > 0
    assert min(each["streamer_state_bytes_count"] for each in scrapes) > 0
    hold(one, world.live, [*scrapes])


@pytest.mark.parametrize("kind", STORES)
def test_a_replica_put_out_of_the_group_changes_nothing_when_it_wakes_up(
    world: World, new_site: NewSite, tmp_path: Path, kind: str
) -> None:
    one = new_site(partitions=2, state=store(kind, tmp_path) | {"checkpoint_s": 0.1})
    other = one.copy("other")
    early, middle, late = thirds(world.live)

    with DaemonProcess(one) as asleep, DaemonProcess(other) as awake:
        wait_until(lambda: partitions_of([asleep, awake]) == [1, 1], "a partition each")
        one.send(early)
        one.wait_until_done()
        with one.feeding(middle):
            wait_until(lambda: asleep.metrics()["streamer_checkpoints_total"] > 3, "some checkpoints")
            asleep.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: partitions_of([awake]) == [2], "both partitions")
        one.running.remove(asleep)
        one.wait_until_done()
        asleep.process.send_signal(signal.SIGCONT)  # in the middle of what it was doing; its snapshots, its commits
        wait_until(lambda: partitions_of([asleep, awake]) == [1, 1], "a partition each again")
        one.send(late)
        one.wait_until_done()
        scrapes = [asleep.metrics(), awake.metrics()]
        one.running.append(asleep)

    hold(one, world.live, [*scrapes])


def test_check_proves_the_state_topic_and_says_what_the_daemon_will_make(broker: Broker, new_site: NewSite) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker makes every topic it is asked for")
    site = new_site(partitions=2, state={"store": "topic"})
    topic = f"{site.settings.kafka.group}.state"

    before = streamer("check", site)
    with DaemonThread(site) as daemon:
        daemon.wait_until_ready()
    after = streamer("check", site)

    assert (before.code, after.code) == (0, 0), before.out + after.out
    assert f"?     topic {topic}, for state, does not exist; `streamer run` sees to it" in before.out
    assert f"ok    state topic {topic} can be written and read, and keeps what is written" in after.out


def test_a_store_that_refuses_keeps_the_daemon_from_reading_and_is_named(
    s3_server: s3.S3, new_site: NewSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = new_site(state={"store": "s3://nobody-made-this/here"})
    site.environment.update(s3_server.environment)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)

    checked = streamer("check", site)
    with DaemonThread(site) as daemon:
        daemon.wait_until_not_ready("s3://nobody-made-this/here.*the bucket is not there")

    assert checked.code == 69
    assert "FAIL  s3://nobody-made-this/here" in checked.out
    assert site.committed() == {}


def test_a_share_that_is_not_mounted_is_waited_for_and_nothing_is_committed_meanwhile(
    world: World, new_site: NewSite, tmp_path: Path
) -> None:
    site, (early, middle, late) = new_site(state=store("folder", tmp_path)), thirds(world.live)
    share, elsewhere = tmp_path / "shared", tmp_path / "elsewhere"
    with DaemonThread(site):
        site.send(early)
        site.wait_until_done()
    committed = site.committed()
    share.rename(elsewhere)
    share.mkdir()

    with DaemonThread(site) as daemon:
        site.send(middle)
        daemon.wait_until_not_ready("streamer-state is not there: is the folder mounted?")
        waiting = daemon.metrics(), site.committed()
        share.rmdir()
        elsewhere.rename(share)
        daemon.wait_until_ready()
        site.send(late)
        site.wait_until_done()
        scrape = daemon.metrics()

    assert waiting[0]['streamer_not_ready{reason="state_store"}'] == 1
    assert waiting[1] == committed
    hold(site, world.live, [scrape])


@pytest.mark.parametrize("copied", [True, False])
def test_another_folder_goes_on_exactly_with_a_copy_and_without_its_state_where_a_person_says_so(
    world: World, new_site: NewSite, tmp_path: Path, copied: bool
) -> None:
    site, (early, *_, late) = new_site(), thirds(world.live)  # state.store local
    site.send(early)
    with DaemonThread(site):
        site.wait_until_done()
    was = site.settings.state.directory
    assert was is not None
    changed = site.copy("changed", state={"store": (tmp_path / "shared").as_uri()})

    if copied:
        shutil.copytree(was, tmp_path / "shared")
    else:
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared" / "streamer-state").touch()
    with DaemonThread(changed) as daemon:
        changed.send(late)
        changed.wait_until_done()
        cold = daemon.metrics()["streamer_cold_starts_total"]

    assert cold == (0 if copied else 1)


def test_another_kind_of_store_begins_without_state_and_says_so(
    world: World, new_site: NewSite, tmp_path: Path
) -> None:
    site, (early, *_, late) = new_site(state={"store": "topic"}), thirds(world.live)
    site.send(early)
    with DaemonThread(site):
        site.wait_until_done()

    changed = site.copy("changed", state=store("folder", tmp_path))
    with DaemonThread(changed) as daemon:
        changed.send(late)
        changed.wait_until_done()
        cold = daemon.metrics()["streamer_cold_starts_total"]

    assert cold == 1
    assert (tmp_path / "shared" / "streamer-state").exists()
