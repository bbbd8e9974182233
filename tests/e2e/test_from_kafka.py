"""`streamer retrain --from-kafka`: a part of the topic as training data, and the first `run` after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from models.store.registry import Registry
from streamer.cli import main
from streamer.config import Settings
from streamer.connectors import files as datafiles
from streamer.connectors.kafka.topic_reader import TimeRange, TopicReader
from streamer.errors import DataError
from streamer.offline import backtest
from streamer.offline.replay import encode
from tests.brokers import produce, unique
from tests.e2e.conftest import NewSite, World
from tests.e2e.harness import DaemonThread, Expected, Site, streamer

NOW_MS = int(time.time() * 1000)


@contextmanager
def quietly(title: str, total: float) -> Iterator[Callable[[float], None]]:
    yield lambda steps: None


def reader(settings: Settings, time_range: TimeRange | None = None) -> TopicReader:
    return TopicReader(settings, time_range or TimeRange(), quietly)


def send_at(site: Site, world: World, rows: slice, timestamp_ms: int) -> None:
    """Send some readings as records that the broker took at a time."""
    messages = encode(world.live.select(rows), site.settings)
    produce(
        site.broker,
        site.settings.kafka.topic,
        [{"key": key, "value": value, "timestamp_ms": timestamp_ms, "partition": 0} for key, value in messages],
    )


def test_what_is_read_is_what_was_sent(world: World, new_site: NewSite) -> None:
    site = new_site(partitions=2)
    site.send(world.live)
    produce(site.broker, site.settings.kafka.topic, [{"value": b"no reading"}])

    data = datafiles.join(reader(site.settings))

    sent, found = world.live.by_stream(), data.by_stream()
    assert found.keys() == sent.keys()
    for name, (times, values) in sent.items():
        np.testing.assert_array_equal(found[name][0], times)
        np.testing.assert_allclose(found[name][1], values, rtol=1e-6)


def test_retrain_makes_a_bundle_of_the_topics_streams_that_knows_how_far_it_read(
    world: World, new_site: NewSite
) -> None:
    site = new_site(own_bundles=True)
    site.send(world.live)
    before = set(Registry(site.settings.model.directory).versions())

    code = main(["retrain", "--config", str(site.file), "--from-kafka", "--since", "1h"])

    registry = Registry(site.settings.model.directory)
    manifest = registry.manifest(registry.current() or "")
    assert code == 0
    assert registry.current() in set(registry.versions()) - before
    assert manifest["streams"] == len(world.live.names)
    assert manifest["trained_on"] == {"topic": site.settings.kafka.topic, "partitions": {"0": len(world.live)}}


def test_since_and_until_choose_by_the_time_the_broker_took_a_record(world: World, new_site: NewSite) -> None:
    site = new_site()
    for number, age_s in enumerate((600, 60, 10)):
        send_at(site, world, slice(100 * number, 100 * number + 100), NOW_MS - age_s * 1000)

    def read(since_s: float | None, until_s: float | None) -> tuple[int, Any]:
        now_s = NOW_MS / 1000
        some = reader(
            site.settings,
            TimeRange.of(
                None if since_s is None else now_s - since_s,
                None if until_s is None else now_s - until_s,
            ),
        )
        return sum(map(len, some)), (some.trained_on() or {})["partitions"]["0"]

    assert read(None, None) == (300, 300)
    assert read(45, None) == (100, 300)
    assert read(None, 45) == (200, 200)
    assert read(300, 45) == (100, 200)


def test_two_retrains_at_once_and_one_that_was_killed_do_not_disturb_each_other(
    world: World, new_site: NewSite
) -> None:
    site = new_site(partitions=2, kafka={"max_poll_records": 100})
    site.send(world.live)
    killed, other = reader(site.settings).__iter__(), reader(site.settings)

    first = next(killed)  # and then nothing: it neither reads on nor leaves
    read = sum(map(len, other))

    assert len(first) > 0
    assert read == len(world.live)
    killed.close()


def test_a_topic_without_records_says_where_was_looked(world: World, new_site: NewSite) -> None:
    site = new_site(partitions=2)
    topic = site.settings.kafka.topic
    with pytest.raises(DataError, match=rf"topic {topic} is empty: none of its 2 partition\(s\) holds a record"):
        list(reader(site.settings))

    send_at(site, world, slice(0, 10), NOW_MS - 600_000)
    with pytest.raises(DataError) as nothing:
        list(reader(site.settings, TimeRange.of(1_900_000_000, None)))

    assert str(nothing.value).startswith(f"topic {topic} holds no record since 2030-03-17T17:46:40Z")
    assert "looked at partition 0 (offsets 0 to 9), 1 (empty)" in str(nothing.value)


def test_records_that_are_no_readings_are_counted_by_reason_with_a_sample(
    world: World, new_site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    site = new_site()
    site.send(world.live.select(slice(0, 50)))
    absent = b'{"stream": "m", "timestamp": "2026-01-01T00:00:00Z", "load": null}'
    produce(site.broker, site.settings.kafka.topic, [{"value": value} for value in (b"{", absent, absent)])
    topic = site.settings.kafka.topic

    assert sum(map(len, reader(site.settings))) == 50

    (line,) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert line.startswith(
        f"3 of 53 records of {topic} are not readings and were left out: 2 schema (e.g. {topic}[0]@51:"
    )
    assert "1 malformed" in line
    assert "2 lack a field or hold null in one: if it is a feature, `records.missing: fill` takes such readings" in line


def test_a_topic_of_nothing_but_bad_records_says_why(new_site: NewSite) -> None:
    site = new_site()
    produce(site.broker, site.settings.kafka.topic, [{"value": b"no reading"}])

    with pytest.raises(DataError, match=r"none of the 1 records of topic .* is a reading: 1 malformed \(e\.g\. "):
        list(reader(site.settings))


def test_the_first_run_after_it_raises_no_alerts_about_what_was_trained_on(
    world: World, new_site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    site = new_site(own_bundles=True, alerting={"silent_after": None})
    half = int(np.searchsorted(world.live.time_ns, world.live.time_ns[len(world.live) // 2]))
    site.send(world.live.select(slice(0, half)))
    registry = Registry(site.settings.model.directory)
    detector, _ = registry.load()
    past = reader(site.settings)
    assert sum(map(len, past)) == half
    version = bundle_trained_on(registry, past.trained_on())
    site.send(world.live.select(slice(half, None)))
    result = backtest.run(site.settings, detector, version, world.live)
    cut = np.datetime_as_string(world.live.time_ns[half].astype("datetime64[ns]"), "s")
    late = {alert.alert_id for alert in result.alerts if alert.time >= cut}
    assert late
    assert len(late) < len(result.alerts)

    with caplog.at_level("INFO"), DaemonThread(site) as daemon:
        site.wait_until_done()
        metrics = daemon.metrics()

    assert {alert["alert_id"] for alert in site.alerts()} == late
    assert metrics["streamer_records_replayed_total"] == half  # read in silence, so that windows are full
    assert f"was trained on the records before {half}: they raise no alerts, publishing begins there" in caplog.text


def test_offsets_of_another_topic_under_the_same_name_are_ignored(
    world: World, new_site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    site = new_site(own_bundles=True)
    past = {"topic": site.settings.kafka.topic, "partitions": {"0": 1_000_000}}
    bundle_trained_on(Registry(site.settings.model.directory), past)
    site.send(world.live)

    with caplog.at_level("INFO"), DaemonThread(site):
        site.wait_until_done()

    Expected.of(site, world.live).hold(site)
    assert "outside 0..3000: the topic was recreated" in caplog.text.replace(str(len(world.live)), "3000")


def bundle_trained_on(registry: Registry, past: dict[str, Any] | None) -> str:
    detector, _ = registry.load()
    return registry.publish(detector, created=datetime.now(UTC), fingerprint="", trained_on=past)


@pytest.mark.parametrize("command", ["retrain", "replay", "simulate"])
def test_a_topic_that_is_not_there_is_one_sentence(command: str, world: World, new_site: NewSite) -> None:
    site = new_site()
    if site.broker.kind == "embedded":
        pytest.skip("the embedded broker makes every topic it is asked for")
    site.sections["kafka"]["topic"] = unique("nowhere")
    site.save()
    arguments = {"retrain": ["--from-kafka"], "replay": ["--data", str(world.live_file)], "simulate": []}[command]

    ran = streamer(command, site, *arguments)  # which waits a minute at most

    topic = site.sections["kafka"]["topic"]
    reads = f"topic {topic}, to read from, does not exist; check kafka.topic and kafka.bootstrap_servers"
    writes = f"topic {topic}, to write to, does not exist; create it or set kafka.create_topics: true"
    assert (ran.code, ran.out) == (69, "")
    assert ran.err == f"streamer: {reads if command == 'retrain' else writes}\n"
