"""Messages of the input topic, in every format that needs no registry, and in many layouts."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from streamer.config import RecordsConfig
from streamer.connectors.kafka import RecordBatch
from streamer.core.keyed_state import NO_STREAM, KeyedState
from streamer.formats import Decoded, FormatOptions, Schemas, decoder_of
from streamer.formats.rejects import REASONS
from streamer.formats.timestamps import LATEST_NS
from tests.formats.fuzz.mutations import ODD, bent, broken, noise

NOW_MS = 1_760_000_000_000
_BATCHES = (1, 1, 2, 3, 8, 40)
_FLAT = {"features": ["a", "b"]}
_ISO = "2026-01-02T03:04:05.5Z"

Write = Callable[[random.Random, RecordsConfig], bytes]
"""A valid message of a layout."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of inputs."""

    inputs: int = 0
    accepted: int = 0
    refused: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.inputs + other.inputs, self.accepted + other.accepted, self.refused + other.refused)


OBJECTS: list[dict[str, Any]] = [
    _FLAT,
    _FLAT | {"timestamp_unit": "ms", "stream": ["site", "stream"], "sequence": "n"},
    _FLAT | {"timestamp": "@kafka", "stream": "@key", "missing": "fill"},
    _FLAT | {"timestamp": "@header:at", "timestamp_unit": "s", "zero_is_missing": ["a"]},
    _FLAT | {"timestamp_unit": "ns", "text_numbers": True},
    {"features": ["m.a", "m.b.c"], "stream": "who.name", "timestamp": "who.t", "timestamp_unit": "us"},
    _FLAT | {"readings": "@root", "missing": "fill", "max_readings": 5},
    {"features": ["a", "deep.b"], "readings": "rows.all", "timestamp_unit": "s", "sequence": "n"},
    {"features": ["heat", "cold"], "metric": "metric", "value": "v", "timestamp_unit": "ms"},
    {"features": ["heat", "7"], "metric": "metric", "value": "v", "readings": "rows", "text_numbers": True},
    _FLAT | {"max_record_bytes": 90, "max_streams": 3, "text_numbers": True, "missing": "fill"},
]
ROWS: list[dict[str, Any]] = [
    _FLAT,
    _FLAT | {"columns": ["stream", "timestamp", "a", "b"], "timestamp_unit": "ms"},
    _FLAT | {"columns": ["stream", "timestamp", "a", "b", "n"], "sequence": "n", "missing": "fill", "delimiter": ";"},
    {"features": ["m.a", "m.b"], "timestamp": "@header:at", "zero_is_missing": ["m.a"], "stream": ["@key", "stream"]},
    {"features": ["heat", "cold"], "metric": "metric", "value": "v", "max_readings": 3},
]
LINES: list[dict[str, Any]] = [
    _FLAT | {"stream": "host", "timestamp_unit": "ns"},
    _FLAT | {"stream": ["measurement", "host"], "timestamp_unit": "s", "missing": "fill", "zero_is_missing": ["b"]},
    _FLAT | {"stream": "@key", "timestamp": "@kafka", "max_readings": 2},
    {"features": ["x", "y"], "metric": "host", "value": "a", "stream": "measurement", "timestamp_unit": "ms"},
]


class MessageTarget:
    """One format of messages, in several layouts; each decoder lives on, as that of the daemon does.

    Args:
        name: Of the format.
        layouts: What `RecordsConfig` is made of.
        write: Writes a valid message; `bent` ones too.
        schemas: For formats that need them.
    """

    def __init__(self, name: str, layouts: Sequence[dict[str, Any]], write: Write, schemas: Schemas | None = None):
        self.name, self._write, self._schemas = name, write, schemas
        self._configs = [RecordsConfig.model_validate({"format": name} | one) for one in layouts]
        self._made = {
            (i, exact): (config.format_options(exact=exact), KeyedState())
            for i, config in enumerate(self._configs)
            for exact in (False, True)
        }
        self._decoders = {key: decoder_of(options, streams, schemas) for key, (options, streams) in self._made.items()}

    def try_some(self, rng: random.Random, most: int) -> Tally:
        """A batch of messages, of which all, some or none are valid."""
        key = (rng.randrange(len(self._configs)), rng.random() < 0.5)
        config = self._configs[key[0]]
        valid = [self._write(rng, config) for _ in range(min(most, rng.choice(_BATCHES)))]
        share = rng.choice((0.0, 0.1, 0.3, 0.5, 1.0))
        values = [self._spoilt(rng, one, valid) if rng.random() < share else one for one in valid]
        batch = _batch(rng, values)
        options, streams = self._made[key]
        decoded = self._decoders[key].decode(batch)
        check(batch, decoded, options, streams)
        if rng.random() < 0.15:
            self._same_one_by_one(batch, key)
        return Tally(len(values), len(values) - len(decoded.rejects), len(decoded.rejects))

    def _spoilt(self, rng: random.Random, one: bytes, valid: list[bytes]) -> bytes | None:
        if rng.random() < 0.02:
            return rng.choice((None, b""))
        return noise(rng) if rng.random() < 0.05 else broken(rng, one, valid)

    def _same_one_by_one(self, batch: RecordBatch, key: tuple[int, bool]) -> None:
        """Neighbours must not matter: together or each by itself, the same comes of each message."""
        options, _ = self._made[key]
        whole, single = KeyedState(), KeyedState()
        together = decoder_of(options, whole, self._schemas).decode(batch)
        alone = decoder_of(options, single, self._schemas)
        apart = [alone.decode(batch.rows(slice(i, i + 1))) for i in range(len(batch))]
        assert whole.names == single.names
        for name in ("stream", "time_ns", "values", "offset"):
            columns = [getattr(one.readings, name) for one in apart]
            assert np.array_equal(
                getattr(together.readings, name), np.concatenate(columns), equal_nan=name == "values"
            ), name
        alone_rejects = [(i, r.reason, r.detail) for i, one in enumerate(apart) for r in one.rejects]
        for (row, *why), (other, *why_alone) in zip(
            [(r.row, r.reason, r.detail) for r in together.rejects], alone_rejects, strict=True
        ):
            assert (row, why) == (other, why_alone), f"{row}, {why}; alone {other}, {why_alone}"
        assert together.ignored == sum(one.ignored for one in apart)


def check(batch: RecordBatch, decoded: Decoded, options: FormatOptions, streams: KeyedState) -> None:
    """Nothing is unaccounted for, and what was accepted may be processed."""
    readings, rejects = decoded.readings, decoded.rejects
    assert len(batch) + decoded.extra == len(readings) + len(rejects) + decoded.ignored
    assert min(decoded.extra, decoded.ignored) >= 0
    rows = [reject.row for reject in rejects]
    assert rows == sorted(set(rows))
    assert set(rows) <= set(range(len(batch)))
    for reject in rejects:
        assert reject.reason in REASONS
        assert 0 < len(reject.detail.encode()) < 8000
    whole = set(range(len(batch))) - set(rows)
    told = set((readings.offset - batch.offsets[0]).tolist())
    assert told <= set(range(len(batch)))
    assert len(whole - told) <= decoded.ignored  # neither readings nor a reject: it was ignored
    assert readings.values.shape == (len(readings), len(options.features))
    assert readings.values.dtype == (np.float64 if options.exact else np.float32)
    with np.errstate(over="ignore"):
        narrow = readings.values.astype(np.float32)
    assert not np.isinf(narrow).any()
    assert not len(readings) or not np.isnan(narrow).all(1).any()
    assert ((readings.time_ns >= 0) & (readings.time_ns < LATEST_NS)).all()
    assert ((readings.stream != NO_STREAM) & (readings.stream < len(streams.names))).all()
    assert all(streams.names[code].strip() for code in set(readings.stream.tolist()))
    assert len(streams.codes) <= options.max_streams


def _batch(rng: random.Random, values: list[bytes | None]) -> RecordBatch:
    n = len(values)
    headers: list[list[tuple[str, Any]]] = [[("at", rng.choice(_AT))] * rng.randrange(3) for _ in range(n)]
    return RecordBatch(
        topic="readings",
        partition=rng.randrange(3),
        offsets=np.arange(n) + rng.choice((0, 10**12)),
        timestamps_ms=np.array([rng.choice(_STAMPS) for _ in range(n)], np.int64),
        keys=[rng.choice(_KEYS) for _ in range(n)],
        values=values,
        headers=headers,
    )


_AT = [b"1760000000", b"1760000000.5", b"", b"\xff", None, b"1e400", b"-1", b"9" * 50, _ISO.encode(), b"NaN", b"true"]
_STAMPS = [NOW_MS] * 6 + [-1, 0, 2**62, -(2**63), 2**63 - 1]
_KEYS = [b"k1", b"k2", b"k3", None, b"", b"\xff", b"a/b", b"\x00", b"k" * 500]


# ------------------------------------------------------------------------------------------------------------- writers


def write_json(rng: random.Random, config: RecordsConfig) -> bytes:
    return json.dumps(_object(rng, config), ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


def write_msgpack(rng: random.Random, config: RecordsConfig) -> bytes:
    while True:
        with contextlib.suppress(OverflowError, UnicodeEncodeError):  # not all that JSON can say
            return msgspec.msgpack.encode(_object(rng, config))


def write_rows(rng: random.Random, config: RecordsConfig) -> bytes:
    rows = [reading for _ in range(rng.choice((1, 1, 3))) for reading in [_flat(_reading(rng, config))]]
    columns = list(config.columns) or list(rows[0])
    out = io.StringIO()
    writer = csv.writer(out, delimiter=config.delimiter or ("\t" if config.format == "tsv" else ","))
    if not config.columns:
        writer.writerow(columns)
    for row in rows:
        cells = [row.get(name, "") for name in columns]
        if rng.random() < 0.2:
            cells[rng.randrange(len(cells))] = str(rng.choice(ODD))
        writer.writerow(cells)
    return out.getvalue().encode("utf-8", "replace")


def write_lines(rng: random.Random, config: RecordsConfig) -> bytes:
    lines = []
    for _ in range(rng.choice((1, 1, 3))):
        tags = rng.choice(("", ",host=h1", ",host=h\\ 2,rack=a", ",host=x"))
        fields = rng.choice(("a=1,b=2.5", "a=1i", "c=3", 'a=1,b=0,s="x, \\"y"', "a=T,b=2", "a=1u,b=-3e5"))
        time = rng.choice(("", " 1760000000", " 1760000000000", " 1760000000000000000", " -1", " 99999999999999999999"))
        lines.append(rng.choice(("air", "air\\ flow", "m")) + tags + " " + fields + time)
    return rng.choice(("\n", "\r\n", "\n\n", "\n#")).join(lines).encode()


def _object(rng: random.Random, config: RecordsConfig) -> Any:
    document = _valid(rng, config)
    return bent(rng, document) if rng.random() < 0.4 else document


def _valid(rng: random.Random, config: RecordsConfig) -> Any:
    if config.readings is None:
        return _reading(rng, config)
    some: Any = [_reading(rng, config) for _ in range(rng.choice((0, 1, 1, 2, 7)))]
    if config.readings == "@root":
        return some
    for part in reversed(config.readings.split(".")):
        some = {part: some}
    if rng.random() < 0.5:  # what readings have in common stands beside them
        beside = _reading(rng, config)
        for one in _elements(some):
            for name in ("stream", "timestamp"):
                one.pop(name, None)
        return beside | some
    return some


def _elements(some: Any) -> Iterator[Any]:
    while isinstance(some, dict):
        some = next(iter(some.values()))
    yield from some


def _reading(rng: random.Random, config: RecordsConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in config.stream:
        if name != "@key":
            _put(found, name, rng.choice(("s1", "s2", "s3", 4)))
    if config.timestamp[0] != "@":
        _put(found, config.timestamp, _time(rng, config.timestamp_unit))
    if config.metric is not None:
        _put(found, config.metric, rng.choice((*config.features, "other", 7)))
        _put(found, config.value, rng.choice((1, 2.5, "3", -1e5)))
    else:
        for name in config.features:
            _put(found, name, rng.choice((1, 2.5, 0, -1e5, 3)))
    if config.sequence is not None:
        _put(found, config.sequence, rng.randrange(1000))
    if rng.random() < 0.2:
        found["extra"] = json.loads(json.dumps(rng.choice(ODD)))
    return found


def _time(rng: random.Random, unit: str) -> Any:
    ms = NOW_MS + rng.randrange(1000)
    if unit == "iso8601":
        return rng.choice((_ISO, "2025-10-09 08:53:20", "2025-10-09T08:53:20.123456789+02:00"))
    return {"s": ms // 1000, "ms": ms, "us": ms * 1000, "ns": ms * 1_000_000}[unit]


def _put(into: dict[str, Any], name: str, value: Any) -> None:
    *heads, last = name.split(".")
    for head in heads:
        into = into.setdefault(head, {})
    into[last] = value


def _flat(reading: dict[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in reading.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
    return found
