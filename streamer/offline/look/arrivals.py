"""Whether the broker's times can stand for times of readings, where no field of the messages is a time.

They can in a topic that is written as things happen. In one that was filled at once they are those of the filling.
Pure. Not inside: which field is the time (`choosing`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from streamer.offline.look import words
from streamer.offline.look.fields import DATE, NO_TIME, NUMERIC, TEXT, Field
from streamer.offline.look.movement import codes_of, consecutive
from streamer.offline.look.words import hint

Ints = NDArray[np.int64]

_SHORT_NS = 10_000_000  # between readings of a stream; what is faster has times of its own
_LEAST = 20  # steps that say something
_SHOWN = 20  # fields


def written_at_once(times_ns: Ints, stream: Ints, run: Ints) -> str:
    """Why times are not those of things as they happen; empty if they may be.

    >>> written_at_once(np.repeat(np.arange(20), 3) * 1_000_000, np.zeros(60, int), np.zeros(60, int))
    '100% of the steps within a stream are shorter than 10 ms'
    """
    now, before = consecutive(codes_of(stream, run))
    known = (times_ns[now] != NO_TIME) & (times_ns[before] != NO_TIME)
    steps = np.abs(times_ns[now] - times_ns[before])[known]
    if len(steps) < _LEAST:
        return ""
    short = float((steps < _SHORT_NS).mean())
    if short > 0.5:
        return f"{short:.0%} of the steps within a stream are shorter than 10 ms"
    return ""


def tried(fields: Mapping[str, Field]) -> str:
    """The fields that are no times and what they hold, those that were most likely meant first."""
    dates = [field for field in fields.values() if _like_a_date(field)]
    named = [field for field in fields.values() if field not in dates and hint(field.name, words.TIME)]
    others = [field.name for field in fields.values() if field not in dates and field not in named]
    parts = [
        f"{field.name} looks like a date ({_example(field)}) in a layout other than ISO 8601, which messages need"
        for field in dates
    ]
    parts += [
        f"{field.name} holds {_example(field)}, "
        + ("in no unit a date between 1990 and 2040" if field.kind in NUMERIC else "no ISO 8601")
        for field in named
    ]
    if others:
        parts.append(f"{', '.join(others[:_SHOWN])}{', ...' if len(others) > _SHOWN else ''}: no times")
    return "; ".join(parts)


def _like_a_date(field: Field) -> bool:
    if field.kind != TEXT or field.texts is None or field.times_ns is not None:
        return False
    some = [str(text) for text in field.texts[:50] if text is not None]
    alike = sum(bool(DATE.match(text)) and sum(char.isdigit() for char in text) >= 4 for text in some)
    return bool(some) and alike >= 0.9 * len(some) and field.distinct > 2


def _example(field: Field) -> str:
    text = repr(field.example)
    return text if len(text) <= 40 else text[:37] + "..."
