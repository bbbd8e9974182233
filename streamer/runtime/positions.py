"""Where each assigned partition stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Position:
    """Offsets of one partition."""

    next_offset: int  # first record not dealt with
    publish_from: int  # records before it only rebuild state
    saved_offset: int  # where the newest checkpoint stands; -1 before the first, so that it commits the start
    committed: int | None = None  # the group's offset, as far as we know
    states: tuple[str, ...] = ()  # snapshots that the group's commit names, newest first
    left_behind: tuple[str, ...] = ()  # snapshots of earlier topics of the same name, to be removed


Positions = dict[int, Position]  # by partition
