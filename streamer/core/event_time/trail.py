"""What each reading leaves behind for the next of its stream, over the borders of bars.

The last known value of every field (a quote of one side keeps the other as it was), the last return, and when a value
last changed. Pure. Not inside: how bars are made of it (`aggregates`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.event_time.options import Feature
from streamer.core.grouping import group
from streamer.core.keyed_state import KeyedState
from streamer.core.readings import NEVER

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

BASIS_POINTS = 1e4
_TRAILING = frozenset({"mid", "spread", "imbalance", "jump", "volatility", "reversal", "age"})


@dataclass(frozen=True, slots=True)
class Trails:
    """Of one field, one place for each reading, `(n,)`."""

    known: Floats  # last known value, this reading's included; NaN: none yet
    returns: Floats  # log return from the value before, basis points; 0 where there is none
    before: Floats  # the return before that one
    changed_ns: Ints  # when the value last changed; NEVER: it has none


class Trail:
    """The newest values of every stream.

    Args:
        state: Of all streams.
        fields: Values of a reading as sent.
        features: What is to be computed; fields that none of them needs are not followed.
    """

    def __init__(self, state: KeyedState, fields: int, features: tuple[Feature, ...]) -> None:
        self.fields = sorted({field for each in features if each.aggregate in _TRAILING for field in each.fields})
        self.columns = state.register(
            "trail",
            {
                "value": (np.float64, (fields,), np.nan),
                "return": (np.float64, (fields,), 0.0),
                "changed_ns": (np.int64, (fields,), NEVER),
            },
        )

    def follow(self, code: Ints, time_ns: Ints, values: Floats, apart: Bools) -> dict[int, Trails]:
        """Take in readings.

        Args:
            code: Stream, `(n,)`, sorted; at least one.
            time_ns: `(n,)`, rising inside a stream.
            values: As sent, `(n, fields)`; NaN is a value that is not there.
            apart: Nothing from before this reading counts, `(n,)`.

        Returns:
            By field.
        """
        if not self.fields:
            return {}
        groups = group(code)
        place = np.arange(len(code))
        begin = np.repeat(groups.begin, groups.count)
        origin = np.maximum.accumulate(np.where(apart, place, -1))
        remembers = origin < begin  # nothing since the stream's first reading has cut it off
        look = _Look(place, np.where(remembers, begin, origin), remembers)
        codes, last = np.repeat(groups.codes, groups.count), groups.begin + groups.count - 1
        t, found = self.columns, {}
        for field in self.fields:
            value = values[:, field]
            there = ~np.isnan(value)
            previous = look.before(there, value, t["value"][codes, field])
            known = np.where(there, value, previous)
            with np.errstate(invalid="ignore", divide="ignore"):
                change = np.log(np.where(value > 0, value, np.nan) / np.where(previous > 0, previous, np.nan))
            returns = np.where(np.isnan(change), 0.0, change * BASIS_POINTS)
            kept_return = t["return"][codes, field]
            before = np.nan_to_num(look.before(there, returns, kept_return))
            own = look.newest(there)
            newest_return = np.where(own >= 0, returns[own], np.where(remembers, kept_return, 0.0))
            change_at = look.newest(there & (value != previous))
            kept_ns = np.where(remembers, t["changed_ns"][codes, field], NEVER)
            changed_ns = np.where(change_at >= 0, time_ns[change_at], kept_ns)
            found[field] = Trails(known, returns, before, changed_ns)
            t["value"][groups.codes, field] = known[last]
            t["return"][groups.codes, field] = newest_return[last]
            t["changed_ns"][groups.codes, field] = changed_ns[last]
        return found


@dataclass(frozen=True, slots=True)
class _Look:
    """Looks back inside streams."""

    place: Ints  # (n,)
    floor: Ints  # (n,) the first place that counts for each
    remembers: Bools  # (n,) what is remembered of the stream counts too

    def newest(self, candidates: Bools) -> Ints:
        """The newest candidate up to each place; -1: there is none that counts."""
        at = np.maximum.accumulate(np.where(candidates, self.place, -1))
        return np.where(at >= self.floor, at, -1)

    def before(self, candidates: Bools, data: Floats, kept: Floats) -> Floats:
        """The newest candidate's data before each place, what is remembered, or NaN."""
        at = np.concatenate([[-1], np.maximum.accumulate(np.where(candidates, self.place, -1))[:-1]])
        inside = at >= self.floor
        return np.where(inside, data[np.maximum(at, 0)], np.where(self.remembers, kept, np.nan))
