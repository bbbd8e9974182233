"""Messages whose schema lies in a registry are looked at like any other."""

from __future__ import annotations

import io
from typing import Any

import pytest
import yaml

from streamer.config import KafkaConfig, SchemaRegistryConfig, Settings
from streamer.offline.look.examining import examine
from streamer.offline.look.looking import look
from streamer.offline.look.proposing import plain, propose
from streamer.offline.look.registry import from_registry
from streamer.offline.look.writing import document
from tests.offline.look import topics
from tests.registries import framed, running

fastavro = pytest.importorskip("fastavro", reason="needs streamer[schema-registry]")
pytest.importorskip("confluent_kafka", reason="needs streamer[schema-registry]")

SCHEMA = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {"name": "device", "type": "string"},
        {"name": "ts", "type": "string"},
        {"name": "temperature", "type": "double"},
        {"name": "vibration", "type": "double"},
    ],
}


def avro(row: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    fastavro.schemaless_writer(content, fastavro.parse_schema(SCHEMA), row)
    return framed(7, content.getvalue())


def test_avro_is_recognised_and_proposed_with_its_registry() -> None:
    sample = topics.sample([avro(row) for row in topics.machines()])
    with running() as registry:
        registry.add(7, SCHEMA)
        config = SchemaRegistryConfig(url=registry.url)

        seen = look(sample, from_registry=from_registry(config))
        proposal = propose(seen)
        text = document(seen, proposal, KafkaConfig(), config, asked="")
        settings = Settings.model_validate({"schema_registry": config, **plain(proposal)})
        found = examine(settings, sample, seen=seen)

    assert seen.recognised.format == "avro"
    assert settings.features == ("temperature", "vibration")
    assert yaml.safe_load(text)["schema_registry"] == {"url": registry.url}
    assert not found.refused
