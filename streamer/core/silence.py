"""Silence of one stream while others go on: an incident of its own kind.

Pure: event time only. Not inside: streams that stay silent for good (`expiry`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.core.events import EXPIRED, OPEN, RESOLVE, SILENCE, Event
from streamer.core.grouping import Ints, group
from streamer.core.keyed_state import KeyedState
from streamer.core.readings import NEVER


class SilenceWatch:
    """Finds streams that stopped while others of their partition went on.

    Each partition has a clock that moves with its newest event time, but by at most a
    quarter of the limit at once: when the whole partition pauses, nobody is silent. A
    stream is silent when the clock has moved by more than the limit since its last
    reading; one alone in its partition is reported only when it returns. Event time only,
    so a replay at any speed, in any batches, agrees. That the whole topic has stopped is
    for a rule on `streamer_last_record_timestamp_seconds`.

    Args:
        state: Of all streams.
        after_ns: Event time without a reading that counts as silence; None: never.
    """

    def __init__(self, state: KeyedState, after_ns: int | None) -> None:
        self.after_ns = after_ns
        self._state = state
        self._clocks = state.register_partitions("silence")  # newest event time, clock
        self._columns = state.register(
            "silence",
            {
                "last_ns": (np.int64, (), NEVER),
                "last_clock_ns": (np.int64, (), 0),
                "since_ns": (np.int64, (), NEVER),  # last reading before the silence
            },
        )

    @property
    def is_silent(self) -> NDArray[np.bool_]:
        """Streams that are silent now, `(rows,)`."""
        return np.asarray(self._columns["since_ns"] != NEVER)

    @property
    def last_ns(self) -> Ints:
        """Newest event time of each stream, `(rows,)`."""
        return self._columns["last_ns"]

    def step(self, codes: Ints, times_ns: Ints, partitions: Ints) -> list[Event]:
        """Take in admitted readings; returns silences that began or ended, in the order of the readings."""
        if not len(codes):
            return []
        self._state.reach(codes)
        events: list[Event] = []
        for partition in np.unique(partitions).tolist():
            rows = np.flatnonzero(partitions == partition)
            events += self._step(partition, rows, codes[rows], times_ns[rows])
        return sorted(events, key=lambda event: event.row)

    def close(self, codes: Ints, rows: Ints, times_ns: Ints) -> list[Event]:
        """Resolve the silences of streams that are no longer tracked; see `Incidents.close`."""
        since_ns = self._columns["since_ns"]
        return [
            Event(RESOLVE, SILENCE, code, int(since_ns[code]), at, 0.0, 0.0, row, EXPIRED)
            for code, row, at in zip(codes.tolist(), rows.tolist(), times_ns.tolist(), strict=True)
            if since_ns[code] != NEVER
        ]

    def _step(self, partition: int, rows: Ints, codes: Ints, times_ns: Ints) -> list[Event]:
        t = self._columns
        cap = np.iinfo(np.int64).max if self.after_ns is None else max(1, self.after_ns // 4)
        clock, clocks = advance(self._clocks, partition, times_ns, cap)

        groups = group(codes)
        ordered_clock, ordered_time = clocks[groups.order], times_ns[groups.order]
        before_clock = np.concatenate([[0], ordered_clock[:-1]])
        before_time = np.concatenate([[0], ordered_time[:-1]])
        before_clock[groups.begin] = t["last_clock_ns"][groups.codes]
        before_time[groups.begin] = t["last_ns"][groups.codes]
        # A stream that comes from another partition was measured by another clock.
        moved = self._state.partition[groups.codes] != partition
        before_time[groups.begin[moved]] = NEVER
        events: list[Event] = []
        if self.after_ns is not None:
            # The clock just before a reading: its own step does not count against its stream.
            just_before = np.concatenate([[clock], clocks[:-1]])[groups.order]
            back = (before_time != NEVER) & (just_before - before_clock > self.after_ns)
            for i in np.flatnonzero(back).tolist():
                place, since = int(groups.order[i]), int(before_time[i])
                code = int(codes[place])
                # A stream already reported as silent has been so since before its first reading here.
                reported = _is_first(groups.begin, i) and t["since_ns"][code] != NEVER
                if not reported:
                    events.append(self._open(code, since, int(before_clock[i]), clocks, rows, times_ns))
                at = int(times_ns[place])
                events.append(Event(RESOLVE, SILENCE, code, since, at, 0.0, 0.0, int(rows[place])))
        for g in np.flatnonzero(moved & (t["since_ns"][groups.codes] != NEVER)).tolist():
            code, place = int(groups.codes[g]), int(groups.order[groups.begin[g]])
            since = int(t["since_ns"][code])
            events.append(Event(RESOLVE, SILENCE, code, since, int(times_ns[place]), 0.0, 0.0, int(rows[place])))
        last = groups.begin + groups.count - 1
        t["since_ns"][groups.codes] = NEVER
        t["last_ns"][groups.codes] = ordered_time[last]
        t["last_clock_ns"][groups.codes] = ordered_clock[last]
        self._state.assign(groups.codes, partition)
        if self.after_ns is not None:
            gone = np.flatnonzero(
                (self._state.partition == partition)
                & (t["since_ns"] == NEVER)
                & (clocks[-1] - t["last_clock_ns"] > self.after_ns)
            )
            for code in gone.tolist():
                since = int(t["last_ns"][code])
                events.append(self._open(code, since, int(t["last_clock_ns"][code]), clocks, rows, times_ns))
            t["since_ns"][gone] = t["last_ns"][gone]
        return events

    def _open(self, code: int, since: int, since_clock: int, clocks: Ints, rows: Ints, times_ns: Ints) -> Event:
        """Silence shown by the first reading that moved the clock past the limit."""
        assert self.after_ns is not None
        place = int(np.searchsorted(clocks, since_clock + self.after_ns, side="right"))
        return Event(OPEN, SILENCE, code, since, int(times_ns[place]), 0.0, 0.0, int(rows[place]))


def _is_first(begin: Ints, place: int) -> bool:
    """Whether `place` is where a group begins."""
    found = int(np.searchsorted(begin, place))
    return found < len(begin) and int(begin[found]) == place


def advance(clocks: dict[int, Any], partition: int, times_ns: Ints, cap_ns: int) -> tuple[int, Ints]:
    """Move a partition's clock with its newest event time, by at most `cap_ns` at once.

    Args:
        clocks: By partition, newest event time and clock; changed.
        partition: Which.
        times_ns: Of its readings, `(n,)`, in the order they came.
        cap_ns: When the whole partition pauses, its clock hardly moves.

    Returns:
        The clock before, and after each reading, `(n,)`.
    """
    newest, clock = clocks.get(partition, (int(times_ns[0]), 0))
    line = np.maximum.accumulate(np.concatenate([[newest], times_ns]))
    after = clock + np.cumsum(np.minimum(np.diff(line), cap_ns))
    clocks[partition] = int(line[-1]), int(after[-1])
    return int(clock), after
