"""A price that is ten, a hundred or a thousand times its stream's recent level, or as small a part of it.

The level is the median of the medians of the newest five blocks of 16 prices: a run of up to 40 slips does not move it,
and a price that stays where it is becomes the level.
"""

from __future__ import annotations

import numpy as np

from streamer.core.events import POWER_OF_TEN, Event
from streamer.core.grouping import Ints
from streamer.core.keyed_state import KeyedState
from streamer.core.rules.options import PriceRule
from streamer.core.rules.ordered import Floats, Ordered
from streamer.core.rules.spells import Spells

BLOCK, BLOCKS = 16, 5
NEAR = 0.08  # in powers of ten: within a fifth of ten times the level, say
QUIET_NS = 60_000_000_000  # slips less than this apart are one incident


class PowerOfTen:
    """Price levels of all streams."""

    def __init__(self, state: KeyedState, rule: PriceRule) -> None:
        self._rule = rule
        self._columns = state.register(
            "rules_level",
            {
                "pending": (np.float64, (BLOCK,), np.nan),  # prices of the block that is not full
                "count": (np.int64, (), 0),
                "medians": (np.float64, (BLOCKS,), np.nan),  # newest last
            },
        )
        self.spells = Spells(
            state,
            POWER_OF_TEN,
            ("observed", "level", "factor"),
            open_after_ns=0,
            close_after_ns=QUIET_NS,
            facts={"field": rule.name},
        )

    def step(self, some: Ordered, values: Floats) -> list[Event]:
        """Take in readings; `values` are theirs, `(n, fields)`."""
        price = values[:, self._rule.field]
        priced = np.flatnonzero(price > 0)
        if not len(priced):
            return []
        some, price = some.take(priced), price[priced]
        level = self._levels(some, price)
        power = np.log10(price / level)
        nearest = np.rint(power)
        slipped = (nearest != 0) & (np.abs(power - nearest) < NEAR)  # False where no level is known yet
        told = np.stack([price, level, 10.0 ** np.nan_to_num(nearest)], 1)
        sure = ~np.isnan(level)
        return self.spells.step(some.take(sure), slipped[sure], told[sure])

    def _levels(self, some: Ordered, price: Floats) -> Floats:
        """The level before each price, NaN before the first block is full."""
        t, codes = self._columns, some.codes
        fill = t["count"][codes] % BLOCK
        length = fill + some.count
        begin = np.cumsum(length) - length
        line = np.empty(int(length.sum()))
        owner, rank = spread(fill)
        line[begin[owner] + rank] = t["pending"][codes[owner], rank]
        place = np.arange(len(some)) - some.begin_of + some.spread(fill)
        line[some.spread(begin) + place] = price

        blocks = length // BLOCK
        owner, rank = spread(blocks)
        full = np.median(line[(begin[owner] + rank * BLOCK)[:, None] + np.arange(BLOCK)], axis=1)
        # One line of medians for each stream: those it had, then the new ones.
        had = BLOCKS + blocks
        start = np.cumsum(had) - had
        medians = np.empty(int(had.sum()))
        medians[start[:, None] + np.arange(BLOCKS)] = t["medians"][codes]
        medians[start[owner] + BLOCKS + rank] = full
        rings = medians[np.concatenate([start, start[owner] + rank + 1])[:, None] + np.arange(BLOCKS)]
        levels = _median_of_known(rings)  # of each stream before the batch, then after each block
        done = place // BLOCK  # blocks full before the price itself
        first = np.cumsum(blocks) - blocks
        which = np.where(done > 0, len(codes) + some.spread(first) + done - 1, some.spread(np.arange(len(codes))))
        t["medians"][codes] = medians[(start + blocks)[:, None] + np.arange(BLOCKS)]
        rest = length - blocks * BLOCK
        owner, rank = spread(rest)
        t["pending"][codes[owner], rank] = line[(begin + blocks * BLOCK)[owner] + rank]
        t["count"][codes] += some.count
        return levels[which]


def spread(counts: Ints) -> tuple[Ints, Ints]:
    """Owner and rank of `counts[i]` things of each owner `i`."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)


def _median_of_known(rings: Floats) -> Floats:
    """Lower median of each row, NaN left out.

    >>> _median_of_known(np.array([[np.nan, 3, 1], [np.nan, np.nan, np.nan]])).tolist()
    [1.0, nan]
    """
    known = (~np.isnan(rings)).sum(1)
    return np.asarray(np.sort(rings, axis=1)[np.arange(len(rings)), (known - 1).clip(min=0) // 2])  # NaN sorts last
