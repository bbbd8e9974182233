"""`streamer simulate`: simulated machines as a file of history, or live into Kafka with faults now and then."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

from streamer.broker import connect_producer
from streamer.config import Settings
from streamer.datafiles import DataSet
from streamer.errors import BrokerError, ConfigError, DataError
from streamer.replay import encode, send
from streamer.simulate import FEATURES, INTERVAL_S, Fleet, random_fault

log = logging.getLogger(__name__)
_FAULT_EVERY = 240  # readings between the starts of two faults, about


def write_history(path: Path, *, machines: int, hours: float, seed: int) -> None:
    """Fault-free history that ends now, one row a machine and minute.

    Raises:
        DataError: The file cannot be written.
    """
    steps = int(hours * 3600 / INTERVAL_S)
    start = pd.Timestamp.now("UTC").floor("min") - pd.Timedelta(seconds=steps * INTERVAL_S)
    frame = Fleet(machines, seed=seed).history(steps, start)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path, index=False)
    except OSError as error:
        raise DataError(f"--out: wanted a writable file; {path}: {error.strerror}") from None


def feed(settings: Settings, *, machines: int, speed: float, seed: int, stop: threading.Event) -> None:
    """Send readings until told to stop, `speed` event seconds in a second; a fault every four event hours or so.

    The machines are those of `write_history` with the same seed, a while later.

    Raises:
        ConfigError: The configuration reads other features than the machines have.
    """
    if set(settings.records.features) != set(FEATURES):
        raise ConfigError(
            f"records.features: the simulated machines have {list(FEATURES)}; got {list(settings.records.features)}"
        )
    fleet, random = Fleet(machines, seed=seed), np.random.default_rng(seed + 1)
    columns = [FEATURES.index(name) for name in settings.records.features]
    producer = connect_producer(settings.kafka)
    # At 60 times real time event times run ahead of the clock; they start far enough back to stay behind it for days.
    start = pd.Timestamp.now("UTC").floor("min") - pd.Timedelta(days=30)
    began, told_at = time.monotonic(), 0.0
    next_fault = 90
    try:
        while not stop.is_set():
            number = fleet.step_number
            if number >= next_fault:
                fault = random_fault(random, machines, number + 5)
                fleet.faults = [f for f in fleet.faults if f.end > number] + [fault]
                log.info("fault: %s on %s in %d readings", fault.kind, fleet.names[fault.machine], fault.start - number)
                next_fault = number + _FAULT_EVERY
            values, sends = fleet.step()
            when = start + pd.Timedelta(seconds=number * INTERVAL_S)
            data = DataSet(
                fleet.names,
                np.flatnonzero(sends),
                np.full(int(sends.sum()), when.value, np.int64),
                values[sends][:, columns],
            )
            try:
                send(producer, settings.kafka.topic, encode(data, settings), settings)
                if time.monotonic() - told_at > 10:
                    producer.flush(settings.kafka.delivery_timeout_s)
                    told_at = time.monotonic()
                    log.info("%d readings a machine sent", fleet.step_number)
            except BrokerError as error:
                log.warning("%s", error)
            stop.wait(max(0.0, began + fleet.step_number * INTERVAL_S / speed - time.monotonic()))
    finally:
        producer.close()
