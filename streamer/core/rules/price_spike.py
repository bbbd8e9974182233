"""A price far from those right before and after it, in local sigmas.

The jump to a price and the jump back from it are compared with how much the stream moves in a minute: the root mean
square of its one-minute log returns over the newest 30 minutes, without the largest fifth (a slide or a slip must
not hide the next spike). A price that stays where it is was a move, not a spike. Told by the reading after it.
"""

from __future__ import annotations

import numpy as np

from streamer.core.events import PRICE_SPIKE, Event
from streamer.core.grouping import Ints
from streamer.core.keyed_state import KeyedState
from streamer.core.readings import NEVER
from streamer.core.rules.options import SpikeRule
from streamer.core.rules.ordered import Floats, Ordered
from streamer.core.rules.power_of_ten import spread
from streamer.core.rules.spells import Spells

MINUTE_NS = 60_000_000_000
MINUTES = 30
FEWEST = 5  # minutes that must have passed before anything is told
LARGEST, SHORTENED = 0.2, 1.5  # share left out of the sigma, and what that takes from it
PAUSE = 60  # minutes; a return over a longer one says nothing of the market
TICKS = 0.3  # a sigma is at least this part of the smallest step between two prices
QUIET_NS = MINUTE_NS  # spikes less than this apart are one incident
SLIP = float(np.log(5.0))  # a jump beyond this is a slip of the decimal point, where `power_of_ten` watches


class PriceSpike:
    """Newest prices and one-minute returns of all streams."""

    def __init__(self, state: KeyedState, rule: SpikeRule) -> None:
        self._rule = rule
        fields = len(rule.fields)
        self._columns = state.register(
            "rules_minutes",
            {
                "log": (np.float64, (fields,), np.nan),  # newest price, logarithm
                "return": (np.float64, (fields,), 0.0),  # how it came there
                "minute": (np.int64, (fields,), NEVER),  # in which minute
                "close": (np.float64, (fields,), np.nan),  # last price of the newest minute that is over
                "closed": (np.int64, (fields,), NEVER),  # that minute
                "returns": (np.float64, (fields, MINUTES), np.nan),  # of minutes, newest last
                "step": (np.float64, (fields,), np.inf),  # smallest between two prices so far, log units
            },
        )
        self.spells = Spells(
            state, PRICE_SPIKE, ("observed", "expected", "sigmas"), open_after_ns=0, close_after_ns=QUIET_NS
        )

    def step(self, some: Ordered, values: Floats) -> list[Event]:
        """Take in readings; `values` are theirs, `(n, fields)`."""
        told = np.zeros((len(some), 3))
        for number, field in enumerate(self._rule.fields):
            priced = np.flatnonzero(values[:, field] > 0)
            if len(priced):
                found = self._look(number, some.take(priced), np.log(values[priced, field]))
                higher = found[:, 2] > told[priced, 2]
                told[priced[higher]] = found[higher]
        return self.spells.step(some, told[:, 2] >= self._rule.sigmas, told)

    def _look(self, number: int, some: Ordered, log: Floats) -> Floats:
        """The price before each, what was expected of it, and how many sigmas lie between, `(n, 3)`."""
        t, codes = self._columns, some.codes
        minute = some.time_ns // MINUTE_NS
        log_before = some.before(log, t["log"][codes, number])
        minute_before = some.before(minute, t["minute"][codes, number])
        move = np.nan_to_num(log - log_before)
        move_before = some.before(move, t["return"][codes, number])
        undone = np.where(move * move_before < 0, np.minimum(np.abs(move), np.abs(move_before)), 0.0)

        sigma = self._sigmas(number, some, log_before, minute, minute_before)
        size = np.where(move != 0, np.abs(move), np.inf)
        smallest = np.minimum.reduceat(size, some.begin)
        step = np.minimum(t["step"][codes, number], smallest)
        # The smallest step of the batch may come after a price: what is known so far decides, whatever the batch.
        so_far = _running_least(size, some, t["step"][codes, number])
        floor = np.where(np.isfinite(so_far), TICKS * so_far, np.inf)
        sigmas = undone / np.maximum(sigma, floor)
        if self._rule.fields[number] == self._rule.slips:
            sigmas = np.where(undone > SLIP, 0.0, sigmas)

        last = some.last
        t["log"][codes, number], t["return"][codes, number] = log[last], move[last]
        t["minute"][codes, number], t["step"][codes, number] = minute[last], step
        return np.stack([np.exp(log_before), np.exp(log_before - move_before), np.nan_to_num(sigmas)], 1)

    def _sigmas(self, number: int, some: Ordered, log_before: Floats, minute: Ints, minute_before: Ints) -> Floats:
        """The local sigma at each price, of minutes that were over; infinite while there are too few."""
        t, codes = self._columns, some.codes
        closing = np.flatnonzero((minute != minute_before) & (minute_before != NEVER))
        ends = np.zeros(len(some), np.int64)
        ends[closing] = 1
        total = np.cumsum(ends)
        ended = total - some.spread((total - ends)[some.begin])  # minutes over so far, of the stream in the batch
        count = ended[some.last]
        owner, rank = spread(count)
        close, at = log_before[closing], minute_before[closing]
        first = rank == 0
        before, before_at = np.roll(close, 1), np.roll(at, 1)
        own = codes[owner[first]]
        before[first], before_at[first] = t["close"][own, number], t["closed"][own, number]
        new = np.where((before_at != NEVER) & (at - before_at <= PAUSE), close - before, np.nan)

        had = MINUTES + count
        start = np.cumsum(had) - had
        line = np.empty(int(had.sum()))
        line[start[:, None] + np.arange(MINUTES)] = t["returns"][codes, number]
        line[start[owner] + MINUTES + rank] = new
        rings = line[np.concatenate([start, start[owner] + rank + 1])[:, None] + np.arange(MINUTES)]
        sigma = _spread_of(rings)
        which = len(codes) + some.spread(np.cumsum(count) - count) + ended - 1
        which = np.where(ended > 0, which, some.spread(np.arange(len(codes))))
        t["returns"][codes, number] = line[(start + count)[:, None] + np.arange(MINUTES)]
        some_closed = count > 0
        newest = (np.cumsum(count) - 1)[some_closed]
        t["close"][codes[some_closed], number], t["closed"][codes[some_closed], number] = close[newest], at[newest]
        found: Floats = sigma[which]
        return found


def _running_least(size: Floats, some: Ordered, known: Floats) -> Floats:
    """The smallest so far of each stream, with what is known of it from before."""
    known = some.spread(known)
    if not (size < known).any():  # nearly always: the smallest step is soon known
        return known
    # Falling ranks make one running minimum of all streams: a stream's sizes lie below all of those before it.
    order = np.argsort(size, kind="stable")
    rank = np.empty(len(size), np.int64)
    rank[order] = np.arange(len(size))
    stream = np.repeat(np.arange(len(some.begin)), some.count)
    least = np.minimum.accumulate(rank - stream * len(size)) + stream * len(size)
    return np.minimum(size[order[least]], known)


def _spread_of(rings: Floats) -> Floats:
    """Root mean square of each row's returns without the largest; infinite where there are too few.

    >>> _spread_of(np.array([[np.nan, 1.0, -1.0, 1.0, 1.0, -9.0], [np.nan] * 6])).tolist()
    [1.5, inf]
    """
    square = np.sort(rings**2, axis=1)  # NaN comes last
    known = (~np.isnan(square)).sum(1)
    kept = np.maximum(known - (LARGEST * known).astype(np.int64), 1)
    square = np.where(np.arange(square.shape[1]) < kept[:, None], square, 0.0)
    root = SHORTENED * np.sqrt(square.sum(1) / kept)
    return np.asarray(np.where(known >= FEWEST, root, np.inf))
