"""From elements of messages, whatever their format, to columns of readings, and what is refused of each.

All elements of a poll together; Python code runs only for those that are refused. Inside: `Elements` and
`Assembler`. Not inside: how bytes become elements (`decoding` and the formats), event-time order (`core`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from streamer.core.ahead import LEAP_NS
from streamer.core.keyed_state import NO_STREAM
from streamer.core.readings import AHEAD, NO_RECORD_TIME, VOUCHED, Readings, admissible
from streamer.core.stream_names import refusal, valid_stream_name
from streamer.formats.faults import Fault, joined
from streamer.formats.interface import KEY, Batch, Decoded, Streams
from streamer.formats.rejects import BAD_STREAM, FUTURE, NOT_FINITE, SCHEMA, STREAM_LIMIT
from streamer.formats.shapes import Layout
from streamer.formats.times import EventTimes
from streamer.formats.wording import kind_of

Why = tuple[str, str]
"""Reason and detail."""
_FAR_NS = np.iinfo(np.int64).max // 2  # when a record was taken that does not say
_NO_TEXT = (BAD_STREAM, "wanted the stream's name as message key; got a key that is not UTF-8")


@dataclass(frozen=True, slots=True)
class Elements:
    """Readings as they stand in messages, `n` of them, in order."""

    rows: NDArray[np.int64]  # (n,) message of each
    items: list[Any]  # (n,) as `Layout.element`
    beside: list[Any] | None = None  # (n,) what stands beside the array it is in, as `Layout.message`
    place: NDArray[np.int64] | None = None  # (n,) place in the array; None where messages are single readings

    def take(self, mask: NDArray[np.bool_]) -> Elements:
        """Some of them."""
        chosen = np.flatnonzero(mask).tolist()
        beside = None if self.beside is None else [self.beside[i] for i in chosen]
        place = None if self.place is None else self.place[mask]
        return Elements(self.rows[mask], [self.items[i] for i in chosen], beside, place)


class Assembler:
    """Makes columns of elements.

    Args:
        layout: Where their fields are.
        streams: Shared codes of streams; learns the names that come.
        lax: Whether values are text, and numbers must be found in it.
        skips_bare: Whether an element without any of the features is ignored.
    """

    def __init__(self, layout: Layout, streams: Streams, *, lax: bool = False, skips_bare: bool = False) -> None:
        self.layout, self.options, self.streams, self._lax = layout, layout.options, streams, lax
        self._skips_bare = skips_bare and not layout.long
        self._may_miss = self.options.missing == "fill"
        self._times = EventTimes(layout)
        self._metrics = {name: i for i, name in enumerate(self.options.features)}
        zeros = [i for i, name in enumerate(self.options.features) if name in self.options.zero_is_missing]
        self._zeros = np.array(zeros, np.int64)

    def assemble(
        self, batch: Batch, elements: Elements, faults: list[Fault], *, empty: int, sizes: Mapping[int, int]
    ) -> Decoded:
        """Columns of the elements that are good; every other one is refused or ignored.

        Args:
            batch: They came in it.
            elements: Of all its messages.
            faults: What was refused of it already.
            empty: Messages with no element at all.
            sizes: How many elements each message holds, where that is more than one.
        """
        found = len(elements.rows)
        refused: dict[int, Why] = {}
        elements, values = self._long(elements, refused) if self.layout.long else (elements, self._wide(elements))
        with np.errstate(over="ignore"):
            narrow: NDArray[Any] = values.astype(np.float32)  # what no longer fits is infinite
        finite = np.asarray(np.isfinite(narrow).all(1), np.bool_)
        if not finite.all() and (self._may_miss or self.layout.long):
            finite = admissible(narrow)  # what is NaN was null or absent
        if self._skips_bare or len(self._zeros):
            bare = np.isnan(values).all(1) if self._skips_bare else np.zeros(len(values), bool)
            some = values[:, self._zeros]
            values[:, self._zeros] = np.where(some == 0, np.nan, some)
            kept = np.asarray(~(bare | (finite & np.isnan(values).all(1))), np.bool_)
            kept[list(refused)] = True
            if not kept.all():
                at = {int(old): new for new, old in enumerate(np.flatnonzero(kept))}
                refused = {at[i]: why for i, why in refused.items()}
                elements, values, finite = elements.take(kept), values[kept], finite[kept]
            with np.errstate(over="ignore"):
                narrow = values.astype(np.float32)
        ignored = empty + found - len(elements.rows)
        rows = elements.rows
        times, bad_times = self._times.of(batch, elements.rows, elements.items, elements.beside)
        taken_ns = batch.taken_ns()[rows]
        future = ~bad_times & (times > taken_ns + self.options.max_future_ns)
        sequence = self._sequence(elements, refused)
        sound = finite & ~bad_times & ~future
        if refused:
            sound[list(refused)] = False
        codes, unknown = self._codes(batch, elements, sound)
        good = sound & (codes != NO_STREAM)
        if not good.all():
            for i in np.flatnonzero(~good).tolist():
                if sound[i]:
                    why = unknown[i]
                elif i in refused:
                    why = refused[i]
                elif bad_times[i]:
                    why = self._times.why(i)
                elif future[i]:
                    why = FUTURE, self._say_future(int(times[i]) - int(taken_ns[i]))
                else:
                    why = self._say_values(values[i], narrow[i], elements, i)
                faults.append(Fault(int(rows[i]), None if elements.place is None else int(elements.place[i]), *why))
        kept_rows = rows[good]
        ahead = _ahead(times[good], taken_ns[good])
        readings = Readings(
            codes[good],
            times[good],
            (values if self.options.exact else narrow)[good],
            np.full(len(kept_rows), batch.partition, np.int64),
            batch.offsets[kept_rows],
            None if sequence is None else sequence[good],
            ahead,
        )
        rejects = joined(faults, sizes)
        extra = len(readings) + ignored + len(rejects) - len(batch.offsets)
        away = np.array([i for i, (reason, _) in unknown.items() if reason == STREAM_LIMIT], np.int64)
        relied_on = (taken_ns[away] < _FAR_NS) & (times[away] - taken_ns[away] <= LEAP_NS)
        return Decoded(readings, rejects, ignored, extra, times[away[relied_on]])

    # Values.

    def _wide(self, elements: Elements) -> NDArray[np.float64]:
        """`(n, features)`; NaN where there is no value."""
        n, features = len(elements.rows), len(self.options.features)
        values_of = self.layout.values_of
        if values_of is not None:
            found = map(values_of, elements.items)
            flat = chain.from_iterable(found) if features > 1 else found
            return np.fromiter(flat, np.float64, n * features).reshape(-1, features)
        values = np.empty((n, features))
        for i, name in enumerate(self.options.features):
            column = self.column(name, elements)
            if UNSET in column:
                column = [None if value is UNSET else value for value in column]
            values[:, i] = np.fromiter(column, np.float64, n)
        return values

    def _long(self, elements: Elements, refused: dict[int, Why]) -> tuple[Elements, NDArray[np.float64]]:
        """Elements whose metric is configured, and wide rows of them with one value each."""
        metric, value = str(self.options.metric), self.options.value
        names = self.column(metric, elements)
        if int in set(map(type, names)):
            names = [str(name) if type(name) is int else name for name in names]
        which = list(map(self._metrics.get, names))
        if None in which:
            lost = np.fromiter((name is UNSET for name in names), bool, len(names))
            kept = lost | np.fromiter((i is not None for i in which), bool, len(which))
            elements = elements.take(kept)
            which = [i for i, keep in zip(which, kept.tolist(), strict=True) if keep]
            for i, number in enumerate(which):
                if number is None:
                    refused[i], which[i] = (SCHEMA, f"field {metric!r} is missing"), 0
        column = self.column(value, elements)
        if not set(map(type, column)) <= {int, float}:
            for i, one in enumerate(column):
                column[i] = self._number(one)
                if column[i] is None:
                    refused.setdefault(i, (SCHEMA, _not_a_number(value, one)))
        n = len(column)
        values = np.full((n, len(self.options.features)), np.nan)
        values[np.arange(n), np.fromiter(which, np.int64, n)] = _floats(column)
        return elements, values

    def _number(self, value: Any) -> int | float | None:
        if type(value) in (int, float):
            return value  # type: ignore[no-any-return]
        try:
            return msgspec.convert(value, float, strict=not self._lax)
        except (msgspec.ValidationError, ValueError):
            return None

    def _say_values(self, values: NDArray[np.float64], narrow: NDArray[Any], elements: Elements, i: int) -> Why:
        features = self.options.features
        if np.isinf(narrow).any():
            which = int(np.flatnonzero(np.isinf(narrow))[0])
            got = float(values[which])
            return NOT_FINITE, f"feature {features[which]!r} must fit a 32-bit float; got {got!r}"
        if self._may_miss or self.layout.long:
            return SCHEMA, "a reading has a number in one feature at least; got none"
        lost = [features[which] for which in np.flatnonzero(np.isnan(narrow)).tolist()]
        if self.column(lost[0], elements)[i] is UNSET:
            return SCHEMA, f"field {lost[0]!r} is missing"
        return SCHEMA, f"field {lost[0]!r} must be a number; got NaN"

    # Names, numbers, fields.

    def column(self, name: str, elements: Elements) -> list[Any]:
        """A field of each element, or of what stands beside it; UNSET where it is in neither."""
        return column(self.layout, name, elements.items, elements.beside)

    def _sequence(self, elements: Elements, refused: dict[int, Why]) -> NDArray[np.int64] | None:
        if self.options.sequence is None:
            return None
        found = self.column(self.options.sequence, elements)
        if UNSET in found:
            for i, number in enumerate(found):
                if number is UNSET:
                    refused[i], found[i] = (SCHEMA, f"field {self.options.sequence!r} is missing"), 0
        try:
            return np.fromiter(found, np.int64, len(found))
        except OverflowError:
            for i, number in enumerate(found):
                if not -(1 << 63) <= number < 1 << 63:
                    detail = f"field {self.options.sequence!r} must fit 64 bits; got {kind_of(number)}"
                    refused[i], found[i] = (SCHEMA, detail), 0
            return np.fromiter(found, np.int64, len(found))

    def _names(self, batch: Batch, elements: Elements) -> list[Any]:
        """Stream names; None where the key is no text, UNSET where a field is missing."""
        parts: list[list[Any]] = []
        for field in self.options.stream:
            if field == KEY:
                parts.append([_text(batch.keys[row]) for row in elements.rows.tolist()])
                continue
            part = self.column(field, elements)
            if int in set(map(type, part)):
                part = [str(name) if type(name) is int else name for name in part]
            parts.append(part)
        if len(parts) == 1:
            return parts[0]
        if any(not set(map(type, part)) <= {str} for part in parts):
            return [
                UNSET if UNSET in some else None if None in some else "/".join(some)
                for some in zip(*parts, strict=True)
            ]
        return list(map("/".join, zip(*parts, strict=True)))

    def _codes(
        self, batch: Batch, elements: Elements, sound: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], dict[int, Why]]:
        """Stream codes; `NO_STREAM` where the name is no good, with the reason by position.

        Only a reading that is sound otherwise makes a new stream known.
        """
        names = self._names(batch, elements)
        found = list(map(self.streams.codes.get, names))
        refused: dict[int, Why] = {}
        if None in found:
            for i, code in enumerate(found):
                if code is None:
                    found[i], why = self._admit(names[i]) if sound[i] else (NO_STREAM, None)
                    if why:
                        refused[i] = why
        return np.fromiter(found, np.int64, len(found)), refused

    def _admit(self, name: Any) -> tuple[int, Why | None]:
        """The code of a name not known when the batch began, or why it gets none."""
        if name is UNSET:
            return NO_STREAM, (SCHEMA, f"field {self.options.stream[0]!r} is missing")
        if name is None:
            return NO_STREAM, _NO_TEXT
        known = self.streams.codes.get(name)
        if known is not None:
            return known, None
        if not valid_stream_name(name):
            return NO_STREAM, (BAD_STREAM, refusal(name))
        if len(self.streams) >= self.options.max_streams:
            return NO_STREAM, (STREAM_LIMIT, f"records.max_streams {self.options.max_streams} are known already")
        return self.streams.add(name), None

    def _say_future(self, ahead_ns: int) -> str:
        most_s = self.options.max_future_ns / 1e9
        return f"event time is {ahead_ns / 1e9:.0f} s ahead of the broker's; at most {most_s:.0f} s"


def _ahead(times_ns: NDArray[np.int64], taken_ns: NDArray[np.int64]) -> NDArray[np.int8] | None:
    """What the records' times say of event times; None: they vouch for all."""
    ahead = np.where(taken_ns >= _FAR_NS, NO_RECORD_TIME, np.where(times_ns - taken_ns > LEAP_NS, AHEAD, VOUCHED))
    return ahead.astype(np.int8) if ahead.any() else None


def column(layout: Layout, name: str, items: list[Any], beside: list[Any] | None) -> list[Any]:
    """A field of each element, or of what stands beside it; UNSET where it is in neither."""
    found = list(map(layout.getters[name], items))
    common = layout.common.get(name)
    if common is not None and beside is not None and UNSET in found:
        found = [common(around) if own is UNSET else own for own, around in zip(found, beside, strict=True)]
    return found


def _floats(numbers: list[Any]) -> NDArray[np.float64]:
    """Numbers as floats; NaN for None, infinity for what no float can hold."""
    try:
        return np.fromiter(numbers, np.float64, len(numbers))
    except OverflowError:
        return np.array([np.inf if isinstance(n, int) and abs(n) >> 1023 else n for n in numbers], np.float64)


def _not_a_number(name: str, value: Any) -> str:
    if value is UNSET:
        return f"field {name!r} is missing"
    return f"field {name!r} must be a number; got {kind_of(value)}"


def _text(key: bytes | None) -> str | None:
    """The stream a message key names; None if it is no text."""
    try:
        return (key or b"").decode()
    except UnicodeDecodeError:
        return None
