"""What is sent: streams that follow a sine, with spells of anomalies, and everything a topic may hold beside readings.

Seeded: the same load gives the same messages. Not inside: sending (`rounds`), what is expected of it (`expected`).
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.fitting.fit import fit
from models.fitting.training import TrainingOptions
from models.network.architecture import Architecture
from models.store.registry import Registry

FEATURES = ("heat", "current")
LENGTH, PATCH = 16, 4
INTERVAL_MS = 60_000
START_MS = 1_700_000_000_000
HISTORY = 400  # readings of each stream to train on

BROKEN = (b"{not json", b"[]", b'{"stream": "machine-0"}', b'"text"', b'{"stream": 5, "timestamp": 1, "heat": 1}')


def name_of(stream: int) -> str:
    return f"machine-{stream}"


def clean(stream: int, step: int, noise: tuple[float, float]) -> tuple[float, float]:
    """What a healthy stream measures."""
    angle = 2 * math.pi * (step + 5 * stream) / 24
    level = 10.0 * (stream % 3)
    return 20 + level + 3 * math.sin(angle) + 0.1 * noise[0], 5 - 2 * math.sin(angle) + 0.1 * noise[1]


@dataclass
class Load:
    """An endless fleet; `step` gives what comes next.

    Probabilities are for each stream and step.
    """

    streams: int = 24
    seed: int = 0
    anomalies: float = 0.02  # a spell begins
    missing: float = 0.0  # a feature is null
    gaps: float = 0.0  # a stretch is left out, of the stream's time
    silences: float = 0.0  # a stream stops for a while, and the others go on
    copies: float = 0.02  # a message comes twice
    late: float = 0.01  # an old reading comes again, with another value
    broken: float = 0.003  # a message that is no reading
    at: int = 0
    _spells: dict[int, tuple[int, float]] = field(default_factory=dict)  # stream: last step, shift
    _away: dict[int, int] = field(default_factory=dict)  # stream: step of its return

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def step(self, *, calm: bool = False) -> list[tuple[str, bytes]]:
        """Messages of one step of all streams, `(key, value)`; `calm` begins nothing new, so that what is open ends."""
        dice, step, sent = self._dice, self.at, list[tuple[str, bytes]]()
        self.at += 1
        for stream in range(self.streams):
            key, draw = name_of(stream), dice.random
            noise = dice.gauss(0, 1), dice.gauss(0, 1)
            if step < self._away.get(stream, 0):
                continue
            if not calm:
                if draw() < self.gaps:
                    self._away[stream] = step + dice.randint(4, 9)
                if draw() < self.silences:
                    self._away[stream] = step + dice.randint(20, 40)
                if draw() < self.anomalies:
                    self._spells[stream] = step + dice.randint(2, 14), dice.choice([-1, 1]) * dice.uniform(2, 8)
            values = list(clean(stream, step, noise))
            last, shift = self._spells.get(stream, (-1, 0.0))
            if step <= last:
                values[1] += shift
            reading: dict[str, Any] = {"stream": key, "timestamp": START_MS + step * INTERVAL_MS}
            reading |= {name: round(value, 4) for name, value in zip(FEATURES, values, strict=True)}
            if draw() < self.missing:
                reading[dice.choice(FEATURES)] = None
            value = json.dumps(reading).encode()
            sent.append((key, value))
            if draw() < self.copies:
                sent.append((key, value))
            if step > 3 and draw() < self.late:
                old = reading | {"timestamp": reading["timestamp"] - dice.randint(1, 3) * INTERVAL_MS, "heat": 99.0}
                sent.append((key, json.dumps(old).encode()))
            if draw() < self.broken:
                sent.append((key, dice.choice(BROKEN)))
        return sent


def history(streams: int, seed: int) -> Mapping[str, NDArray[np.float32]]:
    """Readings of a healthy fleet, to train on."""
    dice = random.Random(seed)
    series = {}
    for stream in range(streams):
        rows = [clean(stream, step, (dice.gauss(0, 1), dice.gauss(0, 1))) for step in range(HISTORY)]
        series[name_of(stream)] = np.array(rows, np.float32)
    return series


def train(directory: Path, *, streams: int = 24, bundles: int = 2) -> list[str]:
    """Small bundles of the fleet in a registry, the first of them current; their versions."""
    registry = Registry(directory)
    versions = []
    for seed in range(bundles):
        detector = fit(
            history(streams, seed=100 + seed),
            FEATURES,
            Architecture(features=2, window=LENGTH, patch=PATCH, hidden=12, latent=4),
            interval_s=INTERVAL_MS / 1000,
            options=TrainingOptions(epochs=4, steps_per_epoch=40, batch_size=64, learning_rate=1e-2, seed=seed),
            holdout=0.3,
        )
        created = datetime(2026, 1, 2, 3, 4, 5 + seed, tzinfo=UTC)
        versions.append(registry.publish(detector, created=created, fingerprint=f"fleet-{seed}", promote=not seed))
    return versions
