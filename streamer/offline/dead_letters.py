"""Dead letters, read back from their topic and sent again to the topic they came from.

Read by offset, outside any group: nothing is committed, and no daemon notices. One letter is held at a time, of a list
its newest rows. Not inside: how a dead letter is written (`connectors.sinks`), how it is shown (`cli.dead_letters`).
"""

from __future__ import annotations

import codecs
import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple

from streamer.config import Settings
from streamer.connectors.cutting import DLQ_PREFIX
from streamer.connectors.kafka import Headers, Producer, RangeReader, RecordBatch, connect_range_reader
from streamer.connectors.kafka.topic_reader import TimeRange, ranges_of
from streamer.errors import DeliveryFailed, UsageError
from streamer.formats.interface import KAFKA_TIME
from streamer.observability.logs import escape

NO_REASON = "unknown"  # of a message that says none: something else wrote it

_RENAMED = f"original.{DLQ_PREFIX}"
_CUT = {"bytes": "value", "key_bytes": "key", "header_bytes": "headers"}  # what a header of ours says is not whole
_BATCH, _BATCH_BYTES = 1000, 8 * 2**20  # acknowledged before more are read
_MOST_REASONS = 50
_ERROR, _KEY, _SAMPLE = 300, 80, 120  # characters, or bytes, of a row
_BINARY = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

ShowProgress = Callable[[str, float], AbstractContextManager[Callable[[float], None]]]


class Place(NamedTuple):
    """Where a letter is in the dead-letter topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True, eq=False)
class DeadLetter:
    """A refused record, and what the daemon says of it."""

    place: Place
    written_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers  # as the record had them
    about: Mapping[str, str]  # `streamer.dlq.*`, without the prefix

    @classmethod
    def of(cls, batch: RecordBatch, row: int) -> DeadLetter:
        about, carried = {}, []
        for name, content in batch.headers[row]:
            if name.startswith(DLQ_PREFIX):
                about[name.removeprefix(DLQ_PREFIX)] = (content or b"").decode("utf-8", "replace")
            else:
                own = name.removeprefix("original.") if name.startswith(_RENAMED) else name
                carried.append((own, content or b""))
        place = Place(batch.partition, int(batch.offsets[row]))
        return cls(place, int(batch.timestamps_ms[row]), batch.keys[row], batch.values[row], carried, about)

    @property
    def reason(self) -> str:
        return self.about.get("reason", NO_REASON)

    @property
    def origin(self) -> str:
        """As `BadRecord` lines of the log name it."""
        return "{}[{}]@{}".format(*(self.about.get(name, "?") for name in ("topic", "partition", "offset")))

    @property
    def cut(self) -> tuple[str, ...]:
        """What of the record the letter does not hold whole."""
        return tuple(what for name, what in _CUT.items() if name in self.about)

    @property
    def taken_ms(self) -> int | None:
        """The timestamp of the record."""
        text = self.about.get("timestamp", "")
        known = len(text) <= 18 and text.isascii() and text.isdecimal()
        return (int(text) or None) if known else None

    @property
    def size(self) -> int:
        """Bytes of key, value and headers."""
        carried = sum(len(name) + len(content) for name, content in self.headers)
        return len(self.key or b"") + len(self.value or b"") + carried


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters."""

    reasons: frozenset[str] = frozenset()  # empty: any
    since_ms: int | None = None  # written then or later
    places: tuple[Place, ...] = ()  # empty: any

    def includes(self, letter: DeadLetter) -> bool:
        if self.since_ms is not None and letter.written_ms < self.since_ms:
            return False
        return not self.reasons or letter.reason in self.reasons


def read(settings: Settings, choice: Choice, show_progress: ShowProgress) -> Iterator[DeadLetter]:
    """The letters chosen that are there now, those of a partition in their order.

    Raises:
        UsageError: A place is not in the topic.
        BrokerError: The topic is not there, or cannot be read to its end.
    """
    topic = settings.kafka.dlq_topic
    reader = connect_range_reader(settings.kafka.model_copy(update={"topic": topic}), settings.limits)
    try:
        bounds = reader.bounds()
        steps = _places(topic, bounds, choice.places) if choice.places else [_ranges(reader, bounds, choice)]
        total = sum(end - first for ranges in steps for first, end in ranges.values())
        with show_progress("reading dead letters", total) as advance:
            for ranges in steps:
                for batch in reader.read(ranges):
                    advance(len(batch))
                    letters = (DeadLetter.of(batch, row) for row in range(len(batch)))
                    yield from filter(choice.includes, letters)
    finally:
        reader.close()


def _ranges(
    reader: RangeReader, bounds: Mapping[int, tuple[int, int]], choice: Choice
) -> Mapping[int, tuple[int, int]]:
    found = ranges_of(reader, bounds, TimeRange(choice.since_ms))
    return bounds if found is None else found  # None: this broker does not look up times, so every letter is looked at


def _places(
    topic: str, bounds: Mapping[int, tuple[int, int]], places: Sequence[Place]
) -> list[Mapping[int, tuple[int, int]]]:
    """A range for each place, in order and once."""
    for place in places:
        if place.partition not in bounds:
            raise UsageError(f"{place}: {topic} has the partitions {min(bounds)} to {max(bounds)}")
        first, end = bounds[place.partition]
        if not first <= place.offset < end:
            held = f"the offsets {first} to {end - 1}" if end > first else "nothing"
            raise UsageError(f"{place}: partition {place.partition} of {topic} holds {held}")
    return [{place.partition: (place.offset, place.offset + 1)} for place in sorted(set(places))]


@dataclass(frozen=True, slots=True)
class Row:
    """A letter in a list; its texts can be shown anywhere."""

    place: Place
    written_ms: int
    reason: str
    error: str
    origin: str
    key: str | None
    sample: str
    cut: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """How many letters of each reason, most first, and the newest of them."""

    total: int
    reasons: Mapping[str, int]
    newest: Sequence[Row]


def listing(letters: Iterable[DeadLetter], limit: int) -> Listing:
    """Counts of all, rows of the newest."""
    reasons: Counter[str] = Counter()
    newest: list[tuple[int, Place, Row]] = []
    for letter in letters:
        reason = escape(letter.reason[:_KEY])
        # Anyone who may write to the topic can make up reasons.
        reasons[reason if reason in reasons or len(reasons) < _MOST_REASONS else "others"] += 1
        if len(newest) < limit:
            heapq.heappush(newest, (letter.written_ms, letter.place, _row(letter)))
        elif (letter.written_ms, letter.place) > newest[0][:2]:
            heapq.heapreplace(newest, (letter.written_ms, letter.place, _row(letter)))
    rows = [row for _, _, row in sorted(newest, key=lambda entry: entry[:2], reverse=True)]
    return Listing(reasons.total(), dict(reasons.most_common()), rows)


def _row(letter: DeadLetter) -> Row:
    return Row(
        letter.place,
        letter.written_ms,
        escape(letter.reason[:_KEY]),
        escape(letter.about.get("error", "")[:_ERROR]),
        escape(letter.origin[:_ERROR]),
        None if letter.key is None else in_a_line(letter.key, _KEY),
        "no value" if letter.value is None else in_a_line(letter.value, _SAMPLE),
        letter.cut,
    )


def as_text(content: bytes, most: int) -> str | None:
    r"""The beginning of content that is text; None if it is binary.

    >>> as_text("{'ä': 1}".encode(), 4), as_text(b"\xff\x00", 9), as_text(b"\x1b[2J", 9)
    ("{'ä", None, None)
    """
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(content[:most], len(content) <= most)
    except UnicodeDecodeError:
        return None
    return None if _BINARY.search(text) else text


def in_a_line(content: bytes, most: int) -> str:
    r"""The beginning of content, in characters that can be shown anywhere.

    >>> in_a_line(b"a\nb", 20), in_a_line(b"\x00\x1b[2J", 20), in_a_line(b"pump-1", 4)
    ('a\\nb', '0x001b5b324a', 'pump...')
    """
    text = as_text(content, most)
    shown = "0x" + content[: most // 2].hex() if text is None else escape(text)
    return shown + "..." * (len(content) > (most // 2 if text is None else most))


@dataclass(slots=True)
class Replayed:
    """What became of the letters chosen, or would."""

    letters: int = 0  # that can be sent
    size: int = 0  # of them, in bytes
    refused: dict[str, tuple[int, Place]] = field(default_factory=dict)  # how many, and the first; by what is said
    acknowledged: int = 0


def replay(letters: Iterable[DeadLetter], settings: Settings, producer: Producer | None) -> Replayed:
    """Send letters again to the input topic, with their own key, value and headers.

    Args:
        letters: Which.
        settings: Where to.
        producer: Sends; None: only what would be done is counted.

    Raises:
        DeliveryFailed: The broker did not acknowledge in time; says how many it did before.
    """
    done, waiting, waiting_bytes = Replayed(), 0, 0
    for letter in letters:
        refused = why_not(letter, settings.kafka.topic)
        if refused is not None:
            if refused not in done.refused and len(done.refused) >= _MOST_REASONS:
                refused = "for other reasons"
            count, first = done.refused.get(refused, (0, letter.place))
            done.refused[refused] = count + 1, first
            continue
        done.letters += 1
        done.size += letter.size
        if producer is not None:
            # The record's timestamp is kept where it is the reading's time, as by `streamer replay`.
            at_ms = letter.taken_ms if settings.records.timestamp == KAFKA_TIME else None
            producer.send(
                settings.kafka.topic, key=letter.key, value=letter.value, headers=letter.headers, timestamp_ms=at_ms
            )
            waiting, waiting_bytes = waiting + 1, waiting_bytes + letter.size
            if waiting >= _BATCH or waiting_bytes >= _BATCH_BYTES:
                _flush(producer, settings, done, waiting)
                waiting = waiting_bytes = 0
    if producer is not None and waiting:
        _flush(producer, settings, done, waiting)
    return done


def _flush(producer: Producer, settings: Settings, done: Replayed, waiting: int) -> None:
    try:
        producer.flush(settings.kafka.delivery_timeout_s)
    except DeliveryFailed as error:
        raise DeliveryFailed(
            f"{error}. Of the letters, {done.acknowledged} were sent before; of {waiting} more some may have been"
        ) from error
    done.acknowledged += waiting


def why_not(letter: DeadLetter, topic: str) -> str | None:
    """Why a letter cannot be sent again; None if it can."""
    if "reason" not in letter.about or "topic" not in letter.about:
        return "no dead letter of streamer: its headers do not say reason and topic"
    if letter.cut:
        return (
            f"cut: its {' and '.join(letter.cut)} did not fit, so it is an excerpt; the whole record is where it came "
            "from, if that topic still holds it (streamer dlq show PARTITION:OFFSET)"
        )
    if letter.about["topic"] != topic:
        # Headers can be forged, and this process may be allowed to write where others are not.
        origin = escape(letter.about["topic"][:_ERROR])
        return f"of topic {origin}, and kafka.topic is {topic}: use the configuration of that topic"
    return None
