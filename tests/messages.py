"""Messages as a poll brings them, for tests that decode some."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamer.connectors.kafka import Headers, RecordBatch


def batch(
    values: Sequence[bytes | None],
    keys: Sequence[bytes | None] | None = None,
    *,
    headers: Sequence[Headers] | None = None,
    first: int = 0,
    partition: int = 0,
    now_ns: int | None = None,
) -> RecordBatch:
    """Messages with offsets from `first`, which the broker took at `now_ns`; None: it does not say when."""
    n = len(values)
    return RecordBatch(
        topic="readings",
        partition=partition,
        offsets=np.arange(first, first + n),
        timestamps_ms=np.full(n, -1 if now_ns is None else now_ns // 1_000_000),
        keys=[None] * n if keys is None else keys,
        values=values,
        headers=[[]] * n if headers is None else headers,
    )
