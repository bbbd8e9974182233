"""The report of a backtest, an HTML page of bounded size whatever the amount of data.

At most 12 streams are drawn, 200 incidents listed and 40 streams shown by day; the rest is counted. Plots are embedded,
so it is one file. Not inside: the figures (`evaluation`, `runner`), drawing (`plots`).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from models.detector import Detector
from streamer.config import Settings
from streamer.connectors.files import DataSet
from streamer.core.alerts import duration, iso
from streamer.offline.backtest import plots
from streamer.offline.backtest.embeddings import Neighbourhood
from streamer.offline.backtest.evaluation import (
    Calendar,
    Incident,
    Labelled,
    Timeline,
    Verdict,
    calendar,
    likely_range,
)
from streamer.offline.backtest.reconstruction import expected_series, run_begins

Float32 = NDArray[np.float32]

_STREAMS = 12  # drawn
_MISSED = 4  # of them, at most so many for what they missed
_OF_STREAM = 12  # incidents listed under a stream
_LISTED = 200  # incidents in the list of all
_NEIGHBOURED = 20  # incidents whose neighbours are shown
_ROWS, _COLUMNS = 40, 70  # streams and days in the calendar
_DATE_WIDTH = 48  # pixels of a date over the calendar
_LONGEST = 4000  # readings in the plot of one incident
_BEFORE = 2  # windows of readings before it


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a report shows."""

    version: str
    settings: Settings
    detector: Detector
    data: DataSet
    score: Float32
    timeline: Timeline
    incidents: list[Incident]
    verdict: Verdict | None
    neighbourhood: Neighbourhood | None
    figures: dict[str, float]
    files: list[str]


def render(facts: Facts) -> str:
    """The page."""
    numbers = {one.id: number for number, one in enumerate(facts.incidents, start=1)}
    colors = _colors(facts.incidents)
    drawn = _notable(facts)
    text = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    listed = sorted(sorted(facts.incidents, key=lambda one: -one.peak)[:_LISTED], key=lambda one: one.opened_ns)
    wanted = {one.id: one for one in [*listed, *(one for one in facts.incidents if one.stream in drawn)]}
    false = None if facts.verdict is None else {one.id for one in facts.verdict.false}
    lines = {one.id: _line(one, numbers, colors, facts.data.names, false) for one in wanted.values()}
    return environment.from_string(text).render(
        version=facts.version,
        figures=facts.figures,
        alerting=facts.settings.alerting,
        rate=_rate(facts),
        files=facts.files,
        span=_span(facts.timeline),
        colors=colors if len(facts.settings.features) > 1 else {},
        other_color=plots.OTHER_COLOR,
        calendar=_calendar(facts),
        labelled=_labelled(facts, numbers),
        streams=[_stream(code, facts, numbers, colors, lines) for code in drawn],
        incidents=[lines[one.id] for one in listed],
        map=_map(facts, numbers),
    )


def _rate(facts: Facts) -> dict[str, Any]:
    """The rate of false incidents, or of all, against the budget."""
    verdict = facts.verdict
    count = len(facts.incidents) if verdict is None else len(verdict.false)
    weeks = (facts.timeline.stream_days if verdict is None else verdict.clean_days) / 7
    budget = facts.settings.alerting.budget_per_stream_per_week
    low, high = likely_range(count)
    allowed = budget * weeks
    return {
        "count": count,
        "weeks": weeks,
        "budget": budget,
        "per_week": count / weeks if weeks else np.nan,
        "times": count / allowed if allowed else np.nan,
        "low": low / allowed if allowed else np.nan,
        "high": high / allowed if allowed else np.nan,
    }


def _span(timeline: Timeline) -> tuple[str, str] | None:
    if not len(timeline.rows):
        return None
    return _when(int(timeline.time_ns.min())), _when(int(timeline.time_ns.max()))


def _notable(facts: Facts) -> list[int]:
    """Streams to draw: some with most labelled incidents missed, then those with the highest scores."""
    missed: dict[int, int] = {}
    for one in facts.verdict.labelled if facts.verdict else ():
        if one.incident is None:
            missed[one.stream] = missed.get(one.stream, 0) + 1
    first = sorted(missed, key=lambda code: (-missed[code], code))[:_MISSED]
    codes = facts.timeline.spans()[0] if len(facts.timeline.rows) else np.empty(0, np.int64)
    peaks = np.zeros(len(facts.data.names))
    np.maximum.at(peaks, facts.data.stream, np.nan_to_num(facts.score))
    rest = [code for code in sorted(codes.tolist(), key=lambda code: (-peaks[code], code)) if code not in first]
    chosen = [*first, *rest][:_STREAMS]
    return sorted(chosen, key=lambda code: (-peaks[code], code))


def _colors(incidents: Sequence[Incident]) -> dict[str, str]:
    """A colour for each of the features that count most, over all incidents."""
    total: dict[str, float] = {}
    for one in incidents:
        for part in one.attributions:
            total[part.name] = total.get(part.name, 0.0) + part.share
    most = sorted(total, key=lambda name: -total[name])
    return dict(zip(most, plots.COLORS, strict=False))


def _line(
    one: Incident,
    numbers: Mapping[str, int],
    colors: Mapping[str, str],
    names: Sequence[str],
    false: set[str] | None,
) -> dict[str, Any]:
    """One incident in a table."""
    shares = [(p.name, p.share, colors[p.name]) for p in one.attributions if p.name in colors and p.share >= 0.005]
    return {
        "number": numbers[one.id],
        "id": one.id,
        "stream": names[one.stream],
        "onset": _when(one.onset_ns),
        "reported_after": duration(one.opened_ns - one.onset_ns),
        "lasted": duration(one.end_ns - one.onset_ns) + ("" if one.resolved else ", still open"),
        "peak": one.peak,
        "severity": one.severity,
        "muted": one.muted,
        "summary": one.summary,
        "shares": shares,
        "top": [(p.name, p.share) for p in one.attributions[:3] if p.share >= 0.005],
        "label": None if false is None else "false" if one.id in false else "labelled",
    }


def _calendar(facts: Facts) -> dict[str, Any] | None:
    if not len(facts.timeline.rows):
        return None
    found: Calendar = calendar(facts.incidents, facts.timeline, most_streams=_ROWS, most_columns=_COLUMNS)
    most = max(1, int(found.counts.max(initial=0)), 1)
    days = [np.datetime64(found.begin_day + i * found.step_days, "D").item() for i in range(found.counts.shape[1])]
    width = min(44, max(11, 760 // len(days)))  # pixels of a column
    every = -(-_DATE_WIDTH // width)
    groups = [(days[i].strftime("%d %b"), min(every, len(days) - i)) for i in range(0, len(days), every)]
    rows = [
        (facts.data.names[code], [(n, (n / most) ** 0.5) for n in counts], sum(counts))
        for code, counts in zip(found.streams, found.counts.tolist(), strict=True)
    ]
    others = found.others.tolist()
    return {
        "days": [day.isoformat() for day in days],
        "groups": groups,
        "step": found.step_days,
        "width": width,
        "rows": rows,
        "others": (found.other_streams, others, sum(others)),
    }


def _labelled(facts: Facts, numbers: Mapping[str, int]) -> dict[str, Any] | None:
    if facts.verdict is None:
        return None
    some = sorted(facts.verdict.labelled, key=lambda one: (one.incident is not None, one.begin_ns))[:_LISTED]
    lines = [
        {
            "stream": facts.data.names[one.stream],
            "begin": _when(one.begin_ns),
            "lasted": duration(one.end_ns - one.begin_ns),
            "readings": one.readings,
            "number": None if one.incident is None else numbers[one.incident.id],
            "open_already": one.open_already,
            "delay": duration(one.delay_ns),
            "delay_readings": one.delay_readings,
        }
        for one in sorted(some, key=lambda one: one.begin_ns)
    ]
    figures = facts.verdict.figures()
    typical, worst = figures["median_delay_s"], figures["worst_delay_s"]
    delays = [] if np.isnan(typical) else [duration(int(1e9 * typical)), duration(int(1e9 * worst))]
    return {"lines": lines, "left_out": len(facts.verdict.labelled) - len(lines), "delays": delays}


def _stream(
    code: int,
    facts: Facts,
    numbers: Mapping[str, int],
    colors: Mapping[str, str],
    lines: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    """Plots and incidents of one stream."""
    name, features = facts.data.names[code], facts.settings.features
    rows = facts.timeline.rows[facts.timeline.part(code)]
    time_ns, score = facts.data.time_ns[rows], facts.score[rows]
    values = facts.data.values[rows, : len(features)]
    mine = [one for one in facts.incidents if one.stream == code]
    known = [one for one in facts.verdict.labelled if one.stream == code] if facts.verdict else []
    most = sorted(sorted(mine, key=lambda one: -one.peak)[:_OF_STREAM], key=lambda one: one.onset_ns)
    shown = _order(mine, features)
    overview = plots.draw_stream(
        f"{len(shown)} of {len(features)} features" if len(shown) < len(features) else "",
        time_ns,
        values,
        score,
        features,
        shown,
        mine,
        known,
        {numbers[one.id]: one.onset_ns for one in most},
    )
    top = max(mine, key=lambda one: one.peak, default=None)
    return {
        "name": name,
        "overview": _inline(overview),
        "closer": None if top is None else _inline(_closer(top, numbers[top.id], facts, colors, known, code)),
        "incidents": [lines[one.id] for one in most],
        "left_out": len(mine) - len(most),
    }


def _closer(
    one: Incident,
    number: int,
    facts: Facts,
    colors: Mapping[str, str],
    known: Sequence[Labelled],
    code: int,
) -> bytes:
    """The plot of one incident: observed and expected values, and the features behind it."""
    name, features = facts.data.names[code], facts.settings.features
    whole, during = facts.timeline.part(code), facts.timeline.part(code, one.onset_ns, one.end_ns)
    window = facts.detector.architecture.window
    before = max(_BEFORE * window, (during.stop - during.start) // 2)
    begin = max(whole.start, during.start - min(before, _LONGEST // 4))
    end = min(whole.stop, during.stop + window, begin + _LONGEST)
    warm = max(whole.start, begin - 2 * window)
    rows = facts.timeline.rows[warm:end]
    values = facts.data.values[rows].astype(np.float32)
    times, resets = facts.timeline.time_ns[warm:end], facts.settings.pipeline_options().resets
    begins = run_begins(facts.timeline.stream[warm:end], times, resets)
    expected, error = expected_series(facts.detector, values, int(facts.detector.rows([name])[0]), begins)
    shown, rows = slice(begin - warm, None), rows[begin - warm :]
    time_ns = facts.data.time_ns[rows]
    first, last = int(time_ns[0]), int(time_ns[-1])
    return plots.draw_incident(
        f"{name}, incident {number}, {_when(one.onset_ns)} UTC: peak {one.peak:.1f} times the alert line",
        time_ns,
        values[shown, : len(features)],
        expected[shown],
        error[shown],
        facts.score[rows],
        features,
        [features.index(part.name) for part in one.attributions][:4] or [0],
        (one.onset_ns, min(one.end_ns, last)),
        attributions=[(at, some) for at, some in one.attribution_history if at <= last] if len(features) > 1 else [],
        colors=colors,
        labelled=[
            (max(k.begin_ns, first), min(k.end_ns, last)) for k in known if k.end_ns >= first and k.begin_ns <= last
        ],
    )


def _order(incidents: Sequence[Incident], features: Sequence[str]) -> list[int]:
    """Features by their part in the incidents, those without any in the order of the configuration; at most six."""
    total = dict.fromkeys(features, 0.0)
    for one in incidents:
        for part in one.attributions:
            total[part.name] += part.share
    return sorted(range(len(features)), key=lambda f: -total[features[f]])[:6]


def _map(facts: Facts, numbers: Mapping[str, int]) -> dict[str, Any] | None:
    found = facts.neighbourhood
    if found is None:
        return None
    most = sorted(range(len(facts.incidents)), key=lambda k: -facts.incidents[k].peak)[:_NEIGHBOURED]
    image = plots.draw_map(found.points, found.score, found.peaks[most], [numbers[facts.incidents[k].id] for k in most])
    lines = []
    for k in most:
        one = facts.incidents[k]
        mine = found.nearest[found.nearest["incident"] == one.id]
        near = mine[mine["kind"] == "incident"]
        normal = mine[mine["kind"] == "normal"]
        lines.append(
            {
                "number": numbers[one.id],
                "stream": facts.data.names[one.stream],
                "near": [
                    (numbers[other], stream, distance)
                    for other, stream, distance in zip(
                        near["neighbour_incident"], near["neighbour_stream"], near["distance"], strict=True
                    )
                ],
                "normal": None if normal.empty else float(normal["distance"].iloc[0]),
            }
        )
    return {"image": _inline(image), "lines": lines}


def _inline(image: bytes) -> str:
    return base64.b64encode(image).decode()


def _when(time_ns: int) -> str:
    return iso(time_ns)[:16].replace("T", " ")
