"""A bounded part of the input topic as training data, for `streamer retrain --from-kafka`.

Reads by offset, outside any group: nothing is committed, and runs beside each other or a
killed one do not disturb anybody. Not inside: how a client reads (`range_reader`), what
is learned.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from streamer.config import Settings
from streamer.connectors.files import DataSet
from streamer.connectors.kafka import connect_range_reader
from streamer.connectors.kafka.decoding import decoder_for
from streamer.connectors.kafka.interface import RangeReader, RecordBatch
from streamer.core.keyed_state import KeyedState
from streamer.errors import DataError
from streamer.formats.rejects import SCHEMA, Reject

log = logging.getLogger(__name__)

_MOST_NAMES = 10_000_000

ShowProgress = Callable[[str, float], AbstractContextManager[Callable[[float], None]]]
_ABSENT = re.compile(r"is missing|got null")
_SAMPLE = 120  # characters


@dataclass(frozen=True, slots=True)
class TimeRange:
    """When the broker took the records wanted; None: from the first, to the last."""

    since_ms: int | None = None
    until_ms: int | None = None

    @classmethod
    def of(cls, since_s: float | None, until_s: float | None) -> TimeRange:
        """From seconds since 1970."""
        since, until = (None if second is None else round(second * 1000) for second in (since_s, until_s))
        return cls(since, until)

    def __str__(self) -> str:
        parts = [f"since {_say_time(self.since_ms)}"] if self.since_ms is not None else []
        parts += [f"until {_say_time(self.until_ms)}"] if self.until_ms is not None else []
        return " ".join(parts)


class TopicReader:
    """Iterating reads the range once, a poll a piece.

    Args:
        settings: Topic, connection and shape of the records.
        time_range: Which records.
        show_progress: Told a title and how many offsets there are; gives a function to call with those done.
    """

    def __init__(self, settings: Settings, time_range: TimeRange, show_progress: ShowProgress) -> None:
        self._settings, self._time_range, self._show_progress = settings, time_range, show_progress
        self._ends: dict[int, int] | None = None
        self._rejects = _Rejects(settings)

    def trained_on(self) -> dict[str, Any] | None:
        """Up to where each partition was read, for the bundle's manifest; None before reading began."""
        if self._ends is None:
            return None
        partitions = {str(partition): end for partition, end in sorted(self._ends.items())}
        return {"topic": self._settings.kafka.topic, "partitions": partitions}

    def __iter__(self) -> Generator[DataSet]:
        """The readings.

        Raises:
            BrokerError: The topic is not there, or cannot be read to the end of the range.
            DataError: The range holds no valid readings; the message says where it looked.
        """
        reader = connect_range_reader(self._settings.kafka, self._settings.limits)
        try:
            yield from self._read(reader)
        finally:
            reader.close()

    def _read(self, reader: RangeReader) -> Iterator[DataSet]:
        bounds = reader.bounds()
        ranges = ranges_of(reader, bounds, self._time_range)
        exact = ranges is not None
        if ranges is None:
            log.info(
                "this broker does not look up offsets by time: reading every record, taking those of the time wanted"
            )
            ranges = bounds
        self._ends = {partition: end if exact else first for partition, (first, end) in ranges.items()}
        total = sum(max(0, end - first) for first, end in ranges.values())
        streams = KeyedState()
        # The limit is on streams held at once; over a long range, names come and go.
        decoder = decoder_for(self._settings, streams, max_streams=_MOST_NAMES)
        taken = seen = 0
        with self._show_progress("reading the topic", total) as advance:
            for batch in reader.read(ranges):
                advance(len(batch))
                batch = _within(batch, self._time_range)
                decoded = decoder.decode(batch)
                readings = decoded.readings
                self._rejects.add(batch, decoded.rejects)
                if not exact and len(batch):
                    self._ends[batch.partition] = int(batch.offsets[-1]) + 1
                seen += len(batch)
                taken += len(readings)
                if len(readings):
                    yield DataSet(
                        streams.names,
                        readings.stream,
                        readings.time_ns,
                        readings.values.astype(np.float64),
                        sequence=readings.sequence,
                        partition=batch.partition,
                    )
        if not taken:
            raise DataError(self._nothing(bounds, ranges, seen))
        if self._rejects.total:
            log.warning(
                "%d of %d records of %s are not readings and were left out: %s",
                self._rejects.total, seen, self._settings.kafka.topic, self._rejects.summary(),
            )  # fmt: skip

    def _nothing(self, bounds: Mapping[int, tuple[int, int]], ranges: Mapping[int, tuple[int, int]], seen: int) -> str:
        """Why there is nothing to train on, and where was looked."""
        topic = self._settings.kafka.topic
        if all(first == end for first, end in bounds.values()):
            return f"topic {topic} is empty: none of its {len(bounds)} partition(s) holds a record"
        looked = ", ".join(
            f"{partition} " + (f"(offsets {first} to {end - 1})" if end > first else "(empty)")
            for partition, (first, end) in sorted((ranges if seen else bounds).items())
        )
        if seen:
            return (
                f"none of the {seen} records of topic {topic}{self._when()} is a reading: {self._rejects.summary()}; "
                f"looked at partition {looked}"
            )
        return (
            f"topic {topic} holds no record{self._when()}, by the time the broker took it: widen --since and --until; "
            f"looked at partition {looked}"
        )

    def _when(self) -> str:
        return f" {self._time_range}" if str(self._time_range) else ""


class _Rejects:
    """What was left out: counts by reason, and the first of each."""

    def __init__(self, settings: Settings) -> None:
        self._may_miss = settings.records.missing == "fill"
        self._counts: Counter[str] = Counter()
        self._samples: dict[str, str] = {}
        self._absent = 0  # for want of a feature

    @property
    def total(self) -> int:
        return self._counts.total()

    def add(self, batch: RecordBatch, rejects: list[Reject]) -> None:
        for reject in rejects:
            self._counts[reject.reason] += 1
            self._absent += reject.reason == SCHEMA and bool(_ABSENT.search(reject.detail))
            if reject.reason not in self._samples:
                where = f"{batch.topic}[{batch.partition}]@{batch.offsets[reject.row]}"
                self._samples[reject.reason] = f"{where}: {reject.detail[:_SAMPLE]}"

    def summary(self) -> str:
        """Reasons, most frequent first, each with a sample; and what may help."""
        parts = [f"{count} {reason} (e.g. {self._samples[reason]})" for reason, count in self._counts.most_common()]
        text = ", ".join(parts)
        if self._absent and not self._may_miss:
            text += (
                f"; {self._absent} lack a field or hold null in one: if it is a feature, `records.missing: fill` takes "
                "such readings"
            )
        return text


def ranges_of(
    reader: RangeReader, bounds: Mapping[int, tuple[int, int]], wanted: TimeRange
) -> dict[int, tuple[int, int]] | None:
    """Offsets to read of each partition; None if the broker cannot look up times."""
    since = {} if wanted.since_ms is None else reader.offsets_at(wanted.since_ms)
    until = {} if wanted.until_ms is None else reader.offsets_at(wanted.until_ms)
    if since is None or until is None:
        return None
    ranges = {}
    for partition, (first, end) in bounds.items():
        # What came in since the bounds were asked for waits for the next training.
        end = min(end, until.get(partition, end))
        ranges[partition] = (min(max(first, since.get(partition, first)), end), end)
    return ranges


def _within(batch: RecordBatch, wanted: TimeRange) -> RecordBatch:
    """Records of the time wanted: timestamps may be out of order, and not every broker looks them up."""
    if wanted == TimeRange():
        return batch
    inside = np.ones(len(batch), bool)
    if wanted.since_ms is not None:
        inside &= batch.timestamps_ms >= wanted.since_ms
    if wanted.until_ms is not None:
        inside &= batch.timestamps_ms < wanted.until_ms
    return batch if inside.all() else batch.rows(np.flatnonzero(inside))


def _say_time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
