"""Times, lengths of time and scores in words. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

# Up to so many of each unit a rarity is told in it; rounder figures are easier to read than exact ones.
_UNITS = ((60, 120, "minutes"), (3600, 48, "hours"), (86_400, 90, "days"), (2_629_800, 24, "months"))
_YEAR_S = 31_557_600


def iso(time_ns: int) -> str:
    """`2026-01-02T03:04:05.678Z`, whole milliseconds."""
    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ns % 1_000_000_000 // 1_000_000:03d}Z"


def duration(ns: int) -> str:
    """A human-readable length of time: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`.

    >>> duration(12_000_000_000_000)
    '3 h 20 min'
    """
    seconds = ns // 1_000_000_000
    days, hours, minutes = seconds // 86_400, seconds % 86_400 // 3600, seconds % 3600 // 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def say(time_ns: int) -> str:
    """A moment in a sentence: `2026-01-02 03:04:05 UTC`."""
    return f"{datetime.fromtimestamp(time_ns // 1_000_000_000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def say_peak(peak: float) -> str:
    """The peak score beside the line; above a thousand the exact figure means nothing more."""
    return f"peak score {f'{peak:.1f}' if peak < 1000 else 'above 1,000'} (alert line 1.0)"


def say_often(seconds: float, *, at_least: bool) -> str:
    """How often something comes that has so much time between two.

    >>> say_often(40 * 86_400, at_least=False)
    'about once in 40 days'
    >>> say_often(5 * 31_557_600, at_least=True)
    'rarer than once in 5 years'
    """
    unit_s, name = next(
        ((unit_s, name) for unit_s, most, name in _UNITS if round(seconds / unit_s) < most), (_YEAR_S, "years")
    )
    count = round(seconds / unit_s)
    return f"{'rarer than' if at_least else 'about'} once in {f'{count:,} {name}' if count > 1 else f'a {name[:-1]}'}"
