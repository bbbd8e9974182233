"""Seeded inputs for the benchmarks, made outside the timed parts."""

from __future__ import annotations

import json

import numpy as np
import torch

from models.detector import Detector
from models.network.architecture import Architecture
from models.network.autoencoder import Autoencoder
from models.scaling import RobustScaler
from models.scoring.alert_line import AlertPolicy
from models.scoring.baseline import Baseline
from models.scoring.errors import Scales
from streamer.config import KafkaConfig, RecordsConfig, Settings, WindowConfig

STREAMS, FEATURES, WINDOW = 1000, 8, 64
NAMES = tuple(f"f{i}" for i in range(FEATURES))
START_MS = 1_700_000_000_000


def settings(*, features: int = FEATURES, stride: int = 1) -> Settings:
    return Settings(
        kafka=KafkaConfig(),
        records=RecordsConfig(features=names(features), timestamp_unit="ms"),
        window=WindowConfig(length=WINDOW, stride=stride),
    )


def detector(patch: int = 8, *, streams: int = STREAMS, features: int = FEATURES, stride: int = 1) -> Detector:
    """The default architecture and a line so high that nothing alerts; untrained: the work is the same."""
    torch.manual_seed(0)
    architecture = Architecture(features=features, window=WINDOW, patch=patch)
    rows = streams + 1
    shapes = Baseline.shapes(rows, len(Scales.of(architecture)), features)
    return Detector(
        Autoencoder(architecture).eval(),
        names(features),
        tuple(stream_name(i) for i in range(streams)),
        RobustScaler(np.zeros((rows, features), np.float32), np.ones((rows, features), np.float32)),
        Baseline(**{name: np.ones(shape, np.float32) for name, shape in shapes.items()}),
        np.full(rows, 50.0, np.float32),
        60.0,
        policy=AlertPolicy(stride=stride),
    )


def names(features: int) -> tuple[str, ...]:
    return tuple(f"f{i}" for i in range(features))


def stream_name(i: int) -> str:
    return f"machine-{i:04d}"


def messages(steps: int, seed: int = 0) -> list[list[bytes]]:
    """JSON messages of all streams, one list a step; about 165 bytes each."""
    values = np.random.default_rng(seed).normal(size=(steps, STREAMS, FEATURES)).round(4)
    return [
        [
            json.dumps(
                {
                    "stream": stream_name(i),
                    "timestamp": START_MS + 60_000 * step,
                    **dict(zip(NAMES, values[step, i].tolist(), strict=True)),
                }
            ).encode()
            for i in range(STREAMS)
        ]
        for step in range(steps)
    ]
