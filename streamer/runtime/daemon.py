"""The daemon: four verbs, and nothing about data.

    startup    serve metrics, load the bundle
    tick       poll -> decode -> process -> publish; now and then a checkpoint
    shutdown   last checkpoint, leave the group
    run        startup; then, until told to stop: verify the broker, join the group, tick, shutdown

A checkpoint comes after publishing and a commit comes last: a crash may repeat records,
never lose one (`checkpoints`). Not inside: what a connection is made of (`connection`).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial

import torch

from models.store.registry import Registry
from streamer.config import Settings
from streamer.connectors.kafka import PoisonedBatch
from streamer.connectors.kafka.probe import Missing, probe
from streamer.core.alerts import Alert
from streamer.core.pipeline import Pipeline
from streamer.errors import BrokerError, DeliveryFailed
from streamer.observability.metrics import CollectorRegistry
from streamer.observability.web import WebServer
from streamer.runtime.connection import Connection
from streamer.runtime.gauges import Gauges
from streamer.runtime.incident_thread import open_incident_thread
from streamer.runtime.model_watch import ModelWatch, load_current
from streamer.runtime.poison import Poison
from streamer.runtime.prover import Prover
from streamer.runtime.sight import Sight, why
from streamer.runtime.sinks import SinkThreads
from streamer.runtime.state.keeper import open_keeper
from streamer.runtime.status import NotReady, Reason, Status
from streamer.runtime.topic_silence import TopicSilence

POLL_S = 0.5  # the loop is never longer in one poll, so SIGTERM is seen soon
SHUTDOWN_FLUSH_S = 8.0  # of the 20 s a container is given to stop
SETTLE_AGAIN_S = 30.0  # until the next attempt at one that was not done in time
GAUGES_S = 1.0  # how often series of streams and partitions are refreshed

log = logging.getLogger(__name__)


class Daemon:
    """One replica.

    Args:
        settings: All settings.
        registry: Where metrics go.
        clock: Seconds since 1970; for metrics and pacing only, never for data.
    """

    def __init__(
        self, settings: Settings, *, registry: CollectorRegistry | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.settings, self._clock = settings, clock
        self._gauges = Gauges(registry or CollectorRegistry(), max_stream_series=settings.http.max_stream_series)
        self.metrics = self._gauges.metrics
        self._status = Status(self.metrics, clock)
        self._models = Registry(settings.model.directory)
        self._keeper = open_keeper(settings, self.metrics)
        self._sinks = SinkThreads(settings, self.metrics, clock)
        self._incidents = open_incident_thread(settings, self.metrics, self._status, clock)
        self._poison: Poison = Poison()
        self._tried: set[tuple[int, int]] = set()  # partition and offset that a new connection did not bring either
        self._prover = Prover(settings.kafka, clock)
        self._sight: Sight
        self._topic_id: str | None = None
        self._done = 0
        self._checkpoint_at = self._model_check_at = self._gauges_at = 0.0
        self._web: WebServer | None = None
        self._connection: Connection | None = None
        self._pipeline: Pipeline
        self._model_watch: ModelWatch
        self._topic_silence: TopicSilence

    @property
    def address(self) -> str:
        """Where `/metrics` is served; known once `run` has begun."""
        return self._web.address if self._web else "not serving yet"

    def not_ready(self) -> str | None:
        """Why `/readyz` says no; None when it says yes."""
        return self._status.not_ready()

    def partitions(self) -> int:
        """Partitions read now."""
        connection = self._connection
        return len(connection.positions) if connection else 0

    def records_done(self) -> int:
        """Records dealt with so far."""
        return self._done

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set.

        Raises:
            ConfigError: The bundle does not fit the settings, or the port is taken.
            ArtifactError: The current bundle cannot be trusted.
        """
        try:
            if not self.startup(stop):
                return
            while not stop.is_set() and self._verify_broker(stop):
                self._sinks.start()
                self._serve(stop)
        finally:
            self._sinks.close()
            if self._incidents is not None:
                self._incidents.close()
            if self._keeper is not None:
                self._keeper.close()
            if self._web is not None:
                self._web.close()

    def startup(self, stop: threading.Event) -> bool:
        """Serve metrics and load the bundle, waiting for one; False when told to stop meanwhile."""
        # A fixed number of threads: the order of additions, and so the last bits of a score, depend on it.
        torch.set_num_threads(self.settings.model.threads)
        status = self._status
        self._web = WebServer(
            self.settings.http,
            metrics=self.metrics.app(),
            healthy=status.unhealthy,
            ready=status.not_ready,
            notes=status.notes,
            incidents=self._incidents.pages if self._incidents else None,
        )
        log.info("metrics at %s/metrics", self._web.address)
        if self._incidents is not None:
            self._incidents.start()
        while not stop.is_set():
            status.turn()
            if (loaded := load_current(self._models)) is not None:
                self._pipeline = Pipeline(self.settings.pipeline_options(), *loaded)
                self._model_watch = ModelWatch(self._pipeline, self._models, self.metrics)
                self._model_watch.announce()
                self._topic_silence = TopicSilence(self._pipeline.options, self._pipeline, self.metrics, self._clock)
                return True
            text = f"no bundle in {self._models.directory}; run `streamer retrain`"
            status.set_ready([NotReady(Reason.NO_BUNDLE, text)])
            stop.wait(min(1.0, self.settings.model.poll_s))
        return False

    def tick(self, connection: Connection) -> None:
        """One turn: poll, decode, process, publish; then what is due."""
        self._status.turn()
        if connection.sinks.stuck:
            # Backpressure: polling pauses until alerts are delivered. The group's heartbeat goes on by itself.
            connection.checkpoints.flush(POLL_S)
            self._topic_silence.restart()
            self._sight.look()
            connection.intake.wait()
        else:
            polled = connection.consumer.poll(POLL_S)
            if polled:
                self._sight.heard(polled)
                if self.settings.schema_registry.url is not None:
                    self._status.beat(self.settings.schema_registry.timeout_s)
                with self.metrics.scoring_duration.time():
                    taken = connection.take_in(polled)
                self._done += sum(map(len, polled)) if taken else 0
            if self._sight.look():
                heard, partitions = bool(polled), len(connection.positions)
                self._tell(connection, self._topic_silence.look(heard=heard, partitions=partitions))
            else:
                self._topic_silence.restart()
        now = self._clock()
        connection.checkpoints.advance()
        if now >= self._checkpoint_at and not connection.checkpoints.underway:
            connection.checkpoints.begin(list(connection.positions), timeout_s=self.settings.kafka.delivery_timeout_s)
            # The loop stands while the state of a very large fleet is copied; that must not take most of the time, nor
            # may a slow store be written to without end.
            # Waiting for a broker that is away does not count: once it is back, nothing is more urgent.
            pauses = self.settings.state.checkpoint_s, 10 * connection.checkpoints.freeze_s
            pause_s = max(*pauses, 2 * connection.checkpoints.write_s)
            self._checkpoint_at = self._clock() + pause_s
        if now >= self._model_check_at:
            self._status.beat()
            swapped = connection.one_bundle.look()
            # A bundle that waits for a checkpoint is loaded and tried again with every look.
            self._model_check_at = now + max(self.settings.model.poll_s, 0.0 if swapped else SETTLE_AGAIN_S)
        if now >= self._gauges_at:
            if connection.sinks.pending:
                # A message that came before the topic's metadata did would else wait for the checkpoint.
                with contextlib.suppress(DeliveryFailed):
                    connection.sinks.flush(0.05)
            connection.refusals.tell()
            connection.partitions.look()
            connection.intake.pass_marks(connection.consumer.position)
            lags = self._sight.lags()
            self._sight.count(cold=self._pipeline.cold.streams)
            bounds = partial(self._bounds, connection)
            connection.intake.release_idle(lags, bounds, connection.one_bundle.named)
            self._gauges.refresh(self._pipeline, lags=lags, pending=connection.sinks.pending, known=self._sight.knows)
            self._gauges_at = now + GAUGES_S

    def shutdown(self, connection: Connection) -> None:
        """Last checkpoint; what it could not save is not committed on leaving the group either."""
        log.info("stopping: final checkpoint")
        self._tell(connection, self._topic_silence.stop())
        connection.checkpoints.take_last(timeout_s=SHUTDOWN_FLUSH_S, answers=self._sight.knows)
        connection.partitions.drop_all()  # before leaving the group, which would try it once more

    def _bounds(self, connection: Connection, partition: int) -> tuple[int, int]:
        self._status.beat(2 * self.settings.kafka.request_timeout_ms / 1000)  # first offset and end
        return connection.consumer.bounds([partition])[partition]

    def _tell(self, connection: Connection, alert: Alert | None) -> None:
        if alert is not None:
            connection.sinks.publish_alert(alert)

    def _verify_broker(self, stop: threading.Event) -> bool:
        """Ask until the broker grants everything; True when it does, False when told to stop."""
        kafka, wait_s = self.settings.kafka, 1.0
        missing = Missing.CREATE if kafka.create_topics else Missing.FAIL
        while not stop.is_set():
            self._status.turn()
            self._status.beat(kafka.probe_timeout_s)
            report = probe(kafka, missing=missing)
            for step in report.steps:
                log.log(logging.WARNING if step.ok is not True else logging.DEBUG, "%s: %s", step.name, step.detail)
            if (failed := report.failed) is None:
                self._topic_id = report.topic_ids.get(kafka.topic)
                return True
            self._status.set_ready([NotReady(Reason(failed.fault.value), failed.detail)])
            stop.wait(wait_s)
            wait_s = min(2 * wait_s, 15.0)
        return False

    def _serve(self, stop: threading.Event) -> None:
        """Join the group and tick until told to stop or the broker gives up on us."""
        connection: Connection | None = None
        try:
            self._status.beat(self.settings.kafka.request_timeout_ms / 1000)
            connection = self._connection = self._connect(stop)
            connection.checkpoints.flush(self.settings.kafka.delivery_timeout_s)  # connects before the first alert
            self._sight = self._watch(connection)
            self._topic_silence.restart()
            self._checkpoint_at = self._clock() + self.settings.state.checkpoint_s
            while not stop.is_set():
                self.tick(connection)
            self.shutdown(connection)
        except BrokerError as error:
            if isinstance(error, PoisonedBatch):
                self._poison[error.partition, error.offset] += 1
            self._status.set_ready([why(error)])
            log.error("connection reset, reconnecting: %s", error)
            self.metrics.broker_errors.inc()
            stop.wait(1.0)
        except BaseException:
            # Records may be half dealt with: leaving the group must not commit past them.
            if connection is not None:
                connection.partitions.drop_all()
            raise
        finally:
            if connection is not None:
                connection.close()
            self._gauges.lag_unknown()

    def _watch(self, connection: Connection) -> Sight:
        return Sight(
            connection,
            self.settings,
            topic_id=self._topic_id,
            prover=self._prover,
            status=self._status,
            gauges=self._gauges,
            poison=self._poison,
            tried=self._tried,
            clock=self._clock,
        )

    def _connect(self, stop: threading.Event) -> Connection:
        return Connection(
            self.settings,
            pipeline=self._pipeline,
            keeper=self._keeper,
            models=self._models,
            gauges=self._gauges,
            status=self._status,
            poison=self._poison,
            stop=stop,
            clock=self._clock,
            topic_id=self._topic_id,
            ask_topic_id=self._prover.topic_id,
            model_watch=self._model_watch,
        )
