"""`streamer replay` through a broker: a messy file arrives as it stands, in the layout of the topic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from kafka import KafkaConsumer, TopicPartition

from streamer.cli import main
from tests.brokers import Broker, unique
from tests.connectors.files.samples import write

pytestmark = pytest.mark.usefixtures("keep_logging")

# The third row is late, the fourth is there twice, the status is no feature, and the file is German.
ROWS = [
    ("07.10.2013 08:00:00,688", "press 1", "temp", "13,94"),
    ("07.10.2013 08:00:01,000", "press 1", "flow", "0,1"),
    ("07.10.2013 07:59:58,000", "press 2", "temp", "49,18"),
    ("07.10.2013 08:00:01,000", "press 1", "flow", "0,2"),
    ("07.10.2013 08:00:01,000", "press 1", "flow", "0,2"),
    ("07.10.2013 08:00:02,000", "press 1", "status", "OK"),
]
FILE = "Zeit;Maschine;Größe;Wert\n" + "".join(";".join(row) + "\n" for row in ROWS)


def test_a_messy_file_arrives_in_its_own_order_with_its_own_numbers(broker: Broker, tmp_path: Path) -> None:
    topic = unique("replay")
    broker.create_topic(topic)
    config, file = tmp_path / "streamer.yaml", write(tmp_path / "f.csv.zst", FILE, "utf-16")
    records = {"timestamp": "Zeit", "timestamp_unit": "ms", "stream": "Maschine", "metric": "Größe", "value": "Wert"}
    kafka = {"bootstrap_servers": broker.bootstrap_servers, "topic": topic}
    config.write_text(yaml.safe_dump({"kafka": kafka, "records": {**records, "features": ["temp", "flow"]}}))

    code = main(["replay", "--config", str(config), "--data", str(file)])

    assert code == 0
    partition = TopicPartition(topic, 0)
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, consumer_timeout_ms=1000)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    arrived = [(message.key.decode(), json.loads(message.value)) for message in consumer]
    consumer.close()
    at = 1_381_132_800_000
    assert arrived == [
        (machine, {"Maschine": machine, "Zeit": at + late, "Größe": metric, "Wert": value})
        for machine, late, metric, value in [
            ("press 1", 688, "temp", 13.94),
            ("press 1", 1000, "flow", 0.1),
            ("press 2", -2000, "temp", 49.18),
            ("press 1", 1000, "flow", 0.2),
            ("press 1", 1000, "flow", 0.2),
        ]
    ]
