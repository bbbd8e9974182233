"""`python -m benchmarks.capacity`: what a reading costs in CPU time, and so how many of them one core takes a second.

    pipeline    in this process: JSON bytes to scores, full polls, every stream with a full window
    client      polling a backlog from a real broker (KAFKA_HOME); left out without one

One thing is varied at a time: streams, features, stride. Beside it a daemon publishes, exports metrics and takes
checkpoints, which `python -m benchmarks.replicas` includes (some per cent) and `docs/state.md` tells for large fleets.
The table in docs/sizing.md is this program's output.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import confluent_kafka
import numpy as np
import torch

from benchmarks import workloads
from benchmarks.__main__ import machine
from streamer.config import KafkaConfig
from streamer.connectors.kafka import RecordBatch, connect_consumer
from streamer.core.keyed_state import ExportedState
from streamer.core.pipeline import Pipeline
from streamer.formats import decoder_of
from streamer.runtime.garbage import collect_seldom
from tests import brokers

USUAL = {"streams": 10_000, "features": 6, "stride": 1}
VARIED = {"streams": (100, 10_000, 100_000), "features": (1, 6, 30), "stride": (1, 4, 16)}
POLL = 5000
CLIENTS = ("kafka-python", "confluent")
BACKLOG = 300_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity")
    parser.add_argument("--polls", type=int, default=24, help="of 5,000 readings that are measured for each line")
    options = parser.parse_args()
    torch.set_num_threads(1)
    collect_seldom()  # as the daemon does
    print(f"{machine()}\n\nCPU time of a reading, us; readings/s of one core with each client\n")
    print("| streams | features | stride | pipeline | kafka-python | confluent | readings/s | with confluent |")
    print("|---|---|---|---|---|---|---|---|")
    home = brokers.kafka_home()
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        broker = None
        if home is not None:
            broker = brokers.KafkaNode(home, Path(directory) / "broker").start()
            stack.callback(broker.stop)
        client_us: dict[int, list[float]] = {}
        for varied, values in VARIED.items():
            for value in values:
                if value == USUAL[varied] and varied != "streams":
                    continue  # told already
                case = USUAL | {varied: value}
                features = case["features"]
                if features not in client_us:
                    client_us[features] = [np.nan] * 2 if broker is None else clients(broker, features)
                print(row(case, pipeline_us(**case, polls=options.polls), client_us[features]), flush=True)
    return 0


def row(case: dict[str, int], pipeline: float, clients_us: list[float]) -> str:
    rates = [f"{1e6 / (pipeline + client):,.0f}" if client == client else "" for client in clients_us]
    return "| " + " | ".join([*(f"{n:,}" for n in case.values()), f"{pipeline:.1f}", *told(clients_us), *rates]) + " |"


def told(clients_us: list[float]) -> list[str]:
    return [f"{client:.1f}" if client == client else "" for client in clients_us]


def message(stream: int, step: int, tail: bytes) -> bytes:
    return b'{"stream": "%s", "timestamp": %d, %s' % (
        workloads.stream_name(stream).encode(),
        workloads.START_MS + 60_000 * step,
        tail,
    )


def tails(features: int) -> list[bytes]:
    """Values of some readings, as the end of a JSON object."""
    values = np.random.default_rng(0).normal(size=(997, features)).round(4).tolist()
    return [json.dumps(dict(zip(workloads.names(features), some, strict=True))).encode()[1:] for some in values]


def pipeline_us(*, streams: int, features: int, stride: int, polls: int) -> float:
    """CPU time of a reading from bytes to its score."""
    settings = workloads.settings(features=features, stride=stride)
    detector = workloads.detector(streams=streams, features=features, stride=stride)
    pipeline = Pipeline(settings.pipeline_options(), detector, "benchmark")
    decoder = decoder_of(settings.format_options(), pipeline.keys)
    ends, done = tails(features), 0

    def poll(count: int = POLL, at: int | None = None) -> float:
        nonlocal done
        numbers = range(done, done + count)
        step, stream = ([n // streams for n in numbers], [n % streams for n in numbers])
        if at is not None:
            step, stream = list(numbers), [0] * count
        values = [message(s, t, ends[n % 997]) for n, s, t in zip(numbers, stream, step, strict=True)]
        batch = RecordBatch(
            "readings", 0, np.arange(count) + done, np.full(count, -1), [None] * count, values, [[]] * count
        )
        done += count
        began = time.process_time()
        outcome = pipeline.process(decoder.decode(batch).readings)
        spent = time.process_time() - began
        assert outcome.taken == count
        return 1e6 * spent / count

    # Every stream as the first one is when its window has been filled, one after another in the course of a stride.
    poll(2 * workloads.WINDOW, at=0)
    state = pipeline.export([workloads.stream_name(0)])
    columns = {name: np.repeat(column, streams, 0) for name, column in state.columns.items() if len(column)}
    columns |= {name: column for name, column in state.columns.items() if not len(column)}
    columns["windows.run"] = workloads.WINDOW + np.arange(streams) % stride
    pipeline.restore(ExportedState(columns, state.values | {"streams": [*map(workloads.stream_name, range(streams))]}))
    done = 2 * workloads.WINDOW * streams  # event time goes on
    for _ in range(4):
        poll()
    return statistics.median(poll() for _ in range(max(polls, stride)))


def clients(broker: brokers.KafkaNode, features: int) -> list[float]:
    """CPU time of a reading until it is in a `RecordBatch`, of each client."""
    topic, ends = brokers.unique("readings"), tails(features)
    broker.create_topic(topic, 4)
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "linger.ms": 50,
            "batch.size": 16_384,
            "queue.buffering.max.messages": BACKLOG,
        }
    )
    for n in range(BACKLOG):
        stream = n % 1000
        key = workloads.stream_name(stream)
        producer.produce(topic, message(stream, n // 1000, ends[n % 997]), key, stream % 4)
    producer.flush(60)
    found = []
    for client in CLIENTS:
        config = KafkaConfig.model_validate(
            {
                "bootstrap_servers": broker.bootstrap_servers,
                "topic": topic,
                "group": f"{topic}-{client}",
                "client": client,
            }
        )
        consumer = connect_consumer(config, on_assigned=lambda _: None, on_revoked=lambda _: None)
        read = 0
        began, from_ = time.process_time(), 0
        while read < BACKLOG:
            read += sum(map(len, consumer.poll(0.5)))
            if not from_ and read > BACKLOG // 10:
                began, from_ = time.process_time(), read  # connections are made
        found.append(1e6 * (time.process_time() - began) / (read - from_))
        consumer.close()
    return found


if __name__ == "__main__":
    sys.exit(main())
