"""From what a poll brought to what is published: decode, process, publish.

Records before a partition's `publish_from` are processed in silence, to rebuild state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from streamer.connectors.kafka import RecordBatch
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from streamer.formats import Decoded, Decoder
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
        decoder: Decoder,
        publisher: Publisher,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._positions, self._pipeline, self._decoder, self._publisher = positions, pipeline, decoder, publisher
        self._metrics, self._clock = metrics, clock

    def take_in(self, polled: Sequence[RecordBatch]) -> None:
        """Deal with one poll."""
        self._pipeline.sweep()
        held = [batch for batch in polled if batch.partition in self._positions]  # others were revoked meanwhile
        # All of the poll before any of it is processed: a schema that cannot be had now must leave no half behind.
        decoded = [self._decode(batch, self._positions[batch.partition].publish_from) for batch in held]
        live: list[Readings] = []
        for batch, (silent, replayed, found) in zip(held, decoded, strict=True):
            self._metrics.records_consumed.inc(len(batch))
            if replayed is not None:
                self._metrics.records_replayed.inc(silent)
                self._pipeline.process(replayed.readings)
            if found is not None:
                self._publisher.dead_letter(batch.rows(slice(silent, None)) if silent else batch, found.rejects)
                self._metrics.records_unpacked.inc(found.extra)
                self._metrics.records_ignored.inc(found.ignored)
                live.append(found.readings)
            self._positions[batch.partition].next_offset = int(batch.offsets[-1]) + 1
        if live:
            self._publisher.publish(self._pipeline.process(Readings.concatenate(live)))
            newest_ms = max(int(batch.timestamps_ms[-1]) for batch in polled)
            if newest_ms > 0:
                self._metrics.event_to_score.observe(max(0.0, self._clock() - newest_ms / 1000))
        self._metrics.last_record.set(self._clock())

    def _decode(self, batch: RecordBatch, publish_from: int) -> tuple[int, Decoded | None, Decoded | None]:
        """How many records come before `publish_from`, what they hold, and what the rest holds."""
        silent = int(np.searchsorted(batch.offsets, publish_from))
        replayed = self._decoder.decode(batch.rows(slice(0, silent))) if silent else None
        found = (
            self._decoder.decode(batch.rows(slice(silent, None)) if silent else batch) if silent < len(batch) else None
        )
        return silent, replayed, found
