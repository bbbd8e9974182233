"""The decoder of the input topic's messages, with a schema registry where their format needs one.

Not inside: any format (`formats`).
"""

from __future__ import annotations

import dataclasses

from streamer.config import Settings
from streamer.connectors.kafka.schema_registry import open_schemas
from streamer.formats import Decoder, Streams, decoder_of


def decoder_for(settings: Settings, streams: Streams, *, max_streams: int | None = None) -> Decoder:
    """The decoder that a configuration asks for.

    Args:
        settings: Format and layout of the records, and the registry.
        streams: Shared codes of streams; learns the names that come.
        max_streams: In place of the setting.

    Raises:
        ConfigError: A package is missing.
    """
    options = settings.format_options()
    if max_streams is not None:
        options = dataclasses.replace(options, max_streams=max_streams)
    return decoder_of(options, streams, open_schemas(settings))
