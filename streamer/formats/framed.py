"""Avro, JSON Schema and Protobuf in the Confluent wire format: byte 0, four bytes of schema id, the message.

Not inside: the registry, and what reads bytes by a schema (`interface.Schemas`).
"""

from __future__ import annotations

from typing import Any

from streamer.formats.decoding import Parser
from streamer.formats.interface import FormatOptions, Schemas
from streamer.formats.rejects import MALFORMED, Refused

FORMATS = {"avro": "AVRO", "json-schema": "JSON", "protobuf": "PROTOBUF"}  # and what the registry calls them
_FRAME = 5


class FramedParser(Parser):
    """Messages whose schema lies in a registry.

    Args:
        options: Layout of the messages.
        schemas: Finds schemas by their number.
    """

    def __init__(self, options: FormatOptions, schemas: Schemas) -> None:
        self.any_time = options.format != "json-schema"
        super().__init__(options)
        self._reader = schemas.reader

    def document(self, value: bytes) -> Any:
        if len(value) < _FRAME or value[0] != 0:
            raise Refused(
                MALFORMED,
                "wanted the Confluent wire format, byte 0 and four bytes of schema id before the message; got "
                f"{value[:_FRAME].hex(' ') or 'nothing'}: is records.format right?",
            )
        return self._reader(int.from_bytes(value[1:_FRAME], "big"))(value[_FRAME:])
