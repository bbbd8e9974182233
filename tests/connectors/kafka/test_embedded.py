"""The embedded broker starts, makes topics as told and goes away."""

from __future__ import annotations

import socket

import pytest
from kafka import KafkaConsumer

from streamer.connectors.kafka.embedded import EmbeddedBroker
from streamer.errors import BrokerError, ConfigError


def test_a_topic_has_the_partitions_asked_for_and_the_port_closes_at_the_end() -> None:
    with EmbeddedBroker() as broker:
        broker.create_topic("readings", 3)
        host, port = broker.bootstrap_servers.split(":")
        consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers)
        partitions = consumer.partitions_for_topic("readings")
        consumer.close()

    assert host == "127.0.0.1"
    assert partitions == {0, 1, 2}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=1)


def test_a_topic_cannot_be_made_twice_nor_after_the_end() -> None:
    broker = EmbeddedBroker().start()
    broker.create_topic("readings")

    with pytest.raises(BrokerError, match="does it exist already"):
        broker.create_topic("readings")
    broker.stop()
    broker.stop()
    with pytest.raises(BrokerError, match=r"not running; call start\(\) first"):
        broker.create_topic("more")


def test_without_the_wheel_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=r"pip install 'streamer\[confluent\]'"):
        EmbeddedBroker().start()
