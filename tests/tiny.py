"""Small worlds for tests: a fleet of sine waves, the settings and detectors that fit them.

Everything is seeded and quick. Not inside: brokers (`brokers`), fixtures (`conftest`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.detector import Detector
from models.fitting.fit import fit as fit_detector
from models.fitting.training import OnEpoch, TrainingOptions
from models.network.architecture import Architecture
from streamer.config import Settings
from streamer.core.readings import Readings

FEATURES = ("heat", "current")
STREAMS = ("a", "b")
LENGTH, PATCH = 16, 4
INTERVAL_S = 60
MINUTE_NS = INTERVAL_S * 1_000_000_000
START_NS = 1_700_000_000_000_000_000
VERSION = "20260102T030405Z-1a2b3c4d"

# Tensors this small gain nothing from threads, and lose much on a busy machine.
torch.set_num_threads(1)


def wave(rows: int, *, seed: int = 0, level: float = 0.0) -> NDArray[np.float32]:
    """`rows` readings of two channels that follow one sine, with noise of their own."""
    noise = np.random.default_rng(seed).normal(size=(rows, 2))
    sine = np.sin(2 * np.pi * np.arange(rows) / 24)
    return np.stack([20 + level + 3 * sine, 5 - 2 * sine], 1).astype(np.float32) + 0.1 * noise.astype(np.float32)


def fit(
    *,
    seed: int = 0,
    epochs: int = 12,
    scale: float = 1.0,
    interval_s: float = INTERVAL_S,
    features: Sequence[str] = FEATURES,
    on_epoch: OnEpoch = lambda report: None,
) -> Detector:
    """A detector of `STREAMS`, trained in well under a second."""
    return fit_detector(
        {name: scale * wave(600, seed=i, level=10.0 * i) for i, name in enumerate(STREAMS)},
        features,
        Architecture(features=2, window=LENGTH, patch=PATCH, hidden=16, latent=4),
        interval_s=interval_s,
        options=TrainingOptions(epochs=epochs, steps_per_epoch=30, batch_size=48, learning_rate=1e-2, seed=seed),
        holdout=0.25,
        on_epoch=on_epoch,
    )


def with_tables(some: Detector, **tables: NDArray[np.float32]) -> Detector:
    """A detector with another line, or other tables of its baseline."""
    line = tables.pop("line", some.line)
    return dataclasses.replace(some, line=line, baseline=dataclasses.replace(some.baseline, **tables))


def settings(**sections: Mapping[str, Any]) -> Settings:
    """Settings that fit the tiny detector; sections are merged over these."""
    base: dict[str, dict[str, Any]] = {
        "records": {"features": list(FEATURES)},
        "window": {"length": LENGTH, "patch": PATCH},
        "alerting": {"silent_after": None},
    }
    for name, section in sections.items():
        base[name] = {**base.get(name, {}), **section}
    return Settings.model_validate(base)


def readings(
    codes: Sequence[int], times_ns: Sequence[int], values: Any = None, *, partitions: Sequence[int] | None = None
) -> Readings:
    """Readings as columns; offsets count them. Without values, two features of zeros."""
    n = len(codes)
    return Readings(
        np.array(codes, np.int64),
        np.array(times_ns, np.int64),
        np.zeros((n, 2), np.float32) if values is None else np.asarray(values, np.float32),
        np.zeros(n, np.int64) if partitions is None else np.array(partitions, np.int64),
        np.arange(n),
    )


def fleet(series: Mapping[int, NDArray[np.float32]], *, start_ns: int = START_NS) -> Readings:
    """Readings of several streams a minute apart, merged by time as a topic would bring them."""
    codes = np.concatenate([np.full(len(values), code) for code, values in series.items()])
    steps = np.concatenate([np.arange(len(values)) for values in series.values()])
    order = np.argsort(steps, kind="stable")
    values = np.concatenate(list(series.values()))
    return readings(codes[order].tolist(), (start_ns + steps[order] * MINUTE_NS).tolist(), values[order])


def split(whole: Readings, cuts: Sequence[int]) -> Iterator[Readings]:
    """Consecutive parts of a batch, cut before the rows named; empty parts are left out."""
    edges = sorted({0, len(whole), *(cut for cut in cuts if 0 < cut < len(whole))})
    for begin, end in itertools.pairwise(edges):
        yield whole.take(np.arange(begin, end))
