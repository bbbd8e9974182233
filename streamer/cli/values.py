"""What the value of an option may be: numbers within bounds, names, durations, times.

A wrong one is said by the parser, with the option's name. Not inside: the options (`arguments`).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from datetime import UTC, datetime

from streamer.core.durations import parse_duration
from streamer.errors import UsageError


def number(wanted: str, kind: Callable[[str], float], accepts: Callable[[float], bool], text: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not accepts(value):
        raise argparse.ArgumentTypeError(f"wanted {wanted}; got {text}")
    return value


def positive(text: str) -> float:
    return number("a number above 0", float, lambda value: 0 < value < math.inf, text)


def count(text: str) -> int:
    return int(number("a whole number from 1 to 100000", int, lambda value: 1 <= value <= 100_000, text))


def sample(text: str) -> int:
    wanted = "a whole number from 10 to 100000"
    return int(number(wanted, int, lambda value: 10 <= value <= 100_000, text))


def rows(text: str) -> int:
    wanted = "a whole number from 1 to 10000"
    return int(number(wanted, int, lambda value: 1 <= value <= 10_000, text))


def place(text: str) -> tuple[int, int]:
    """Partition and offset of a record."""
    partition, _, offset = text.partition(":")
    if not all(part.isascii() and part.isdecimal() and len(part) <= 18 for part in (partition, offset)):
        raise argparse.ArgumentTypeError(f"wanted PARTITION:OFFSET, such as 0:1842; got {text}")
    return int(partition), int(offset)


def names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def hours(text: str) -> float:
    wanted = "hours from 0.0167 (one reading) to 87840 (ten years)"
    return number(wanted, float, lambda value: 1 / 60 <= value <= 24 * 3660, text)


def seed(text: str) -> int:
    return int(number("a whole number from 0", int, lambda value: value >= 0, text))


def moment(option: str, text: str | None, now_s: float) -> float | None:
    """Seconds since 1970 of an age or an ISO 8601 time, which without a zone is UTC."""
    if text is None:
        return None
    try:
        return now_s - parse_duration(text)
    except ValueError as error:
        try:
            at = datetime.fromisoformat(text.strip())
        except ValueError:
            raise UsageError(f"{option}: {error}, or an ISO 8601 time such as 2026-01-31T08:00Z") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
