"""Bytes to columns: one poll of messages becomes one `Readings`, rejects are data.

All messages of a poll are decoded in one call, and columns are taken from the result
without Python code for each. Only when that call fails is each message looked at by
itself, to find which is bad and why. Not inside: event-time order (`frames`), Kafka.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.config import RecordsConfig
from streamer.core.keyed_state import NO_STREAM, STREAM_NAME, StreamTable
from streamer.core.readings import Readings, admissible
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
    Limits,
    Reject,
)
from streamer.formats.timestamps import times_of

_OPTIONAL = float | None


class JsonDecoder:
    """Decodes JSON objects, one reading each.

    Args:
        features: Fields of the values, in order; dots reach into nested objects.
        stream: Field that names the stream, or "@key" for the message key.
        timestamp: Field of the event time.
        timestamp_unit: "iso8601" (text; without a zone it is UTC), or "s", "ms", "us", "ns" since 1970.
        streams: Shared table of stream codes.
        limits: Bounds.
        missing: "refuse": every feature must be there; "fill": one that is null or absent is NaN, one
            feature at least must be there.
    """

    def __init__(
        self,
        *,
        features: Sequence[str],
        stream: str,
        timestamp: str,
        timestamp_unit: str,
        streams: StreamTable,
        limits: Limits | None = None,
        missing: str = "refuse",
    ) -> None:
        self.streams = streams
        self.limits = limits or Limits()
        self._features = len(features)
        self._unit = timestamp_unit
        self._by_key = stream == "@key"
        self._may_miss = missing == "fill"
        kinds: dict[str, Any] = dict.fromkeys(features, _OPTIONAL if self._may_miss else float)
        kinds[timestamp] = str if timestamp_unit == "iso8601" else int if timestamp_unit == "ns" else int | float
        if not self._by_key:
            kinds[stream] = str
        shape, paths = _build_struct("Reading", kinds)
        self._one: msgspec.json.Decoder[Any] = msgspec.json.Decoder(shape)
        # The integer is a separator, see `_decode_together`.
        self._many = msgspec.json.Decoder(list[shape | int])  # type: ignore[valid-type]
        self._stream_of = None if self._by_key else attrgetter(paths[stream])
        self._time_of = attrgetter(paths[timestamp])
        self._values_of = attrgetter(*(paths[name] for name in features))

    @classmethod
    def of(cls, config: RecordsConfig, streams: StreamTable) -> JsonDecoder:
        """The decoder a configuration asks for."""
        return cls(
            features=config.features,
            stream=config.stream,
            timestamp=config.timestamp,
            timestamp_unit=config.timestamp_unit,
            streams=streams,
            limits=Limits(config.max_record_bytes, config.max_streams, int(config.max_future_s * 1e9)),
            missing=config.missing,
        )

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
                of it by `limits.max_future_ns`. Not the wall clock: a replay must
                refuse the same messages.

        Returns:
            Readings in message order and the rejects; every message is in one of them.
        """
        rows, decoded, rejects = self._decode(values)
        times, bad_times = self._times(decoded)
        columns = np.fromiter(
            chain.from_iterable(map(self._values_of, decoded)) if self._features > 1 else map(self._values_of, decoded),
            np.float64,
            len(decoded) * self._features,
        ).reshape(-1, self._features)
        with np.errstate(over="ignore"):
            narrow = columns.astype(np.float32)
        finite = np.isfinite(narrow).all(1)
        if self._may_miss and not finite.all():
            finite = admissible(narrow)  # JSON has no NaN: what is NaN was null or absent
        future = ~bad_times & (times > now_ns[rows] + self.limits.max_future_ns)
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
                    most = self.limits.max_future_ns / 1e9
                    reason, detail = FUTURE, f"event time is {ahead:.0f} s ahead of the broker's; at most {most:.0f} s"
                elif np.isnan(narrow[i]).all():
                    reason, detail = SCHEMA, "a reading has a number in one feature at least; got none"
                else:
                    which = int(np.flatnonzero(np.isinf(narrow[i]))[0])
                    reason, detail = NOT_FINITE, f"feature {which} must fit a 32-bit float; got {columns[i, which]!r}"
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
                    raise _Refused(EMPTY, "a reading is a JSON object; got no value")
                if len(value) > self.limits.max_record_bytes:
                    raise _Refused(TOO_LARGE, f"at most {self.limits.max_record_bytes} bytes; got {len(value)}")
                decoded.append(self._one.decode(value))
                rows.append(row)
            except _Refused as refused:
                rejects.append(Reject(row, refused.reason, refused.detail))
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
        if not all(values) or max(map(len, values)) > self.limits.max_record_bytes:  # type: ignore[arg-type]
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

    def _times(self, decoded: list[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Event times in ns, 0 where they cannot be read or lie outside 1970 to 2200, and which those are."""
        return times_of(list(map(self._time_of, decoded)), self._unit)

    def _codes(
        self, decoded: list[Any], keys: list[bytes | None] | None, sound: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], dict[int, tuple[str, str]]]:
        """Stream codes; `NO_STREAM` where the name is refused, with the reason by position.

        Only a reading that is sound otherwise makes a new stream known.
        """
        names: list[Any] = keys if keys is not None else list(map(self._stream_of, decoded))  # type: ignore[arg-type]
        if keys is not None:
            names = [key.decode("utf-8", "replace") if key else "" for key in keys]
        found = list(map(self.streams.codes.get, names))
        refused: dict[int, tuple[str, str]] = {}
        if None in found:
            for i, code in enumerate(found):
                if code is None:
                    found[i], why = self._admit(names[i]) if sound[i] else (NO_STREAM, None)
                    if why:
                        refused[i] = why
        return np.fromiter(found, np.int64, len(found)), refused

    def _admit(self, name: str) -> tuple[int, tuple[str, str] | None]:
        known = self.streams.codes.get(name)
        if known is not None:
            return known, None
        if not STREAM_NAME.fullmatch(name):
            return NO_STREAM, (
                BAD_STREAM,
                f"a stream name is 1 to 128 of A-Z a-z 0-9 . _ : / @ + -; got {name[:160]!r}",
            )
        if len(self.streams) >= self.limits.max_streams:
            return NO_STREAM, (STREAM_LIMIT, f"records.max_streams {self.limits.max_streams} are known already")
        return self.streams.add(name), None

    def _say_time(self, reading: Any) -> str:
        got = repr(self._time_of(reading))[:64]
        if self._unit == "iso8601":
            return f"wanted ISO 8601 between 1970 and 2200; got {got}"
        return f"wanted {self._unit} since 1970, before 2200; got {got}: is records.timestamp_unit right?"


class _Refused(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail


def _build_struct(name: str, kinds: dict[str, Any]) -> tuple[type, dict[str, str]]:
    """A msgspec type for dotted field names, and the attribute path of each.

    A field that may be missing is None then, and so are all fields of an object that may be missing.

    Field names come from the configuration and may be no Python names, so attributes
    are numbered and the names are given to msgspec as aliases.
    """
    fields: list[Any] = []
    aliases: dict[str, str] = {}
    paths: dict[str, str] = {}
    groups: dict[str, dict[str, Any]] = {}
    for field, kind in kinds.items():
        head, dot, rest = field.partition(".")
        if dot:
            groups.setdefault(head, {})[rest] = kind
        else:
            attribute = f"f{len(fields)}"
            fields.append((attribute, kind, None) if kind is _OPTIONAL else (attribute, kind))
            aliases[attribute] = field
            paths[field] = attribute
    for head, inside in groups.items():
        shape, inner = _build_struct(f"{name}_{len(fields)}", inside)
        attribute = f"f{len(fields)}"
        optional = all(kind is _OPTIONAL for kind in inside.values())
        fields.append((attribute, shape, msgspec.field(default_factory=shape)) if optional else (attribute, shape))
        aliases[attribute] = head
        paths |= {f"{head}.{rest}": f"{attribute}.{path}" for rest, path in inner.items()}
    # No cycles can arise from JSON, so the garbage collector need not track readings.
    return msgspec.defstruct(name, fields, rename=aliases, gc=False, kw_only=True), paths
