"""MessagePack messages: maps, or arrays of them; a timestamp of its own type needs no unit.

Not inside: what their fields mean (`decoding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from streamer.formats.decoding import Parser
from streamer.formats.interface import FormatOptions


class MessagePackParser(Parser):
    """Maps with text keys, or arrays of them."""

    any_time = True

    def __init__(self, options: FormatOptions) -> None:
        super().__init__(options)
        self._one: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(self.layout.message, strict=not self.lax)

    def document(self, value: bytes) -> Any:
        return msgspec.msgpack.decode(value)

    def typed(self, value: bytes) -> Any:
        return self._one.decode(value)

    def together(self, values: Sequence[bytes]) -> list[Any] | None:
        try:
            return list(map(self._one.decode, values))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
