"""Why a message is not a reading: the reasons, and what is said of one reject.

Bad data is data: a decoder returns rejects beside readings and raises nothing.
Not inside: how bytes are read, and where rejects go (`connectors.sinks`).
"""

from __future__ import annotations

from dataclasses import dataclass

# Why a message is rejected. The words are labels of a metric and headers of dead letters.
EMPTY = "empty"
TOO_LARGE = "too_large"
TOO_MANY = "too_many"
MALFORMED = "malformed"
TOO_DEEP = "too_deep"
UNKNOWN_SCHEMA = "unknown_schema"
SCHEMA = "schema"
NOT_FINITE = "not_finite"
BAD_STREAM = "bad_stream"
BAD_TIMESTAMP = "bad_timestamp"
FUTURE = "future"
STREAM_LIMIT = "stream_limit"
LATE = "late"  # told by what puts readings in order, not by a decoder
REASONS = (
    EMPTY,
    TOO_LARGE,
    TOO_MANY,
    MALFORMED,
    TOO_DEEP,
    UNKNOWN_SCHEMA,
    SCHEMA,
    NOT_FINITE,
    BAD_STREAM,
    BAD_TIMESTAMP,
    FUTURE,
    STREAM_LIMIT,
    LATE,
)


@dataclass(frozen=True, slots=True)
class Reject:
    """One message that is not a valid reading, or holds some that are not; `row` is its place in the batch."""

    row: int
    reason: str
    detail: str


class Refused(Exception):
    """Inside a decoder: a message, or one element of it, is no reading."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail
