"""Has the group's commits name the bundle that tells what lies behind them, without moving them.

Not inside: why (`one_bundle`), commits that move (`checkpoints`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from streamer.connectors.kafka import Commit, Consumer
from streamer.errors import CommitFailed
from streamer.observability.metrics import Metrics
from streamer.runtime.positions import Positions
from streamer.runtime.state.pointer import Pointer
from streamer.runtime.status import Status

log = logging.getLogger(__name__)


class Naming:
    """Of one connection; its parts are those of `Checkpoints`."""

    def __init__(
        self, positions: Positions, *, consumer: Consumer, metrics: Metrics, status: Status, topic_id: str | None
    ) -> None:
        self._positions, self._consumer, self._metrics = positions, consumer, metrics
        self._status, self._topic_id = status, topic_id

    def name(self, partitions: Sequence[int], bundle: str | None) -> bool:
        """Commit again what is committed, with another bundle in the note; False when that was refused.

        A partition of which nothing is committed yet is left alone: its first checkpoint names the bundle.
        """
        named = {}
        for partition in partitions:
            position = self._positions[partition]
            if position.committed is not None and position.bundle != bundle:
                note = Pointer(position.states, self._topic_id, bundle).note()
                named[partition] = Commit(position.committed, note)
        if named:
            self._status.beat()
            try:
                self._consumer.commit(named)
            except CommitFailed as error:
                self._metrics.commit_failures.inc()
                log.warning("commit refused, which was to name bundle %s: %s", bundle or "none", error)
                return False
            self._metrics.commits.inc(len(named))
        for partition in partitions:
            self._positions[partition].bundle = bundle
        return True
