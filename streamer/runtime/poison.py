"""Batches that cannot be read, counted over connections: which partitions wait for a person."""

from __future__ import annotations

from collections import Counter

POISONED_AFTER = 3  # times a batch cannot be read until its partition is paused


class Poison(Counter[tuple[int, int]]):
    """Times the batch at (partition, offset) could not be read.

    >>> poison = Poison({(0, 7): 3, (1, 7): 1})
    >>> poison.paused()
    {0}
    >>> poison.begin(0, 8)
    >>> poison.paused()
    set()
    """

    def paused(self) -> set[int]:
        """Partitions that are not read on."""
        return {partition for (partition, _), times in self.items() if times >= POISONED_AFTER}

    def begin(self, partition: int, offset: int) -> None:
        """Reading begins at an offset: what lies before, expired or passed over by a person, is met no more."""
        for each in [each for each in self if each[0] == partition and each[1] < offset]:
            del self[each]

    def first_readable(self, partition: int, first: int, committed: int) -> int:
        """Where reading may begin: not before a batch that the group was moved past, only to warm up.

        >>> Poison({(0, 7): 1}).first_readable(0, first=2, committed=9)
        9
        """
        return committed if any(each[0] == partition and first <= each[1] < committed for each in self) else first

    def forget(self, partition: int) -> None:
        """Its log is another one."""
        for each in [each for each in self if each[0] == partition]:
            del self[each]
