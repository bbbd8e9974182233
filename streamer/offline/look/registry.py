"""Messages whose schema lies in a registry, read without knowing which kind of schema it is.

Not inside: asking the registry, reading by a schema (`connectors.kafka.schema_registry`).
"""

from __future__ import annotations

from typing import Any

from streamer.config import SchemaRegistryConfig
from streamer.connectors.kafka.schema_registry import SchemaRegistry
from streamer.formats.framed import FORMATS
from streamer.formats.rejects import Refused
from streamer.offline.look.recognising import FromRegistry

_FRAME = 5  # bytes before the message


def from_registry(config: SchemaRegistryConfig) -> FromRegistry | None:
    """What reads a message by its schema; None if no registry is known.

    Raises:
        ConfigError: A package is missing.
    """
    if config.url is None:
        return None
    registries = {name: SchemaRegistry(config, kind) for name, kind in FORMATS.items()}
    known: dict[int, str] = {}

    def read(schema_id: int, value: bytes) -> tuple[str, Any]:
        names = [known[schema_id]] if schema_id in known else list(registries)
        first: Refused | None = None
        for name in names:
            try:
                reader = registries[name].reader(schema_id)
            except Refused as refused:  # of another kind, or unknown
                first = first or refused
                continue
            known[schema_id] = name
            return name, reader(value[_FRAME:])
        raise first or Refused("", "no kind of schema is known")

    return read
