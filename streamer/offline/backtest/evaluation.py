"""Evaluation of a backtest: incidents as spans of time, how often they occur, and how they match labels.

    gather     alerts -> incidents
    runs       a column of 0 and 1 -> labelled incidents, its runs of ones
    evaluate   both -> which labelled incidents were caught and how late, which reported ones were false
    calendar   incidents of each stream on each day

A reported incident *matches* a labelled one of its stream if the time from its onset to its last anomalous reading
(score at least 1.0) overlaps the time from the label's first to its last reading. Pure. Not inside: files, plots,
ranking metrics.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamer.core.alerts import Alert, Attribution
from streamer.core.events import ANOMALY, RESOLVE, Event, severity
from streamer.core.grouping import Ints, group

DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Timeline:
    """Some readings of a data set, ordered by stream, then time."""

    rows: Ints  # (n,) their row numbers in the data
    stream: Ints  # (n,)
    time_ns: Ints  # (n,)

    @classmethod
    def of(cls, stream: Ints, time_ns: Ints, which: NDArray[np.bool_] | None = None) -> Timeline:
        some = np.arange(len(stream)) if which is None else np.flatnonzero(which)
        rows = some[np.lexsort((time_ns[some], stream[some]))]
        return cls(rows, stream[rows], time_ns[rows])

    def part(self, stream: int, begin_ns: int | None = None, end_ns: int | None = None) -> slice:
        """Where a stream's readings from one time to another, both included, stand in the columns."""
        first, last = np.searchsorted(self.stream, [stream, stream + 1]).tolist()
        times = self.time_ns[first:last]
        low = 0 if begin_ns is None else int(np.searchsorted(times, begin_ns))
        high = len(times) if end_ns is None else int(np.searchsorted(times, end_ns, side="right"))
        return slice(first + low, first + high)

    def spans(self) -> tuple[Ints, Ints, Ints]:
        """Streams with readings, and the times of the first and the last of each, ns."""
        groups = group(self.stream)
        return groups.codes, self.time_ns[groups.begin], self.time_ns[groups.begin + groups.count - 1]

    @property
    def stream_days(self) -> float:
        _, first, last = self.spans()
        return float((last - first).sum() / DAY_NS)


@dataclass(frozen=True, slots=True)
class Incident:
    """One reported anomaly; times are event times in ns."""

    id: str
    stream: int
    onset_ns: int  # first anomalous reading
    opened_ns: int  # time of the opening alert
    last_ns: int  # last reading with a score of at least 1.0
    end_ns: int  # when it resolved, or the stream's last reading
    resolved: bool
    peak: float
    peak_row: int  # reading with the highest score
    summary: str  # of the alert with the highest peak
    attribution_history: tuple[tuple[int, tuple[Attribution, ...]], ...]  # time and attributions of each alert
    rated: str | None = None  # severity of the newest alert
    muted: str | None = None  # why nobody would have been told of it

    @property
    def severity(self) -> str:
        return self.rated or severity(self.peak)

    @property
    def attributions(self) -> tuple[Attribution, ...]:
        """Attributions of the last alert, which is nearest to the peak."""
        return self.attribution_history[-1][1] if self.attribution_history else ()


@dataclass(frozen=True, slots=True)
class Labelled:
    """One labelled incident, and what became of it."""

    stream: int
    begin_ns: int  # first labelled reading
    end_ns: int  # last labelled reading
    readings: int
    incident: Incident | None = None  # the first reported one to open of those that match; None: missed
    delay_ns: int = 0  # from begin to the opening alert; 0 if that came before
    delay_readings: int = 0  # likewise

    @property
    def open_already(self) -> bool:
        """Reported before the label began, so the alert was about something else, or the label is late."""
        return self.incident is not None and self.incident.opened_ns < self.begin_ns


@dataclass(frozen=True, slots=True)
class Verdict:
    """A run compared with labels."""

    labelled: list[Labelled]
    incidents: int
    false: list[Incident]  # those that match no label
    clean_days: float  # stream-days that are not labelled

    @property
    def caught(self) -> list[Labelled]:
        return [one for one in self.labelled if one.incident]

    def figures(self) -> dict[str, float]:
        """Operational figures; NaN where undefined. Delays exclude incidents that were already open."""
        fresh = [one for one in self.caught if not one.open_already]
        delays = np.array([[one.delay_ns / 1e9, one.delay_readings] for one in fresh] or [[np.nan, np.nan]])
        (typical_s, typical), (worst_s, worst) = np.median(delays, 0).tolist(), delays.max(0).tolist()
        false_a_day = len(self.false) / self.clean_days if self.clean_days > 0 else np.nan
        return {
            "labelled_incidents": len(self.labelled),
            "caught": len(self.caught),
            "caught_open_already": len(self.caught) - len(fresh),
            "median_delay_s": typical_s,
            "worst_delay_s": worst_s,
            "median_delay_readings": typical,
            "worst_delay_readings": worst,
            "false_incidents": len(self.false),
            "false_per_stream_day": false_a_day,
            "false_per_stream_week": 7 * false_a_day,
            "precision_of_incidents": 1 - len(self.false) / self.incidents if self.incidents else np.nan,
        }


@dataclass(frozen=True, slots=True)
class Calendar:
    """Incidents that opened, by stream and by day (UTC), or by spans of several days."""

    streams: list[int]  # a row each: those with most incidents
    begin_day: int  # of the first column, days since 1970
    step_days: int  # days in a column
    counts: Ints  # (streams, columns)
    others: Ints  # (columns,) of all other streams together
    other_streams: int


def gather(
    alerts: Sequence[Alert], events: Sequence[Event], timeline: Timeline, score: NDArray[np.float32]
) -> list[Incident]:
    """Reported anomalies, in the order in which they opened.

    Args:
        alerts: Of a run, in its order.
        events: What each is about.
        timeline: Admitted readings.
        score: Of each reading of the data.
    """
    by_incident: dict[str, list[tuple[Alert, Event]]] = {}
    for alert, event in zip(alerts, events, strict=True):
        if event.kind == ANOMALY:
            by_incident.setdefault(alert.incident_id, []).append((alert, event))
    return [_incident(some, timeline, score) for some in by_incident.values()]


def _incident(messages: Sequence[tuple[Alert, Event]], timeline: Timeline, score: NDArray[np.float32]) -> Incident:
    (first, opening), (latest, newest) = messages[0], messages[-1]
    resolved = newest.event == RESOLVE
    part = timeline.part(opening.code, opening.onset_ns, newest.at_ns if resolved else None)
    scores = np.nan_to_num(score[timeline.rows[part]])
    times = timeline.time_ns[part]
    unresolved = [(alert, event) for alert, event in messages if event.event != RESOLVE]
    return Incident(
        id=first.incident_id,
        stream=opening.code,
        onset_ns=opening.onset_ns,
        opened_ns=opening.at_ns,
        last_ns=int(times[scores >= 1.0].max(initial=opening.at_ns)),
        end_ns=int(times[-1]),
        resolved=resolved,
        peak=float(scores.max()),
        peak_row=int(timeline.rows[part][scores.argmax()]),
        summary=unresolved[-1][0].summary,
        attribution_history=tuple(
            (event.at_ns, tuple(alert.features)) for alert, event in unresolved if alert.features
        ),
        rated=latest.severity,
        muted=latest.muted,
    )


def runs(label: NDArray[np.bool_], timeline: Timeline) -> list[Labelled]:
    """Labelled incidents: each run of labelled readings of a stream, in time order, without another between them.

    Args:
        label: Of each reading of the data.
        timeline: All readings, whether they could be scored or not.
    """
    ones = np.flatnonzero(label[timeline.rows])
    if not len(ones):
        return []
    apart = (np.diff(ones) > 1) | (np.diff(timeline.stream[ones]) != 0)
    begins, ends = ones[np.append(True, apart)], ones[np.append(apart, True)]
    return [
        Labelled(int(timeline.stream[b]), int(timeline.time_ns[b]), int(timeline.time_ns[e]), int(e - b + 1))
        for b, e in zip(begins, ends, strict=True)
    ]


def evaluate(labelled: Sequence[Labelled], incidents: Sequence[Incident], timeline: Timeline) -> Verdict:
    """Which labelled incidents were caught, how late, and which incidents are false.

    Args:
        labelled: From `runs`.
        incidents: From `gather`.
        timeline: Admitted readings.
    """
    ours: dict[int, list[Incident]] = {}
    for incident in sorted(incidents, key=lambda one: one.opened_ns):
        ours.setdefault(incident.stream, []).append(incident)
    matching: set[str] = set()
    compared = []
    for one in labelled:
        found = [i for i in ours.get(one.stream, ()) if i.onset_ns <= one.end_ns and i.last_ns >= one.begin_ns]
        matching |= {incident.id for incident in found}
        if found:
            readings = timeline.part(one.stream, one.begin_ns, found[0].opened_ns)
            late = max(0, readings.stop - readings.start - 1)
            one = replace(
                one, incident=found[0], delay_ns=max(0, found[0].opened_ns - one.begin_ns), delay_readings=late
            )
        compared.append(one)
    labelled_days = sum(one.end_ns - one.begin_ns for one in labelled) / DAY_NS
    false = [incident for incident in incidents if incident.id not in matching]
    return Verdict(compared, len(incidents), false, max(0.0, timeline.stream_days - labelled_days))


def calendar(incidents: Sequence[Incident], timeline: Timeline, *, most_streams: int, most_columns: int) -> Calendar:
    """Incidents that opened, by stream and day; by longer spans where there would be too many days."""
    codes, first, last = timeline.spans()
    begin, end = int(first.min()) // DAY_NS, int(last.max()) // DAY_NS
    fitting = (step for step in (1, 7, 28, 91, 364) if (end - begin) // step < most_columns)
    step = next(fitting, -(-(end - begin + 1) // most_columns))
    columns = (end - begin) // step + 1
    by_stream = Counter(incident.stream for incident in incidents)
    streams = sorted(codes.tolist(), key=lambda code: (-by_stream[code], code))[:most_streams]
    place = {code: i for i, code in enumerate(streams)}
    counts = np.zeros((len(streams) + 1, columns), np.int64)
    for incident in incidents:
        counts[place.get(incident.stream, -1), (incident.opened_ns // DAY_NS - begin) // step] += 1
    return Calendar(streams, begin, step, counts[:-1], counts[-1], len(codes) - len(streams))


def likely_range(count: int) -> tuple[float, float]:
    """95 % confidence interval of the mean of a Poisson distribution of which `count` was observed.

    By the approximation of Wilson and Hilferty, 1931, within 3 %; the lower
    bound for a single event, where the approximation is poor, is exact.

    >>> [round(bound, 1) for bound in likely_range(5)]
    [1.6, 11.7]
    """
    low, high = count, count + 1
    if count > 1:
        lowest = low * (1 - 1 / (9 * low) - 1.96 / (3 * low**0.5)) ** 3
    else:
        lowest = -math.log(0.975) if count else 0.0
    return lowest, high * (1 - 1 / (9 * high) + 1.96 / (3 * high**0.5)) ** 3
