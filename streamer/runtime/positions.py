"""Where each assigned partition stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Position:
    """Offsets of one partition."""

    next_offset: int  # first record not dealt with
    publish_from: int  # records before it only rebuild state
    saved_offset: int  # where the newest checkpoint stands; -1 before the first, so that it commits the start
    committed: int | None = None  # the group's offset, as far as we know; None: it has none of this log
    states: tuple[str, ...] = ()  # snapshots that the group's commit names, newest first
    left_behind: tuple[str, ...] = ()  # snapshots of earlier topics of the same name, to be removed
    bundle: str | None = None  # that the group's commit names; it alone tells what lies behind the commit
    told_before: int = 0  # records before it may have been told already, by whoever had the partition, with `bundle`
    changes: int = 0  # times its state changed though no record came

    def changed(self) -> None:
        """State is another one, though no record came: there is something to save."""
        self.saved_offset = -1
        self.changes += 1

    @property
    def clean(self) -> bool:
        """Whether nothing was told behind the group's commit, by whomever."""
        return self.saved_offset == self.next_offset >= self.told_before


Positions = dict[int, Position]  # by partition
