"""`streamer demo`: the whole product in about a minute, on this machine alone.

An embedded broker, simulated machines, a model trained on their history, the daemon as it
runs in production, faults injected at known times, and the alerts as they come. Only the
broker is not what an installation would have. Not inside: what is made of the alerts
(`demo_results`), the machines (`machines`).
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import pandas as pd
from rich.console import Console

from models.store.registry import Registry
from streamer.config import HttpConfig, KafkaConfig, ModelConfig, RecordsConfig, Settings, StateConfig
from streamer.connectors.files import DataSet
from streamer.connectors.kafka import Consumer, connect_consumer, connect_producer
from streamer.connectors.kafka.embedded import EmbeddedBroker
from streamer.core.alerts import Alert
from streamer.errors import BrokerError
from streamer.offline.demo_results import Feed, draw_highest_peak, judge, print_summary
from streamer.offline.machines import FAULT_LENGTH, FEATURES, INTERVAL_S, KINDS, Fault, Fleet
from streamer.offline.replay import encode, send
from streamer.offline.retrain import retrain

MACHINES = 6
HISTORY_HOURS = 96
LIVE_STEPS = 900  # readings of each machine in the live part: 15 hours of event time
FIRST_FAULT, FAULT_EVERY = 120, 140  # in readings; a window has closed by then
START = pd.Timestamp("2026-01-05T00:00:00Z")


class LiveDaemon(Protocol):
    """What the demo asks of the daemon."""

    @property
    def address(self) -> str: ...

    def run(self, stop: threading.Event) -> None: ...

    def not_ready(self) -> str | None: ...

    def partitions(self) -> int: ...

    def records_done(self) -> int: ...


def run_demo(make_daemon: Callable[[Settings], LiveDaemon], *, seconds: float, out: Path, seed: int) -> bool:
    """Run it and print what happens.

    Args:
        make_daemon: The daemon as it runs in production, not started.
        seconds: Length of the live part; set-up and training come on top.
        out: Folder for the plot.
        seed: Of machines and faults.

    Returns:
        True if it went as a demo should: at least 4 of 5 faults caught, at most 1 false alert.

    Raises:
        ConfigError: The embedded broker's package is not installed.
        DataError: No anomaly was caught, or the plot cannot be written.
    """
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it warns of each request the embedded broker lacks
    console = Console(width=None if os.isatty(1) else 120)
    began = time.monotonic()
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamer-demo-")))
        broker = stack.enter_context(EmbeddedBroker())
        settings = _settings(broker.bootstrap_servers, work)
        for topic in (settings.kafka.topic, settings.kafka.alerts_topic, settings.kafka.dlq_topic):
            broker.create_topic(topic, 4)
        console.print(f"[bold]1[/] broker      embedded, at {broker.bootstrap_servers}")

        fleet = Fleet(MACHINES, seed=seed)
        history = Feed(fleet, START)
        for _ in range(HISTORY_HOURS * 3600 // INTERVAL_S):
            history.step()
        data = history.everything()
        console.print(
            f"[bold]2[/] history     {MACHINES} machines, {HISTORY_HOURS} hours, {len(data):,} readings of "
            f"{', '.join(FEATURES)}"
        )
        version = _train(console, settings, data)

        stop = threading.Event()
        daemon = make_daemon(settings)
        failure: list[BaseException] = []
        thread = threading.Thread(target=_run_daemon, args=(daemon, stop, failure), name="daemon")
        thread.start()
        stack.callback(thread.join, 20)
        stack.callback(stop.set)
        feed = Feed(fleet, START + pd.Timedelta(hours=HISTORY_HOURS))
        faults = _plan_faults(fleet.step_number, seed)
        fleet.faults = faults
        console.print(
            f"[bold]4[/] live        {LIVE_STEPS * INTERVAL_S // 3600} hours of the same machines in {seconds:g} s, "
            f"{len(faults)} injected faults"
        )
        alerts = _live(console, settings, daemon, feed, seconds, failure)
        stop.set()
        thread.join(20)
        if failure:
            raise failure[0]

        judgement = judge(feed, faults, alerts)
        print_summary(console, feed, judgement, alerts)
        path = draw_highest_peak(settings, version, feed, alerts, out)
        console.print(f"\nplot of the highest peak: [bold]{path}[/]")
        console.print(f"done in {time.monotonic() - began:.0f} s")
        return judgement.caught >= 4 and len(judgement.false) <= 1


def _settings(servers: str, work: Path) -> Settings:
    return Settings(
        kafka=KafkaConfig(bootstrap_servers=servers, session_timeout_ms=2000),
        records=RecordsConfig(features=FEATURES),
        model=ModelConfig(directory=work / "bundles", epochs=12, steps_per_epoch=50),
        state=StateConfig(directory=work / "state", checkpoint_s=2.0),
        http=HttpConfig(port=0),
    )


def _train(console: Console, settings: Settings, data: DataSet) -> str:
    began = time.monotonic()
    version = retrain(settings, data)
    report = Registry(settings.model.directory).manifest(version)["fit"]
    console.print(
        f"[bold]3[/] training    {report['epochs']} epochs in {time.monotonic() - began:.0f} s, held-out loss "
        f"{report['held_out_loss']:.4f}; the alert line allows {report['budget_per_stream_per_week']:g} false "
        "incident per stream and week"
    )
    return version


def _run_daemon(daemon: LiveDaemon, stop: threading.Event, failure: list[BaseException]) -> None:
    try:
        daemon.run(stop)
    except BaseException as error:
        failure.append(error)


def _plan_faults(first_step: int, seed: int) -> list[Fault]:
    """One fault of each kind, each on a machine of its own, far enough apart to tell them."""
    machines = np.random.default_rng(seed).permutation(MACHINES)
    return [
        Fault(kind, int(machine), first_step + FIRST_FAULT + i * FAULT_EVERY, FAULT_LENGTH[kind])
        for i, (kind, machine) in enumerate(zip(KINDS, machines, strict=False))
    ]


def _live(
    console: Console, settings: Settings, daemon: LiveDaemon, feed: Feed, seconds: float, failure: list[BaseException]
) -> list[Alert]:
    """Send the machines' readings at an even pace and print alerts as they come over the broker."""
    producer = connect_producer(settings.kafka)
    joined = threading.Event()
    consumer = connect_consumer(
        settings.kafka.model_copy(
            update={"topic": settings.kafka.alerts_topic, "alerts_topic": "unused", "group": "demo-reader"}
        ),
        on_assigned=lambda partitions: joined.set(),
        on_revoked=lambda partitions: None,
    )
    alerts: list[Alert] = []
    try:
        _wait_until(lambda: daemon.not_ready() is None and daemon.partitions() > 0, "the daemon to be ready", failure)
        _wait_until(lambda: bool(consumer.poll(0.1)) or joined.is_set(), "the reader of alerts to join", failure)
        producer.flush(settings.kafka.delivery_timeout_s)  # connects, so that the pace is even from the first reading
        console.print(f"  watching; metrics at {daemon.address}/metrics while this runs\n")
        began = time.monotonic()
        while len(feed) < LIVE_STEPS and not failure:
            due = min(LIVE_STEPS, int((time.monotonic() - began) / seconds * LIVE_STEPS) + 1)
            while len(feed) < due:
                send(producer, settings.kafka.topic, encode(feed.step(), settings), settings)
            alerts += _print_alerts(console, feed, consumer, 0.1)
        producer.flush(settings.kafka.delivery_timeout_s)
        # The last readings are scored within a poll or two; wait until all are, not for a fixed time.
        until = time.monotonic() + 15
        while daemon.records_done() < feed.readings and time.monotonic() < until and not failure:
            alerts += _print_alerts(console, feed, consumer, 0.1)
        while more := _print_alerts(console, feed, consumer, 1.5):
            alerts += more
    finally:
        consumer.close()
        producer.close()
    return alerts


def _wait_until(done: Callable[[], bool], what: str, failure: Sequence[BaseException]) -> None:
    until = time.monotonic() + 30
    while not done():
        if failure:
            raise failure[0]
        if time.monotonic() > until:
            raise BrokerError(f"gave up after 30 s of waiting for {what}")
        time.sleep(0.05)


def _print_alerts(console: Console, feed: Feed, consumer: Consumer, timeout_s: float) -> list[Alert]:
    found = []
    for batch in consumer.poll(timeout_s):
        for value in batch.values:
            alert = msgspec.json.decode(value or b"", type=Alert)
            found.append(alert)
            colour = {"open": "red", "update": "yellow", "resolve": "green"}[alert.event]
            when = alert.time[5:16].replace("T", " ")
            console.print(f"  {when}  [{colour}]{alert.event:<8}[/]{alert.summary}", soft_wrap=True)
    return found
