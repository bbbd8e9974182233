"""`streamer demo`: the whole product in about a minute, on this machine alone.

An embedded broker, simulated machines, a model trained on their history, the daemon
as it runs in production, faults put in at known times, alerts as they come, then what was
caught and a picture of one incident. The only part that a user's installation would
not have is the broker.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as RichTable

from models.store.registry import Registry
from streamer.config import HttpConfig, KafkaConfig, ModelConfig, RecordsConfig, Settings, StateConfig
from streamer.connectors.files import DataSet
from streamer.connectors.kafka import Consumer, connect_consumer, connect_producer
from streamer.connectors.kafka.embedded import EmbeddedBroker
from streamer.core.alerts import Alert, duration, iso
from streamer.core.events import OPEN, RESOLVE, SILENCE
from streamer.errors import BrokerError, DataError
from streamer.offline.backtest import plots as picture
from streamer.offline.backtest import runner as backtest
from streamer.offline.machines import FAULT_LENGTH, FEATURES, INTERVAL_S, KINDS, Fault, Fleet
from streamer.offline.replay import encode, send
from streamer.offline.retrain import retrain

MACHINES = 6
HISTORY_HOURS = 96
LIVE_STEPS = 900  # readings of each machine in the live part: 15 hours of event time
FIRST_FAULT, FAULT_EVERY = 120, 140  # in readings; a window has closed by then
GRACE_STEPS = 40  # an alert so long after a fault's end is still of the fault
START = pd.Timestamp("2026-01-05T00:00:00Z")

log = logging.getLogger(__name__)


class LiveDaemon(Protocol):
    """What the demo asks of the daemon."""

    @property
    def address(self) -> str: ...

    def run(self, stop: threading.Event) -> None: ...

    def not_ready(self) -> str | None: ...

    def partitions(self) -> int: ...

    def records_done(self) -> int: ...


@dataclass(slots=True)
class _Feed:
    """What was sent: the readings of every machine and the faults put in."""

    fleet: Fleet
    start: pd.Timestamp  # of the first live reading
    times: list[int] = field(default_factory=list)
    values: list[NDArray[np.float64]] = field(default_factory=list)
    sent: list[NDArray[np.bool_]] = field(default_factory=list)

    def step(self) -> DataSet:
        number = len(self.times)
        values, sends = self.fleet.step()
        at = (self.start + pd.Timedelta(seconds=number * INTERVAL_S)).value
        self.times.append(at)
        self.values.append(values)
        self.sent.append(sends)
        which = np.flatnonzero(sends)
        return DataSet(self.fleet.names, which, np.full(len(which), at, np.int64), values[sends])

    def everything(self) -> DataSet:
        sent = np.array(self.sent)
        step, machine = np.nonzero(sent)
        return DataSet(self.fleet.names, machine, np.array(self.times)[step], np.array(self.values)[step, machine])

    def time_of(self, step: int) -> int:
        return int((self.start + pd.Timedelta(seconds=step * INTERVAL_S)).value)


def run_demo(make_daemon: Callable[[Settings], LiveDaemon], *, seconds: float, out: Path, seed: int) -> bool:
    """Run it and print what happens.

    Args:
        make_daemon: The daemon as it runs in production, not started.
        seconds: Length of the live part; set-up and training come on top.
        out: Directory of the picture.
        seed: Of machines and faults.

    Returns:
        True if it went as a demo should: at least 4 of 5 faults caught, at most 1 false alert.

    Raises:
        ConfigError: The embedded broker's package is not installed.
        DataError: The picture cannot be written.
    """
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # the embedded broker knows few requests; said anew each time
    console = Console(width=None if os_is_terminal() else 120)
    began = time.monotonic()
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamer-demo-")))
        broker = stack.enter_context(EmbeddedBroker())
        settings = _settings(broker.bootstrap_servers, work)
        for topic in (settings.kafka.topic, settings.kafka.alerts_topic, settings.kafka.dlq_topic):
            broker.create_topic(topic, 4)
        console.print(f"[bold]1[/] broker      embedded, at {broker.bootstrap_servers}")

        fleet = Fleet(MACHINES, seed=seed)
        history = _Feed(fleet, START)
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
        feed = _Feed(fleet, START + pd.Timedelta(hours=HISTORY_HOURS))
        faults = _plan_faults(fleet.step_number, seed)
        fleet.faults = faults
        console.print(
            f"[bold]4[/] live        {LIVE_STEPS * INTERVAL_S // 3600} hours of the same machines in {seconds:g} s, "
            f"{len(faults)} faults on the way"
        )
        alerts = _live(console, settings, daemon, feed, seconds, failure)
        stop.set()
        thread.join(20)
        if failure:
            raise failure[0]

        caught, false = _judge(feed, faults, alerts, offset=HISTORY_HOURS * 3600 // INTERVAL_S)
        _summarise(console, feed, faults, caught, false, alerts, offset=HISTORY_HOURS * 3600 // INTERVAL_S)
        path = _draw(settings, version, feed, alerts, out)
        console.print(f"\npicture of one incident: [bold]{path}[/]")
        console.print(f"done in {time.monotonic() - began:.0f} s")
        return sum(delay is not None for delay in caught) >= 4 and len(false) <= 1


def os_is_terminal() -> bool:
    return os.isatty(1)


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
    console: Console, settings: Settings, daemon: LiveDaemon, feed: _Feed, seconds: float, failure: list[BaseException]
) -> list[Alert]:
    """Feed the machines' readings at an even pace and print alerts as they come over the broker."""
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
        while len(feed.times) < LIVE_STEPS and not failure:
            due = min(LIVE_STEPS, int((time.monotonic() - began) / seconds * LIVE_STEPS) + 1)
            while len(feed.times) < due:
                send(producer, settings.kafka.topic, encode(feed.step(), settings), settings)
            alerts += _print_alerts(console, feed, consumer, 0.1)
        producer.flush(settings.kafka.delivery_timeout_s)
        # The last readings are scored within a poll or two; wait until all are, not for a fixed time.
        sent = sum(int(sends.sum()) for sends in feed.sent)
        until = time.monotonic() + 15
        while daemon.records_done() < sent and time.monotonic() < until and not failure:
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
            raise BrokerError(f"waited 30 s for {what}")
        time.sleep(0.05)


def _print_alerts(console: Console, feed: _Feed, consumer: Consumer, timeout_s: float) -> list[Alert]:
    found = []
    for batch in consumer.poll(timeout_s):
        for value in batch.values:
            alert = msgspec.json.decode(value or b"", type=Alert)
            found.append(alert)
            colour = {"open": "red", "update": "yellow", "resolve": "green"}[alert.event]
            when = alert.time[5:16].replace("T", " ")
            console.print(f"  {when}  [{colour}]{alert.event:<8}[/]{alert.summary}", soft_wrap=True)
    return found


def _judge(
    feed: _Feed, faults: Sequence[Fault], alerts: Sequence[Alert], *, offset: int
) -> tuple[list[int | None], list[Alert]]:
    """Delay in ns of the first alert of each fault, None if missed; and the alerts of no fault."""
    opened = [alert for alert in alerts if alert.event == OPEN]
    caught: list[int | None] = [None] * len(faults)
    false = []
    for alert in opened:
        at = pd.Timestamp(alert.time).value
        mine = [
            i
            for i, fault in enumerate(faults)
            if feed.fleet.names[fault.machine] == alert.stream
            and feed.time_of(fault.start - offset) <= at <= feed.time_of(fault.end - offset + GRACE_STEPS)
        ]
        for i in mine:
            delay = at - feed.time_of(faults[i].start - offset)
            known = caught[i]
            caught[i] = delay if known is None else min(known, delay)
        if not mine:
            false.append(alert)
    return caught, false


def _summarise(
    console: Console,
    feed: _Feed,
    faults: Sequence[Fault],
    caught: Sequence[int | None],
    false: Sequence[Alert],
    alerts: Sequence[Alert],
    *,
    offset: int,
) -> None:
    table = RichTable(title="\nfaults put in", title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in ("fault", "machine", "from", "lasting", "caught", "after"):
        table.add_column(column)
    for fault, delay in zip(faults, caught, strict=True):
        begin = feed.time_of(fault.start - offset)
        table.add_row(
            fault.kind,
            feed.fleet.names[fault.machine],
            iso(begin)[5:16].replace("T", " "),
            duration(fault.length * INTERVAL_S * 1_000_000_000),
            "[green]yes[/]" if delay is not None else "[red]no[/]",
            duration(delay) if delay is not None else "",
        )
    console.print(table)
    days = LIVE_STEPS * INTERVAL_S / 86_400 * MACHINES
    found = sum(delay is not None for delay in caught)
    resolved = sum(alert.event == RESOLVE for alert in alerts)
    console.print(
        f"\n{found} of {len(faults)} faults caught, {len(false)} false alert(s) in {days:.1f} machine-days, "
        f"{resolved} incident(s) resolved"
    )
    for alert in false:
        console.print(f"  false: {alert.summary}")


def _draw(settings: Settings, version: str, feed: _Feed, alerts: Sequence[Alert], out: Path) -> Path:
    """The incident with the highest peak, with two hours before it."""
    peaks = {alert.incident_id: alert for alert in alerts if alert.kind != SILENCE}
    for alert in alerts:
        if alert.kind != SILENCE and alert.peak_score >= peaks[alert.incident_id].peak_score:
            peaks[alert.incident_id] = alert
    out.mkdir(parents=True, exist_ok=True)
    path = out / "incident.png"
    if not peaks:
        raise DataError("no incident to draw: nothing was caught")
    # A drift or a broken tie shows more in a picture than a spike; several features, a longer time.
    top = max(peaks.values(), key=lambda alert: alert.peak_score)
    detector, _ = Registry(settings.model.directory).load(version)
    data = feed.everything()
    scores = backtest.run(settings, detector, version, data).score
    mine = data.stream == data.names.index(top.stream)
    time_ns, values, score = data.time_ns[mine], data.values[mine].astype(np.float32), scores[mine]
    expected, error = picture.expected_series(detector, values, int(detector.rows([top.stream])[0]))
    onset = pd.Timestamp(top.onset).value
    ends = [pd.Timestamp(a.time).value for a in alerts if a.incident_id == top.incident_id]
    hour = 3_600_000_000_000
    shown = (time_ns >= onset - 2 * hour) & (time_ns <= max(ends) + hour)
    order = [FEATURES.index(part.name) for part in top.features][:3]
    path.write_bytes(
        picture.draw_incident(
            f"{top.stream}, {top.onset[:16].replace('T', ' ')} UTC: peak {top.peak_score:.1f} times the alert line",
            time_ns[shown],
            values[shown],
            expected[shown],
            error[shown],
            score[shown],
            FEATURES,
            order,
            (onset, max(ends)),
        )
    )
    return path
