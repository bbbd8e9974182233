"""Says of one connection whether records would be seen, told of and committed: to `/readyz`, the metrics, the loop.

Not inside: how that is known (`readiness`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamer.config import Settings
from streamer.connectors.kafka import RecordBatch
from streamer.errors import BrokerError, StateUnavailable
from streamer.runtime.connection import Connection
from streamer.runtime.gauges import Gauges
from streamer.runtime.poison import Poison
from streamer.runtime.prover import Prover
from streamer.runtime.readiness import Anew, Readiness, knows, sees
from streamer.runtime.status import NotReady, Reason, Status

FLUSH_S = 8.0  # what was read from a topic or for a group that is another now is told within


class Sight:
    """Used from the loop.

    Args:
        connection: Looked at, and emptied when only a new one helps.
        settings: Topic, group, pace of checkpoints.
        topic_id: Of the input topic when the connection began; None: the broker does not say.
        prover: Asks the broker.
        status: Told.
        gauges: Shows lags; counts.
        poison: Batches that could not be read so far.
        tried: Partitions and offsets for which a new connection was tried already.
        clock: Seconds.
    """

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        *,
        topic_id: str | None,
        prover: Prover,
        status: Status,
        gauges: Gauges,
        poison: Poison,
        tried: set[tuple[int, int]],
        clock: Callable[[], float],
    ) -> None:
        self._connection, self._status, self._gauges, self._poison = connection, status, gauges, poison
        self._offset_resets = 0
        self._broker_errors = 0  # of this connection, counted so far
        self.knows = False  # whether partitions and what waits in them can be known
        self._readiness = Readiness(
            settings.kafka,
            prover,
            topic_id=topic_id,
            checkpoint_s=settings.state.checkpoint_s,
            clock=clock,
            on_failure=gauges.metrics.broker_errors.inc,
            tried=tried,
        )

    def heard(self, polled: Sequence[RecordBatch]) -> None:
        """Records came."""
        if polled:
            self._readiness.heard(batch.partition for batch in polled)

    def look(self) -> bool:
        """Say whether the daemon is ready; whether records would be noticed if they came.

        Raises:
            Anew: Only a new connection helps; this one holds no partitions any more.
        """
        connection, readiness = self._connection, self._readiness
        if connection.consumer.offset_resets != self._offset_resets:
            self._offset_resets = connection.consumer.offset_resets
            readiness.hurry()
        paused = self._poison.paused()
        waiting, stuck = connection.waiting(), connection.sinks.stuck
        held = {partition for partition in connection.positions if connection.one_bundle.waits(partition)}
        reading = () if stuck or waiting else connection.positions.keys() - paused - held
        anew = readiness.look(connection.positions, connection.consumer.member_id, reading=reading)
        if anew is not None:
            self._status.set_ready([anew.why])
            self._gauges.metrics.topics_recreated.inc(anew.why.reason is Reason.TOPIC_RECREATED)
            if anew.why.reason in (Reason.TOPIC_RECREATED, Reason.TOPIC_MISSING):
                connection.partitions.end_topic()
            # What was read is told as far as it can be; nothing is committed for what is another group or topic now.
            connection.partitions.drop_all()
            connection.checkpoints.flush(FLUSH_S)
            raise anew
        reasons = readiness.why_not(connection.positions, paused=paused, stuck=stuck)
        if waiting is not None:
            reasons.append(NotReady(Reason.SCHEMA_REGISTRY, waiting))
        if connection.unnamed():
            text = "nothing is told until commits can name the bundle in use: see the log for why they are refused"
            reasons.append(NotReady(Reason.NOTHING_COMMITTED, text))
        self._status.set_ready(reasons)
        self._status.note("partitions", readiness.spare(connection.positions))
        turn = (
            f"partitions {sorted(held)} are not read until it is their bundle's turn: others are told with another one"
        )
        self._status.note("bundle", turn if held else None)
        self.knows = knows(reasons)
        return sees(reasons)

    def lags(self) -> dict[int, float]:
        """Records not read yet of each partition held; NaN where that is not known now."""
        return self._readiness.lags(self._connection.consumer.lag(), self._connection.positions)

    def count(self, *, cold: int) -> None:
        """Count what the client reported of the broker; say that streams warm up.

        Args:
            cold: Streams that began without the state the group had, and have not had enough history since.
        """
        text = "streams warm up whose partitions began without state: StreamerWithoutState in docs/runbook.md"
        self._status.note("state", text if cold else None)
        met = self._connection.consumer.broker_errors
        self._gauges.metrics.broker_errors.inc(met - self._broker_errors)
        self._broker_errors = met


def why(error: BrokerError) -> NotReady:
    """Why a connection has ended."""
    if isinstance(error, Anew):
        return error.why
    if isinstance(error, StateUnavailable):
        return NotReady(Reason.STATE_STORE, str(error))
    return NotReady(Reason.BROKER_ERROR, f"broker: {error}")
