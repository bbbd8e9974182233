"""From what a poll brought to what is published: decode, process, publish.

Records before a partition's `publish_from` are processed in silence, to rebuild state.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from streamer.config import TimeConfig
from streamer.connectors.kafka import RecordBatch
from streamer.core.outcome import Outcome
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from streamer.errors import BrokerError, SchemasUnavailable
from streamer.formats import Decoded, Decoder
from streamer.formats.rejects import FUTURE, LATE, Reject
from streamer.observability.metrics import Metrics
from streamer.runtime.positions import Positions
from streamer.runtime.publishing import Publisher

log = logging.getLogger(__name__)


class Intake:
    """Deals with the records of one connection, and moves positions past them.

    Args:
        positions: Of the partitions held; batches of others are left alone.
        pipeline: Processes.
        decoder: Decodes; knows the pipeline's streams.
        options: What is done about late readings and idle partitions.
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
        options: TimeConfig,
        publisher: Publisher,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._positions, self._pipeline, self._decoder, self._publisher = positions, pipeline, decoder, publisher
        self._metrics, self._clock, self._options = metrics, clock, options
        self._arrived_s: dict[int, float] = {}  # when each partition last brought records

    def take_in(self, polled: Sequence[RecordBatch]) -> None:
        """Deal with one poll.

        Raises:
            SchemasUnavailable: Nothing was dealt with.
        """
        held_before = self._pipeline.event_time.holding
        try:
            self._take_in(polled)
        except SchemasUnavailable:
            raise
        except BrokerError:
            # The next connection reads these records again; what is held of them now leaves with the partitions.
            self._metrics.books.discard()
            holding = self._pipeline.event_time.holding
            _moved_over(self._metrics, holding - held_before)
            self._metrics.post(holding)
            raise
        except BaseException:
            self._metrics.books.close()  # what became of some of the records will never be known
            raise
        self._metrics.post(self._pipeline.event_time.holding)

    def _take_in(self, polled: Sequence[RecordBatch]) -> None:
        self._pipeline.sweep()
        held = [batch for batch in polled if batch.partition in self._positions]  # others were revoked meanwhile
        # All of the poll before any of it is processed: a schema that cannot be had now must leave no half behind.
        decoded = [self._decode(batch, self._positions[batch.partition].publish_from) for batch in held]
        live: list[Readings] = []
        loud: dict[int, RecordBatch] = {}
        turned_away: list[tuple[RecordBatch, Decoded]] = []
        for batch, (silent, replayed, found) in zip(held, decoded, strict=True):
            self._metrics.records_consumed.inc(len(batch))
            self._metrics.headers_unreadable.inc(batch.unreadable_headers)
            if replayed is not None:
                self._metrics.records_replayed.inc(silent)
                held_before = self._pipeline.event_time.holding
                self._pipeline.process(replayed.readings)
                self._turn_away(batch, replayed)
                _moved_over(self._metrics, self._pipeline.event_time.holding - held_before)
            if found is not None:
                loud[batch.partition] = batch.rows(slice(silent, None)) if silent else batch
                self._publisher.dead_letter(loud[batch.partition], found.rejects)
                self._metrics.records_unpacked.inc(found.extra)
                self._metrics.records_ignored.inc(found.ignored)
                live.append(found.readings)
                turned_away.append((batch, found))
            self._positions[batch.partition].next_offset = int(batch.offsets[-1]) + 1
        if live:
            outcome = self._pipeline.process(Readings.concatenate(live))
            self._send_future_on(loud, outcome)
            sent_on = self._send_late_on(loud, outcome) if self._options.dead_letter_late else 0
            self._publisher.publish(outcome, late_sent_on=sent_on)
            for batch, found in turned_away:
                if (left := self._turn_away(batch, found)) is not None:
                    self._publisher.publish(left)
            newest_ms = max(int(batch.timestamps_ms[-1]) for batch in polled)
            if newest_ms > 0:
                self._metrics.event_to_score.observe(max(0.0, self._clock() - newest_ms / 1000))
        now_s = self._clock()
        self._arrived_s.update(dict.fromkeys((batch.partition for batch in polled), now_s))
        self._metrics.last_record.set(now_s)

    def pass_marks(self, position: Callable[[int], int]) -> None:
        """Move positions past offsets that hold no record: marks of transactions, and what these have aborted.

        Args:
            position: Asks the consumer where it stands in a partition, once all it brought was taken in.
        """
        for partition, known in self._positions.items():
            with contextlib.suppress(BrokerError):
                known.next_offset = max(known.next_offset, position(partition))

    def release_idle(
        self,
        lags: Mapping[int, float],
        bounds: Callable[[int], tuple[int, int]],
        named: Callable[[], bool] = lambda: True,
    ) -> None:
        """Release what partitions hold back that have sent nothing for `time.idle`, and all of which was read;
        streams that are known to come to other partitions are forgotten.

        Nor is a bar cut short, or a reading called late that came within the lateness: both go by, too, before.

        Args:
            lags: Records not read yet, by partition; NaN where that is not known.
            bounds: Asks the broker for a partition's first offset and its end: the process may have been
                stopped, or the broker away, while records came.
            named: Whether commits name the bundle in use, as they must before anything is told.
        """
        now_s = self._clock()
        for partition, position in self._positions.items():
            quiet_s = now_s - self._arrived_s.setdefault(partition, now_s)
            patience_s = max(self._options.idle, self._options.lateness + self._options.grid)
            if not self._options.idle or quiet_s < patience_s or lags.get(partition, 0):
                continue
            if position.next_offset < position.publish_from or not self._pipeline.waits(partition):
                continue
            if position.next_offset < position.told_before:  # and maybe paused until another bundle is in use
                continue
            try:
                is_all = bounds(partition)[1] <= position.next_offset
            except BrokerError as error:
                log.info("partition %d is not known to be idle: %s", partition, error)
                self._arrived_s[partition] = now_s
                break  # each of the others might take as long; they are asked about in the next turns
            if not is_all:
                self._arrived_s[partition] = now_s
                continue
            if not named():
                break
            self._publisher.publish(self._pipeline.release(partition, position.next_offset))
            self._metrics.post(self._pipeline.event_time.holding)
            position.changed()
        for partition in self._arrived_s.keys() - self._positions.keys():
            del self._arrived_s[partition]

    def wait(self) -> None:
        """Nothing was polled on purpose: no partition was idle."""
        self._arrived_s = dict.fromkeys(self._positions, self._clock())

    def _send_future_on(self, loud: Mapping[int, RecordBatch], outcome: Outcome) -> None:
        """Dead letters of records with readings far ahead of their time; further ones of a record are dropped."""
        detail = "far ahead of its stream and of its partition, and the record's own time does not vouch for it"
        at, sent = np.unique(outcome.future_at, axis=0), 0
        for partition in np.unique(at[:, 0]).tolist():
            batch = loud[partition]
            rows = np.searchsorted(batch.offsets, at[at[:, 0] == partition, 1]).tolist()
            self._publisher.dead_letter(batch, [Reject(row, FUTURE, detail) for row in rows])
            sent += len(rows)
        self._metrics.records_dropped.labels(FUTURE).inc(len(outcome.future_at) - sent)

    def _send_late_on(self, loud: Mapping[int, RecordBatch], outcome: Outcome) -> int:
        """Dead letters of records with late readings; how many."""
        count = 0
        for partition in np.unique(outcome.late_at[:, 0]).tolist():
            batch = loud[partition]
            offsets = np.unique(outcome.late_at[outcome.late_at[:, 0] == partition, 1])
            detail = (
                f"older than the newest reading of its stream by more than time.lateness, {self._options.lateness:g} s"
            )
            rejects = [Reject(row, LATE, detail) for row in np.searchsorted(batch.offsets, offsets).tolist()]
            self._publisher.dead_letter(batch, rejects)
            count += len(rejects)
        return count

    def _turn_away(self, batch: RecordBatch, decoded: Decoded) -> Outcome | None:
        """What comes of readings that found no room, after those of the same batch that were taken."""
        times_ns = decoded.turned_away_ns
        if not len(times_ns):
            return None
        return self._pipeline.turn_away(batch.partition, times_ns, int(batch.offsets[-1]))

    def _decode(self, batch: RecordBatch, publish_from: int) -> tuple[int, Decoded | None, Decoded | None]:
        """How many records come before `publish_from`, what they hold, and what the rest holds."""
        silent = int(np.searchsorted(batch.offsets, publish_from))
        replayed = self._decoder.decode(batch.rows(slice(0, silent))) if silent else None
        found = (
            self._decoder.decode(batch.rows(slice(silent, None)) if silent else batch) if silent < len(batch) else None
        )
        return silent, replayed, found


@contextlib.contextmanager
def moving_over(metrics: Metrics, pipeline: Pipeline) -> Iterator[None]:
    """Count readings held back that come with a partition's state meanwhile, or leave with it."""
    before = pipeline.event_time.holding
    try:
        yield
    finally:
        _moved_over(metrics, pipeline.event_time.holding - before)
        metrics.post(pipeline.event_time.holding)


def _moved_over(metrics: Metrics, count: int) -> None:
    (metrics.records_taken_over if count > 0 else metrics.records_handed_over).inc(abs(count))
