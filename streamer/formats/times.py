"""Event times of a batch: from a field, from the record or from one of its headers.

Not inside: how a value is read as a time (`timestamps`).
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from streamer.formats.interface import HEADER, KAFKA_TIME, Batch
from streamer.formats.rejects import BAD_TIMESTAMP, SCHEMA
from streamer.formats.shapes import Layout
from streamer.formats.timestamps import Times, times_of, times_of_anything, times_of_integers
from streamer.formats.wording import say_time, wrong_time_kind

_NUMBER = int | float


class EventTimes:
    """Event times of elements.

    Args:
        layout: Where their fields are.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout, self._name, self._unit = layout, layout.options.timestamp, layout.options.timestamp_unit
        self._raw: list[Any] = []  # of the batch before

    def of(self, batch: Batch, rows: NDArray[np.int64], items: list[Any], beside: list[Any] | None) -> Times:
        """Times in ns, and where there is none."""
        if self._name == KAFKA_TIME:
            stamps = batch.timestamps_ms[rows]
            self._raw = stamps.tolist()
            return times_of_integers(stamps, "ms")
        if self._name.startswith(HEADER):
            self._raw = self._headers(batch, rows)
            return times_of_anything(self._raw, self._unit)
        self._raw = raw = list(map(self._layout.getters[self._name], items))
        common = self._layout.common.get(self._name)
        if common is not None and beside is not None and UNSET in raw:
            raw[:] = [common(around) if own is UNSET else own for own, around in zip(raw, beside, strict=True)]
        if self._layout.any_time and self._layout.options.text_numbers and self._unit != "iso8601":
            raw[:] = map(_number, raw)
        if self._layout.any_time or self._layout.several:
            return times_of_anything(raw, self._unit)
        return times_of(raw, self._unit)

    def why(self, i: int) -> tuple[str, str]:
        """Reason and detail for the element at `i` of the last batch."""
        raw = self._raw[i]
        if self._name == KAFKA_TIME:
            if raw < 0:
                return BAD_TIMESTAMP, "the record has no timestamp of Kafka"
            return BAD_TIMESTAMP, f"the record's timestamp is {raw} ms since 1970: not before 2200"
        if self._name.startswith(HEADER):
            name = self._name.removeprefix(HEADER)
            if raw is UNSET:
                return BAD_TIMESTAMP, f"the record has no header {name!r}"
            return BAD_TIMESTAMP, f"header {name!r}: {say_time(raw, self._unit)}"
        if raw is UNSET:
            return SCHEMA, f"field {self._name!r} is missing"
        wrong = wrong_time_kind(self._name, raw, self._unit)
        return (SCHEMA, wrong) if wrong else (BAD_TIMESTAMP, say_time(raw, self._unit))

    def _headers(self, batch: Batch, rows: NDArray[np.int64]) -> list[Any]:
        name = self._name.removeprefix(HEADER)
        read = {row: self._header(batch.headers[row], name) for row in np.unique(rows).tolist()}
        return [read[row] for row in rows.tolist()]

    def _header(self, headers: Any, name: str) -> Any:
        """What the last header of a name says, UNSET if there is none."""
        content = next((content for own, content in reversed(list(headers)) if own == name), None)
        if content is None:
            return UNSET
        text = bytes(content).decode("utf-8", "replace").strip()
        return text if self._unit == "iso8601" else _number(text)


def _number(value: Any) -> Any:
    """The number that text says, if it says one."""
    try:
        return msgspec.convert(value, _NUMBER, strict=False) if type(value) is str else value
    except msgspec.ValidationError:
        return value
