"""Event times: what a record or a row says, as nanoseconds since 1970 UTC.

The only code that does so: a reading has the same time whether it comes in a Kafka record or stands in a file, and
alert ids, which are made of times, are the same. Not inside: where the times come from, whether they are in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

NS_PER_UNIT = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
LATEST_NS = 7_258_118_400_000_000_000  # 2200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK_WORDS = frozenset({"now", "today"})

Times = tuple[NDArray[np.int64], NDArray[np.bool_]]
"""Times in ns, 0 where there is none between 1970 and 2200, and which those are."""


def times_of(raw: Sequence[Any], unit: str) -> Times:
    """Times of values as JSON gives them: text for `iso8601`, else int or float."""
    if unit == "iso8601":
        return times_of_text(raw)
    kinds = set(map(type, raw))
    if kinds <= {int}:
        try:
            return times_of_integers(np.fromiter(raw, np.int64, len(raw)), unit)
        except OverflowError:
            return _one_by_one(raw, unit)
    if kinds == {float}:
        return times_of_floats(np.array(raw), unit)
    return _one_by_one(raw, unit)


def times_of_text(raw: Sequence[str]) -> Times:
    """Times of ISO 8601 texts; those without a zone are UTC."""
    stamps = pd.to_datetime(pd.Series(raw, dtype=object), format="ISO8601", utc=True, errors="coerce")
    found = stamps.dt.tz_localize(None).to_numpy()  # datetime64 of the unit the text needs
    bad = ~((found >= np.datetime64("1970-01-01")) & (found < np.datetime64("2200-01-01")))
    if not _CLOCK_WORDS.isdisjoint(raw):
        # pandas reads them as the wall clock, which would differ in a replay.
        bad |= np.array([text in _CLOCK_WORDS for text in raw])
    kept = np.where(bad, np.datetime64(0, "s"), found).astype("datetime64[ns]")
    return kept.astype(np.int64), bad


def times_of_integers(numbers: NDArray[np.int64], unit: str) -> Times:
    """Times of whole numbers of `unit`.

    >>> times_of_integers(np.array([1, -1]), "ms")
    (array([1000000,       0]), array([False,  True]))
    """
    per = NS_PER_UNIT[unit]
    bad = (numbers < 0) | (numbers >= LATEST_NS // per)
    return np.where(bad, 0, numbers) * per, bad


def times_of_floats(numbers: NDArray[np.float64], unit: str) -> Times:
    """Times of numbers of `unit`, rounded to the microsecond: a float of seconds since 1970 holds no more.

    >>> times_of_floats(np.array([1_700_000_000.1234567, np.nan]), "s")
    (array([1700000000123457000,                   0]), array([False,  True]))
    """
    per = NS_PER_UNIT[unit]
    bad = ~((numbers >= 0) & (numbers < LATEST_NS / per))
    return np.round(np.where(bad, 0.0, numbers) * (per / 1000.0)).astype(np.int64) * 1000, bad


def times_of_anything(raw: Sequence[Any], unit: str) -> Times:
    """Times of values of any kind: a `datetime` is a time by itself, text and numbers are read in `unit`.

    What is neither, or not what the unit says, is no time.
    """
    kinds = set(map(type, raw))
    if kinds <= ({str} if unit == "iso8601" else {int, float}) and not (unit == "ns" and float in kinds):
        return times_of(raw, unit)
    times, bad = np.zeros(len(raw), np.int64), np.ones(len(raw), bool)
    own = [i for i, value in enumerate(raw) if isinstance(value, datetime)]
    if own:
        times[own], bad[own] = times_of_datetimes([raw[i] for i in own])
    wanted: tuple[type, ...] = (str,) if unit == "iso8601" else (int,) if unit == "ns" else (int, float)
    rest = [i for i, value in enumerate(raw) if type(value) in wanted]
    if rest:
        times[rest], bad[rest] = times_of([raw[i] for i in rest], unit)
    return times, bad


def times_of_datetimes(raw: Sequence[datetime]) -> Times:
    """Times of `datetime` objects; those without a zone are UTC.

    >>> times_of_datetimes([datetime(1970, 1, 1, 0, 0, 0, 5), datetime(1969, 1, 1)])
    (array([5000,    0]), array([False,  True]))
    """
    since = [(stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=UTC)) - _EPOCH for stamp in raw]
    numbers = [(gone.days * 86_400 + gone.seconds) * 1_000_000 + gone.microseconds for gone in since]
    return times_of_integers(np.array(numbers, np.int64), "us")


def _one_by_one(raw: Sequence[Any], unit: str) -> Times:
    """Integers and floats in one batch, or integers of any size: each by itself, so that neighbours do not matter."""
    times, bad = np.zeros(len(raw), np.int64), np.zeros(len(raw), bool)
    for i, number in enumerate(raw):
        if type(number) is float:
            one, wrong = times_of_floats(np.array([number]), unit)
            times[i], bad[i] = one[0], wrong[0]
        elif 0 <= number < LATEST_NS // NS_PER_UNIT[unit]:
            times[i] = number * NS_PER_UNIT[unit]
        else:
            bad[i] = True
    return times, bad
