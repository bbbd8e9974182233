"""What checkpoints and moves of a partition cost: `python -m benchmarks.checkpoints`.

    pause      the loop stands while the state of a partition is copied
    keep       encode, compress and write the copy, beside the loop
    take over  read, decode and restore it in another process's pipeline, empty until then

All streams in one partition, the windows of each full but for one reading: as much state as there can be. Medians of
several rounds. The topic lies on the broker that the tests would choose (`KAFKA_BOOTSTRAP_SERVERS`, `KAFKA_HOME`, ...),
the bucket on moto's server, which is no measure of an object store but runs the same requests.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks import workloads
from benchmarks.__main__ import machine
from streamer.config import KafkaConfig
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from streamer.runtime.state.interface import StateStore
from streamer.runtime.state.keeper import StateKeeper
from streamer.runtime.state.local import LocalStore
from streamer.runtime.state.objects import ObjectStore
from streamer.runtime.state.snapshots import Codec, Snapshot, shape_of
from streamer.runtime.state.topic import TopicStore
from tests.brokers import choose_broker, config_for
from tests.runtime.state import s3

MINUTE_NS = 60_000_000_000
STEPS_A_POLL = 3


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.checkpoints", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--streams", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--stores", nargs="+", default=["folder", "topic", "topic-confluent", "bucket"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, {workloads.FEATURES} features, windows of {workloads.WINDOW}, {options.rounds} rounds\n")
    print(f"{'streams':>8}  {'store':<16}{'MB':>8}{'pause s':>10}{'keep s':>10}{'take over s':>13}")
    with contextlib.ExitStack() as stack:
        stores = {name: stack.enter_context(opened(name)) for name in options.stores}
        for streams in options.streams:
            pipeline = filled(streams)
            for name, store in stores.items():
                size, pause_s, keep_s, take_s = measure(pipeline, store, options.rounds)
                print(
                    f"{streams:>8,}  {name:<16}{size / 1e6:>8.1f}{pause_s:>10.3f}{keep_s:>10.3f}{take_s:>13.3f}",
                    flush=True,
                )
            del pipeline
            gc.collect()
    return 0


def filled(streams: int) -> Pipeline:
    """A pipeline whose streams lack one reading to their first score."""
    pipeline = empty()
    codes = np.array([pipeline.keys.add(f"machine-{i:06d}") for i in range(streams)])
    random = np.random.default_rng(0)
    steps = workloads.WINDOW - 1
    for first in range(0, steps, STEPS_A_POLL):
        some = np.repeat(np.arange(first, min(first + STEPS_A_POLL, steps)), streams)
        count = len(some)
        pipeline.process(
            Readings(
                np.tile(codes, count // streams),
                workloads.START_MS * 1_000_000 + some * MINUTE_NS,
                random.normal(size=(count, workloads.FEATURES)).astype(np.float32),
                np.zeros(count, np.int64),
                np.arange(count) + first * streams,
            )
        )
    return pipeline


def empty() -> Pipeline:
    return Pipeline(workloads.settings().pipeline_options(), workloads.detector(), "benchmark")


def measure(pipeline: Pipeline, store: StateStore, rounds: int) -> tuple[int, float, float, float]:
    """Bytes of a snapshot; seconds to copy, to keep and to take over."""
    codec = Codec("readings", shape_of(workloads.settings()))
    keeper = StateKeeper(store, codec)
    keeper.prepare()
    size = sum(map(len, codec.encode(0, Snapshot(1, pipeline.export_partition(0)))))
    times: list[tuple[float, float, float]] = []
    kept: list[str] = []
    for number in range(rounds):
        began_s = time.perf_counter()
        state = pipeline.export_partition(0)
        copied_s = time.perf_counter()
        name = keeper.write(0, Snapshot(number + 1, state))
        written_s = time.perf_counter()
        del state
        successor = empty()
        gc.collect()
        restoring_s = time.perf_counter()
        successor.restore(keeper.read(0, name).state)
        times.append((copied_s - began_s, written_s - copied_s, time.perf_counter() - restoring_s))
        kept = [name, *kept][:2]
        store.forget(0, kept)
    pause_s, keep_s, take_s = (statistics.median(column) for column in zip(*times, strict=True))
    return size, pause_s, keep_s, take_s


@contextlib.contextmanager
def opened(name: str) -> Iterator[StateStore]:
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        store: StateStore
        if name == "folder":
            store = LocalStore(Path(directory), "readings", "benchmark")
        elif name == "bucket":
            server = stack.enter_context(s3.running(Path(directory)))
            os.environ.update(server.environment)
            store = ObjectStore(f"s3://{server.bucket}/benchmark", "readings", "benchmark")
        else:
            broker = choose_broker(Path(directory))
            stack.callback(broker.stop)
            client = "confluent" if name.endswith("confluent") else "kafka-python"
            config: KafkaConfig = config_for(broker, client=client)
            broker.create_topic(config.topic)
            store = TopicStore(config, f"{config.group}.state")
        stack.callback(store.close)
        yield store


if __name__ == "__main__":
    raise SystemExit(main())
