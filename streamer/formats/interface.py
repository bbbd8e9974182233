"""What the rest of streamer sees of message formats, whichever one is chosen.

    Batch           messages of one poll from one partition, as columns
    FormatOptions   what one message looks like, and the bounds on what comes from outside
    Decoder         turns a batch into readings and rejects
    Schemas         reads messages whose schema lies in a registry

Types only. Not inside: choosing a format (`decoder_of` of this package), implementing one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.core.readings import Readings
from streamer.formats.rejects import Reject

KEY = "@key"  # in the stream's place: the message key names it
KAFKA_TIME = "@kafka"  # in the timestamp's place: the record's timestamp
HEADER = "@header:"  # in the timestamp's place, followed by a name: a header of the record
ROOT = "@root"  # in the place of the readings' path: the message is itself an array


class Batch(Protocol):
    """Messages of one partition, as columns of equal length `n`, in offset order."""

    @property
    def partition(self) -> int: ...

    @property
    def offsets(self) -> NDArray[np.int64]: ...

    @property
    def timestamps_ms(self) -> NDArray[np.int64]:
        """`(n,)` the record timestamps, -1 if none."""
        ...

    @property
    def keys(self) -> Sequence[bytes | None]: ...

    @property
    def values(self) -> Sequence[bytes | None]: ...

    @property
    def headers(self) -> Sequence[Sequence[tuple[str, bytes]]]: ...

    def taken_ns(self) -> NDArray[np.int64]:
        """`(n,)` when the broker took each message; event times may be ahead of it by `max_future_ns`.

        Not the wall clock: a replay must reject the same messages.
        """
        ...


class Streams(Protocol):
    """Names and codes of the streams known, shared with what keeps their state."""

    names: list[str]
    codes: dict[str, int]

    def __len__(self) -> int: ...

    def add(self, name: str) -> int: ...


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """What one message looks like, and the bounds on what comes from outside. Dots reach into nested objects."""

    features: tuple[str, ...]  # fields of the values, in order; in the long layout names of metrics
    stream: tuple[str, ...] = ("stream",)  # field that names the stream, or "@key"; several are joined by "/"
    timestamp: str = "timestamp"  # field of the event time, "@kafka" or "@header:NAME"
    timestamp_unit: str = "iso8601"  # text; without a zone it is UTC; or "s", "ms", "us", "ns" since 1970
    missing: str = "refuse"  # "fill": a feature that is null or absent is NaN; at least one must be there
    max_record_bytes: int = 1_000_000
    max_streams: int = 100_000
    max_future_ns: int = 3_600_000_000_000
    format: str = "json"
    readings: str | None = None  # path of the array of readings in a message, or "@root"
    metric: str | None = None  # long layout: field that names the metric
    value: str = "value"  # long layout: field of its value
    sequence: str | None = None  # field of a sequence number
    zero_is_missing: tuple[str, ...] = ()  # features whose 0 means that there is no value
    columns: tuple[str, ...] | None = None  # of rows; None: the first line of each message names them
    delimiter: str | None = None  # of rows; None: what the format implies
    exact: bool = False  # values as 64-bit floats
    text_numbers: bool = False  # numbers may be written as text
    max_readings: int = 10_000  # of one message


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a batch.

    Every message holds at least one element (a message that is refused as a whole, or that holds none, is one).
    An element is a reading, or ignored; all that are refused in one message are one reject. So
    `messages + extra == len(readings) + len(rejects) + ignored`.
    """

    readings: Readings  # in the order of messages, and within one in its own
    rejects: list[Reject]  # at most one a message, in order
    ignored: int = 0  # elements with nothing in them that is configured
    extra: int = 0  # elements beyond the first of their message
    # Event times of readings refused for want of room (`max_streams`), where their records vouch for them.
    turned_away_ns: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


class Decoder(Protocol):
    """Decodes one format; used from one thread."""

    @property
    def streams(self) -> Streams:
        """Learns the names that come."""
        ...

    def decode(self, batch: Batch) -> Decoded:
        """Decode one batch of one partition.

        Raises:
            SchemasUnavailable: A schema cannot be had now. Nothing was decoded: come again with the same batch.
        """
        ...


class Schemas(Protocol):
    """Schemas in the registry of a Kafka installation, as functions that read messages."""

    def reader(self, schema_id: int) -> Callable[[bytes], Any]:
        """What turns the bytes of a message after its frame into dicts, lists and plain values.

        It raises `rejects.Refused` for bytes that are not what the schema says.

        Raises:
            Refused: There is no such schema, or it cannot be used; that will not change.
            SchemasUnavailable: The registry does not answer.
        """
        ...
