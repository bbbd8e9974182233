"""JSON messages.

All messages of a poll are decoded in one call (docs/decisions/0002). Not inside: what their fields mean (`decoding`).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from streamer.formats.decoding import Parser
from streamer.formats.interface import FormatOptions


class JsonParser(Parser):
    """Objects, or arrays of them."""

    def __init__(self, options: FormatOptions) -> None:
        super().__init__(options)
        shape = self.layout.message
        self._one: msgspec.json.Decoder[Any] = msgspec.json.Decoder(shape, strict=not self.lax)
        # The integer is a separator, see `together`.
        self._many = msgspec.json.Decoder(list[shape | int], strict=not self.lax)  # type: ignore[valid-type]

    def document(self, value: bytes) -> Any:
        return msgspec.json.decode(value)

    def typed(self, value: bytes) -> Any:
        return self._one.decode(value)

    def together(self, values: Sequence[bytes]) -> list[Any] | None:
        """All messages in one call, or None if any of them needs a closer look.

        They are joined with a number that nobody could have guessed. A message that is
        not whole by itself (half an object, an open string, two objects) cannot lean on
        its neighbours unnoticed: the numbers would not come out where they went in.
        """
        nonce = secrets.randbits(60)
        try:
            found = self._many.decode(b"[" + (b",%d," % nonce).join(values) + b"]")
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        numbers, decoded = found[1::2], found[::2]
        if len(found) != 2 * len(values) - 1 or numbers != [nonce] * len(numbers):
            return None
        # An integer in a reading's place is a message that is a bare number.
        return None if int in set(map(type, decoded)) else decoded
