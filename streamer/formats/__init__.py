"""How bytes become readings: one module for each format, one interface for all (`interface.Decoder`).

Inside: `decoder_of`, which picks the format. Not inside: where bytes come from, what becomes of readings.
"""

from __future__ import annotations

from streamer.formats.decoding import RecordDecoder
from streamer.formats.interface import Batch, Decoded, Decoder, FormatOptions, Schemas, Streams
from streamer.formats.json_objects import JsonParser

__all__ = ["Batch", "Decoded", "Decoder", "FormatOptions", "Schemas", "Streams", "decoder_of"]


def decoder_of(options: FormatOptions, streams: Streams) -> Decoder:
    """The decoder that options ask for.

    Args:
        options: Format and layout of the messages.
        streams: Shared codes of streams; learns the names that come.
    """
    return RecordDecoder(JsonParser(options), streams)
