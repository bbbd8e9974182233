"""Incidents from alerts, labelled runs, and who touches whom; time drawn as pictures."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from streamer.core.alerts import Alert, Attribution
from streamer.core.alerts import build as tell
from streamer.core.events import ANOMALY, OPEN, RESOLVE, SILENCE, UPDATE, Event
from streamer.offline.backtest import evaluation
from streamer.offline.backtest.evaluation import DAY_NS, Incident, Labelled, Timeline
from tests.tiny import MINUTE_NS


def timeline(*picture: str) -> Timeline:
    """A stream for each string, a reading a minute for each sign in it but a blank."""
    streams, minutes = zip(
        *((s, t) for s, line in enumerate(picture) for t, x in enumerate(line) if x != " "), strict=True
    )
    return Timeline.of(np.array(streams), np.array(minutes) * MINUTE_NS)


def ours(onset: int, opened: int, last: int, *, stream: int = 0) -> Incident:
    """An incident of minutes; its id says which."""
    at = (onset * MINUTE_NS, opened * MINUTE_NS, last * MINUTE_NS, (last + 5) * MINUTE_NS)
    return Incident(f"{stream}:{onset}", stream, *at, True, 2.0, 0, "", ())


def label(begin: int, end: int, *, stream: int = 0) -> Labelled:
    return Labelled(stream, begin * MINUTE_NS, end * MINUTE_NS, end - begin + 1)


def test_labelled_incidents_are_the_runs_of_ones_of_each_stream() -> None:
    # rows come mixed; stream 1 has a one at its begin, right after those that end stream 0
    text = {0: "0110001", 1: "1100100"}
    stream = np.tile([0, 1], 7)
    time_ns = np.repeat(np.arange(7), 2) * MINUTE_NS
    ones = np.array([text[s][t // MINUTE_NS] == "1" for s, t in zip(stream.tolist(), time_ns.tolist(), strict=True)])

    found = evaluation.runs(ones, Timeline.of(stream, time_ns))

    assert [(f.stream, f.begin_ns // MINUTE_NS, f.end_ns // MINUTE_NS, f.readings) for f in found] == [
        (0, 1, 2, 2),
        (0, 6, 6, 1),
        (1, 0, 1, 2),
        (1, 4, 4, 1),
    ]


def test_no_labels_are_no_labelled_incidents() -> None:
    assert evaluation.runs(np.zeros(5, bool), timeline("-----")) == []


@pytest.mark.parametrize(
    ("incident", "caught"),
    [
        # minute   0         1         2
        #          0123456789012345678901234
        # label              [--------]
        (ours(12, 14, 16), True),  # inside
        (ours(2, 4, 10), True),  # its last anomalous reading is the label's first
        (ours(19, 21, 24), True),  # begins with the label's last, reported after it
        (ours(5, 7, 22), True),  # all over it
        (ours(2, 4, 9), False),  # over before, if only just; the quiet time until it resolves does not count
        (ours(20, 22, 24), False),  # begins after
        (ours(12, 14, 16, stream=1), False),  # another stream
    ],
)
def test_an_incident_matches_a_label_if_it_was_anomalous_within_it(incident: Incident, caught: bool) -> None:
    verdict = evaluation.evaluate([label(10, 19)], [incident], timeline("-" * 25, "-" * 25))

    assert bool(verdict.caught) is caught
    assert verdict.false == ([] if caught else [incident])
    assert verdict.figures()["precision_of_incidents"] == float(caught)


def test_delay_runs_from_the_labels_begin_to_the_first_alert() -> None:
    # minute 10 is labelled from; 13 sent nothing, so 15 is the fourth reading after 10
    line = timeline("-" * 13 + " " + "-" * 10)

    verdict = evaluation.evaluate([label(10, 19)], [ours(16, 18, 18), ours(12, 15, 15)], line)

    (one,) = verdict.labelled
    assert one.incident is not None
    assert one.incident.id == "0:12"
    assert (one.delay_ns, one.delay_readings, one.open_already) == (5 * MINUTE_NS, 4, False)
    assert verdict.false == []  # the other touches too


def test_what_was_told_before_the_label_began_is_caught_but_counts_for_no_delay() -> None:
    labels = [label(10, 12), label(15, 19), label(22, 22)]

    figures = evaluation.evaluate(labels, [ours(2, 4, 16), ours(22, 24, 24)], timeline("-" * 30)).figures()

    assert (figures["labelled_incidents"], figures["caught"], figures["caught_open_already"]) == (3, 3, 2)
    assert (figures["median_delay_s"], figures["worst_delay_readings"]) == (120, 2)


def test_false_incidents_are_counted_against_time_without_labels() -> None:
    line = Timeline.of(np.zeros(11, np.int64), np.arange(11) * DAY_NS)  # ten days
    labels = [Labelled(0, 2 * DAY_NS, 4 * DAY_NS, 3)]
    false = Incident("x", 0, 6 * DAY_NS, 7 * DAY_NS, 8 * DAY_NS, 9 * DAY_NS, True, 2.0, 0, "", ())

    figures = evaluation.evaluate(labels, [false], line).figures()

    assert figures["false_per_stream_day"] == pytest.approx(1 / 8)
    assert figures["false_per_stream_week"] == pytest.approx(7 / 8)
    assert (figures["caught"], figures["precision_of_incidents"]) == (0, 0)
    assert np.isnan(figures["median_delay_s"])


def alert(event: Event, *parts: Attribution) -> Alert:
    return tell(event, topic="t", stream=f"s{event.code}", attributions=parts, model_version="v", dashboard_url=None)


def test_an_incident_is_gathered_from_its_alerts() -> None:
    # minute  0    1    2    3    4    5    6    7    8    9
    score = [0.1, 1.2, 1.1, 4.0, 0.9, 1.5, 0.2, 0.1, 0.1, 1.3]
    line = timeline("-" * 10)
    parts = Attribution("a", 0.9, 1.0, 2.0), Attribution("b", 0.1, 1.0, 2.0)
    events = [
        Event(OPEN, ANOMALY, 0, MINUTE_NS, 2 * MINUTE_NS, 1.1, 1.2, 2),
        Event(OPEN, SILENCE, 0, MINUTE_NS, 2 * MINUTE_NS, 0.0, 0.0, 2),
        Event(UPDATE, ANOMALY, 0, MINUTE_NS, 3 * MINUTE_NS, 4.0, 4.0, 3),
        Event(RESOLVE, ANOMALY, 0, MINUTE_NS, 8 * MINUTE_NS, 0.1, 4.0, 8),
        Event(OPEN, ANOMALY, 0, 9 * MINUTE_NS, 9 * MINUTE_NS, 1.3, 1.3, 9),
    ]
    alerts = [alert(events[0], *parts), alert(events[1]), alert(events[2], *parts[::-1]), *map(alert, events[3:])]

    first, second = evaluation.gather(alerts, events, line, np.array(score, np.float32))

    times = [first.onset_ns, first.opened_ns, first.last_ns, first.end_ns]
    assert [t // MINUTE_NS for t in times] == [1, 2, 5, 8]
    assert (first.resolved, first.peak, first.peak_row, first.severity) == (True, 4.0, 3, "critical")
    assert [at // MINUTE_NS for at, _ in first.attribution_history] == [2, 3]
    assert first.attributions == parts[::-1]
    assert "peak score 4.0" in first.summary
    assert (second.resolved, second.end_ns // MINUTE_NS, second.attributions) == (False, 9, ())


def test_a_calendar_has_a_row_for_streams_with_most_incidents_and_one_for_the_others() -> None:
    line = Timeline.of(np.repeat([0, 1, 2], 2), np.tile([0, 3 * DAY_NS], 3))
    found = [
        Incident(f"{k}", stream, 0, day * DAY_NS + 5, 0, 0, True, 2.0, 0, "", ())
        for k, (stream, day) in enumerate([(1, 0), (1, 0), (1, 3), (2, 1), (0, 3), (0, 2)])
    ]

    calendar = evaluation.calendar(found, line, most_streams=2, most_columns=10)

    assert (calendar.streams, calendar.begin_day, calendar.step_days) == ([1, 0], 0, 1)
    assert calendar.counts.tolist() == [[2, 0, 0, 1], [0, 0, 1, 1]]
    assert (calendar.others.tolist(), calendar.other_streams) == ([0, 1, 0, 0], 1)


@pytest.mark.parametrize(("days", "step"), [(9, 1), (10, 7), (69, 7), (70, 28), (50_000, 5001)])
def test_a_calendar_of_many_days_joins_them(days: int, step: int) -> None:
    line = Timeline.of(np.zeros(2, np.int64), np.array([0, days * DAY_NS]))

    calendar = evaluation.calendar([], line, most_streams=5, most_columns=10)

    assert calendar.step_days == step
    assert calendar.counts.shape[1] <= 10


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 100])
def test_the_likely_range_is_the_exact_one_of_poisson(count: int) -> None:

    low, high = evaluation.likely_range(count)

    assert low == pytest.approx(chi2.ppf(0.025, 2 * count) / 2 if count else 0, rel=0.1)
    assert high == pytest.approx(chi2.ppf(0.975, 2 * count + 2) / 2, rel=0.01)
