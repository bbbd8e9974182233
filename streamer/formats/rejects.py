"""Why a message is not a reading: the reasons, and what is said of one reject.

Bad data is data: a decoder returns rejects beside readings and raises nothing.
Not inside: how bytes are read, and where rejects go (`connectors.sinks`).
"""

from __future__ import annotations

from dataclasses import dataclass

# Why a message is rejected. The words are labels of a metric and headers of dead letters.
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
    """One message that is not a valid reading; `row` is its place in the batch."""

    row: int
    reason: str
    detail: str
