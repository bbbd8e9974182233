"""One connection to the broker: a group member, a producer, and all that depends on the two.

It lives until the daemon stops or the broker gives up on us; the next one begins with
no partitions. Not inside: when to poll and when to take a checkpoint (`daemon`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from models.store.registry import Registry
from streamer.config import Settings
from streamer.connectors.kafka import RecordBatch, connect_consumer, connect_producer
from streamer.connectors.kafka.decoding import decoder_for
from streamer.connectors.sinks import KafkaSinks
from streamer.core.pipeline import Pipeline
from streamer.errors import BrokerError, SchemasUnavailable
from streamer.runtime.checkpoints import Checkpoints
from streamer.runtime.gauges import Gauges
from streamer.runtime.intake import Intake
from streamer.runtime.model_watch import ModelWatch
from streamer.runtime.one_bundle import OneBundle
from streamer.runtime.partitions import Partitions
from streamer.runtime.poison import Poison
from streamer.runtime.positions import Positions
from streamer.runtime.publishing import Publisher
from streamer.runtime.refusals import RefusalLog
from streamer.runtime.state.keeper import StateKeeper
from streamer.runtime.status import Status

SCHEMAS_PAUSE_S = 1.0  # between two attempts to reach the schema registry, or to commit before anything is told
UNNAMED_S = 10.0  # commits that name the bundle in use may be refused for so long while the group rebalances

log = logging.getLogger(__name__)


class Connection:
    """Joins the group; everything here is used from one thread.

    Args:
        settings: All settings.
        pipeline: Holds the state of the partitions assigned.
        keeper: Where state is kept; None: nowhere.
        models: Bundles that snapshots were written with.
        gauges: Metrics.
        status: Told that the loop is alive.
        poison: Batches that could not be read over earlier connections.
        stop: Set when the process has been told to stop.
        clock: Seconds since 1970, for metrics.
        topic_id: Of the input topic, where the broker tells.
        ask_topic_id: What it is now; waits for the answer.
        model_watch: Takes bundles into use.

    Raises:
        BrokerError: The broker cannot be reached, or state cannot be kept.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        pipeline: Pipeline,
        keeper: StateKeeper | None,
        models: Registry,
        gauges: Gauges,
        status: Status,
        poison: Poison,
        stop: threading.Event,
        clock: Callable[[], float],
        topic_id: str | None = None,
        ask_topic_id: Callable[[], str | None] = lambda: None,
        model_watch: ModelWatch,
    ) -> None:
        kafka, metrics = settings.kafka, gauges.metrics
        if keeper is not None:
            keeper.prepare()
        self._stop, self._clock = stop, clock
        self._waiting: tuple[str, list[int]] = "", []
        self._unnamed: tuple[float, list[int]] = 0.0, []  # since when nothing of which partitions is told
        self.positions: Positions = {}
        self.sinks = KafkaSinks(
            connect_producer(kafka, settings.limits),
            kafka,
            max_value_bytes=settings.records.max_record_bytes,
            on_cut=metrics.messages_cut.inc,
        )
        try:
            self.consumer = connect_consumer(
                kafka,
                # Called inside `poll` and `close`, when `partitions` is there.
                on_assigned=lambda numbers: self.partitions.assigned(numbers),
                on_revoked=lambda numbers: self.partitions.revoked(numbers),
                on_offset_reset=lambda reset: self.partitions.offset_reset(reset),
                limits=settings.limits,
            )
        except BaseException:
            self.sinks.close()
            raise
        self.refusals = RefusalLog(kafka.dlq_topic, clock)
        publisher = Publisher(
            self.sinks,
            self.positions,
            pipeline=pipeline,
            topic=kafka.topic,
            scores=kafka.scores_topic is not None,
            metrics=metrics,
            refusals=self.refusals,
            clock=clock,
        )
        self.checkpoints = Checkpoints(
            self.positions,
            pipeline=pipeline,
            sinks=self.sinks,
            keeper=keeper,
            consumer=self.consumer,
            metrics=metrics,
            status=status,
            stop=stop,
            clock=clock,
            topic_id=topic_id,
        )
        self.one_bundle = OneBundle(
            self.positions,
            pipeline=pipeline,
            watch=model_watch,
            consumer=self.consumer,
            checkpoints=self.checkpoints,
            poison=poison,
            again=lambda numbers: self.partitions.begin_again(numbers),
            keeps_state=keeper is not None,
        )
        self.partitions = Partitions(
            self.positions,
            settings=settings,
            pipeline=pipeline,
            keeper=keeper,
            models=models,
            consumer=self.consumer,
            checkpoints=self.checkpoints,
            poison=poison,
            metrics=metrics,
            status=status,
            topic_id=topic_id,
            ask_topic_id=ask_topic_id,
            one_bundle=self.one_bundle,
            publish=publisher.publish,
        )
        self.intake = Intake(
            self.positions,
            pipeline=pipeline,
            decoder=decoder_for(settings, pipeline.keys),
            options=settings.time,
            publisher=publisher,
            metrics=metrics,
            clock=clock,
        )

    def take_in(self, polled: Sequence[RecordBatch]) -> bool:
        """Deal with one poll; False: not now, the next poll brings the same records again (`waiting` says why)."""
        if not self.one_bundle.named():
            since_s = self._unnamed[0] if self._unnamed[1] else self._clock()
            self._unnamed = since_s, self._put_back(polled)
            return False
        self._unnamed = 0.0, []
        try:
            self.intake.take_in(polled)
        except SchemasUnavailable as error:
            self._waiting = str(error), self._put_back(polled)
            return False
        self._waiting = "", []
        return True

    def _put_back(self, polled: Sequence[RecordBatch]) -> list[int]:
        """Have the next poll bring the same again, in a while; of which partitions."""
        held = [batch for batch in polled if batch.partition in self.positions]
        for batch in held:
            self.consumer.seek(batch.partition, int(batch.offsets[0]))
        self._stop.wait(SCHEMAS_PAUSE_S)  # less than the group's patience, so that polling goes on
        return [batch.partition for batch in held]

    def waiting(self) -> str | None:
        """What records wait for, those of partitions that left not counted; None: for nothing."""
        reason, partitions = self._waiting
        return reason if any(partition in self.positions for partition in partitions) else None

    def unnamed(self) -> bool:
        """Whether nothing has been told for a while, since commits that name the bundle in use are refused."""
        since_s, partitions = self._unnamed
        held = any(partition in self.positions for partition in partitions)
        return held and self._clock() - since_s > UNNAMED_S

    def close(self) -> None:
        """Leave the group, which takes a checkpoint of the partitions still held."""
        try:
            self.consumer.close()
        except BrokerError as error:
            log.warning("leaving the group: %s", error)
        finally:
            self.partitions.drop_all()
            self.checkpoints.close()
            self.sinks.close()
