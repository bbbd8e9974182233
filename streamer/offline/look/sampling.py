"""Some messages from several places of a topic, or of files: enough to see what they look like.

A topic is read by offset, outside any group, and nothing is committed. Messages of one run stood one after another:
only within a run does their order say anything. Not inside: what the messages mean (`recognising`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from streamer.config import FilesConfig, KafkaConfig
from streamer.connectors.kafka import connect_range_reader
from streamer.connectors.kafka.interface import RangeReader, RecordBatch
from streamer.connectors.kafka.topic_reader import TimeRange, ranges_of

USUAL = 3000  # messages of one look
_LEAST = 50  # messages of one run
PLACES = 5  # the first, three between, the newest
_PARTITIONS = 24  # looked at, of a topic that has more
_BYTES = 100_000_000  # read for one look


@dataclass(frozen=True, slots=True)
class Message:
    """One message, and where it stood."""

    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    taken_ms: int = -1  # when the broker took it; -1: not known
    partition: int = 0
    offset: int = 0
    run: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """Messages in the order of their runs."""

    origin: str  # "topic readings"
    messages: Sequence[Message] = field(repr=False)
    total: int  # messages there are, as far as offsets tell
    partitions: int = 1
    columns: Sequence[str] = ()  # of a text file with a header
    documents: Sequence[Mapping[str, object]] | None = None  # of a file that is no text: rows instead of bytes
    runs: Sequence[int] = ()  # of documents
    is_file: bool = False
    delimiter: str = ""  # that the header shows
    written: FilesConfig = field(default_factory=FilesConfig)  # how files are, as far as it is declared or found


def sample_topic(
    config: KafkaConfig, wanted: int = USUAL, time_range: TimeRange | None = None, *, newest: bool = False
) -> Sample:
    """Messages from the beginning, the middle and the end of every partition.

    Args:
        config: Connection and topic.
        wanted: About how many.
        time_range: When the broker took the messages; None: at any time.
        newest: From the end of every partition alone, where streams are so many that they are not seen twice else.

    Raises:
        BrokerError: The topic is not there, or cannot be read.
    """
    reader = connect_range_reader(config)
    try:
        found = reader.bounds()
        found = (ranges_of(reader, found, time_range) if time_range is not None else None) or found
        held = {partition: (first, end) for partition, (first, end) in found.items() if end > first}
        messages = list(_read(reader, [ends(held, wanted)] if newest else places(held, wanted)))
    finally:
        reader.close()
    total = sum(end - first for first, end in held.values())
    return Sample(f"topic {config.topic}", messages, total, len(found))


def places(held: Mapping[int, tuple[int, int]], wanted: int) -> list[dict[int, tuple[int, int]]]:
    """Which offsets to read: a list of ranges by partition, read one after another.

    >>> places({0: (0, 100)}, 3000)
    [{0: (0, 100)}]
    >>> places({0: (0, 10_000)}, 300)
    [{0: (0, 60)}, {0: (2485, 2545)}, {0: (4970, 5030)}, {0: (7455, 7515)}, {0: (9940, 10000)}]
    """
    if sum(end - first for first, end in held.values()) <= wanted:
        return [dict(held)] if held else []
    chosen = sorted(held)
    if len(chosen) > _PARTITIONS:
        chosen = [chosen[round(i * (len(chosen) - 1) / (_PARTITIONS - 1))] for i in range(_PARTITIONS)]
    size = max(_LEAST, wanted // (PLACES * len(chosen)))
    runs: list[dict[int, tuple[int, int]]] = [{} for _ in range(PLACES)]
    for partition in chosen:
        first, end = held[partition]
        if end - first <= PLACES * size:
            runs[0][partition] = (first, end)
            continue
        for place, run in enumerate(runs):
            begin = first + (end - first - size) * place // (PLACES - 1)
            run[partition] = (begin, begin + size)
    return [run for run in runs if run]


def ends(held: Mapping[int, tuple[int, int]], wanted: int) -> dict[int, tuple[int, int]]:
    """The newest offsets of every partition.

    >>> ends({0: (0, 100), 1: (0, 10)}, 60)
    {0: (70, 100), 1: (0, 10)}
    """
    each = wanted // max(1, len(held))
    return {partition: (max(first, end - each), end) for partition, (first, end) in held.items()}


def _read(reader: RangeReader, runs: Sequence[Mapping[int, tuple[int, int]]]) -> Iterator[Message]:
    number, size = 0, 0
    for ranges in runs:
        batches: dict[int, list[RecordBatch]] = {}
        for batch in reader.read(ranges):
            batches.setdefault(batch.partition, []).append(batch)
            size += sum(len(value) for value in batch.values if value)
            if size > _BYTES:
                runs = ()  # of messages as large as these, fewer are enough
                break
        for partition in sorted(batches):
            for batch in batches[partition]:
                yield from _messages(batch, number)
            number += 1
        if not runs:
            return


def _messages(batch: RecordBatch, run: int) -> Iterator[Message]:
    columns = (batch.values, batch.keys, batch.headers, batch.timestamps_ms.tolist(), batch.offsets.tolist())
    for value, key, headers, taken_ms, offset in zip(*columns, strict=True):
        yield Message(value, key, headers, taken_ms, batch.partition, offset, run)
