"""A small record that unpacks to hundreds of megabytes: one partition rests, daemon and other partitions go on."""

from __future__ import annotations

from pathlib import Path

import pytest
from kafka import KafkaProducer

from streamer.offline.replay import encode
from tests.brokers import Broker
from tests.e2e.conftest import NewSite, World
from tests.e2e.harness import DaemonProcess, streamer, wait_until

CONTAINER_MB = 1024  # what docker-compose.yml gives
UNPACKED_MB = 950


def peak_mb(process: int) -> int:
    """The most memory that was resident at any time; Linux only."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


# Of librdkafka's codecs zstd alone is bounded: docs/decisions/0017-memory.md.
@pytest.mark.parametrize(
    ("client", "codec"), [("kafka-python", "zstd"), ("kafka-python", "gzip"), ("confluent", "zstd")]
)
def test_a_bomb_pauses_its_partition_names_its_offset_and_leaves_a_container_of_1_gb_alive(
    broker: Broker, world: World, new_site: NewSite, client: str, codec: str
) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker keeps 5 MB of a partition; set KAFKA_HOME")
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc to read the resident size from")
    site = new_site(partitions=2, kafka={"client": client})
    topic = site.settings.kafka.topic
    good = encode(world.live, site.settings)
    before, after = good[: len(good) // 2], good[len(good) // 2 :]
    producer = KafkaProducer(
        bootstrap_servers=broker.bootstrap_servers, compression_type=codec, max_request_size=2**30, acks="all"
    )
    for partition in (0, 1):
        for key, value in before:
            producer.send(topic, partition=partition, key=key, value=value)
    producer.flush(30)
    bomb = producer.send(topic, partition=0, value=bytes(UNPACKED_MB * 2**20)).get(60)
    for key, value in after:
        producer.send(topic, partition=1, key=key, value=value)
    producer.close(30)

    with DaemonProcess(site) as daemon:
        wait_until(lambda: daemon.metrics()["streamer_partitions_poisoned"] == 1, "one partition that rests")
        wait_until(
            lambda: site.committed() == {0: bomb.offset, 1: len(good)},
            f"commits up to the bomb at {bomb.offset} and up to {len(good)}; they are {site.committed()}",
        )
        peak = peak_mb(daemon.process.pid)
        metrics, log = daemon.metrics(), daemon.log()
        daemon.terminate()

    assert peak < CONTAINER_MB
    assert f"{topic}[0]@{bomb.offset}: the batch there cannot be read" in log
    assert metrics.accounted() == metrics["streamer_records_consumed_total"]


@pytest.mark.parametrize(("client", "said"), [("kafka-python", False), ("confluent", True)])
def test_check_tells_who_reads_with_confluent_what_a_compressed_record_may_do(
    new_site: NewSite, client: str, said: bool
) -> None:
    site = new_site(kafka={"client": client})

    checked = streamer("check", site)

    assert checked.code == 0, checked.out
    assert ("have compressed without a bound" in checked.out) == said
