"""Second thoughts: the settled score of a reading, known some readings later.

The score at t is provisional: it sees nothing after t, and alerts go by it. The settled
score of the same reading is the highest of the windows that end from t to `DELAY` readings
later, for the windows that follow an onset often show it better. It is for looking
back: plots, backtests, dashboards. Measured in docs/accuracy.md.

The state of a stream is its newest scores; which batches they come in makes no
difference. Not inside: alerts (`incidents`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.grouping import Ints, group
from streamer.core.keyed_state import Table

Float32 = NDArray[np.float32]

DELAY = 16  # scores after a reading's own that settle it


class Retrospective:
    """The newest scores of every stream."""

    def __init__(self) -> None:
        self.table = Table({"recent": (np.float32, (DELAY,), np.nan)})

    def step(self, codes: Ints, score: Float32, fresh: NDArray[np.bool_]) -> Float32:
        """Take in provisional scores.

        Args:
            codes: Stream of each reading, `(n,)`, in time order within a stream.
            score: NaN where no window closed, `(n,)`.
            fresh: Where a stream begins anew, `(n,)`; nothing is settled across that.

        Returns:
            `(n,)`: settled score of the reading `DELAY` scores before each of the same
            stream; NaN if there is none since it began, or this one has no score.
        """
        settled = np.full(len(codes), np.nan, np.float32)
        if not len(codes):
            return settled
        self.table.reach(int(codes.max()) + 1)
        recent = self.table["recent"]
        scored = np.flatnonzero(~np.isnan(score))
        if not fresh.any():
            if len(scored):
                settled[scored] = _push(recent, codes[scored], score[scored], np.zeros(len(scored), np.int64))
            return settled
        # How often each reading's stream has begun anew in this batch, up to the reading.
        groups = group(codes)
        begun = np.cumsum(fresh[groups.order], dtype=np.int64)
        begun -= np.repeat(begun[groups.begin] - fresh[groups.order[groups.begin]], groups.count)
        runs = np.empty(len(codes), np.int64)
        runs[groups.order] = begun
        if len(scored):
            settled[scored] = _push(recent, codes[scored], score[scored], runs[scored])
        last = groups.begin + groups.count - 1
        newest = np.zeros(len(groups.codes), np.int64)  # run of the newest score
        np.maximum.at(newest, np.searchsorted(groups.codes, codes[scored]), runs[scored])
        recent[groups.codes[begun[last] > newest]] = np.nan  # begun anew after its newest score
        return settled


def _push(recent: Float32, codes: Ints, score: Float32, runs: Ints) -> Float32:
    """Settled scores `(n,)` of `score`, all finite; `recent` is changed."""
    groups = group(codes)
    # One line of all streams: the state of each, then its new scores.
    at = np.repeat(groups.begin, DELAY)
    line = np.insert(score[groups.order], at, recent[groups.codes].ravel())
    run = np.insert(runs[groups.order], at, 0)
    place = np.arange(len(codes)) + DELAY * (groups.member + 1)
    settled = np.empty(len(codes), np.float32)
    highest = np.lib.stride_tricks.sliding_window_view(line, DELAY + 1)[place - DELAY].max(1)  # NaN if one is
    settled[groups.order] = np.where(run[place - DELAY] == run[place], highest, np.float32(np.nan))
    end = groups.begin + groups.count + DELAY * np.arange(1, len(groups.codes) + 1)
    newest = end[:, None] - DELAY + np.arange(DELAY)
    recent[groups.codes] = np.where(run[newest] == run[end - 1][:, None], line[newest], np.float32(np.nan))
    return settled
