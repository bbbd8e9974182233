"""How long each stream usually takes from one reading to the next, and how long it may take before it counts as silent.

Learned from the stream's own steps, in blocks, so that it is a pure function of their sequence:

    usual     median of the medians of its newest 8 blocks of 32 steps
    longest   second largest among the maxima of its newest 32 blocks: one outage is not taken for a habit
    limit     `factor` times usual; where three times longest is more, that, and at least a minute

A stream in its first block has the seed as limit, or three times its second longest step so far. A bursty stream, such
as trades that come milliseconds apart and then not for half a minute, is so measured by its own pauses. Pure numpy. Not
inside: which clock steps are measured by (`silence`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.core.grouping import Groups, Ints
from streamer.core.keyed_state import KeyedState

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

BLOCK = 32  # steps that are summed up together
MAXIMA, MEDIANS = 32, 8  # blocks remembered
LONGEST_TIMES = 3  # a pause this many times the longest usual one is none of the stream's own
IRREGULAR_NS = 60_000_000_000  # least limit of a stream that pauses by itself
_NONE = -1.0


class Intervals:
    """The limit of every stream.

    Args:
        state: Of all streams.
        factor: Usual intervals that make a silence.
        least_ns: No limit is shorter.
    """

    def __init__(self, state: KeyedState, factor: float, least_ns: int = 0) -> None:
        self.seed_ns = 1
        self._factor, self._least_ns = factor, least_ns
        self._writes: list[tuple[str, Any, Any]] = []
        self._columns = state.register(
            "intervals",
            {
                "count": (np.int64, (), 0),  # steps so far
                "pending": (np.float32, (BLOCK,), 0.0),  # steps of the block that is not full
                "top": (np.float32, (2,), _NONE),  # longest and second longest step of the first block
                "maxima": (np.float32, (MAXIMA,), _NONE),  # of the newest blocks, newest last
                "medians": (np.float32, (MEDIANS,), _NONE),
                "limit_ns": (np.int64, (), 0),  # 0: the seed
            },
        )

    def limit_ns(self, codes: Ints) -> Ints:
        """Time without a reading that counts as silence, `(n,)`."""
        limits = self._columns["limit_ns"][codes]
        return np.where(limits > 0, limits, self.seed_ns)

    def step(self, groups: Groups, steps_ns: Ints, learn: Bools) -> Ints:
        """What steps lead to; `keep` makes it last.

        Args:
            groups: Streams.
            steps_ns: Time since the stream's reading before, `(n,)`, in the order of `groups`.
            learn: Those that count; a stream's first reading has no step, `(n,)`.

        Returns:
            Each stream's limit after each reading, `(n,)`, in the order of `groups`.
        """
        t, codes, self._writes = self._columns, groups.codes, []
        limits = self.limit_ns(codes)
        some = np.flatnonzero(learn)
        if not len(some):
            return np.repeat(limits, groups.count)
        if len(some) == len(codes) == len(learn):  # one step of each stream
            member, new, rank = some, np.ones(len(codes), np.int64), np.zeros(len(codes), np.int64)
        else:
            member = groups.member[some]
            new = np.bincount(member, minlength=len(codes))
            rank = np.arange(len(some)) - (np.cumsum(new) - new)[member]
        before = t["count"][codes]
        fill = before % BLOCK
        steps = steps_ns[some].astype(np.float32)
        known = limits[member]
        early = before[member] + rank + 1 < BLOCK
        if early.any():
            known[early] = self._early(codes, member[early], steps[early])
        closes = fill + new >= BLOCK
        waiting = np.arange(len(some))
        if closes.any():
            rows = np.flatnonzero(closes[member])
            which = np.flatnonzero(closes)
            known[rows] = self._closed(codes[which], fill[which], new[which], steps[rows], known[rows])
            waiting = np.flatnonzero(~closes[member])
        self._writes.append(("pending", (codes[member[waiting]], (fill[member] + rank)[waiting]), steps[waiting]))
        last = (np.cumsum(new) - 1)[new > 0]
        self._writes += [("count", codes, before + new), ("limit_ns", codes[new > 0], known[last])]
        if len(some) == len(learn):
            return known
        # Readings without a step leave the limit as the stream's newest step left it.
        upto = np.cumsum(learn) - 1
        upto_before = np.repeat(np.concatenate([[0], np.cumsum(new)[:-1]]), groups.count)
        return np.where(upto >= upto_before, known[upto.clip(min=0)], np.repeat(limits, groups.count))

    def keep(self) -> None:
        """Remember the newest `step`."""
        for name, where, values in self._writes:
            self._columns[name][where] = values
        self._writes = []

    def _closed(self, codes: Ints, fill: Ints, new: Ints, steps: Floats, known: Ints) -> Ints:
        """Limits after each step of streams that fill a block, where they are `known` until then."""
        # One line for each stream: the steps of its unfinished block, then the new ones.
        length = fill + new
        begin = np.cumsum(length) - length
        line = np.empty(int(length.sum()), np.float32)
        owner, place = _spread(fill)
        line[begin[owner] + place] = self._columns["pending"][codes[owner], place]
        member, rank = _spread(new)
        line[begin[member] + fill[member] + rank] = steps
        blocks = length // BLOCK
        full = self._blocks(codes, line, begin, blocks)
        done = (fill[member] + rank + 1) // BLOCK
        first = np.cumsum(blocks) - blocks
        rest = length - blocks * BLOCK
        owner, place = _spread(rest)
        kept = line[(begin + blocks * BLOCK)[owner] + place]
        self._writes.append(("pending", (codes[owner], place), kept))
        return np.where(done > 0, full[(first[member] + done - 1).clip(min=0)], known)

    def _early(self, codes: Ints, member: Ints, steps: Floats) -> Ints:
        """Limits in a stream's first block, from its second longest step so far."""
        top = self._columns["top"]
        longest = np.maximum(_running_max(member, steps), top[codes[member], 0])
        first = np.concatenate([[True], member[1:] != member[:-1]])
        before = np.where(first, top[codes[member], 0], np.concatenate([longest[:1], longest[:-1]]))
        second = np.maximum(_running_max(member, np.minimum(steps, before)), top[codes[member], 1])
        last = np.append(np.flatnonzero(first)[1:], len(member)) - 1
        self._writes.append(("top", codes[member[last]], np.stack([longest[last], second[last]], 1)))
        return self._limit(np.full(len(steps), _NONE, np.float32), second)

    def _blocks(self, codes: Ints, line: Floats, begin: Ints, blocks: Ints) -> Ints:
        """Limits after each full block, `(blocks,)`."""
        owner, rank = _spread(blocks)
        block = np.sort(line[(begin[owner] + rank * BLOCK)[:, None] + np.arange(BLOCK)], axis=1)
        maxima = self._ring("maxima", codes, blocks, block[:, -1])
        longest = np.partition(maxima, MAXIMA - 2, axis=1)[:, -2]
        longest = np.where(longest >= 0, longest, block[:, -2])  # the first block has only itself
        medians = np.sort(self._ring("medians", codes, blocks, block[:, BLOCK // 2]), axis=1)
        unknown = (medians < 0).sum(1)
        usual = medians[np.arange(len(medians)), unknown + (MEDIANS - unknown - 1) // 2]
        return self._limit(usual, longest)

    def _ring(self, name: str, codes: Ints, counts: Ints, values: Floats) -> Floats:
        """The ring of a column after each of the new values, `(n, room)`; `counts` says how many are whose."""
        some = np.flatnonzero(counts)
        old = self._columns[name][codes[some]]
        room = old.shape[1]
        length = room + counts[some]
        begin = np.cumsum(length) - length
        line = np.empty(int(length.sum()), np.float32)
        line[begin[:, None] + np.arange(room)] = old
        owner, rank = _spread(counts[some])
        line[begin[owner] + room + rank] = values
        newest = (begin + length - room)[:, None] + np.arange(room)
        self._writes.append((name, codes[some], line[newest]))
        return np.asarray(line[(begin[owner] + rank + 1)[:, None] + np.arange(room)])

    def _limit(self, usual: Floats, longest: Floats) -> Ints:
        base = np.where(usual > 0, self._factor * usual.astype(np.float64), self.seed_ns)
        pause = LONGEST_TIMES * longest.astype(np.float64)
        own = (pause > base) | ((usual == 0) & (longest > 0))
        limit = np.where(own, np.maximum(pause, IRREGULAR_NS), base)
        return np.maximum(limit, self._least_ns).clip(1, 1 << 61).astype(np.int64)


def _spread(counts: Ints) -> tuple[Ints, Ints]:
    """Owner and rank of `counts[i]` things of each owner `i`.

    >>> [column.tolist() for column in _spread(np.array([2, 0, 1]))]
    [[0, 0, 2], [0, 1, 0]]
    """
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)


def _running_max(member: Ints, values: Floats) -> Floats:
    """Largest value so far of each member; members in ascending order.

    >>> _running_max(np.array([0, 0, 1, 1]), np.array([3, 1, 2, 4], np.float32)).tolist()
    [3.0, 3.0, 2.0, 4.0]
    """
    distinct, rank = np.unique(values, return_inverse=True)
    return np.asarray(distinct[np.maximum.accumulate(member * len(distinct) + rank) % len(distinct)])
