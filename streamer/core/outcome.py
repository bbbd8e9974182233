"""What a batch of readings led to: scores, alerts and counts.

Pure data; the pipeline makes it, runtime publishes it, a backtest collects it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.core.alerts import Alert
from streamer.core.corrections import NOTHING_RESCORED, Rescored
from streamer.core.events import Event
from streamer.core.ordering import Admitted
from streamer.core.readings import Readings

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scores:
    """One row for every admitted reading of a batch; NaN where no window closed."""

    score: Float32  # (n,) 1.0 is the alert line, higher is more anomalous
    error: Float32  # (n,) reconstruction error of the window, 1.0 is typical of the stream
    filled: Float32  # (n,) part of the window that was missing and filled in
    settled: Float32  # (n,) settled score of an earlier reading of the stream (`retrospective`)
    failures: int  # windows whose score was not finite; they count as not scored
    sparse: int  # windows not scored because too much of them was missing

    @classmethod
    def join(cls, parts: Sequence[Scores]) -> Scores:
        """Scores of consecutive batches as those of one."""
        columns = ("score", "error", "filled", "settled")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
        return cls(**joined, failures=sum(p.failures for p in parts), sparse=sum(p.sparse for p in parts))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one batch of readings led to; columns have one row per reading of the model."""

    readings: Readings  # of the model: those admitted, or bars made of them
    scores: Scores
    alerts: list[Alert]
    events: list[Event]  # one for each alert; `row` counts the readings of the batch as they arrived
    triggers: list[tuple[int, int]]  # partition and offset of the record behind each alert
    duplicates: int
    late: int
    resets: int  # windows reset because of a gap
    expired: int  # streams forgotten after their time to live
    arrivals: int = 0  # readings of the batch as they arrived
    taken: int = 0  # readings as sent that `readings` were made of
    reordered: int = 0  # readings put before newer ones of their stream
    forgotten: int = 0  # readings held back of streams that expired
    overflow: int = 0  # readings left out because too many of their stream were held back
    outside: int = 0  # readings outside of the sessions
    # Partition and offset of each reading that was refused as it is far ahead of its time, `(k, 2)`.
    future_at: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    moved: int = 0  # streams forgotten as they come to another partition since partitions were added
    # Partition and offset of each late reading, `(late, 2)`.
    late_at: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    rescored: Rescored = NOTHING_RESCORED  # what late readings have put right; `trigger` counts as `row` of an event
    carried: Float32 | None = None  # (n,) part of the features of a bar that was not measured; None: nothing was

    @classmethod
    def of(
        cls,
        admitted: Admitted,
        scores: Scores,
        told: list[Alert],
        events: list[Event],
        triggers: list[tuple[int, int]],
        arrivals: int,
    ) -> Outcome:
        """From what became of `arrivals` readings."""
        kept = admitted.readings
        return cls(
            readings=kept,
            scores=scores,
            alerts=told,
            events=events,
            triggers=triggers,
            duplicates=admitted.duplicates,
            late=admitted.late,
            resets=int(admitted.fresh.sum()),
            expired=0,
            arrivals=arrivals,
            taken=len(kept) if admitted.taken is None else admitted.taken,
            reordered=admitted.reordered,
            overflow=admitted.overflow,
            outside=admitted.outside,
            carried=admitted.carried,
        )

    @classmethod
    def without_readings(cls, told: Sequence[tuple[Event, Alert]], width: int, trigger: tuple[int, int]) -> Outcome:
        """What happened to incidents though no reading came; `width` of the model's readings."""
        none = np.empty(0, np.float32)
        return cls(
            readings=Readings.empty(width),
            scores=Scores(none, none, none, none, 0, 0),
            alerts=[alert for _, alert in told],
            events=[event for event, _ in told],
            triggers=[trigger] * len(told),
            duplicates=0,
            late=0,
            resets=0,
            expired=0,
        )

    @classmethod
    def join(cls, parts: Sequence[Outcome]) -> Outcome:
        """The outcome of consecutive batches as that of one; there is at least one."""
        if len(parts) == 1:
            return parts[0]
        before = np.cumsum([0, *(part.arrivals for part in parts)]).tolist()
        return cls(
            readings=Readings.concatenate([part.readings for part in parts]),
            scores=Scores.join([part.scores for part in parts]),
            alerts=[alert for part in parts for alert in part.alerts],
            events=[
                dataclasses.replace(event, row=event.row + first)
                for part, first in zip(parts, before, strict=False)
                for event in part.events
            ],
            triggers=[trigger for part in parts for trigger in part.triggers],
            duplicates=sum(part.duplicates for part in parts),
            late=sum(part.late for part in parts),
            resets=sum(part.resets for part in parts),
            expired=sum(part.expired for part in parts),
            arrivals=sum(part.arrivals for part in parts),
            taken=sum(part.taken for part in parts),
            reordered=sum(part.reordered for part in parts),
            forgotten=sum(part.forgotten for part in parts),
            overflow=sum(part.overflow for part in parts),
            outside=sum(part.outside for part in parts),
            moved=sum(part.moved for part in parts),
            late_at=np.concatenate([part.late_at for part in parts]),
            rescored=Rescored.join(
                [
                    part.rescored.later(first)
                    for part, first in zip(parts, before, strict=False)
                    if part.rescored.readings
                ]
            ),
            carried=_join_carried(parts),
        )


def _join_carried(parts: Sequence[Outcome]) -> Float32 | None:
    if all(part.carried is None for part in parts):
        return None
    return np.concatenate(
        [np.zeros(len(part.readings), np.float32) if part.carried is None else part.carried for part in parts]
    )
