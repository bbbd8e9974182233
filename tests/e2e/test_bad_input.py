"""Whatever comes on the input topic, the daemon goes on: bad records to the dead letters, good ones scored."""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from streamer.offline.machines import FEATURES
from streamer.offline.replay import encode
from tests.brokers import Broker
from tests.e2e.conftest import NewSite, World
from tests.e2e.harness import DaemonThread, Expected

GOOD: dict[str, Any] = {"stream": "machine-1", "timestamp": "2025-01-09T00:00:00Z"} | dict.fromkeys(FEATURES, 1.0)
LARGE = 16_000_000


def text(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def without(field: str) -> bytes:
    return json.dumps({name: value for name, value in GOOD.items() if name != field}).encode()


# What is sent, and the reason it must be refused with.
BAD: dict[str, tuple[bytes | None, str]] = {
    "broken JSON": (text()[:-20], "malformed"),
    "no JSON at all": (b"hello", "malformed"),
    "two objects": (text() + text(), "malformed"),
    "two objects in a list's clothes": (text() + b"," + text(), "malformed"),
    "NaN literal": (text(load=float("nan")), "malformed"),
    "infinity literal": (text(load=float("inf")), "malformed"),
    "invalid UTF-8": (text().replace(b"machine-1", b"machine-\xff"), "malformed"),
    "UTF-16": (text().decode().encode("utf-16"), "malformed"),
    "missing feature": (without("flow"), "schema"),
    "missing stream": (without("stream"), "schema"),
    "missing time": (without("timestamp"), "schema"),
    "null": (text(load=None), "schema"),
    "a number as text": (text(load="1.0"), "schema"),
    "a bool": (text(load=True), "schema"),
    "a list": (b"[1, 2]", "schema"),
    "a bare number": (b"17", "schema"),
    "deep in the wrong place": (b"[" * 100_000, "schema"),
    "deep in a field nobody asked for": (
        text()[:-1] + b', "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "too_deep",
    ),
    "empty": (b"", "empty"),
    "tombstone": (None, "empty"),
    "5 MB": (text(more="x" * 5_000_000), "too_large"),
    "as large as a message can be": (b"x" * 999_990, "malformed"),
    "beyond double": (text().replace(b'"load": 1.0', b'"load": 1e400'), "schema"),
    "beyond float": (text(load=1e39), "not_finite"),
    "a stream name with a line break": (text(stream="machine-1\nERROR all is lost"), "bad_stream"),
    "a stream name too long": (text(stream="m" * 257), "bad_stream"),
    "no stream name": (text(stream=""), "bad_stream"),
    "far future": (text(timestamp="2150-01-01T00:00:00Z"), "future"),
    "no such day": (text(timestamp="2025-02-30T00:00:00Z"), "bad_timestamp"),
    "before 1970": (text(timestamp="1969-12-31T23:59:59Z"), "bad_timestamp"),
}


def allow_large(broker: Broker, topic: str) -> None:
    if broker.kind != "embedded":  # which has no limit and no AlterConfigs
        with contextlib.closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)) as admin:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(LARGE)})])


def produce_in_order(broker: Broker, topic: str, messages: list[dict[str, Any]]) -> list[int]:
    """Send messages of up to `LARGE` bytes; returns the offset each got."""
    producer = KafkaProducer(
        bootstrap_servers=broker.bootstrap_servers,
        max_request_size=LARGE,
        max_in_flight_requests_per_connection=1,
        acks="all",
    )
    with contextlib.closing(producer):
        sent = [producer.send(topic, partition=0, **message) for message in messages]
        producer.flush(30)
        return [future.get(0).offset for future in sent]


def test_bad_records_become_dead_letters_and_the_good_ones_between_them_are_scored(
    broker: Broker, world: World, new_site: NewSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = new_site()
    kafka = site.settings.kafka
    allow_large(broker, kafka.topic)
    good: list[dict[str, Any]] = [{"key": key, "value": value} for key, value in encode(world.live, site.settings)]
    if broker.kind == "embedded":  # it keeps 5 MB of a partition and forgets what was before
        monkeypatch.setitem(BAD, "5 MB", (text(more="x" * 1_500_000), "too_large"))
    bad = {name: {"key": b"machine-1", "value": value} for name, (value, _) in BAD.items()}
    messages, names = list(good), [""] * len(good)
    for number, (name, message) in enumerate(bad.items()):
        place = 37 * (number + 1)
        messages.insert(place, message)
        names.insert(place, name)

    with DaemonThread(site) as daemon:
        offsets = dict(zip(names, produce_in_order(broker, kafka.topic, messages), strict=True))
        site.wait_until_done()
        metrics = daemon.metrics()
        assert daemon.ready()

    letters = {dict(letter.headers)["streamer.dlq.offset"].decode(): letter for letter in site.dead_letters()}
    assert {name: letters[str(offsets[name])] and reason for name, (_, reason) in BAD.items()} == {
        name: dict(letters[str(offsets[name])].headers)["streamer.dlq.reason"].decode() for name in BAD
    }
    assert len(letters) == len(BAD)
    for name, (value, reason) in BAD.items():
        letter = letters[str(offsets[name])]
        headers = {key: content.decode() for key, content in letter.headers}
        assert headers["streamer.dlq.topic"] == kafka.topic
        assert headers["streamer.dlq.partition"] == "0"
        assert headers["streamer.dlq.group"] == kafka.group
        assert headers["streamer.dlq.error"]
        assert letter.key == b"machine-1"
        if value is not None and len(value) > 990_000:
            assert letter.value == value[:1024]
            assert headers["streamer.dlq.bytes"] == str(len(value))
            assert headers["streamer.dlq.sha256"] == hashlib.sha256(value).hexdigest()
        else:
            assert letter.value == value, name
        assert metrics[f'streamer_records_dead_lettered_total{{reason="{reason}"}}'] == sum(
            other == reason for _, other in BAD.values()
        )
    assert metrics["streamer_records_consumed_total"] == len(messages)
    assert metrics["streamer_records_windowed_total"] == len(good)
    assert metrics.accounted() == len(messages)
    Expected.of(site, world.live).hold(site, each_once=True)


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00Z", "1066-10-14T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_time_that_does_not_fit_nanoseconds_is_a_bad_record(
    broker: Broker, world: World, new_site: NewSite, when: str
) -> None:
    site = new_site()

    with DaemonThread(site):
        produce_in_order(broker, site.settings.kafka.topic, [{"key": b"a", "value": text(timestamp=when)}])
        site.wait_until_done()

    (letter,) = site.dead_letters()
    assert dict(letter.headers)["streamer.dlq.reason"] == b"bad_timestamp"


def test_a_bad_record_that_cannot_be_sent_on_as_it_came_is_sent_on_cut(
    broker: Broker, world: World, new_site: NewSite
) -> None:
    """Its key, its headers or its value are as large as its topic lets them be, and a header has no value."""
    site = new_site(records={"max_record_bytes": 10_000_000})
    kafka = site.settings.kafka
    allow_large(broker, kafka.topic)
    odd: list[dict[str, Any]] = [
        {"key": b"k" * 1_200_000, "value": b"no JSON"},
        {"key": b"machine-1", "value": b"no JSON", "headers": [("trace", b"h" * 1_200_000)]},
        {"key": b"machine-1", "value": b"v" * 1_200_000},
        {"key": b"machine-1", "value": b"no JSON", "headers": [("trace", b"of it")]},
        {"key": None, "value": b"no JSON"},
    ]
    good: list[dict[str, Any]] = [{"key": key, "value": value} for key, value in encode(world.live, site.settings)]

    with DaemonThread(site) as daemon:
        offsets = produce_in_order(broker, kafka.topic, [*odd, *good])
        site.wait_until_done()
        metrics = daemon.metrics()

    letters = [dict(letter.headers) for letter in site.dead_letters()]
    assert [letter["streamer.dlq.offset"].decode() for letter in letters] == [str(o) for o in offsets[: len(odd)]]
    assert {letter["streamer.dlq.reason"] for letter in letters} == {b"malformed"}
    assert letters[2]["streamer.dlq.bytes"] == b"1200000"
    assert metrics["streamer_alerts_pending"] == 0
    assert metrics.accounted() == metrics["streamer_records_consumed_total"] == len(odd) + len(good)
    Expected.of(site, world.live).hold(site)


def test_duplicate_and_late_readings_are_counted_and_change_nothing(world: World, new_site: NewSite) -> None:
    site = new_site()
    first = world.live.select(world.live.time_ns < world.live.time_ns[len(world.live) // 2])

    with DaemonThread(site) as daemon:
        site.send(first)
        site.send(first)
        site.send(world.live)
        site.wait_until_done()
        metrics = daemon.metrics()

    assert metrics["streamer_records_windowed_total"] == len(world.live)
    # The newest reading of a stream, sent again, is a duplicate; all others are late.
    assert metrics["streamer_records_duplicate_total"] == pytest.approx(2 * len(set(first.stream.tolist())))
    assert metrics.accounted() == metrics["streamer_records_consumed_total"] == len(world.live) + 2 * len(first)
    Expected.of(site, world.live).hold(site, each_once=True)
