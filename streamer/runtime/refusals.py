"""What operators are told of refused records: a warning now and then, never one for each.

Not inside: counting them and sending them on (`publishing`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from streamer.connectors.kafka import RecordBatch
from streamer.formats.rejects import STREAM_LIMIT, Reject

EVERY_S = 60.0
_SAMPLE = 200  # characters

log = logging.getLogger(__name__)


class RefusalLog:
    """Warns of refused records: at once of the first ones, then at most every minute of those since.

    Args:
        dead_letter_topic: Where they go.
        clock: Seconds.
    """

    def __init__(self, dead_letter_topic: str, clock: Callable[[], float]) -> None:
        self._topic, self._clock = dead_letter_topic, clock
        self._counts: Counter[str] = Counter()
        self._samples: dict[str, str] = {}
        self._told_at = -EVERY_S

    def add(self, batch: RecordBatch, rejects: Sequence[Reject]) -> None:
        """Note what was refused of a batch."""
        for reject in rejects:
            self._counts[reject.reason] += 1
            if reject.reason not in self._samples:
                where = f"{batch.topic}[{batch.partition}]@{batch.offsets[reject.row]}"
                self._samples[reject.reason] = f"{where}: {reject.detail[:_SAMPLE]}"

    def tell(self) -> None:
        """Warn, if there is anything to say and the last warning is long enough ago."""
        now = self._clock()
        if not self._counts or now - self._told_at < EVERY_S:
            return
        limited = self._counts.pop(STREAM_LIMIT, 0)
        if self._counts:
            parts = [f"{n} {reason} (e.g. {self._samples[reason]})" for reason, n in self._counts.most_common()]
            log.warning("%d records sent to %s: %s", self._counts.total(), self._topic, "; ".join(parts))
        if limited:
            log.warning(
                "%d records of streams beyond a limit, counted and not sent on, e.g. %s",
                limited, self._samples[STREAM_LIMIT],
            )  # fmt: skip
        self._counts.clear()
        self._samples.clear()
        self._told_at = now
