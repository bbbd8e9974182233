"""Why a message is not a reading: the reasons, and the limits on what comes from outside.

Bad data is data: a decoder returns rejects beside readings and raises nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

# Why a message is refused. The words are labels of a metric and headers of dead letters.
EMPTY = "empty"
TOO_LARGE = "too_large"
MALFORMED = "malformed"
TOO_DEEP = "too_deep"
SCHEMA = "schema"
NOT_FINITE = "not_finite"
BAD_STREAM = "bad_stream"
BAD_TIMESTAMP = "bad_timestamp"
FUTURE = "future"
STREAM_LIMIT = "stream_limit"
REASONS = (EMPTY, TOO_LARGE, MALFORMED, TOO_DEEP, SCHEMA, NOT_FINITE, BAD_STREAM, BAD_TIMESTAMP, FUTURE, STREAM_LIMIT)


@dataclass(frozen=True, slots=True)
class Reject:
    """One message that is no reading; `row` is its place in the batch."""

    row: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what comes from outside."""

    max_record_bytes: int = 1_000_000
    max_streams: int = 100_000
    max_future_ns: int = 3_600_000_000_000
