"""From bars to what the model sees: bars without readings are filled, values carried, features transformed.

What is remembered of a stream is its newest bar and, for each feature, the newest value that was measured. Pure. Not
inside: how a bar is made (`aggregates`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.event_time.options import ZERO_WHEN_EMPTY, TimeOptions
from streamer.core.event_time.trail import BASIS_POINTS
from streamer.core.grouping import Groups, group
from streamer.core.keyed_state import KeyedState
from streamer.core.readings import NEVER

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Filled:
    """Bars as the model sees them, sorted by stream and time."""

    bar: Ints  # (n,) which of the given bars each is, or comes before
    time_ns: Ints  # (n,)
    values: Floats  # (n, features) NaN: missing
    fresh: Bools  # (n,) the stream's window begins anew
    carried: NDArray[np.float32]  # (n,) part of the features that was not measured in this bar


class Gaps:
    """Gap policy, carried values and transforms.

    Args:
        state: Of all streams.
        options: Features and policy.
        max_gap_ns: A longer step between two bars resets the window; None: never.
    """

    def __init__(self, state: KeyedState, options: TimeOptions, max_gap_ns: int | None) -> None:
        self._options, self._max_gap_ns, self._state = options, max_gap_ns, state
        names = [feature.aggregate for feature in options.features]
        transforms = [feature.transform for feature in options.features]
        self._is_zero = np.array([name in ZERO_WHEN_EMPTY for name in names], bool)
        self._transforms = transforms
        self._grows = [name == "age" for name in names]  # by a second each second
        f = len(options.features)
        self.columns = state.register(
            "bars",
            {
                "last_ns": (np.int64, (), NEVER),  # newest bar
                "value": (np.float64, (f,), np.nan),  # newest measured value of each feature ...
                "value_ns": (np.int64, (f,), NEVER),  # ... and its bar
            },
        )

    @property
    def last_ns(self) -> Ints:
        """Newest bar of each stream, `(rows,)`."""
        return self.columns["last_ns"]

    def breaks(self, before_ns: Ints, time_ns: Ints, apart: Bools) -> tuple[Bools, Ints]:
        """Where a stream begins anew, and the bars that are to be filled in elsewhere.

        Args:
            before_ns: Bar before each, or NEVER, `(n,)`.
            time_ns: Each bar, `(n,)`.
            apart: In another session than the bar before.
        """
        o, known = self._options, before_ns != NEVER
        step = np.where(known, time_ns - np.where(known, before_ns, 0), 0)
        fresh = known & apart
        if self._max_gap_ns is not None:
            fresh |= known & (step > self._max_gap_ns)
        empty = np.zeros(len(time_ns), np.int64)
        if o.grid_ns and o.bars == "time":
            empty = np.maximum(step // o.grid_ns - 1, 0)
            fresh |= empty > (0 if o.gap == "reset" else o.gap_limit)
            empty[fresh] = 0
        return fresh, empty

    def fill(self, code: Ints, time_ns: Ints, measured: Floats, apart: Bools) -> Filled:
        """Take in complete bars.

        Args:
            code: Stream, `(bars,)`, sorted.
            time_ns: Start of each, rising inside a stream.
            measured: `(bars, features)`; NaN where nothing was measured.
            apart: Not to be joined to the bar before, as in another session, `(bars,)`.
        """
        o, t = self._options, self.columns
        groups = group(code)
        self._state.reach(groups.codes[-1:])
        first = groups.begin
        before_ns = np.concatenate([[0], time_ns[:-1]])
        before_ns[first] = t["last_ns"][groups.codes]
        known = before_ns != NEVER
        fresh, empty = self.breaks(before_ns, time_ns, apart)
        anew = fresh | ~known

        # One line: for each stream what is remembered of it, then its bars, those that are filled in before their next.
        repeats = empty + 1
        bar = np.repeat(np.arange(len(code)), repeats)
        end = np.cumsum(repeats)
        back = np.repeat(end, repeats) - 1 - np.arange(len(bar))  # steps before the measured bar
        at = time_ns[bar] - back * o.grid_ns
        measured_here = back == 0
        values = np.where(measured_here[:, None], measured[bar], np.nan)
        values[np.ix_(~measured_here, self._is_zero)] = 0.0
        wide = Groups(np.arange(len(bar)), groups.codes, (end - repeats)[first], np.add.reduceat(repeats, first))
        starts_anew = measured_here & anew[bar]
        out, carried = self._features(wide, at, values, starts_anew, measured[bar], time_ns[bar], back)

        last = first + groups.count - 1
        t["last_ns"][groups.codes] = time_ns[last]
        return Filled(bar, at, out, measured_here & fresh[bar], carried)

    def _features(
        self, groups: Groups, at: Ints, values: Floats, anew: Bools, coming: Floats, coming_ns: Ints, back: Ints
    ) -> tuple[Floats, NDArray[np.float32]]:
        """Every feature filled and transformed, and the part of them that was filled in each bar."""
        o, t = self._options, self.columns
        n, f = values.shape
        out, filled = np.empty((n, f)), np.zeros(n)
        place = np.arange(n)
        begin = np.repeat(groups.begin, groups.count)
        # Nothing from before a stream began anew counts; -1: what is remembered of it does.
        origin = np.maximum.accumulate(np.where(anew, place, -1))
        origin = np.where(origin < begin, -1, origin)
        follows = (place > begin) & (place > origin)  # the place before is the bar before
        limit_ns = o.gap_limit * o.grid_ns if o.grid_ns else np.iinfo(np.int64).max
        codes, last = np.repeat(groups.codes, groups.count), groups.begin + groups.count - 1
        for column, transform in enumerate(self._transforms):
            value = values[:, column]
            known, known_ns = t["value"][codes, column], t["value_ns"][codes, column]
            there = ~np.isnan(value)
            found = np.maximum.accumulate(np.where(there, place, -1))  # newest measured, this one included
            before = np.concatenate([[-1], found[:-1]])
            newest, newest_ns = _look(value, at, found, begin, origin, known, known_ns)
            previous, previous_ns = _look(value, at, before, begin, origin, known, known_ns)
            if not there.all():
                age_ns = np.where(newest_ns == NEVER, 0, at - newest_ns)
                near = ~there & ~np.isnan(newest) & (age_ns <= limit_ns)
                between = near & (back > 0) & ~np.isnan(coming[:, column])
                if transform == "rate":
                    # A counter is taken to have grown evenly; where it began again nobody knows.
                    between &= coming[:, column] >= newest
                    near &= between
                elif o.gap != "interpolate":
                    between &= False
                if o.gap not in ("carry", "interpolate"):
                    near &= between
                whole_ns = np.maximum(coming_ns - np.where(newest_ns == NEVER, 0, newest_ns), 1)
                line = newest + (coming[:, column] - newest) * (age_ns / whole_ns)
                carried = newest + age_ns / 1e9 if self._grows[column] else newest
                value = np.where(between, line, np.where(near, carried, value))
                filled += 0 if self._grows[column] else near
                there = there | near
            row_before = np.concatenate([[np.nan], value[:-1]])
            near_row = follows & ~np.isnan(row_before)
            previous = np.where(near_row, row_before, previous)
            previous_ns = np.where(near_row, np.concatenate([[0], at[:-1]]), previous_ns)
            out[:, column] = _transformed(transform, value, at, previous, previous_ns)
            t["value"][groups.codes, column] = newest[last]
            t["value_ns"][groups.codes, column] = newest_ns[last]
        return out, (filled / max(1, f)).astype(np.float32)


def _transformed(name: str, value: Floats, at: Ints, previous: Floats, previous_ns: Ints) -> Floats:
    """A feature transformed; its first value has no change yet: 0, and a rate is missing.

    Args:
        name: Of the transform.
        value: `(n,)`.
        at: Start of each bar, ns, `(n,)`.
        previous: Value before each; NaN: there is none.
        previous_ns: Start of its bar.
    """
    if name == "log1p":
        return np.asarray(np.sign(value) * np.log1p(np.abs(value)))
    is_first = np.isnan(previous) & ~np.isnan(value)
    with np.errstate(invalid="ignore", divide="ignore"):
        if name == "diff":
            return np.where(is_first, 0.0, value - previous)
        if name == "log_return":
            change = np.log(np.where(value > 0, value, np.nan) / np.where(previous > 0, previous, np.nan))
            return np.where(is_first, 0.0, change * BASIS_POINTS)
        if name == "rate":
            grown = np.where(value >= previous, value - previous, value)  # below: the counter began again at 0
            return np.asarray(np.where(is_first, np.nan, grown / (np.maximum(at - previous_ns, 1) / 1e9)))
    return value


def _look(
    value: Floats, at: Ints, found: Ints, begin: Ints, origin: Ints, known: Floats, known_ns: Ints
) -> tuple[Floats, Ints]:
    """Value and bar at `found`, from what is remembered where that lies before the stream's first, or nothing."""
    inside = (found >= begin) & (found >= origin)
    remembered = (found < begin) & (origin < 0)
    at_found = np.maximum(found, 0)
    return (
        np.where(inside, value[at_found], np.where(remembered, known, np.nan)),
        np.where(inside, at[at_found], np.where(remembered, known_ns, NEVER)),
    )
