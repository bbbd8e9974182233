"""Durations as people write them: `7d`, `12h`, `30m`, `45s`, and several of them together."""

from __future__ import annotations

import re

_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PART = re.compile(r"([0-9]+(?:[.][0-9]+)?)([dhms])\s*")
DURATION_RULE = "wanted a duration such as 7d, 12h, 30m or 45s"


def parse_duration(text: str) -> float:
    """Seconds.

    Raises:
        ValueError: Says what was wanted and what came.

    >>> parse_duration("45s"), parse_duration("1d 12h")
    (45.0, 129600.0)
    """
    text = text.strip()
    if len(text) > 50 or not re.fullmatch(f"(?:{_PART.pattern})+", text):
        raise ValueError(f"{DURATION_RULE}; got {text[:50]!r}")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def duration_text(seconds: float) -> str:
    """The shortest way to write a duration that `parse_duration` reads back.

    >>> duration_text(604800), duration_text(5400), duration_text(0.5)
    ('7d', '90m', '0.5s')
    """
    for unit, size in _SECONDS.items():
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"
