"""Streams that leave: what is open of them resolves and says why, then they are forgotten.

    expired        nothing came of a stream for its time to live
    moved          partitions were added to the topic, and the stream comes to another one
    records_lost   records of its partition are gone unread

Pure. Not inside: who has expired (`expiry`) or moved (`silence`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamer.core.events import EXPIRED, MOVED, SILENCE, Event
from streamer.core.expiry import Expired
from streamer.core.grouping import Ints
from streamer.core.incidents import Incidents
from streamer.core.readings import Readings
from streamer.core.rules import Rules
from streamer.core.silence import SilenceWatch
from streamer.core.telling import Telling, Told


@dataclass(frozen=True, slots=True)
class Gone:
    """Streams that a batch has shown to have left."""

    expired: Expired
    moved: Expired

    @classmethod
    def of(cls, expired: Expired, moved: Expired) -> Gone:
        """Each stream for whichever came first."""
        moved = moved.but(expired)
        return cls(expired.but(moved), moved)

    @property
    def all(self) -> Expired:
        """All of them; each once."""
        return Expired.join([self.expired, self.moved])


class Leaving:
    """Ends what is open of streams.

    Args:
        telling: Makes alerts.
        incidents: Of scores.
        silence: Of streams that stopped.
        rules: Of faults that need no model.
    """

    def __init__(self, telling: Telling, incidents: Incidents, silence: SilenceWatch, rules: Rules) -> None:
        self._telling, self._stations = telling, (incidents, silence, rules)

    def close(self, codes: Ints, rows: Ints, times_ns: Ints, why: str = EXPIRED) -> Told:
        """Resolve what is open of streams, as of some readings."""
        events = [event for station in self._stations for event in station.close(codes, rows, times_ns, why)]
        return self._telling.all(events)

    def close_all(self, codes: Ints, last_ns: Ints, why: str) -> Told:
        """Resolve what is open of streams, as of the newest reading of any of them, and of no reading of a batch."""
        at_ns = last_ns[codes].max(initial=0)
        return self.close(codes, np.zeros(len(codes), np.int64), np.full(len(codes), at_ns), why)

    def resolve(self, gone: Gone, readings: Readings, silences: Sequence[Event], broken: Sequence[Event]) -> Told:
        """What is told of silences and rules in a batch, and of what ends with the streams that have left in it.

        A stream that has expired does not fall silent with the rest of the batch.
        """
        expired, moved = gone.expired, gone.moved
        at = dict(zip(expired.codes.tolist(), expired.rows.tolist(), strict=True))
        untold = {event.code for event in silences if event.row > at.get(event.code, event.row)}
        told = self._telling.all([event for event in silences if event.row <= at.get(event.code, event.row)])
        told += self._telling.all(broken)
        if len(expired.codes):
            ended = self.close(expired.codes, expired.rows, readings.time_ns[expired.rows])
            told += [(event, alert) for event, alert in ended if event.kind != SILENCE or event.code not in untold]
        if len(moved.codes):
            told += self.close(moved.codes, moved.rows, readings.time_ns[moved.rows], MOVED)
        return told
