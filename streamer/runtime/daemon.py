"""The daemon: wires stations, turns the loop, minds the order. Decides nothing about data.

    startup   web, prove the broker, load the bundle, join the group
    tick      poll -> decode -> process -> publish; now and then a checkpoint
    shutdown  stop polling, last checkpoint, leave the group

A checkpoint is, in this order: alerts and dead letters acknowledged, snapshot on disk,
offset committed. Whatever dies in between, nothing is lost: at worst records are read
and alerts sent again, under the same ids.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import torch

from models.detector import Detector
from models.errors import ArtifactError, ModelError
from models.store.registry import Registry
from streamer.config import Settings
from streamer.connectors.kafka import (
    Consumer,
    OffsetReset,
    PoisonedBatch,
    RecordBatch,
    connect_consumer,
    connect_producer,
)
from streamer.connectors.kafka.probe import probe
from streamer.connectors.sinks import KafkaSinks
from streamer.core.events import ANOMALY, OPEN, RESOLVE, SILENCE
from streamer.core.pipeline import Outcome, Pipeline, canary
from streamer.core.readings import Readings
from streamer.errors import BrokerError, CommitFailed, ConfigError, DeliveryFailed, StateError
from streamer.formats.rejects import STREAM_LIMIT, Reject
from streamer.observability.metrics import CollectorRegistry, Metrics, StreamView
from streamer.observability.stream_series import NewestScores
from streamer.observability.web import WebServer
from streamer.runtime.snapshots import Snapshot, SnapshotStore

log = logging.getLogger(__name__)

POLL_S = 0.5  # the loop is never longer in one poll, so SIGTERM is seen soon
STALLED_S = 60.0  # a loop that has not turned for so long is not healthy
SHUTDOWN_FLUSH_S = 8.0  # of the 20 s a container is given to stop
FLUSH_PART_S = 2.0  # how long a flush before that one may overlook the signal
POISONED_AFTER = 3  # times a batch cannot be read until its partition is paused
VIEW_S = 1.0  # how fresh per-stream series are


@dataclass(slots=True)
class _Partition:
    next_offset: int  # first record not dealt with
    publish_from: int  # records before it only rebuild state
    saved_offset: int  # where the newest checkpoint stands; -1 before the first, so that it commits the start
    committed: int | None = None  # the group's offset, as far as we know


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
        self._view: list[StreamView] = []
        self.metrics = Metrics(registry or CollectorRegistry(), lambda: self._view)
        self._not_ready: str | None = "starting"
        self._turned_at = clock()
        self._models = Registry(settings.model.directory)
        self._refused: str | None = None  # version, or what is wrong with the pointer; told of once
        self._stop = threading.Event()
        self._last_checkpoint = False
        self._save_s = 0.0  # how long the newest snapshot took
        self._done = 0
        self._lag_shown: set[int] = set()
        self._poison: Counter[tuple[int, int]] = Counter()  # times a batch could not be read
        self._web: WebServer | None = None
        self._store = (
            SnapshotStore(settings.state.directory, settings.kafka.topic, _shape(settings))
            if settings.state.directory
            else None
        )
        self._partitions: dict[int, _Partition] = {}
        self._newest = NewestScores()
        self._pipeline: Pipeline
        self._consumer: Consumer
        self._sinks: KafkaSinks
        self._checkpoint_at = self._model_check_at = self._view_at = 0.0

    @property
    def address(self) -> str:
        """Where `/metrics` is served; known once `run` has begun."""
        return self._web.address if self._web else "not serving yet"

    def not_ready(self) -> str | None:
        """Why `/readyz` says no; None when it says yes."""
        return self._not_ready

    def partitions(self) -> int:
        """Partitions read now."""
        return len(self._partitions)

    def records_done(self) -> int:
        """Records dealt with so far."""
        return self._done

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set.

        Raises:
            ConfigError: The bundle does not fit the settings, or the port is taken.
            ArtifactError: The current bundle cannot be trusted.
        """
        self._stop = stop
        # A fixed number of threads: the order of additions, and so the last bits of a score, depend on it.
        torch.set_num_threads(self.settings.model.threads)
        http = self.settings.http
        self._web = WebServer(
            http.host, http.port, metrics=self.metrics.app(), healthy=self._healthy, ready=self.not_ready
        )
        log.info("metrics at %s/metrics", self._web.address)
        try:
            loaded = self._wait_for_bundle(stop)
            if loaded is None:
                return
            self._pipeline = Pipeline(self.settings, *loaded)
            self._say_model()
            while not stop.is_set() and self._prove_broker(stop):
                self._serve(stop)
        finally:
            self._web.close()

    # -- startup ----------------------------------------------------------------

    def _wait_for_bundle(self, stop: threading.Event) -> tuple[Detector, str] | None:
        while not stop.is_set():
            self._turn()
            if self._models.current() is not None:
                detector, manifest = self._models.load()
                canary(detector)
                return detector, str(manifest["version"])
            self._set_ready(f"no bundle in {self._models.directory}; run `streamer retrain`")
            stop.wait(min(1.0, self.settings.model.poll_s))
        return None

    def _prove_broker(self, stop: threading.Event) -> bool:
        """Ask until the broker grants everything; True when it does, False when told to stop."""
        wait_s = 1.0
        while not stop.is_set():
            self._turn()
            report = probe(self.settings.kafka, create_missing=self.settings.kafka.create_topics)
            for step in report.steps:
                log.log(logging.WARNING if step.ok is not True else logging.DEBUG, "%s: %s", step.name, step.detail)
            if report.ok:
                return True
            self._set_ready(report.reason)
            stop.wait(wait_s)
            wait_s = min(2 * wait_s, 15.0)
        return False

    def _serve(self, stop: threading.Event) -> None:
        """Join the group and turn the loop until told to stop or the broker gives up on us."""
        kafka = self.settings.kafka
        consumer = sinks = None
        try:
            sinks = self._sinks = KafkaSinks(
                connect_producer(kafka), kafka, max_value_bytes=self.settings.records.max_record_bytes
            )
            consumer = self._consumer = connect_consumer(
                kafka,
                on_assigned=self._assigned,
                on_revoked=self._revoked,
                on_offset_reset=self._offset_reset,
            )
            self._flush(kafka.delivery_timeout_s)  # connects, so that the first alert need not
            self._set_ready(None)
            self._checkpoint_at = self._clock() + self.settings.state.checkpoint_s
            while not stop.is_set():
                self._tick()
            log.info("stopping: last checkpoint")
            self._last_checkpoint = True
            self._checkpoint(list(self._partitions), timeout_s=SHUTDOWN_FLUSH_S)
            self._drop_all()  # before leaving the group, which would try it once more
        except BrokerError as error:
            if isinstance(error, PoisonedBatch):
                self._poison[error.partition, error.offset] += 1
            self._set_ready(f"broker: {error}")
            log.error("connection given up, making a new one: %s", error)
            self.metrics.broker_errors.inc()
            stop.wait(1.0)
        except BaseException:
            # Records may be half dealt with: leaving the group must not commit past them.
            self._drop_all()
            raise
        finally:
            if consumer is not None:
                try:
                    consumer.close()
                except BrokerError as error:
                    log.warning("leaving the group: %s", error)
            self._drop_all()
            if sinks is not None:
                sinks.close()

    # -- the loop -----------------------------------------------------------------

    def _tick(self) -> None:
        """One turn: poll, decode, process, publish; then what is due."""
        self._turn()
        if self._sinks.stuck:
            # Nothing more is read than can be told of. The heartbeat goes on by itself.
            self._flush(POLL_S)
        else:
            polled = self._consumer.poll(POLL_S)
            if polled:
                with self.metrics.scoring_duration.time():
                    self._take_in(polled)
        now = self._clock()
        if now >= self._checkpoint_at:
            self._checkpoint(list(self._partitions), timeout_s=self.settings.kafka.delivery_timeout_s)
            # The snapshot of a very large fleet takes a while; it must not take most of the time. Waiting for a
            # broker that is away does not count: when it is back, nothing is more urgent than a checkpoint.
            self._checkpoint_at = self._clock() + max(self.settings.state.checkpoint_s, 10 * self._save_s)
        if now >= self._model_check_at:
            self._look_for_model()
            self._model_check_at = now + self.settings.model.poll_s
        if now >= self._view_at:
            if self._sinks.pending:
                # A message that came before the topic's metadata did would else wait for the checkpoint.
                with contextlib.suppress(DeliveryFailed):
                    self._sinks.flush(0.05)
            self._refresh_view()
            self._view_at = now + VIEW_S

    def _take_in(self, polled: Sequence[RecordBatch]) -> None:
        live: list[Readings] = []
        for batch in polled:
            state = self._partitions.get(batch.partition)
            if state is None:
                continue  # revoked while the poll was under way
            self.metrics.records_consumed.inc(len(batch))
            silent = int(np.searchsorted(batch.offsets, state.publish_from))
            if silent:
                self.metrics.records_replayed.inc(silent)
                readings, _ = self._decode(_cut(batch, slice(0, silent)))
                self._pipeline.process(readings)
            if silent < len(batch):
                live.append(self._decode_and_dead_letter(_cut(batch, slice(silent, None))))
            state.next_offset = int(batch.offsets[-1]) + 1
        if live:
            self._publish(self._pipeline.process(_concatenate(live)))
            newest_ms = max(int(batch.timestamps_ms[-1]) for batch in polled)
            if newest_ms > 0:
                self.metrics.event_to_score.observe(max(0.0, self._clock() - newest_ms / 1000))
        self.metrics.last_record.set(self._clock())
        self._done += sum(map(len, polled))

    def _decode(self, batch: RecordBatch) -> tuple[Readings, list[Reject]]:
        taken = batch.timestamps_ms
        # Without a time stamp there is nothing to be ahead of, nor with one that cannot be milliseconds.
        known = (taken > 0) & (taken < 7_258_118_400_000)  # 2200
        now_ns = np.where(known, np.where(known, taken, 0) * 1_000_000, np.iinfo(np.int64).max // 2)
        return self._pipeline.decoder.decode(
            batch.values, batch.keys, partition=batch.partition, offsets=batch.offsets, now_ns=now_ns
        )

    def _decode_and_dead_letter(self, batch: RecordBatch) -> Readings:
        readings, rejects = self._decode(batch)
        for reject in rejects:
            log.debug(
                "%s[%d]@%d: %s: %s",
                batch.topic, batch.partition, batch.offsets[reject.row], reject.reason, reject.detail,
            )  # fmt: skip
            if reject.reason == STREAM_LIMIT:
                # A copy of every record of streams nobody asked for would be a second flood.
                self.metrics.records_rejected.labels(reject.reason).inc()
            else:
                self._sinks.publish_dead_letter(batch, reject)
                self.metrics.records_dead_lettered.labels(reject.reason).inc()
        return readings

    def _publish(self, outcome: Outcome) -> None:
        metrics, readings, scores = self.metrics, outcome.readings, outcome.scores
        for alert, event, (partition, offset) in zip(outcome.alerts, outcome.events, outcome.triggers, strict=True):
            if offset < self._partitions[partition].publish_from:
                continue
            self._sinks.publish_alert(alert)
            metrics.alerts_published.labels(event.event).inc()
            if event.event == OPEN:
                metrics.incidents_opened.labels(event.kind, alert.severity).inc()
            elif event.event == RESOLVE:
                metrics.incidents_resolved.labels(event.kind).inc()
            log.info("%s %s: %s", event.event, alert.incident_id[:8], alert.summary)
        metrics.records_windowed.inc(len(readings))
        metrics.records_duplicate.inc(outcome.duplicates)
        metrics.records_late.inc(outcome.late)
        metrics.window_resets.labels("gap").inc(outcome.resets)
        metrics.filled_values.inc(int(np.isnan(readings.values).sum()))
        metrics.windows_sparse.inc(scores.sparse)
        metrics.scoring_failures.inc(scores.failures)
        scored = ~np.isnan(scores.score)
        if scored.any():
            metrics.windows_scored.inc(int(scored.sum()))
            metrics.last_window_scored.set(self._clock())
            codes = readings.stream[scored]
            if self.settings.kafka.scores_topic is not None:
                self._sinks.publish_scores(
                    [self._pipeline.streams.names[code] for code in codes],
                    readings.time_ns[scored],
                    scores.score[scored],
                    self._pipeline.scorer.version,
                )
            self._newest.update(codes, scores.score[scored], outcome.settled[scored], scores.error[scored])
        if len(readings):
            metrics.last_event.set(float(readings.time_ns.max()) / 1e9)

    # -- checkpoints ----------------------------------------------------------------

    def _flush(self, timeout_s: float) -> bool:
        """Wait for acknowledgements; told to stop meanwhile, leave the rest to the last checkpoint."""
        deadline_s = time.monotonic() + timeout_s
        try:
            while True:
                began_s = time.monotonic()
                part_s = max(0.0, min(FLUSH_PART_S, deadline_s - began_s))
                try:
                    self._sinks.flush(part_s)
                    return True
                except DeliveryFailed as error:
                    now_s = time.monotonic()
                    refused = now_s - began_s < part_s  # more time would not help
                    if not refused and now_s < deadline_s and (self._last_checkpoint or not self._stop.is_set()):
                        continue
                    self.metrics.delivery_failures.inc()
                    log.warning("not acknowledged yet, will be sent again: %s", error)
                    return False
        finally:
            self.metrics.alerts_pending.set(self._sinks.pending)

    def _checkpoint(self, partitions: Sequence[int], *, timeout_s: float) -> bool:
        """Flush, snapshot, commit; a step that fails stops the sequence."""
        due = [p for p in partitions if self._partitions[p].next_offset != self._partitions[p].saved_offset]
        if not due:
            return self._flush(timeout_s)
        with self.metrics.checkpoint_duration.time():
            done = self._flush(timeout_s) and self._save(due) and self._commit(due)
        if done:
            self.metrics.checkpoints.inc()
            self.metrics.last_checkpoint.set(self._clock())
        else:
            self.metrics.checkpoint_failures.inc()
        return done

    def _save(self, partitions: Sequence[int]) -> bool:
        if self._store is None:
            return True
        began_s = time.monotonic()
        try:
            for partition in partitions:
                columns, rest = self._pipeline.freeze(partition)
                state = self._partitions[partition]
                self._store.write(partition, Snapshot(state.next_offset, columns, rest, state.committed))
        except StateError as error:
            log.error("checkpoint: %s", error)
            return False
        finally:
            self._save_s = time.monotonic() - began_s
        return True

    def _commit(self, partitions: Sequence[int]) -> bool:
        # While a partition is only catching up on its past, the commit stays where it is.
        offsets = {p: max(self._partitions[p].next_offset, self._partitions[p].publish_from) for p in partitions}
        try:
            self._consumer.commit(offsets)
        except CommitFailed as error:
            self.metrics.commit_failures.inc()
            log.warning("commit refused; records since the last one will be read again: %s", error)
            return False
        for partition in partitions:
            self._partitions[partition].saved_offset = self._partitions[partition].next_offset
            self._partitions[partition].committed = offsets[partition]
        self.metrics.commits.inc(len(partitions))
        self.metrics.last_commit.set(self._clock())
        return True

    # -- partitions come and go -------------------------------------------------------

    def _assigned(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            self._drop(partition)  # still here if the group put us out without a word
            committed = self._consumer.committed(partition)
            first, end = self._consumer.bounds(partition)
            begin = publish_from = self._first_offset(partition, committed, first, end)
            restored = self._restore(partition, committed, first, end)
            if restored is not None:
                begin, publish_from = restored, max(restored, committed or 0)
            elif committed is not None and begin == committed:
                begin = max(first, committed - self.settings.state.replay_records)
            self._consumer.seek(partition, begin)
            # Without an offset the group would begin anew after a restart, at `latest` past what came meanwhile.
            saved = begin if committed == begin else -1
            self._partitions[partition] = _Partition(begin, publish_from, saved, committed)
            log.info("partition %d: from offset %d, publishing from %d", partition, begin, publish_from)
        poisoned = [p for (p, _), times in self._poison.items() if times >= POISONED_AFTER and p in self._partitions]
        if poisoned:
            # The others go on; this one waits for a person: skipping would lose its records.
            self._consumer.pause(poisoned)
            log.error("partitions %s hold a batch that cannot be read and are paused; see the runbook", poisoned)
        self.metrics.partitions_poisoned.set(len(poisoned))
        self.metrics.partitions_assigned.set(len(self._partitions))

    def _offset_reset(self, reset: OffsetReset) -> None:
        """The log was cut or made anew under us: what is remembered belongs to other records."""
        self.metrics.offset_resets.inc()
        self._pipeline.forget(reset.partition)
        self._partitions[reset.partition] = _Partition(
            reset.restarted_at, publish_from=reset.restarted_at, saved_offset=reset.restarted_at
        )

    def _first_offset(self, partition: int, committed: int | None, first: int, end: int) -> int:
        """Where to publish from without a snapshot."""
        if committed is None:
            return first if self.settings.kafka.start == "earliest" else end
        if first <= committed <= end:
            return committed
        self.metrics.offset_resets.inc()
        log.error(
            "partition %d: the committed offset %d is outside %d..%d, records were lost; going on from %d",
            partition, committed, first, end, first,
        )  # fmt: skip
        return first

    def _restore(self, partition: int, committed: int | None, first: int, end: int) -> int | None:
        """Offset of the snapshot taken over, or None."""
        if self._store is None:
            return None
        snapshot, refused = self._store.read(partition)
        for reason in refused:
            log.warning("snapshot passed over: %s", reason)
        if snapshot is None:
            return None
        if not first <= snapshot.offset <= end:
            log.warning("snapshot of partition %d is at %d, outside %d..%d", partition, snapshot.offset, first, end)
            return None
        stood, stands = snapshot.committed, -1 if committed is None else committed
        if (stood is None and -1 < stands < snapshot.offset) or (stood is not None and stands < stood):
            # By a person, or the topic is another one under the same name.
            log.warning(
                "snapshot of partition %d passed over: when it was written the group stood at %d, now at %s",
                partition, -1 if stood is None else stood, committed,
            )  # fmt: skip
            return None
        behind = (committed or 0) - snapshot.offset
        if behind > self.settings.state.replay_records:
            # Another replica had the partition for long; to read all that again takes longer than to warm up.
            log.warning("snapshot of partition %d is %d records behind the group; warming up anew", partition, behind)
            return None
        try:
            made_with = self._detector_of(str(snapshot.rest.get("model_version")))
            self._pipeline.thaw(partition, snapshot.columns, snapshot.rest, made_with)
        except (StateError, ArtifactError) as error:
            log.warning("snapshot of partition %d passed over: %s", partition, error)
            return None
        return snapshot.offset

    def _detector_of(self, version: str) -> Detector | None:
        """The detector a snapshot was written with, if it is not the one in use."""
        return None if version == self._pipeline.scorer.version else self._models.load(version)[0]

    def _revoked(self, partitions: Sequence[int]) -> None:
        mine = [partition for partition in partitions if partition in self._partitions]
        if mine:
            self._checkpoint(mine, timeout_s=min(10.0, self.settings.kafka.delivery_timeout_s))
        for partition in mine:
            self._drop(partition)
        self.metrics.partitions_assigned.set(len(self._partitions))

    def _drop_all(self) -> None:
        for partition in list(self._partitions):
            self._drop(partition)

    def _drop(self, partition: int) -> None:
        self._pipeline.forget(partition)
        self._partitions.pop(partition, None)

    # -- models ---------------------------------------------------------------------

    def _look_for_model(self) -> None:
        """Take a newly promoted bundle into use; a bad one is refused once and the old one stays."""
        try:
            version = self._models.current()
        except ArtifactError as error:
            if self._refused != str(error):
                self._refused = str(error)
                self.metrics.model_reload_failures.labels("artifact").inc()
                log.error("registry: %s; bundle %s stays", error, self._pipeline.scorer.version)
            return
        if version == self._pipeline.scorer.version:
            self._refused = None  # promoted again, a refused bundle may have been mended
        if version in (None, self._pipeline.scorer.version, self._refused):
            return
        reason = "artifact"
        try:
            detector, _ = self._models.load(version)
            reason = "canary"
            canary(detector)
            reason = "config"
            self._pipeline.swap(detector, str(version))
        except (ArtifactError, ModelError, ConfigError) as error:
            self._refused = version
            self.metrics.model_reload_failures.labels(reason).inc()
            log.error("bundle %s refused, %s stays: %s", version, self._pipeline.scorer.version, error)
            return
        self.metrics.model_reloads.inc()
        self._say_model()

    def _say_model(self) -> None:
        scorer = self._pipeline.scorer
        made = scorer.detector.architecture
        self.metrics.model_info.clear()
        self.metrics.model_info.labels(scorer.version, made.backbone, made.regulariser).set(1)
        created = datetime.strptime(scorer.version[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        self.metrics.model_trained.set(created.timestamp())
        log.info("scoring with bundle %s", scorer.version)

    # -- what others see ---------------------------------------------------------------

    def _turn(self) -> None:
        self._turned_at = self._clock()
        self.metrics.last_poll.set(self._turned_at)

    def _set_ready(self, reason: str | None) -> None:
        if reason != self._not_ready:
            log.log(logging.INFO if reason is None else logging.WARNING, "ready" if reason is None else reason)
        self._not_ready = reason
        self.metrics.ready.set(reason is None)

    def _healthy(self) -> str | None:
        still = self._clock() - self._turned_at
        return None if still < STALLED_S else f"the loop has not turned for {still:.0f} s"

    def _refresh_view(self) -> None:
        """What `/metrics` says of streams and partitions until the next refresh."""
        metrics, pipeline = self.metrics, self._pipeline
        for state, count in pipeline.counts().items():
            metrics.streams_tracked.labels(state).set(count)
        metrics.incidents_open.labels(ANOMALY).set(pipeline.incidents.open_count)
        metrics.incidents_open.labels(SILENCE).set(pipeline.silence.silent_count)
        metrics.alerts_pending.set(self._sinks.pending)
        lags = self._consumer.lag()
        for partition in self._lag_shown - lags.keys():
            metrics.consumer_lag.remove(str(partition))
        for partition, lag in lags.items():
            metrics.consumer_lag.labels(str(partition)).set(lag)
        self._lag_shown = set(lags)
        self._view, dropped = self._newest.streams(pipeline, self.settings.http.max_stream_series)
        metrics.stream_series_dropped.set(dropped)


def _shape(settings: Settings) -> str:
    """Digest of the settings that the meaning of a snapshot depends on."""
    records = settings.records.model_dump(mode="json", include={"stream", "timestamp", "timestamp_unit", "features"})
    parts = [settings.kafka.group, records, settings.window.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


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
