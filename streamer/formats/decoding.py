"""A batch of messages of any format to readings: together if all are good, else each by itself.

A format brings a `Parser`; everything after it is the same for all. Inside: `Parser` and
`RecordDecoder`. Not inside: any format, columns of readings (`assembly`), settings, Kafka.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

import msgspec
import numpy as np

from streamer.formats.assembly import Assembler, Elements
from streamer.formats.faults import Fault
from streamer.formats.interface import ROOT, Batch, Decoded, FormatOptions, Streams
from streamer.formats.rejects import EMPTY, MALFORMED, SCHEMA, TOO_DEEP, TOO_LARGE, TOO_MANY, Refused
from streamer.formats.shapes import Layout, time_kind
from streamer.formats.wording import ABSENT, explain, kind_of, missing_field, walk


class Parser(ABC):
    """One format: bytes to dicts, lists and plain values, or straight to the types of a layout."""

    lax = False  # values are text, and numbers must be found in it
    several = False  # every message holds any number of readings
    any_time = False  # a value may be a time by itself
    skips_bare = False  # an element without any of the features is ignored

    def __init__(self, options: FormatOptions) -> None:
        self.options = options
        self.lax = self.lax or options.text_numbers
        self.layout = Layout(options, time=Any if self.any_time else time_kind(options), several=self.several)

    def explain(self, element: Any) -> str | None:
        """What does not fit in a parsed message or element; None if nothing is found.

        Raises:
            Refused: It is not of the format at all.
        """
        return explain(element, self.options, several=self.layout.several, lax=self.lax)

    @abstractmethod
    def document(self, value: bytes) -> Any:
        """What a message says, as dicts, lists and plain values.

        Raises:
            Refused: Nothing, and why.
            ValueError, RecursionError: It is not of this format.
            SchemasUnavailable: It cannot be read now.
        """

    def typed(self, value: bytes) -> Any:
        """A message as `Layout.message`.

        Raises:
            msgspec.ValidationError: It is of this format, but not of this layout.
            Exception: As `document`.
        """
        return msgspec.convert(self.document(value), self.layout.message, strict=not self.lax)

    def together(self, values: Sequence[bytes]) -> list[Any] | None:
        """All messages as `Layout.message`, or None if any of them needs a closer look."""
        try:
            documents = list(map(self.document, values))
            return msgspec.convert(documents, list[self.layout.message], strict=not self.lax)  # type: ignore[name-defined]
        except (Refused, msgspec.MsgspecError, ValueError, RecursionError):
            return None


@dataclass(slots=True)
class _Found:
    """Elements of a batch, message by message."""

    rows: list[int] = field(default_factory=list)
    messages: list[Any] = field(default_factory=list)  # as `Layout.message`
    arrays: list[list[Any]] = field(default_factory=list)  # as `Layout.element`, of each message
    places: list[Sequence[int]] = field(default_factory=list)  # of the elements of each array
    sizes: dict[int, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    empty: int = 0


class RecordDecoder:
    """Decodes messages of one format and layout.

    Args:
        parser: Knows the format.
        streams: Shared codes of streams; learns the names that come.
    """

    def __init__(self, parser: Parser, streams: Streams) -> None:
        self.options, self.streams = parser.options, streams
        self._parser, self._layout = parser, parser.layout
        self._assembler = Assembler(parser.layout, streams, lax=parser.lax, skips_bare=parser.skips_bare)

    def decode(self, batch: Batch) -> Decoded:
        """See `interface.Decoder`."""
        values = batch.values
        together = self._together(values)
        if self._layout.several:
            found = self._spread(values, together)
            return self._assembler.assemble(
                batch, _flat(found, self._layout), found.faults, empty=found.empty, sizes=found.sizes
            )
        if together is not None:
            elements = Elements(np.arange(len(values)), together)
            return self._assembler.assemble(batch, elements, [], empty=0, sizes={})
        found = self._one_by_one(values)
        elements = Elements(np.array(found.rows, np.int64), found.messages)
        return self._assembler.assemble(batch, elements, found.faults, empty=0, sizes={})

    def _together(self, values: Sequence[bytes | None]) -> list[Any] | None:
        if not values:
            return []
        if not all(values) or max(map(len, values)) > self.options.max_record_bytes:  # type: ignore[arg-type]
            return None
        return self._parser.together(values)  # type: ignore[arg-type]

    def _one_by_one(self, values: Sequence[bytes | None]) -> _Found:
        """Each message by itself: those that fit the layout, and what is wrong with the rest."""
        found = _Found()
        for row, value in enumerate(values):
            try:
                if not value:
                    raise Refused(EMPTY, "a reading has fields; got no value")
                if len(value) > self.options.max_record_bytes:
                    raise Refused(TOO_LARGE, f"at most {self.options.max_record_bytes} bytes; got {len(value)}")
                try:
                    found.messages.append(self._parser.typed(value))
                    found.rows.append(row)
                except msgspec.ValidationError as error:
                    self._look_closer(row, value, error, found)
            except Refused as refused:
                found.faults.append(Fault(row, None, refused.reason, refused.detail))
            except RecursionError:
                found.faults.append(Fault(row, None, TOO_DEEP, "nested too deeply"))
            except (msgspec.DecodeError, ValueError) as error:
                found.faults.append(Fault(row, None, MALFORMED, str(error)))
        return found

    def _spread(self, values: Sequence[bytes | None], together: list[Any] | None) -> _Found:
        """The arrays of all messages."""
        if together is None:
            found = self._one_by_one(values)
        else:
            found = _Found(rows=list(range(len(together))), messages=together)
        whole = list(map(self._layout.array, found.messages))
        # Those that were looked at closer have their good elements in `arrays` already.
        closer = {
            row: (array, places) for row, array, places in zip(found.sizes, found.arrays, found.places, strict=True)
        }
        found.arrays, found.places = [], []
        rows, messages = found.rows, found.messages
        found.rows, found.messages = [], []
        for row, message, array in zip(rows, messages, whole, strict=True):
            places: Sequence[int] = range(len(array))
            if row in closer:
                array, places = closer[row]
            elif len(array) > self.options.max_readings:
                found.faults.append(self._too_many(row, len(array)))
                continue
            elif not array:
                found.empty += 1
                continue
            found.sizes.setdefault(row, len(array))
            found.rows.append(row)
            found.messages.append(message)
            found.arrays.append(array)
            found.places.append(places)
        return found

    def _look_closer(self, row: int, value: bytes, error: msgspec.ValidationError, found: _Found) -> None:
        """What is wrong with a message that is of the format but not of the layout; what is good of its array stays."""
        try:
            document = self._parser.document(value)
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise Refused(SCHEMA, str(error)) from None
        if not self._layout.several:
            raise Refused(SCHEMA, self._parser.explain(document) or str(error))
        array = self._array(document)
        if len(array) > self.options.max_readings:
            found.faults.append(self._too_many(row, len(array)))
            return
        message = [] if self._layout.path == ROOT else self._beside(document)
        good: list[Any] = []
        places: list[int] = []
        for place, element in enumerate(array):
            try:
                good.append(msgspec.convert(element, self._layout.element, strict=not self._parser.lax))
                places.append(place)
            except msgspec.ValidationError as wrong:
                found.faults.append(Fault(row, place, *self._why(element, wrong)))
        found.rows.append(row)
        found.messages.append(message)
        found.arrays.append(good)
        found.places.append(places)
        found.sizes[row] = len(array)

    def _why(self, element: Any, error: msgspec.ValidationError) -> tuple[str, str]:
        try:
            return SCHEMA, self._parser.explain(element) or str(error)
        except Refused as refused:
            return refused.reason, refused.detail

    def _array(self, document: Any) -> list[Any]:
        path = str(self._layout.path)
        if path == ROOT:
            if not isinstance(document, list):
                raise Refused(SCHEMA, f"the message must be an array of readings; got {kind_of(document)}")
            return document
        if not isinstance(document, dict):
            raise Refused(SCHEMA, f"the message must be an object with an array {path!r}; got {kind_of(document)}")
        array, where = walk(document, path)
        if array is ABSENT:
            raise Refused(SCHEMA, where or missing_field(document, path))
        if not isinstance(array, list):
            raise Refused(SCHEMA, f"field {path!r} must be an array of readings; got {kind_of(array)}")
        return array

    def _beside(self, document: dict[str, Any]) -> Any:
        """What stands beside the array, as `Layout.message` without elements."""
        try:
            bare = _without(document, str(self._layout.path))
            return msgspec.convert(bare, self._layout.message, strict=not self._parser.lax)
        except msgspec.ValidationError as error:
            raise Refused(SCHEMA, self._parser.explain(document) or str(error)) from None

    def _too_many(self, row: int, size: int) -> Fault:
        return Fault(row, None, TOO_MANY, f"at most {self.options.max_readings} readings in a message; got {size}")


def _flat(found: _Found, layout: Layout) -> Elements:
    sizes = np.fromiter(map(len, found.arrays), np.int64, len(found.arrays))
    beside = None
    if layout.common:
        beside = list(chain.from_iterable(map(repeat, found.messages, sizes.tolist())))
    return Elements(
        np.repeat(np.array(found.rows, np.int64), sizes),
        list(chain.from_iterable(found.arrays)),
        beside,
        np.fromiter(chain.from_iterable(found.places), np.int64, int(sizes.sum())),
    )


def _without(document: dict[str, Any], path: str) -> dict[str, Any]:
    """A copy in which the array at `path` is empty."""
    head, dot, rest = path.partition(".")
    return document | {head: _without(document[head], rest) if dot else []}
