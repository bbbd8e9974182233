"""From what a poll brought to what is published: decode, process, publish.

Records before a partition's `publish_from` are processed in silence, to rebuild state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from streamer.connectors.kafka import RecordBatch
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from streamer.formats.rejects import Reject
from streamer.observability.metrics import Metrics
from streamer.runtime.positions import Positions
from streamer.runtime.publishing import Publisher

_YEAR_2200_MS = 7_258_118_400_000


class Intake:
    """Deals with the records of one connection, and moves positions past them.

    Args:
        positions: Of the partitions held; batches of others are left alone.
        pipeline: Decodes and processes.
        publisher: Takes what it led to.
        metrics: Counts.
        clock: Seconds since 1970, for metrics.
    """

    def __init__(
        self,
        positions: Positions,
        *,
        pipeline: Pipeline,
        publisher: Publisher,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._positions, self._pipeline, self._publisher = positions, pipeline, publisher
        self._metrics, self._clock = metrics, clock

    def take_in(self, polled: Sequence[RecordBatch]) -> None:
        """Deal with one poll."""
        live: list[Readings] = []
        for batch in polled:
            position = self._positions.get(batch.partition)
            if position is None:
                continue  # revoked while the poll was under way
            self._metrics.records_consumed.inc(len(batch))
            silent = int(np.searchsorted(batch.offsets, position.publish_from))
            if silent:
                self._metrics.records_replayed.inc(silent)
                readings, _ = self._decode(_cut(batch, slice(0, silent)))
                self._pipeline.process(readings)
            if silent < len(batch):
                loud = _cut(batch, slice(silent, None))
                readings, rejects = self._decode(loud)
                self._publisher.dead_letter(loud, rejects)
                live.append(readings)
            position.next_offset = int(batch.offsets[-1]) + 1
        if live:
            self._publisher.publish(self._pipeline.process(_concatenate(live)))
            newest_ms = max(int(batch.timestamps_ms[-1]) for batch in polled)
            if newest_ms > 0:
                self._metrics.event_to_score.observe(max(0.0, self._clock() - newest_ms / 1000))
        self._metrics.last_record.set(self._clock())

    def _decode(self, batch: RecordBatch) -> tuple[Readings, list[Reject]]:
        taken = batch.timestamps_ms
        # Without a time stamp there is nothing to be ahead of, nor with one that cannot be milliseconds.
        known = (taken > 0) & (taken < _YEAR_2200_MS)
        now_ns = np.where(known, np.where(known, taken, 0) * 1_000_000, np.iinfo(np.int64).max // 2)
        return self._pipeline.decoder.decode(
            batch.values, batch.keys, partition=batch.partition, offsets=batch.offsets, now_ns=now_ns
        )


def _cut(batch: RecordBatch, rows: slice) -> RecordBatch:
    return replace(
        batch,
        offsets=batch.offsets[rows],
        timestamps_ms=batch.timestamps_ms[rows],
        keys=batch.keys[rows],
        values=batch.values[rows],
        headers=batch.headers[rows],
    )


def _concatenate(parts: Sequence[Readings]) -> Readings:
    if len(parts) == 1:
        return parts[0]
    return Readings(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("stream", "time_ns", "values", "partition", "offset")
        )
    )
