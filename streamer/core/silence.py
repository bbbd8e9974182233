"""Silence of one stream while the others go on: an incident of its own kind.

Pure: event time only.
"""

from __future__ import annotations

import numpy as np

from streamer.core.events import OPEN, RESOLVE, SILENCE, Event
from streamer.core.grouping import Ints, group
from streamer.core.keyed_state import Table
from streamer.core.readings import NEVER


class SilenceWatch:
    """Tells streams that stopped while others of their partition went on.

    Each partition has a clock that moves with its newest event time, but by at most a
    quarter of the limit at once: when the whole partition pauses, nobody is silent. A
    stream is silent when the clock has moved by more than the limit since its last
    reading; one alone in its partition is told of only when it returns. Event time only,
    so a replay at any speed, in any batches, agrees. That the whole topic has stopped is
    for a rule on `streamer_last_record_timestamp_seconds`.

    Args:
        after_ns: Event time without a reading that counts as silence; None: never.
    """

    def __init__(self, after_ns: int | None) -> None:
        self.after_ns = after_ns
        self.table = Table(
            {
                "last_ns": (np.int64, (), NEVER),
                "last_clock_ns": (np.int64, (), 0),
                "partition": (np.int64, (), -1),
                "silent_since_ns": (np.int64, (), NEVER),  # last reading before the silence
            }
        )
        self.clocks: dict[int, tuple[int, int]] = {}  # by partition: newest event time, clock

    @property
    def silent_count(self) -> int:
        return int((self.table["silent_since_ns"] != NEVER).sum())

    def step(self, codes: Ints, times_ns: Ints, partitions: Ints) -> list[Event]:
        """Take in admitted readings; returns silences that began or ended, in the order of the readings."""
        if not len(codes):
            return []
        self.table.reach(int(codes.max()) + 1)
        events: list[Event] = []
        for partition in np.unique(partitions).tolist():
            rows = np.flatnonzero(partitions == partition)
            events += self._step(partition, rows, codes[rows], times_ns[rows])
        return sorted(events, key=lambda event: event.row)

    def _step(self, partition: int, rows: Ints, codes: Ints, times_ns: Ints) -> list[Event]:
        t = self.table
        newest, clock = self.clocks.get(partition, (int(times_ns[0]), 0))
        line = np.maximum.accumulate(np.concatenate([[newest], times_ns]))
        cap = np.iinfo(np.int64).max if self.after_ns is None else max(1, self.after_ns // 4)
        clocks = clock + np.cumsum(np.minimum(np.diff(line), cap))  # (n,) after each reading
        self.clocks[partition] = int(line[-1]), int(clocks[-1])

        groups = group(codes)
        ordered_clock, ordered_time = clocks[groups.order], times_ns[groups.order]
        before_clock = np.concatenate([[0], ordered_clock[:-1]])
        before_time = np.concatenate([[0], ordered_time[:-1]])
        before_clock[groups.begin] = t["last_clock_ns"][groups.codes]
        before_time[groups.begin] = t["last_ns"][groups.codes]
        # A stream that comes from another partition was measured by another clock.
        moved = t["partition"][groups.codes] != partition
        before_time[groups.begin[moved]] = NEVER
        events: list[Event] = []
        if self.after_ns is not None:
            # The clock just before a reading: its own step does not count against its stream.
            just_before = np.concatenate([[clock], clocks[:-1]])[groups.order]
            back = (before_time != NEVER) & (just_before - before_clock > self.after_ns)
            for i in np.flatnonzero(back).tolist():
                place, since = int(groups.order[i]), int(before_time[i])
                code = int(codes[place])
                # A stream already told of as silent is so before its first reading here.
                told = _is_first(groups.begin, i) and t["silent_since_ns"][code] != NEVER
                if not told:
                    events.append(self._open(code, since, int(before_clock[i]), clocks, rows, times_ns))
                at = int(times_ns[place])
                events.append(Event(RESOLVE, SILENCE, code, since, at, 0.0, 0.0, int(rows[place])))
        for g in np.flatnonzero(moved & (t["silent_since_ns"][groups.codes] != NEVER)).tolist():
            code, place = int(groups.codes[g]), int(groups.order[groups.begin[g]])
            since = int(t["silent_since_ns"][code])
            events.append(Event(RESOLVE, SILENCE, code, since, int(times_ns[place]), 0.0, 0.0, int(rows[place])))
        last = groups.begin + groups.count - 1
        t["silent_since_ns"][groups.codes] = NEVER
        t["last_ns"][groups.codes] = ordered_time[last]
        t["last_clock_ns"][groups.codes] = ordered_clock[last]
        t["partition"][groups.codes] = partition
        if self.after_ns is not None:
            gone = np.flatnonzero(
                (t["partition"] == partition)
                & (t["silent_since_ns"] == NEVER)
                & (clocks[-1] - t["last_clock_ns"] > self.after_ns)
            )
            for code in gone.tolist():
                since = int(t["last_ns"][code])
                events.append(self._open(code, since, int(t["last_clock_ns"][code]), clocks, rows, times_ns))
            t["silent_since_ns"][gone] = t["last_ns"][gone]
        return events

    def _open(self, code: int, since: int, since_clock: int, clocks: Ints, rows: Ints, times_ns: Ints) -> Event:
        """Silence told by the first reading that moved the clock past the limit."""
        assert self.after_ns is not None
        place = int(np.searchsorted(clocks, since_clock + self.after_ns, side="right"))
        return Event(OPEN, SILENCE, code, since, int(times_ns[place]), 0.0, 0.0, int(rows[place]))


def _is_first(begin: Ints, place: int) -> bool:
    """Whether `place` is where a group begins."""
    found = int(np.searchsorted(begin, place))
    return found < len(begin) and int(begin[found]) == place
