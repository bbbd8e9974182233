"""What stands in each field: kind, coverage, range, and which times it could mean.

Numbers written as text are numbers here, times are recognised by their values. Pure. Not inside: which field is the
stream, the time or a feature (`choosing`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streamer.connectors.files.dates import declared
from streamer.connectors.files.dates import find as find_layout
from streamer.errors import DataError
from streamer.formats.timestamps import NS_PER_UNIT, times_of_floats, times_of_integers, times_of_text

NUMBER, NUMBER_IN_TEXT, TEXT, SWITCH, TIME, LIST, MIXED, NOTHING = (
    "number", "number in text", "text", "true or false", "time", "list", "mixed", "nothing",
)  # fmt: skip
NUMERIC = (NUMBER, NUMBER_IN_TEXT)

NO_TIME = np.iinfo(np.int64).min
_FROM_S, _TO_S = 631_152_000, 2_208_988_800  # 1990 and 2040: a number outside is no time of ours
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}|\d{8}T\d{4}")
DATE = re.compile(r"(?:[A-Za-z]{3,9},? )?(?:\d{1,4}[./-]|[A-Za-z]{3,9}\.? \d|\d{1,2} [A-Za-z]{3})")
_NUMBER = re.compile(r"[-+]?(\d+|\d{1,3}(['\u2019 ]\d{3})+)([.,]\d+)?([eE][-+]?\d+)?$|[-+]?[.,]\d+$")
_GROUPED, _PLAIN = re.compile(r"[-+]?\d{1,3}(\.\d{3})+,\d+$"), re.compile(r"[-+]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?$")
_MOST_FIELDS = 2000

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One field over all rows."""

    name: str
    kind: str
    rows: int
    present: int
    distinct: int
    example: Any
    numbers: NDArray[np.float64] | None = None  # (rows,) NaN where there is none
    texts: NDArray[Any] | None = None  # (rows,) None where there is none
    times_ns: Times | None = None  # (rows,) `NO_TIME` where there is none
    unit: str | None = None  # that the times are written in
    comma: bool = False  # a decimal comma
    thousands: bool = False  # and points between thousands, 1.234,5
    unclear: str = ""  # why dates are no times: day and month cannot be told apart

    @property
    def coverage(self) -> float:
        return self.present / self.rows if self.rows else 0.0

    @property
    def range(self) -> tuple[float, float] | None:
        if self.numbers is None or not self.present:
            return None
        return float(np.nanmin(self.numbers)), float(np.nanmax(self.numbers))

    @property
    def whole(self) -> bool:
        """Only whole numbers."""
        if self.numbers is None:
            return False
        some = self.numbers[~np.isnan(self.numbers)]
        return bool(len(some)) and bool((some == np.floor(some)).all())


def profile(
    rows: Sequence[Mapping[str, Any]], *, dates: bool = False, date_format: str | None = None
) -> dict[str, Field]:
    """The fields of rows, in the order in which they are first met.

    Args:
        rows: Flat.
        dates: Text is taken for a time in every layout that data files may have, not in ISO 8601 alone.
        date_format: A further layout, as `strptime` has it.
    """
    names: dict[str, None] = {}
    for row in rows:
        for name in row:
            names.setdefault(name)
        if len(names) > _MOST_FIELDS:
            break
    some = list(names)[:_MOST_FIELDS]
    return {
        name: field_of(name, [row.get(name) for row in rows], dates=dates, date_format=date_format) for name in some
    }


def field_of(name: str, values: Sequence[Any], *, dates: bool = False, date_format: str | None = None) -> Field:
    """One field, from its value in every row.

    >>> field_of("ts", [1_700_000_000_000, 1_700_000_060_000]).unit
    'ms'
    >>> field_of("t", ["21,5", None]).kind
    'number in text'
    """
    there = [value for value in values if value is not None and value != "" and not _is_nan(value)]
    n, example = len(values), there[0] if there else None
    kind = _kind(there)
    distinct = len(set(map(str, there)))
    thousands = dates and _has_thousands(there)
    kind = NUMBER_IN_TEXT if thousands else kind
    if kind in NUMERIC:
        comma = thousands or (
            kind == NUMBER_IN_TEXT
            and sum(_has_comma(text) for text in there)
            > 0.5 * sum(not str(text).lstrip("+-").isdigit() for text in there)
            > 0
        )
        numbers = np.array([_number(value, comma) for value in values], np.float64)
        times, unit = _times_of_numbers(values, numbers, kind)
        return Field(name, kind, n, len(there), distinct, example, numbers, None, times, unit, comma, thousands)
    if kind == TIME:
        stamps = pd.to_datetime(pd.Series(values, dtype=object), utc=True, errors="coerce")
        times = stamps.dt.tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)
        return Field(name, kind, n, len(there), distinct, example, times_ns=times, unit="iso8601")
    if kind == TEXT:
        unclear = ""
        try:
            times, unit = _times_of_text(values, there, dates, date_format)
        except DataError as error:
            times, unit, unclear = None, None, f"column {name!r}: {error}"
        shown = np.array([None if value is None or value == "" else str(value) for value in values], object)
        return Field(
            name, TIME if unit else TEXT, n, len(there), distinct, example, None, shown, times, unit, unclear=unclear
        )
    return Field(name, kind, n, len(there), distinct, example)


def unit_of(numbers: Iterable[float]) -> str | None:
    """The unit in which numbers are times between 1990 and 2040, by their median; None: in none.

    >>> unit_of([1.7e9]), unit_of([1.7e12]), unit_of([21.5])
    ('s', 'ms', None)
    """
    some = np.array([number for number in numbers if math.isfinite(number)])
    if not len(some):
        return None
    middle = float(np.median(some))
    for unit, per in NS_PER_UNIT.items():
        scale = 1_000_000_000 // per
        if _FROM_S * scale <= middle < _TO_S * scale:
            return unit
    return None


def _kind(there: Sequence[Any]) -> str:
    if not there:
        return NOTHING
    kinds = {
        SWITCH: sum(isinstance(value, (bool, np.bool_)) for value in there),
        TIME: sum(isinstance(value, (datetime, date, np.datetime64)) for value in there),
        TEXT: sum(isinstance(value, (str, bytes)) for value in there),
        LIST: sum(isinstance(value, (list, tuple, dict)) for value in there),
    }
    kinds[NUMBER] = len(there) - sum(kinds.values())
    kind, count = max(kinds.items(), key=lambda one: one[1])
    if kind in (TEXT, NUMBER) and count + kinds[NUMBER if kind == TEXT else TEXT] == len(there):
        texts = [value for value in there if isinstance(value, str)]
        if texts and sum(bool(_NUMBER.match(text.strip())) for text in texts) >= 0.98 * len(texts):
            return NUMBER_IN_TEXT
    return kind if count >= 0.98 * len(there) else MIXED


def _is_nan(value: Any) -> bool:
    return (isinstance(value, float) and math.isnan(value)) or value is pd.NaT


def _has_thousands(there: Sequence[Any]) -> bool:
    """Whether numbers have points between thousands and a comma before decimals, 1.234,5."""
    texts = [value.strip() for value in there if isinstance(value, str)]
    grouped = [bool(_GROUPED.match(text)) for text in texts]
    return any(grouped) and all(one or _PLAIN.match(text) for one, text in zip(grouped, texts, strict=True))


def _has_comma(value: Any) -> bool:
    return isinstance(value, str) and "," in value


def _number(value: Any, comma: bool) -> float:
    try:
        if isinstance(value, str):
            text = value.strip().replace("'", "").replace("\u2019", "").replace(" ", "")
            return float(text.replace(".", "").replace(",", ".") if comma else text)
        return math.nan if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _times_of_numbers(
    values: Sequence[Any], numbers: NDArray[np.float64], kind: str
) -> tuple[Times | None, str | None]:
    unit = unit_of(numbers)
    if unit is None:
        return None, None
    good = np.isfinite(numbers)
    if good.all() and (numbers == np.floor(numbers)).all():
        exact = [int(value) if not isinstance(value, float) else round(value) for value in values]
        times, bad = times_of_integers(np.array([min(one, 1 << 62) for one in exact], np.int64), unit)
    else:
        times, bad = times_of_floats(numbers, unit)
    return np.where(bad | ~good, NO_TIME, times), unit


def _times_of_text(
    values: Sequence[Any], there: Sequence[Any], dates: bool, date_format: str | None
) -> tuple[Times | None, str | None]:
    head = [str(text) for text in there[:50]]
    texts = ["" if value is None else str(value) for value in values]
    if dates and date_format is not None:
        times, bad = declared(date_format).parse(pd.Series(texts))
        if bad.sum() <= 0.1 * len(texts):
            return np.where(bad, NO_TIME, times), "iso8601"
    if sum(bool(_ISO.match(text)) for text in head) >= 0.9 * len(head):
        times, bad = times_of_text(texts)
    elif dates and sum(bool(DATE.match(text)) for text in head) >= 0.9 * len(head):
        layout = find_layout(pd.Series([str(text) for text in there]), list, "the rows looked at")
        times, bad = layout.parse(pd.Series(texts))
    else:
        return None, None
    if (bad.sum() - (len(values) - len(there))) > 0.1 * len(there):
        return None, None
    return np.where(bad, NO_TIME, times), "iso8601"
