"""What order and bars cost: the event-time station alone, and in the pipeline.

    readings in order/s     from decoded columns, waiting a second for late ones
    readings in bars/s      the same into bars of ten seconds with three features
    plain / ordered         pipeline on decoded columns: nothing to wait for, against a lateness of a step
    plain / bars            against one bar for each reading, so that as many windows are scored

`python -m benchmarks` prints them with the others.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterator

import numpy as np

from benchmarks import workloads
from models.detector import Detector
from streamer.core.event_time.options import TimeOptions, parse_feature
from streamer.core.event_time.station import EventTime
from streamer.core.keyed_state import KeyedState
from streamer.core.options import PipelineOptions
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings

FIELDS = ("price", "size")
BARS = {"return": "last(price) | log_return", "volume": "sum(size) | log1p", "trades": "count | log1p"}
SECOND_NS = 1_000_000_000
START_NS = 1_700_000_000 * SECOND_NS
POLL = 5000


def measure(rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """The ratios, and absolute figures for scale."""
    features = tuple(parse_feature(name, text, FIELDS) for name, text in BARS.items())
    second = TimeOptions(fields=FIELDS, lateness_ns=SECOND_NS)
    bars = dataclasses.replace(second, grid_ns=10 * SECOND_NS, features=features)
    scale = {"readings in order/s": _alone(second, rounds), "readings in bars/s": _alone(bars, rounds)}
    return _in_the_pipeline(rounds), scale


def trades(polls: int, seed: int = 0) -> Iterator[Readings]:
    """A second of trades in each poll, a tenth of which come up to a second late."""
    random = np.random.default_rng(seed)
    for poll in range(polls):
        at = START_NS + poll * SECOND_NS + np.sort(random.integers(0, SECOND_NS, POLL))
        late = np.where(random.random(POLL) < 0.1, random.integers(0, SECOND_NS, POLL), 0)
        yield Readings(
            random.integers(0, workloads.STREAMS, POLL),
            at - late,
            random.uniform(1, 2, (POLL, 2)),
            np.zeros(POLL, np.int64),
            np.arange(POLL) + poll * POLL,
        )


def _alone(options: TimeOptions, rounds: int) -> float:
    """Readings a second through the station."""
    station = EventTime(KeyedState(map(str, range(workloads.STREAMS))), options)
    polls = list(trades(20 + 10 * rounds))
    for readings in polls[:20]:
        station.take(readings)
    rates = []
    for first in range(20, len(polls), 10):
        some = polls[first : first + 10]
        began = time.perf_counter()
        for readings in some:
            station.take(readings)
        rates.append(len(some) * POLL / (time.perf_counter() - began))
    return statistics.median(rates)


def _in_the_pipeline(rounds: int) -> dict[str, float]:
    detector, plain = workloads.detector(), workloads.settings().pipeline_options()
    names = plain.features
    passing = tuple(parse_feature(name, f"last({name})", names) for name in names)
    waits = TimeOptions(fields=names, lateness_ns=SECOND_NS)
    kinds = {
        "plain": plain,
        "ordered": dataclasses.replace(plain, fields=names, time=waits),
        "bars": dataclasses.replace(
            plain, fields=names, time=TimeOptions(fields=names, grid_ns=SECOND_NS, features=passing)
        ),
    }
    pipelines = {name: _pipeline(options, detector) for name, options in kinds.items()}
    took: dict[str, list[float]] = {name: [] for name in kinds}
    steps = POLL // workloads.STREAMS
    values = np.random.default_rng(1).normal(size=(workloads.WINDOW + (rounds + 2) * steps, workloads.STREAMS, 8))
    for first in range(0, len(values) - steps, steps):
        readings = _steps(values[first : first + steps], first)
        for name, pipeline in pipelines.items():
            given = readings if name != "plain" else dataclasses.replace(
                readings, values=readings.values.astype(np.float32)
            )  # fmt: skip
            began = time.perf_counter()
            outcome = pipeline.process(given)
            if first > workloads.WINDOW:
                took[name].append((time.perf_counter() - began) / len(outcome.readings))
    return {
        f"plain / {name}": statistics.median(a / b for a, b in zip(took["plain"], took[name], strict=True))
        for name in ("ordered", "bars")
    }


def _pipeline(options: PipelineOptions, detector: Detector) -> Pipeline:
    pipeline = Pipeline(options, detector, "benchmark")
    for number in range(workloads.STREAMS):
        pipeline.keys.add(workloads.stream_name(number))
    return pipeline


def _steps(values: np.ndarray, first: int) -> Readings:
    """Steps of all streams, a second each."""
    steps, streams, features = values.shape
    n = steps * streams
    return Readings(
        np.tile(np.arange(streams), steps),
        START_NS + np.repeat(np.arange(first, first + steps), streams) * SECOND_NS,
        values.reshape(n, features),
        np.zeros(n, np.int64),
        np.arange(n) + first * streams,
    )
