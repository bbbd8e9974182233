"""Times that are written as text: which layout a column has, and what its rows mean.

ISO 8601 is read as in messages. Other layouts are found from the column itself: year first, day first or month first,
months as numbers or English names, twelve hours or twenty-four, a decimal point or comma in seconds. Whether day or
month comes first is never guessed. Not inside: times that are numbers (`formats.timestamps`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamer.errors import DataError
from streamer.formats.timestamps import LATEST_NS, Times, times_of_text

_SAMPLE = 1000
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = (
    r"(?:(?:[ T:]|, )\s*(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,:](?P<fraction>\d{1,9}))?)?"
    r"(?:\s?(?P<half>[AaPp])\.?[Mm]\.?)?)?\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2})?$"
)
_YMD, _DMY, _MDY = "year, month, day", "day, month, year", "month, day, year"
_NUMBERS = r"^(?P<{0}>\d{{{1}}})[./-](?P<{2}>\d{{1,2}})[./-](?P<{3}>\d{{{4}}})"
_NUMERIC = {
    _YMD: _NUMBERS.format("year", "4", "month", "day", "1,2"),
    _DMY: _NUMBERS.format("day", "1,2", "month", "year", "2,4"),
    _MDY: _NUMBERS.format("month", "1,2", "day", "year", "2,4"),
}
_NAMED = (
    r"^(?:[A-Za-z]{3,9},? )?(?P<day>\d{1,2})[ ./-](?P<month>[A-Za-z]{3,9})\.?[ ./-](?P<year>\d{4}|\d{2})",
    r"^(?:[A-Za-z]{3,9},? )?(?P<month>[A-Za-z]{3,9})\.? (?P<day>\d{1,2}),? (?P<year>\d{4})",
)
_COMPACT = (
    r"^(?P<year>(?:19|20)\d{2})(?P<month>[01]\d)(?P<day>[0-3]\d)"
    r"(?:(?P<hour>[0-2]\d)(?P<minute>[0-5]\d)(?P<second>[0-5]\d)?)?$"
)

Column = pd.Series
Parse = Callable[[Column], Times]


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to write a time."""

    parse: Parse
    shown: str  # what the times are meant to be, for an error


ISO = Layout(lambda column: times_of_text(column.tolist()), "ISO 8601")


def declared(date_format: str) -> Layout:
    """Times in a `strptime` format."""

    def parse(column: Column) -> Times:
        stamps = pd.to_datetime(column.astype(str), format=date_format, utc=True, errors="coerce")
        found = stamps.dt.tz_localize(None).to_numpy()
        bad = ~((found >= np.datetime64("1970-01-01")) & (found < np.datetime64("2200-01-01")))
        return np.where(bad, np.datetime64(0, "s"), found).astype("datetime64[ns]").astype(np.int64), bad

    return Layout(parse, f"as files.date_format {date_format!r} says")


def find(sample: Column, rest: Callable[[], Iterable[Column]], where: str) -> Layout:
    """The layout of a column of text.

    Args:
        sample: Its first rows; the very first shows the layout, any may tell day from month.
        rest: Reads all rows again, in pieces, should the first not tell day from month.
        where: File and column, for an error.

    Raises:
        DataError: Day and month cannot be told apart.
    """
    some = sample.iloc[:1]
    if not ISO.parse(some)[1].any():
        return ISO
    for pattern in _NAMED:
        if _matches(some, pattern + _CLOCK):
            return _of(pattern, "a date with the name of its month")
    if _matches(some, _NUMERIC[_YMD] + _CLOCK):
        return _of(_NUMERIC[_YMD], _YMD)
    if not _matches(some, _NUMERIC[_DMY] + _CLOCK):
        return ISO  # says of the first row that it is not
    first = str(some.iloc[0])
    if re.match(r"\d+\.", first):
        return _of(_NUMERIC[_DMY], _DMY)  # nobody writes month.day.year
    return _day_or_month(sample, rest, where, first)


def compact(column: NDArray[np.int64]) -> bool:
    """Whether whole numbers are dates without separators, `20131007` or `20131007083000`, not seconds since 1970.

    >>> compact(np.array([20131007, 20131008])), compact(np.array([1_381_132_800]))
    (True, False)
    """
    text = pd.Series(column[:_SAMPLE]).astype(str)
    return len(column) > 0 and _matches(text, _COMPACT)


COMPACT = Layout(lambda column: _times(column, _COMPACT), "a date such as 20131007 or 20131007083000")


def _day_or_month(sample: Column, rest: Callable[[], Iterable[Column]], where: str, first: str) -> Layout:
    for columns in ([sample], rest()):
        for column in columns:
            parts = column.astype(str).str.extract(r"^(\d{1,2})[./-](\d{1,2})[./-]").astype(float)
            for order, part in ((_DMY, parts[0]), (_MDY, parts[1])):
                if (part > 12).any():
                    return _of(_NUMERIC[order], order)
    clock = first.partition(" ")[2]
    code = "" if not clock else " %I:%M" if re.search("[AaPp]", clock) else " %H:%M"
    code += ":%S" * (clock.count(":") > 1) + ".%f" * ("." in clock) + " %p" * ("%I" in code)
    mark = first[len(re.match(r"\d+", first)[0])]  # type: ignore[index]
    raise DataError(
        f"{where}: wanted times that tell day from month; {first!r} may be either way, and no row has a number above "
        f'12 in their place: set files.date_format to "%d{mark}%m{mark}%Y{code}" or to "%m{mark}%d{mark}%Y{code}"'
    )


def _of(pattern: str, shown: str) -> Layout:
    return Layout(lambda column: _times(column, pattern + _CLOCK), f"{shown} as in the first rows")


def _matches(column: Column, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(_text(column), pattern)).as_py())


def _text(column: Column) -> Any:
    return pyarrow.array(column.astype(str).str.strip().tolist(), pyarrow.string())


def _times(column: Column, pattern: str) -> Times:
    """Times of texts in one layout, and which are not in it or name no day and hour there is."""
    parts = pc.extract_regex(_text(column), pattern)
    bad = np.array(pc.is_null(parts))
    names = [field.name for field in parts.type]

    def text(name: str) -> Any:
        """A part of each text; empty where it is left out."""
        found = parts.field(names.index(name)) if name in names else pyarrow.nulls(len(bad), pyarrow.string())
        return pc.fill_null(found, "")

    def number(part: Any) -> NDArray[np.int64]:
        return np.array(pc.cast(pc.if_else(pc.equal(part, ""), "0", part), pyarrow.int64()))

    def by_kind(part: Any, meaning: Callable[[str], int]) -> NDArray[np.int64]:
        kinds = part.dictionary_encode()
        known = np.array([meaning(each) for each in kinds.dictionary.to_pylist()], np.int64)
        return np.asarray(known[np.asarray(kinds.indices, np.int64)], np.int64)

    year, day, hour, month = (
        number(text("year")),
        number(text("day")),
        number(text("hour")),
        by_kind(text("month"), _month),
    )
    year += np.where(year < 70, 2000, np.where(year < 100, 1900, 0))
    half = by_kind(text("half"), lambda letter: " ap".find(letter.lower()) if letter else 0)
    bad |= (half > 0) & ((hour < 1) | (hour > 12))
    hour = np.where(half > 0, hour % 12 + 12 * (half == 2), hour)
    minute, second = number(text("minute")), number(text("second"))
    fraction = number(pc.utf8_rpad(text("fraction"), 9, "0"))
    bad |= (year < 1969) | (year > 2200) | (month < 1) | (month > 12) | (day < 1) | (hour > 23) | (minute > 59)
    bad |= second > 59
    year, month, day = np.where(bad, 1970, year), np.where(bad, 1, month), np.where(bad, 1, day)
    first = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    dates = first.astype("datetime64[D]") + (day - 1)
    bad |= dates.astype("datetime64[M]") != first
    seconds = dates.astype("datetime64[s]").astype(np.int64) + hour * 3600 + minute * 60 + second
    seconds -= by_kind(text("zone"), _offset_s)
    bad |= (seconds < 0) | (seconds >= LATEST_NS // 1_000_000_000)
    return np.where(bad, 0, seconds * 1_000_000_000 + fraction), bad


def _month(text: str) -> int:
    if text.isdecimal():
        return int(text)
    name = text.lower()[:3]
    return _MONTHS.index(name) + 1 if name in _MONTHS else 0


def _offset_s(text: str) -> int:
    if text[:1] not in "+-" or not text:
        return 0
    minutes = int(text[1:3]) * 60 + int(text[-2:])
    return -60 * minutes if text[0] == "-" else 60 * minutes
