"""The log does not hold the offset wanted: say what was lost, and where reading goes on."""

from __future__ import annotations

import logging

from streamer.connectors.kafka import OffsetReset

log = logging.getLogger(__name__)


def report_offset_reset(topic: str, partition: int, wanted: int, bounds: tuple[int, int]) -> OffsetReset:
    """Log what is lost and say where to go on: at the first record still held."""
    first, end = bounds
    reset = OffsetReset(partition, wanted, first, lost=max(0, first - wanted))
    if reset.lost:
        log.warning(
            "%s[%d]: offset %d is no longer held: %d records (%d to %d) were deleted unread; going on at %d. "
            "Retention is shorter than the time this group was away",
            topic, partition, wanted, reset.lost, wanted, first - 1, first,
        )  # fmt: skip
    else:
        log.warning(
            "%s[%d]: offset %d is beyond the end of the log %d: the topic was recreated or has lost records; "
            "going on at its beginning %d",
            topic, partition, wanted, end, first,
        )  # fmt: skip
    return reset
