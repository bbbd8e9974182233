"""`streamer simulate`: simulated machines, as a file of history or live into Kafka with injected faults.

Not inside: the machines and their faults (`machines`).
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

from streamer.config import Settings
from streamer.connectors.files import DataSet
from streamer.connectors.kafka import connect_producer
from streamer.connectors.kafka.probe import Needs, require
from streamer.errors import BrokerError, ConfigError, DataError
from streamer.offline.injecting import Requests
from streamer.offline.machines import FEATURES, READINGS_A_DAY, Fleet, random_fault
from streamer.offline.replay import records_of, send

log = logging.getLogger(__name__)
_FIRST_FAULT = 90  # readings before the first fault: every window has closed by then
_FAULT_EVERY = 240  # readings between two faults


def write_history(path: Path, *, machines: int, hours: float, interval_s: float, seed: int) -> None:
    """Fault-free history that ends now.

    Args:
        path: Ends in `.csv`, `.parquet` or `.pq`.
        machines: How many.
        hours: Of the machines' own time, in which a reading is a minute.
        interval_s: Seconds between the readings' timestamps; below 60 the machines' days pass faster.
        seed: Same seed, same machines.

    Raises:
        DataError: The file cannot be written, or is neither CSV nor Parquet.
    """
    if path.suffix not in (".csv", ".parquet", ".pq"):
        raise DataError(f"--out: wanted a file name that ends in .csv or .parquet; got {path}")
    steps = int(hours * 60)
    start = pd.Timestamp.now("UTC").floor("s") - pd.Timedelta(seconds=steps * interval_s)
    frame = Fleet(machines, seed=seed).history(steps, start, interval_s)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path, index=False)
    except OSError as error:
        raise DataError(f"--out: wanted a writable file; {path}: {error.strerror}") from None


def send_live(
    settings: Settings,
    *,
    machines: int,
    interval_s: float,
    seed: int,
    stop: threading.Event,
    requests: Path | None = None,
) -> None:
    """Send readings as they are due until told to stop, with an injected fault every 240 readings or so.

    Faults that `streamer inject` asks for in the folder `requests` begin with the next reading.

    The machines are those of `write_history` with the same seed. Timestamps are the
    clock's, and the machines' time of day follows from them, so a restart continues.

    Raises:
        ConfigError: The configuration reads other features than the machines have.
        BrokerError: The broker cannot be reached at the start, or does not let us write to the topic.
        DataError: The folder cannot be used.
    """
    if set(settings.records.features) != set(FEATURES):
        raise ConfigError(
            f"records.features: wanted the features of the simulated machines, {list(FEATURES)}; got "
            f"{list(settings.records.features)}"
        )
    require(settings.kafka, Needs(writes=(settings.kafka.topic,)))
    fleet, random = Fleet(machines, seed=seed), np.random.default_rng()
    asked = None if requests is None else Requests(requests, fleet.names)
    columns = [FEATURES.index(name) for name in settings.records.features]
    producer = connect_producer(settings.kafka)
    start_s, began = time.time(), time.monotonic()
    first = int(start_s / interval_s) % READINGS_A_DAY
    fleet.start(first)
    next_fault, told_at = first + _FIRST_FAULT, 0.0
    try:
        while not stop.is_set():
            number = fleet.step_number
            if number >= next_fault:
                fault = random_fault(random, machines, number + 5)
                fleet.faults = [f for f in fleet.faults if f.end > number] + [fault]
                log.info(
                    "injecting fault %s into %s in %d readings",
                    fault.kind,
                    fleet.names[fault.machine],
                    fault.start - number,
                )
                next_fault = number + _FAULT_EVERY
            if asked is not None:
                fleet.faults += asked.take(number)
            values, sends = fleet.step()
            at_ns = int((start_s + (number - first) * interval_s) * 1e6) * 1000
            data = DataSet(
                fleet.names,
                np.flatnonzero(sends),
                np.full(int(sends.sum()), at_ns, np.int64),
                values[sends][:, columns],
            )
            try:
                send(producer, settings.kafka.topic, records_of(data, settings), settings)
                if time.monotonic() - told_at > 10:
                    producer.flush(settings.kafka.delivery_timeout_s)
                    told_at = time.monotonic()
                    log.info("%d readings per machine sent", number - first + 1)
            except BrokerError as error:
                log.warning("%s; the readings are kept and sent again", error)
            stop.wait(max(0.0, began + (fleet.step_number - first) * interval_s - time.monotonic()))
    finally:
        producer.close()
