"""How bytes become readings: one module for each format, one interface for all (`interface.Decoder`).

    json_objects   objects, or arrays of them
    messagepack    the same in MessagePack
    delimited      rows of CSV or TSV
    influx         Influx line protocol
    framed         Avro, JSON Schema and Protobuf with a schema registry

Inside: `decoder_of`, which picks the format. Not inside: where bytes come from, what becomes of readings.
"""

from __future__ import annotations

from streamer.formats import framed
from streamer.formats.decoding import Parser, RecordDecoder
from streamer.formats.delimited import DelimitedParser
from streamer.formats.framed import FramedParser
from streamer.formats.influx import InfluxParser
from streamer.formats.interface import Batch, Decoded, Decoder, FormatOptions, Schemas, Streams
from streamer.formats.json_objects import JsonParser
from streamer.formats.messagepack import MessagePackParser

__all__ = ["Batch", "Decoded", "Decoder", "FormatOptions", "Schemas", "Streams", "decoder_of"]

_PARSERS: dict[str, type[Parser]] = {
    "json": JsonParser,
    "msgpack": MessagePackParser,
    "csv": DelimitedParser,
    "tsv": DelimitedParser,
    "influx": InfluxParser,
}


def decoder_of(options: FormatOptions, streams: Streams, schemas: Schemas | None = None) -> Decoder:
    """The decoder that options ask for.

    Args:
        options: Format and layout of the messages.
        streams: Shared codes of streams; learns the names that come.
        schemas: For formats whose schema lies in a registry.
    """
    if options.format in framed.FORMATS:
        if schemas is None:
            raise ValueError(f"format {options.format} needs a schema registry")
        return RecordDecoder(FramedParser(options, schemas), streams)
    return RecordDecoder(_PARSERS[options.format](options), streams)
