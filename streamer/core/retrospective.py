"""The retrospective score of a reading, known some readings later.

The score at t is causal: it sees nothing after t, and alerts go by it. The retrospective score of the same
reading is the highest of the windows that end from t to `DELAY` readings later, because the windows that follow an
onset often show it better. It is for looking back: plots, backtests, dashboards, where it is called the settled
score. Measured in docs/accuracy.md.

The state of a stream is its newest scores; which batches they come in makes no difference. Not inside: alerts
(`incidents`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Arrays
from streamer.core.grouping import Ints, group
from streamer.core.keyed_state import KeyedState

Float32 = NDArray[np.float32]

DELAY = 16  # readings after a reading's own that settle its score


def delay_in_scores(stride: int) -> int:
    """Scores that come in `DELAY` readings.

    >>> delay_in_scores(1), delay_in_scores(5), delay_in_scores(64)
    (16, 4, 1)
    """
    return -(-DELAY // stride)


class Retrospective:
    """The newest scores of every stream.

    Args:
        state: Of all streams.
        stride: Readings between two scores of a stream.
    """

    def __init__(self, state: KeyedState, stride: int = 1) -> None:
        self.delay = delay_in_scores(stride)
        self._state = state
        self._columns = state.register("retrospective", {"recent": (np.float32, (self.delay,), np.nan)}, put=self._put)

    def step(self, codes: Ints, score: Float32, fresh: NDArray[np.bool_]) -> Float32:
        """Take in causal scores.

        Args:
            codes: Stream of each reading, `(n,)`, in time order within a stream.
            score: NaN where no window closed, `(n,)`.
            fresh: Where a stream's window is reset, `(n,)`; no score is settled across that.

        Returns:
            `(n,)`: settled score of the reading `delay` scores before each of the same
            stream; NaN if there is none since its last reset, or this one has no score.
        """
        settled = np.full(len(codes), np.nan, np.float32)
        if not len(codes):
            return settled
        self._state.reach(codes)
        recent = self._columns["recent"]
        scored = np.flatnonzero(~np.isnan(score))
        if not fresh.any():
            if len(scored):
                settled[scored] = self._push(recent, codes[scored], score[scored], np.zeros(len(scored), np.int64))
            return settled
        # How often each reading's stream was reset in this batch, up to the reading.
        groups = group(codes)
        resets = np.cumsum(fresh[groups.order], dtype=np.int64)
        resets -= np.repeat(resets[groups.begin] - fresh[groups.order[groups.begin]], groups.count)
        runs = np.empty(len(codes), np.int64)
        runs[groups.order] = resets
        if len(scored):
            settled[scored] = self._push(recent, codes[scored], score[scored], runs[scored])
        last = groups.begin + groups.count - 1
        newest = np.zeros(len(groups.codes), np.int64)  # run of the newest score
        np.maximum.at(newest, np.searchsorted(groups.codes, codes[scored]), runs[scored])
        recent[groups.codes[resets[last] > newest]] = np.nan  # reset after its newest score
        return settled

    def reset(self) -> None:
        """Forget all scores, as those of another detector."""
        self._columns["recent"][:] = np.nan

    def correct(self, code: int, newest: Float32) -> None:
        """Put the newest scores of a stream right, at most `delay`, newest last."""
        if len(newest):
            self._columns["recent"][code, -len(newest) :] = newest

    def _push(self, recent: Float32, codes: Ints, score: Float32, runs: Ints) -> Float32:
        """Settled scores `(n,)` of `score`, all finite; `recent` is changed."""
        delay, groups = self.delay, group(codes)
        # One line of all streams: the state of each, then its new scores.
        at = np.repeat(groups.begin, delay)
        line = np.insert(score[groups.order], at, recent[groups.codes].ravel())
        run = np.insert(runs[groups.order], at, 0)
        place = np.arange(len(codes)) + delay * (groups.member + 1)
        settled = np.empty(len(codes), np.float32)
        # The maximum of a window that holds a NaN is NaN.
        highest = np.lib.stride_tricks.sliding_window_view(line, delay + 1)[place - delay].max(1)
        settled[groups.order] = np.where(run[place - delay] == run[place], highest, np.float32(np.nan))
        end = groups.begin + groups.count + delay * np.arange(1, len(groups.codes) + 1)
        newest = end[:, None] - delay + np.arange(delay)
        recent[groups.codes] = np.where(run[newest] == run[end - 1][:, None], line[newest], np.float32(np.nan))
        return settled

    def _put(self, codes: Ints, columns: Arrays) -> None:
        """Scores exported at another stride: as many of the newest as there is room for."""
        recent = columns["recent"]
        if recent.ndim != 2 or len(recent) != len(codes):
            raise ValueError(f"column recent: wanted {len(codes)} rows; got {recent.shape}")
        kept = min(self.delay, recent.shape[1])
        self._columns["recent"][codes] = np.nan
        self._columns["recent"][codes, self.delay - kept :] = recent[:, recent.shape[1] - kept :]
