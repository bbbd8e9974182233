"""What the demo found: faults caught and missed, false alerts, and a plot of one incident.

Inside: what was sent (`Feed`), the comparison of alerts with faults, and how it is shown.
Not inside: the running of the demo (`demo`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from models.store.registry import Registry
from streamer.config import Settings
from streamer.connectors.files import DataSet
from streamer.core.alerts import Alert, duration, iso
from streamer.core.events import OPEN, RESOLVE, SILENCE
from streamer.errors import DataError
from streamer.offline import backtest
from streamer.offline.backtest import plots
from streamer.offline.backtest.reconstruction import expected_series
from streamer.offline.machines import FEATURES, INTERVAL_S, Fault, Fleet

GRACE_STEPS = 40  # an alert so many readings after a fault's end still belongs to the fault


class Feed:
    """The readings of a fleet as they are sent, from where the fleet stands.

    Args:
        fleet: Advances by one reading with each `step`.
        start: Time of the first reading.
    """

    def __init__(self, fleet: Fleet, start: pd.Timestamp) -> None:
        self.fleet, self.start = fleet, start
        self._first_step = fleet.step_number
        self._times: list[int] = []
        self._values: list[NDArray[np.float64]] = []
        self._sent: list[NDArray[np.bool_]] = []

    def __len__(self) -> int:
        """Steps so far, each with at most one reading of every machine."""
        return len(self._times)

    @property
    def readings(self) -> int:
        return sum(int(sends.sum()) for sends in self._sent)

    def step(self) -> DataSet:
        """The next reading of every machine that sends one."""
        at = self.time_of(self.fleet.step_number)
        values, sends = self.fleet.step()
        self._times.append(at)
        self._values.append(values)
        self._sent.append(sends)
        which = np.flatnonzero(sends)
        return DataSet(self.fleet.names, which, np.full(len(which), at, np.int64), values[sends])

    def everything(self) -> DataSet:
        """All that was sent."""
        step, machine = np.nonzero(np.array(self._sent))
        return DataSet(self.fleet.names, machine, np.array(self._times)[step], np.array(self._values)[step, machine])

    def time_of(self, step: int) -> int:
        """Event time in ns of one of the fleet's steps."""
        return int((self.start + pd.Timedelta(seconds=(step - self._first_step) * INTERVAL_S)).value)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Which faults were caught."""

    faults: Sequence[Fault]
    delays_ns: list[int | None]  # from a fault's start to its first alert; None: missed
    false: list[Alert]  # alerts that belong to no fault

    @property
    def caught(self) -> int:
        return sum(delay is not None for delay in self.delays_ns)


def judge(feed: Feed, faults: Sequence[Fault], alerts: Sequence[Alert]) -> Judgement:
    """Compare the incidents that were opened with the faults that were injected."""
    delays: list[int | None] = [None] * len(faults)
    false = []
    for alert in alerts:
        if alert.event != OPEN:
            continue
        at = pd.Timestamp(alert.time).value
        mine = [
            i
            for i, fault in enumerate(faults)
            if feed.fleet.names[fault.machine] == alert.stream
            and feed.time_of(fault.start) <= at <= feed.time_of(fault.end + GRACE_STEPS)
        ]
        for i in mine:
            delay, known = at - feed.time_of(faults[i].start), delays[i]
            delays[i] = delay if known is None else min(known, delay)
        if not mine:
            false.append(alert)
    return Judgement(faults, delays, false)


def print_summary(console: Console, feed: Feed, judgement: Judgement, alerts: Sequence[Alert]) -> None:
    """A table of the faults, and a line that counts."""
    table = Table(title="\ninjected faults", title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in ("fault", "machine", "start", "duration", "caught", "delay"):
        table.add_column(column)
    for fault, delay in zip(judgement.faults, judgement.delays_ns, strict=True):
        table.add_row(
            fault.kind,
            feed.fleet.names[fault.machine],
            iso(feed.time_of(fault.start))[5:16].replace("T", " "),
            duration(fault.length * INTERVAL_S * 1_000_000_000),
            "[green]yes[/]" if delay is not None else "[red]no[/]",
            duration(delay) if delay is not None else "",
        )
    console.print(table)
    days = len(feed) * INTERVAL_S / 86_400 * len(feed.fleet.names)
    resolved = sum(alert.event == RESOLVE for alert in alerts)
    console.print(
        f"\n{judgement.caught} of {len(judgement.faults)} faults caught, {len(judgement.false)} false alert(s) in "
        f"{days:.1f} machine-days, {resolved} incident(s) resolved"
    )
    for alert in judgement.false:
        console.print(f"  false: {alert.summary}", markup=False)


def draw_highest_peak(settings: Settings, version: str, feed: Feed, alerts: Sequence[Alert], out: Path) -> Path:
    """Plot the incident with the highest peak, from two hours before it to one after; returns the file.

    Raises:
        DataError: There is none, or the file cannot be written.
    """
    anomalies = [alert for alert in alerts if alert.kind != SILENCE]
    if not anomalies:
        raise DataError("no incident to draw: no anomaly was caught")
    highest = max(alert.peak_score for alert in anomalies)
    top = [alert for alert in anomalies if alert.peak_score == highest][-1]
    path = out / "incident.png"
    detector, _ = Registry(settings.model.directory).load(version)
    data = feed.everything()
    scores = backtest.run(settings, detector, version, data).score
    mine = data.stream == data.names.index(top.stream)
    time_ns, values, score = data.time_ns[mine], data.values[mine].astype(np.float32), scores[mine]
    expected, error = expected_series(detector, values, int(detector.rows([top.stream])[0]))
    onset = pd.Timestamp(top.onset).value
    ends = [pd.Timestamp(a.time).value for a in alerts if a.incident_id == top.incident_id]
    hour = 3_600_000_000_000
    shown = (time_ns >= onset - 2 * hour) & (time_ns <= max(ends) + hour)
    order = [FEATURES.index(part.name) for part in top.features][:3]
    drawn = plots.draw_incident(
        f"{top.stream}, {top.onset[:16].replace('T', ' ')} UTC: peak score {top.peak_score:.1f} (alert line 1.0)",
        time_ns[shown],
        values[shown],
        expected[shown],
        error[shown],
        score[shown],
        FEATURES,
        order,
        (onset, max(ends)),
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn)
    except OSError as refused:
        raise DataError(f"--out: wanted a writable folder; {path}: {refused.strerror}") from None
    return path
