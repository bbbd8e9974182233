"""State that comes back: snapshots, and the notes of commits that name them."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import zstandard

from streamer.core.keyed_state import ExportedState
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from streamer.errors import StateError
from streamer.runtime.state import snapshots
from streamer.runtime.state.interface import MAX_NAME
from streamer.runtime.state.pointer import Pointer, read_note
from streamer.runtime.state.snapshots import Codec, Snapshot
from tests import tiny
from tests.formats.fuzz.messages import Tally
from tests.formats.fuzz.mutations import ODD, bent, broken, noise


class SnapshotTarget:
    """Snapshots with bytes changed, and whole ones that hold what no pipeline ever exported."""

    name = "snapshots"

    def __init__(self) -> None:
        settings = tiny.settings(alerting={"silent_after": 30.0})
        self._options, self._detector = settings.pipeline_options(), tiny.fit(epochs=1)
        self._pipeline = self._make()
        self._codec = Codec("readings", snapshots.shape_of(settings))
        full = self._make()
        n = 40
        codes = np.array([full.keys.add(name) for name in tiny.STREAMS] * (n // 2))
        full.process(
            Readings(
                codes,
                tiny.START_NS + np.arange(n) // 2 * tiny.MINUTE_NS,
                np.repeat(tiny.wave(n // 2), 2, axis=0),
                np.zeros(n, np.int64),
                np.arange(n),
            )
        )
        self._state = full.export_partition(0)
        self._parts = self._codec.encode(0, Snapshot(n, self._state))
        self._whole = b"".join(self._parts)
        self._header = json.loads(zstandard.ZstdDecompressor().decompress(self._parts[-2]))
        self._columns = zstandard.ZstdDecompressor().decompress(self._parts[-1])

    def try_some(self, rng: random.Random, most: int) -> Tally:
        """One snapshot; it is restored if it can be read, and if not nothing of it is kept."""
        content = self._content(rng)
        pipeline = self._pipeline
        try:
            snapshot = self._codec.decode(0, content)
            assert isinstance(snapshot.offset, int)
            pipeline.restore(snapshot.state)
        except StateError:
            assert not pipeline.keys.codes
            return Tally(1, 0, 1)
        self._pipeline = self._make()
        return Tally(1, 1, 0)

    def _make(self) -> Pipeline:
        return Pipeline(self._options, self._detector, tiny.VERSION)

    def _content(self, rng: random.Random) -> bytes:
        what = rng.random()
        if what < 0.02:
            return self._whole
        if what < 0.3:
            return broken(rng, self._whole, [self._whole, noise(rng)])
        if what < 0.45:
            columns = dict(self._state.columns)
            name = rng.choice(sorted(columns))
            columns[name] = _odd_column(rng, columns[name])
            return b"".join(self._codec.encode(0, Snapshot(40, ExportedState(columns, self._state.values))))
        header, columns_ = json.dumps(self._header).encode(), self._columns
        if what < 0.85:
            header = json.dumps(bent(rng, self._header)).encode()
        elif what < 0.9:
            header = broken(rng, header, [header])
        else:
            size = 8 + int.from_bytes(columns_[:8], "little")
            columns_ = broken(rng, columns_[:size], [columns_[:size]]) + columns_[size:]
        odd = {rng.randrange(6): rng.choice((0, 1, 2**33, 2**63, 2**64 - 1))} if rng.random() < 0.1 else None
        return sealed(header, columns_, odd)


def _odd_column(rng: random.Random, column: Any) -> Any:
    what = rng.randrange(6)
    if what == 0:
        return column[: len(column) // 2]
    if what == 1:
        return np.concatenate([column, column])
    if what == 2:
        return column.astype(rng.choice((np.int8, np.float64, np.uint64, np.float16)))
    if what == 3:
        return column.reshape(-1)
    if what == 4:
        return np.full(column.shape, rng.choice((0, 1, 127)), column.dtype)
    return np.zeros((), np.float32)


def sealed(header: bytes, columns: bytes, odd: Mapping[int, int] | None = None) -> bytes:
    """A snapshot with sizes and checksums as they should be, but for some of the six that are `odd`."""
    compressor = zstandard.ZstdCompressor(level=1)
    parts = [compressor.compress(header), compressor.compress(columns)]
    numbers = [
        number
        for raw, part in zip((header, columns), parts, strict=True)
        for number in (len(raw), len(part), zlib.crc32(part))
    ]
    for place, number in (odd or {}).items():
        numbers[place] = number
    sizes = b"".join(number.to_bytes(8, "big") for number in numbers)
    return b"".join([snapshots._MAGIC, zlib.crc32(sizes).to_bytes(4, "big"), sizes, *parts])


class NoteTarget:
    """Notes of commits: any client of the group may write them."""

    name = "notes"

    def __init__(self) -> None:
        self._note = Pointer(("0000001-abc", "0000000-def"), "topic-id").note()

    def try_some(self, rng: random.Random, most: int) -> Tally:
        what = rng.random()
        if what < 0.4:
            note = json.dumps(bent(rng, json.loads(self._note)), ensure_ascii=rng.random() < 0.5)
        elif what < 0.8:
            note = broken(rng, self._note.encode(), [noise(rng)]).decode("utf-8", rng.choice(_ERRORS))
        else:
            note = str(rng.choice(ODD)) * rng.choice((1, 2000))
        found = read_note(note)
        assert len(found.states) <= 2
        assert all(isinstance(name, str) and 0 < len(name) <= MAX_NAME for name in found.states)
        assert found.topic_id is None or isinstance(found.topic_id, str)
        return Tally(1, bool(found.states), not found.states)


_ERRORS = ("replace", "surrogateescape", "ignore")
