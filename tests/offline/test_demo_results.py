"""What the demo says of its faults: caught, missed, or an alert of no fault."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from streamer.core import alerts
from streamer.core.events import ANOMALY, OPEN, RESOLVE, SILENCE, Event
from streamer.errors import DataError
from streamer.offline.demo_results import GRACE_STEPS, Feed, draw_highest_peak, judge, print_summary
from streamer.offline.machines import Fault, Fleet
from tests import tiny

MINUTE_NS = 60 * 10**9
START = pd.Timestamp("2026-01-05T00:00:00Z")


@pytest.fixture
def feed() -> Feed:
    """Twenty steps of two machines, after ten that were sent before."""
    fleet = Fleet(2, seed=1)
    for _ in range(10):
        fleet.step()
    feed = Feed(fleet, START)
    fleet.faults = [Fault("dropout", 1, 12, 5)]
    for _ in range(20):
        feed.step()
    return feed


def alert(feed: Feed, machine: int, step: int, event: str = OPEN, kind: str = ANOMALY) -> alerts.Alert:
    at = feed.time_of(step)
    return alerts.build(
        Event(event, kind, machine, at, at, 2.0, 2.0, 0),
        topic="readings",
        stream=feed.fleet.names[machine],
        attributions=[],
        model_version=tiny.VERSION,
        dashboard_url=None,
    )


def test_a_feed_keeps_what_was_sent_and_when(feed: Feed) -> None:
    data = feed.everything()

    assert len(feed) == 20
    assert feed.readings == len(data) == 2 * 20 - 5
    assert feed.time_of(10) == START.value
    # machine 2 is silent from step 12 to 16
    sent = (data.time_ns[data.stream == 1] - START.value) // MINUTE_NS
    assert sent.tolist() == [0, 1, *range(7, 20)]
    assert np.isfinite(data.values).all()


def test_a_fault_is_caught_by_the_first_alert_of_its_machine_while_it_lasts(feed: Feed) -> None:
    faults = [Fault("spike", 0, 12, 4), Fault("drift", 1, 14, 4)]
    told = [alert(feed, 0, 15), alert(feed, 0, 14), alert(feed, 0, 20, RESOLVE), alert(feed, 0, 13, "update")]

    judgement = judge(feed, faults, told)

    assert judgement.delays_ns == [2 * MINUTE_NS, None]
    assert (judgement.caught, judgement.false) == (1, [])


def test_an_alert_of_another_machine_or_long_after_is_false(feed: Feed) -> None:
    faults = [Fault("spike", 0, 12, 4)]
    late, other = alert(feed, 0, 16 + GRACE_STEPS + 1), alert(feed, 1, 13)
    in_time = alert(feed, 0, 16 + GRACE_STEPS)

    assert judge(feed, faults, [late, other, in_time]).false == [late, other]


def test_the_summary_counts(feed: Feed) -> None:
    faults = [Fault("spike", 0, 12, 4), Fault("dropout", 1, 12, 5)]
    told = [alert(feed, 0, 13), alert(feed, 0, 18, RESOLVE)]
    console = Console(record=True, width=120, file=io.StringIO())

    print_summary(console, feed, judge(feed, faults, told), told)

    assert "1 of 2 faults caught, 0 false alert(s) in 0.0 machine-days, 1 incident(s) resolved" in console.export_text()


def test_without_an_anomaly_there_is_nothing_to_plot(feed: Feed, tmp_path: Path) -> None:
    told = [alert(feed, 1, 13, kind=SILENCE)]

    with pytest.raises(DataError, match="no incident to draw: no anomaly was caught"):
        draw_highest_peak(tiny.settings(), tiny.VERSION, feed, told, tmp_path)
