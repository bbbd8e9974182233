"""Messages that are no flat JSON, through a real broker: the same scores and alerts, and every record accounted for."""

from __future__ import annotations

import io
import json
from datetime import datetime
from typing import Any

import pytest

from streamer.offline.machines import FEATURES
from streamer.offline.replay import encode
from tests import registries
from tests.brokers import Broker
from tests.e2e.conftest import NewSite, World
from tests.e2e.harness import DaemonThread, Expected, Site, streamer
from tests.e2e.test_bad_input import produce_in_order
from tests.registries import framed


def readings_of(site: Site, world: World) -> list[dict[str, Any]]:
    """What is sent, in order, as JSON would say it."""
    return [json.loads(value) for _, value in encode(world.live, site.settings)]


def send(broker: Broker, site: Site, values: list[bytes]) -> list[int]:
    return produce_in_order(broker, site.settings.kafka.topic, [{"key": None, "value": value} for value in values])


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_records_wait_while_the_schema_registry_is_away_and_none_is_lost(
    broker: Broker, world: World, new_site: NewSite, client: str
) -> None:
    fastavro = pytest.importorskip("fastavro", reason="needs streamer[schema-registry]")
    pytest.importorskip("confluent_kafka", reason="needs streamer[schema-registry]")
    fields: list[Any] = [
        {"name": "stream", "type": "string"},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        *({"name": name, "type": "double"} for name in FEATURES),
    ]
    older: Any = {"type": "record", "name": "Reading", "fields": fields}
    newer = older | {"fields": [{"name": "firmware", "type": "string"}, *fields]}
    sent = [one | {"timestamp": datetime.fromisoformat(one["timestamp"])} for one in readings_of(new_site(), world)]
    half = len(sent) // 2

    def avro(number: int, schema: Any, reading: dict[str, Any]) -> bytes:
        content = io.BytesIO()
        fastavro.schemaless_writer(content, fastavro.parse_schema(schema), reading)
        return framed(number, content.getvalue())

    with registries.running() as registry:
        registry.add(1, older)
        registry.add(2, newer)
        site = new_site(
            kafka={"client": client},
            records={"format": "avro"},
            schema_registry={"url": registry.url, "timeout_s": 1.0},
        )
        with DaemonThread(site) as daemon:
            send(broker, site, [avro(1, older, reading) for reading in sent[:half]])
            site.wait_until_done()
            committed = site.committed()
            registry.stop()
            send(broker, site, [avro(2, newer, reading | {"firmware": "5"}) for reading in sent[half:]])
            said = daemon.wait_until_not_ready("schema registry")
            waiting = daemon.metrics()
            assert site.committed() == committed
            checked = streamer("check", site)
            registry.start()
            daemon.wait_until_ready()
            unknown = send(broker, site, [framed(3, b"?")])
            site.wait_until_done()
            metrics = daemon.metrics()

    assert "cannot be reached for schema 2" in said
    assert checked.code == 69
    assert "schema registry" in checked.out + checked.err
    assert waiting["streamer_records_consumed_total"] == half
    assert metrics["streamer_records_windowed_total"] == len(sent)
    assert metrics.accounted() == metrics["streamer_records_consumed_total"] == len(sent) + 1
    [letter] = site.dead_letters()
    headers = dict(letter.headers)
    assert (headers["streamer.dlq.reason"], int(headers["streamer.dlq.offset"])) == (b"unknown_schema", unknown[0])
    Expected.of(site, world.live).hold(site, each_once=True)


def test_arrays_of_readings_are_accounted_for_one_by_one(broker: Broker, world: World, new_site: NewSite) -> None:
    site = new_site(records={"readings": "batch"})
    sent = readings_of(new_site(), world)
    batches: list[list[Any]] = [sent[i : i + 7] for i in range(0, len(sent), 7)]
    batches[3] = [*batches[3], {"stream": "machine-1"}, "no reading"]
    batches[5] = [{**batches[5][0], "load": None}, *batches[5]]
    values = [json.dumps({"batch": batch, "site": "north"}).encode() for batch in batches]

    with DaemonThread(site) as daemon:
        send(broker, site, [*values, b'{"batch":[]}', b"{}"])
        site.wait_until_done()
        metrics = daemon.metrics()

    letters = [{key: text.decode() for key, text in letter.headers} for letter in site.dead_letters()]
    assert [letter["streamer.dlq.offset"] for letter in letters] == ["3", "5", str(len(values) + 1)]
    assert letters[0]["streamer.dlq.error"].startswith("2 of 9 readings refused: [7]: ")
    assert letters[1]["streamer.dlq.error"] == "1 of 8 readings refused: [0]: field 'load' must be a number; got null"
    assert metrics["streamer_records_consumed_total"] == len(values) + 2
    assert metrics["streamer_records_windowed_total"] == len(sent)
    assert metrics.total("streamer_records_dead_lettered_total") == 3
    assert metrics["streamer_records_ignored_total"] == 1
    assert metrics.accounted() == metrics["streamer_records_consumed_total"]
    Expected.of(site, world.live).hold(site, each_once=True)
