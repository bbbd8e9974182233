"""Corrected bars: the windows that contain them are scored again, and what follows from their scores is put right.

    windows         hold the corrected values from then on
    settled scores  of readings whose windows changed
    incidents       one whose scores no longer make it an incident is resolved, with the reason `corrected`

The drift that the detector follows stays as it is. A correction takes anomalous scores back; it opens nothing: late
data is no news. The state of a stream is the times and scores of its newest windows. Pure. Not inside: how
bars are corrected (`event_time.hindsight`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from streamer.core.event_time.hindsight import BARS, Corrected
from streamer.core.events import Event
from streamer.core.grouping import Ints, group
from streamer.core.incidents import Incidents
from streamer.core.keyed_state import KeyedState
from streamer.core.readings import NEVER
from streamer.core.retrospective import Retrospective
from streamer.core.scoring import Scorer

Float32 = NDArray[np.float32]

_TOGETHER = 32  # corrections whose windows are scored at once, fewer where these would take more than that
_KEPT_BYTES = 16 << 20


def _no_floats() -> Float32:
    return np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class Rescored:
    """Scores put right after late readings; columns have one row for each reading of the model."""

    stream: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    time_ns: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    score: Float32 = field(default_factory=_no_floats)
    settled: Float32 = field(default_factory=_no_floats)  # NaN: it is not settled yet
    trigger: Ints = field(default_factory=lambda: np.empty(0, np.int64))  # reading of the batch that led to it
    readings: int = 0  # late ones that were put in their place

    def __len__(self) -> int:
        return len(self.stream)

    def later(self, rows: int) -> Rescored:
        """The same where so many readings came before the batch."""
        return replace(self, trigger=self.trigger + rows)

    @classmethod
    def join(cls, parts: Sequence[Rescored]) -> Rescored:
        parts = [NOTHING_RESCORED, *parts]
        names = ("stream", "time_ns", "score", "settled", "trigger")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(**joined, readings=sum(part.readings for part in parts))


NOTHING_RESCORED = Rescored()


class Corrections:
    """The newest scores of every stream, and what late readings change of them.

    Args:
        state: Of all streams.
        grid_ns: Between two readings of the model.
        scorer: Has the windows.
        retrospective: Settles scores.
        incidents: Follows them.
    """

    def __init__(
        self, state: KeyedState, grid_ns: int, scorer: Scorer, retrospective: Retrospective, incidents: Incidents
    ) -> None:
        self._state, self._grid_ns = state, grid_ns
        self._scorer, self._retrospective, self._incidents = scorer, retrospective, incidents
        self._room = 2 * retrospective.delay + 1
        self._columns = state.register(
            "scores",
            {"time_ns": (np.int64, (self._room,), NEVER), "score": (np.float32, (self._room,), np.nan)},
        )

    def step(self, codes: Ints, time_ns: Ints, score: Float32) -> None:
        """Note scores; NaN where there is none."""
        scored = np.flatnonzero(~np.isnan(score))
        if not len(scored):
            return
        groups, room = group(codes[scored]), self._room
        self._state.reach(groups.codes[-1:])
        at = np.repeat(groups.begin, room)
        end = groups.begin + groups.count + room * np.arange(1, len(groups.codes) + 1)
        newest = end[:, None] - room + np.arange(room)
        for name, values in (("time_ns", time_ns), ("score", score)):
            column = self._columns[name]
            line = np.insert(values[scored][groups.order], at, column[groups.codes].ravel())
            column[groups.codes] = line[newest]

    def reset(self) -> None:
        """Forget all scores, as those of another detector."""
        self._columns.blank(np.arange(self._columns.rows))

    def apply(self, corrected: Sequence[Corrected]) -> tuple[Rescored, list[Event]]:
        """Take in corrected bars; the windows of several corrections are scored together."""
        parts, events = list[Rescored](), list[Event]()
        windower = self._scorer.windower
        each = 4 * windower.length * windower.width * BARS
        most = max(1, min(_TOGETHER, _KEPT_BYTES // each))
        for first in range(0, len(corrected), most):
            cut = [(one, self._put_right(one)) for one in corrected[first : first + most]]
            again = [(one, *found) for one, found in cut if found is not None]
            codes = np.array([one.code for one, *_ in again], np.int64)
            scored = iter(self._scorer.score_again(codes, [windows for *_, windows in again]) if again else ())
            for one, found in cut:
                part, event = (
                    (Rescored(readings=1), None) if found is None else self._apply(one, found[0], next(scored))
                )
                parts.append(part)
                if event is not None:
                    events.append(event)
        return Rescored.join(parts), events

    def _put_right(self, one: Corrected) -> tuple[Ints, Float32] | None:
        """Write corrected bars into the window; places of the scores to be found again, and their windows."""
        code, windower = one.code, self._scorer.windower
        # Bars from before a reset are in no window that is still looked at; older ones than are held stay as they are.
        held = windower.held(code)
        changed = min(windower.run(code), one.changed, held)
        if not changed:
            return None
        self._scorer.correct(code, one.values[-changed:])
        newest_ns, times = int(one.time_ns[-1]), self._columns["time_ns"][code]
        oldest_ns = newest_ns - min(changed - 1, held - windower.length) * self._grid_ns  # end of a window still held
        in_run = self._in_run(one)
        some = in_run[times[in_run] >= oldest_ns]
        return (some, windower.again(code, (newest_ns - times[some]) // self._grid_ns)) if len(some) else None

    def _in_run(self, one: Corrected) -> Ints:
        """Places of the scores of a stream since its window was last reset."""
        windower = self._scorer.windower
        first_ns = int(one.time_ns[-1]) - (windower.run(one.code) - windower.length) * self._grid_ns
        times, scores = self._columns["time_ns"][one.code], self._columns["score"][one.code]
        return np.flatnonzero((times >= first_ns) & ~np.isnan(scores))

    def _apply(self, one: Corrected, some: Ints, again: Float32) -> tuple[Rescored, Event | None]:
        """What the scores `again` at the places `some` change."""
        code, delay, newest_ns, in_run = one.code, self._retrospective.delay, int(one.time_ns[-1]), self._in_run(one)
        times, scores = self._columns["time_ns"][code], self._columns["score"][code]  # views
        before = scores.copy()
        scores[some] = np.where(np.isnan(again), before[some], again)
        self._retrospective.correct(code, scores[in_run][-delay:])
        settled = np.full(self._room, np.nan, np.float32)
        different = scores != before
        for place in in_run[: max(0, len(in_run) - delay)].tolist():
            span = slice(place, place + delay + 1)
            if (highest := scores[span].max()) != before[span].max():
                settled[place], different[place] = highest, True
        touched = np.flatnonzero(different & ~np.isnan(scores))
        event = self._incidents.correct(code, times, scores, before, newest_ns, one.row)
        n = len(touched)
        rescored = Rescored(np.full(n, code), times[touched], scores[touched], settled[touched], np.full(n, one.row), 1)
        return rescored, event
