"""From what a poll brought to what is published: decode, process, publish.

Records before a partition's `publish_from` are processed in silence, to rebuild state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from streamer.connectors.kafka import RecordBatch
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from streamer.formats.json_objects import JsonDecoder
from streamer.formats.rejects import Reject
from streamer.observability.metrics import Metrics
from streamer.runtime.positions import Positions
from streamer.runtime.publishing import Publisher


class Intake:
    """Deals with the records of one connection, and moves positions past them.

    Args:
        positions: Of the partitions held; batches of others are left alone.
        pipeline: Processes.
        decoder: Decodes; knows the pipeline's streams.
        publisher: Takes what it led to.
        metrics: Counts.
        clock: Seconds since 1970, for metrics.
    """

    def __init__(
        self,
        positions: Positions,
        *,
        pipeline: Pipeline,
        decoder: JsonDecoder,
        publisher: Publisher,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._positions, self._pipeline, self._decoder, self._publisher = positions, pipeline, decoder, publisher
        self._metrics, self._clock = metrics, clock

    def take_in(self, polled: Sequence[RecordBatch]) -> None:
        """Deal with one poll."""
        self._pipeline.sweep()
        live: list[Readings] = []
        for batch in polled:
            position = self._positions.get(batch.partition)
            if position is None:
                continue  # revoked while the poll was under way
            self._metrics.records_consumed.inc(len(batch))
            silent = int(np.searchsorted(batch.offsets, position.publish_from))
            if silent:
                self._metrics.records_replayed.inc(silent)
                readings, _ = self._decode(batch.rows(slice(0, silent)))
                self._pipeline.process(readings)
            if silent < len(batch):
                loud = batch.rows(slice(silent, None))
                readings, rejects = self._decode(loud)
                self._publisher.dead_letter(loud, rejects)
                live.append(readings)
            position.next_offset = int(batch.offsets[-1]) + 1
        if live:
            self._publisher.publish(self._pipeline.process(Readings.concatenate(live)))
            newest_ms = max(int(batch.timestamps_ms[-1]) for batch in polled)
            if newest_ms > 0:
                self._metrics.event_to_score.observe(max(0.0, self._clock() - newest_ms / 1000))
        self._metrics.last_record.set(self._clock())

    def _decode(self, batch: RecordBatch) -> tuple[Readings, list[Reject]]:
        return self._decoder.decode(
            batch.values, batch.keys, partition=batch.partition, offsets=batch.offsets, now_ns=batch.taken_ns()
        )
