"""What is read back from disk, and the headers that dead letters carry on."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import ArtifactError, ModelError
from models.store import bundle, promotions
from models.store.registry import Registry
from streamer.config import KafkaConfig
from streamer.connectors.kafka import Headers, RecordBatch, Shorten
from streamer.connectors.kafka.outbox import MAX_MESSAGE_BYTES
from streamer.connectors.sinks import KafkaSinks
from streamer.core.detectors import canary, fitted
from streamer.errors import ConfigError
from streamer.formats.rejects import REASONS, Reject
from streamer.runtime.trained_on import trained_up_to
from tests import tiny
from tests.formats.fuzz.messages import Tally
from tests.formats.fuzz.mutations import ODD, bent, broken, noise


class ManifestTarget:
    """Manifests of bundles; the files beside them are whole, or changed together with their digests."""

    name = "manifest"

    def __init__(self) -> None:
        self._kept = tempfile.TemporaryDirectory(prefix="fuzz-")
        self._registry = Registry(Path(self._kept.name))
        self._version = self._registry.publish(
            tiny.fit(epochs=1),
            created=datetime(2026, 1, 2, tzinfo=UTC),
            fingerprint="0",
            trained_on={"topic": "readings", "partitions": {"0": 5}},
        )
        self._options = tiny.settings().pipeline_options()
        self._directory = Path(self._kept.name) / self._version
        self._whole = {path.name: path.read_bytes() for path in self._directory.iterdir()}
        self._manifest = json.loads(self._whole[bundle.MANIFEST])

    def try_some(self, rng: random.Random, most: int) -> Tally:
        """One manifest; the bundle is loaded by it if it can be read."""
        what, files = rng.random(), dict(self._whole)
        if what < 0.7:
            files[bundle.MANIFEST] = _json(bent(rng, self._manifest))
        elif what < 0.85:
            files[bundle.MANIFEST] = broken(rng, files[bundle.MANIFEST], [files[bundle.MANIFEST]])
        else:
            name = rng.choice([bundle.STREAMS, bundle.WEIGHTS, bundle.CALIBRATION])
            content = files[name]
            # Of tensors the beginning says what they are.
            head = content if name == bundle.STREAMS else content[:2000]
            files[name] = (
                _json(bent(rng, json.loads(content)))
                if name == bundle.STREAMS and rng.random() < 0.7
                else broken(rng, head, [head]) + content[len(head) :]
            )
            entry = {"sha256": hashlib.sha256(files[name]).hexdigest(), "bytes": len(files[name])}
            files[bundle.MANIFEST] = _json(self._manifest | {"files": self._manifest["files"] | {name: entry}})
        changed = [name for name, content in files.items() if content != self._whole[name]]
        try:
            for name in changed:
                (self._directory / name).write_bytes(files[name])
            detector, manifest = bundle.load(self._directory)
            canary(detector)
            fitted(self._options, detector, str(manifest["version"]))
            trained_up_to(manifest, "readings")
        except (ModelError, ConfigError):
            return Tally(1, 0, 1)
        finally:
            for name in changed:
                (self._directory / name).write_bytes(self._whole[name])
        return Tally(1, 1, 0)


class PromotionsTarget:
    """The history of promotions, and what is said to be current."""

    name = "promotions"

    def __init__(self) -> None:
        self._kept = tempfile.TemporaryDirectory(prefix="fuzz-")
        self._path = Path(self._kept.name)
        self._entry = {"version": tiny.VERSION, "promoted": "2026-01-02T03:04:05+00:00", "withdrawn": None}

    def try_some(self, rng: random.Random, most: int) -> Tally:
        lines = [_json(bent(rng, self._entry) if rng.random() < 0.5 else self._entry) for _ in range(rng.randrange(4))]
        content = b"\n".join(lines)
        if rng.random() < 0.5:
            content = broken(rng, content, [content, noise(rng)])
        (self._path / "promotions").write_bytes(content)
        current = tiny.VERSION.encode() if rng.random() < 0.5 else broken(rng, tiny.VERSION.encode(), [noise(rng)])
        (self._path / "current").write_bytes(current)
        found = promotions.read(self._path / "promotions")
        try:
            Registry(self._path).history()
        except ArtifactError:
            return Tally(1, 0, 1)
        return Tally(1, min(1, len(found)), 1 - min(1, len(found)))


class DeadLetterTarget:
    """Records refused for whatever reason, with whatever key and headers."""

    name = "dead letters"

    def __init__(self) -> None:
        self._config = KafkaConfig()

    def try_some(self, rng: random.Random, most: int) -> Tally:
        """Some dead letters; each can be sent, and says why and where from."""
        n = min(most, 8)
        batch = RecordBatch(
            topic="readings",
            partition=3,
            offsets=np.arange(n) + 7,
            timestamps_ms=np.array([rng.choice((-1, 0, 2**62)) for _ in range(n)]),
            keys=[_content(rng) for _ in range(n)],
            values=[_content(rng) for _ in range(n)],
            headers=[_headers(rng) for _ in range(n)],
        )
        producer = _Producer()
        sinks = KafkaSinks(producer, self._config, max_value_bytes=rng.choice((64, 1_000_000)))
        for row in range(n):
            detail = rng.choice(("x", "ä" * 900, "😀" * 1000, str(rng.choice(ODD))))
            reject = Reject(row, rng.choice(REASONS), detail)
            sinks.publish_dead_letter(batch, reject)
            topic, key, value, headers = producer.sent[-1]
            assert (topic, len(producer.sent)) == (self._config.dlq_topic, row + 1)
            size = len(key or b"") + len(value or b"") + sum(len(n.encode()) + len(c) for n, c in headers)
            assert size <= MAX_MESSAGE_BYTES
            ours = [(name, content) for name, content in headers if name.startswith("streamer.dlq.")]
            said = dict(ours)
            assert len(said) == len(ours)  # none of the producer's
            assert said["streamer.dlq.reason"] == reject.reason.encode()
            assert said["streamer.dlq.offset"] == str(row + 7).encode()
        return Tally(n, n, 0)


class _Producer:
    """Takes all that a real one would."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]]]] = []

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
        shorten: Shorten | None = None,
    ) -> None:
        assert all(isinstance(name, str) and isinstance(content, bytes) for name, content in headers)
        self.sent.append((topic, key, value, list(headers)))

    def flush(self, timeout_s: float) -> None: ...

    @property
    def pending(self) -> int:
        return 0

    def close(self) -> None: ...


def _content(rng: random.Random) -> bytes | None:
    size = rng.choice((0, 1, 30, 30, 30, 2000))
    if rng.random() < 0.002:
        size = rng.choice((70_000, 400_000, 1_100_000))
    return None if rng.random() < 0.1 else rng.randbytes(size)


def _headers(rng: random.Random) -> Any:
    names = ("a", "", "streamer.dlq.reason", "streamer.dlq.offset", "ä" * 100, "\x00", "at", "\ufffd")
    return [(rng.choice(names), _content(rng)) for _ in range(rng.choice((0, 0, 1, 3, 30)))]


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()
