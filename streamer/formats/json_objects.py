"""JSON objects to readings: one poll of messages becomes one `Readings`; rejects are data.

All messages of a poll are decoded in one call, and columns are taken from the result
without Python code for each. Only when that call fails is each message looked at by
itself, to find which is bad and why. Inside: `JsonOptions` and `JsonDecoder`. Not inside:
event-time order (`core.ordering`), settings, Kafka.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.core.keyed_state import NO_STREAM
from streamer.core.readings import Readings, admissible
from streamer.core.stream_names import refusal, valid_stream_name
from streamer.formats.json_schema import OPTIONAL, build_struct
from streamer.formats.rejects import (
    BAD_STREAM,
    BAD_TIMESTAMP,
    EMPTY,
    FUTURE,
    MALFORMED,
    NOT_FINITE,
    SCHEMA,
    STREAM_LIMIT,
    TOO_DEEP,
    TOO_LARGE,
    Reject,
)
from streamer.formats.timestamps import times_of


class Streams(Protocol):
    """Names and codes of the streams known, shared with what keeps their state."""

    names: list[str]
    codes: dict[str, int]

    def __len__(self) -> int: ...

    def add(self, name: str) -> int: ...


@dataclass(frozen=True, slots=True)
class JsonOptions:
    """What one message looks like, and the bounds on what comes from outside."""

    features: tuple[str, ...]  # fields of the values, in order; dots reach into nested objects
    stream: str = "stream"  # field that names the stream; "@key": the message key does
    timestamp: str = "timestamp"  # field of the event time
    timestamp_unit: str = "iso8601"  # text; without a zone it is UTC; or "s", "ms", "us", "ns" since 1970
    missing: str = "refuse"  # "fill": a feature that is null or absent is NaN; at least one must be there
    max_record_bytes: int = 1_000_000
    max_streams: int = 100_000
    max_future_ns: int = 3_600_000_000_000


class HasJsonOptions(Protocol):
    """A configuration of records."""

    def json_options(self) -> JsonOptions: ...


class JsonDecoder:
    """Decodes JSON objects, one reading each.

    Args:
        options: Shape of the messages, and bounds.
        streams: Shared codes of streams; learns the names that come.
    """

    def __init__(self, options: JsonOptions, streams: Streams) -> None:
        self.options, self.streams = options, streams
        self._by_key = options.stream == "@key"
        self._may_miss = options.missing == "fill"
        kinds: dict[str, Any] = dict.fromkeys(options.features, OPTIONAL if self._may_miss else float)
        unit = options.timestamp_unit
        kinds[options.timestamp] = str if unit == "iso8601" else int if unit == "ns" else int | float
        if not self._by_key:
            kinds[options.stream] = str
        shape, paths = build_struct("Reading", kinds)
        self._one: msgspec.json.Decoder[Any] = msgspec.json.Decoder(shape)
        # The integer is a separator, see `_decode_together`.
        self._many = msgspec.json.Decoder(list[shape | int])  # type: ignore[valid-type]
        self._stream_of = None if self._by_key else attrgetter(paths[options.stream])
        self._time_of = attrgetter(paths[options.timestamp])
        self._values_of = attrgetter(*(paths[name] for name in options.features))

    @classmethod
    def of(cls, records: HasJsonOptions, streams: Streams) -> JsonDecoder:
        """The decoder that a configuration asks for."""
        return cls(records.json_options(), streams)

    def decode(
        self,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None],
        *,
        partition: int,
        offsets: NDArray[np.int64],
        now_ns: NDArray[np.int64],
    ) -> tuple[Readings, list[Reject]]:
        """Decode one batch of one partition.

        Args:
            values: Message values.
            keys: Message keys, same length.
            partition: Where they came from.
            offsets: `(n,)`.
            now_ns: When the broker took each message, `(n,)`; event times may be ahead
                of it by `options.max_future_ns`. Not the wall clock: a replay must
                reject the same messages.

        Returns:
            Readings in message order and the rejects; every message is in one of them.
        """
        rows, decoded, rejects = self._decode(values)
        times, bad_times = times_of(list(map(self._time_of, decoded)), self.options.timestamp_unit)
        features = len(self.options.features)
        columns = np.fromiter(
            chain.from_iterable(map(self._values_of, decoded)) if features > 1 else map(self._values_of, decoded),
            np.float64,
            len(decoded) * features,
        ).reshape(-1, features)
        with np.errstate(over="ignore"):
            narrow = columns.astype(np.float32)
        finite = np.isfinite(narrow).all(1)
        if self._may_miss and not finite.all():
            finite = admissible(narrow)  # JSON has no NaN: what is NaN was null or absent
        future = ~bad_times & (times > now_ns[rows] + self.options.max_future_ns)
        sound = finite & ~bad_times & ~future
        codes, unknown = self._codes(decoded, [keys[row] for row in rows] if self._by_key else None, sound)
        good = sound & (codes != NO_STREAM)
        if not good.all():
            for i in np.flatnonzero(~good):
                row = int(rows[i])
                if sound[i]:
                    reason, detail = unknown[int(i)]
                elif bad_times[i]:
                    reason, detail = BAD_TIMESTAMP, self._say_time(decoded[i])
                elif future[i]:
                    ahead = (int(times[i]) - int(now_ns[row])) / 1e9
                    most = self.options.max_future_ns / 1e9
                    reason, detail = FUTURE, f"event time is {ahead:.0f} s ahead of the broker's; at most {most:.0f} s"
                elif np.isnan(narrow[i]).all():
                    reason, detail = SCHEMA, "a reading has a number in one feature at least; got none"
                else:
                    which = int(np.flatnonzero(np.isinf(narrow[i]))[0])
                    reason, detail = NOT_FINITE, self._say_value(which, columns[i, which])
                rejects.append(Reject(row, reason, detail))
            rejects.sort(key=lambda reject: reject.row)
        kept = rows[good]
        readings = Readings(
            codes[good], times[good], narrow[good], np.full(len(kept), partition, np.int64), offsets[kept]
        )
        return readings, rejects

    def _decode(self, values: Sequence[bytes | None]) -> tuple[NDArray[np.int64], list[Any], list[Reject]]:
        """Rows that decoded, what they decoded to, and the rest."""
        together = self._decode_together(values)
        if together is not None:
            return np.arange(len(values)), together, []
        rows, decoded, rejects = [], [], []
        for row, value in enumerate(values):
            try:
                if not value:
                    raise _Rejected(EMPTY, "a reading is a JSON object; got no value")
                if len(value) > self.options.max_record_bytes:
                    raise _Rejected(TOO_LARGE, f"at most {self.options.max_record_bytes} bytes; got {len(value)}")
                decoded.append(self._one.decode(value))
                rows.append(row)
            except _Rejected as rejected:
                rejects.append(Reject(row, rejected.reason, rejected.detail))
            except RecursionError:
                rejects.append(Reject(row, TOO_DEEP, "nested too deeply"))
            except msgspec.ValidationError as error:
                rejects.append(Reject(row, SCHEMA, str(error)))
            except (msgspec.DecodeError, ValueError) as error:
                rejects.append(Reject(row, MALFORMED, str(error)))
        return np.array(rows, np.int64), decoded, rejects

    def _decode_together(self, values: Sequence[bytes | None]) -> list[Any] | None:
        """All messages in one call, or None if any of them needs a closer look.

        They are joined with a number that nobody could have guessed. A message that is
        not whole by itself (half an object, an open string, two objects) cannot lean on
        its neighbours unnoticed: the numbers would not come out where they went in.
        """
        if not values:
            return []
        if not all(values) or max(map(len, values)) > self.options.max_record_bytes:  # type: ignore[arg-type]
            return None
        nonce = secrets.randbits(60)
        try:
            found = self._many.decode(b"[" + (b",%d," % nonce).join(values) + b"]")  # type: ignore[arg-type]
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        numbers, decoded = found[1::2], found[::2]
        if len(found) != 2 * len(values) - 1 or numbers != [nonce] * len(numbers):
            return None
        # An integer in a reading's place is a message that is a bare number.
        return None if int in set(map(type, decoded)) else decoded

    def _codes(
        self, decoded: list[Any], keys: list[bytes | None] | None, sound: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], dict[int, tuple[str, str]]]:
        """Stream codes; `NO_STREAM` where the name is no good, with the reason by position.

        Only a reading that is sound otherwise makes a new stream known.
        """
        names: list[Any] = list(map(self._stream_of, decoded)) if keys is None else list(map(_text, keys))  # type: ignore[arg-type]
        found = list(map(self.streams.codes.get, names))
        refused: dict[int, tuple[str, str]] = {}
        if None in found:
            for i, code in enumerate(found):
                if code is None:
                    found[i], why = self._admit(names[i]) if sound[i] else (NO_STREAM, None)
                    if why:
                        refused[i] = why
        return np.fromiter(found, np.int64, len(found)), refused

    def _admit(self, name: str | None) -> tuple[int, tuple[str, str] | None]:
        """The code of a name not known when the batch began, or why it gets none."""
        if name is None:
            return NO_STREAM, (BAD_STREAM, "wanted the stream's name as message key; got a key that is not UTF-8")
        known = self.streams.codes.get(name)
        if known is not None:
            return known, None
        if not valid_stream_name(name):
            return NO_STREAM, (BAD_STREAM, refusal(name))
        if len(self.streams) >= self.options.max_streams:
            return NO_STREAM, (STREAM_LIMIT, f"records.max_streams {self.options.max_streams} are known already")
        return self.streams.add(name), None

    def _say_value(self, which: int, value: float) -> str:
        return f"feature {self.options.features[which]!r} must fit a 32-bit float; got {float(value)!r}"

    def _say_time(self, reading: Any) -> str:
        got, unit = repr(self._time_of(reading))[:64], self.options.timestamp_unit
        if unit == "iso8601":
            return f"wanted ISO 8601 between 1970 and 2200; got {got}"
        return f"wanted {unit} since 1970, before 2200; got {got}: is records.timestamp_unit right?"


def _text(key: bytes | None) -> str | None:
    """The stream a message key names; None if it is no text."""
    try:
        return (key or b"").decode()
    except UnicodeDecodeError:
        return None


class _Rejected(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
