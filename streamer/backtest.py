"""`streamer backtest`: files through the very stations the daemon uses; scores, alerts, a report.

    DIR/scores.csv    stream,timestamp,score,error; one row per reading, causal, empty while warming up;
                      with records.missing: fill also filled, the part of the window that was missing
    DIR/alerts.jsonl  the messages the daemon would have published
    DIR/report.html   what was found, with pictures

Not inside: the stations (`pipeline`), the pictures (`picture`).
"""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.detector import Detector
from streamer import picture
from streamer.alerts import Alert
from streamer.config import Settings
from streamer.datafiles import DataSet
from streamer.errors import DataError
from streamer.events import OPEN
from streamer.pipeline import Pipeline
from streamer.progress import progress

log = logging.getLogger(__name__)
_BATCH = 4096
_PICTURES = 12  # streams drawn in the report, those with the highest peaks


@dataclass(frozen=True, slots=True)
class Backtest:
    """What a run gave; columns have one row per reading of the data, in its order."""

    score: NDArray[np.float32]  # NaN where no window closed
    error: NDArray[np.float32]
    filled: NDArray[np.float32]  # part of the window that was missing
    alerts: list[Alert]
    skipped: int  # rows with values that are no numbers
    duplicates: int
    late: int


def run(settings: Settings, detector: Detector, version: str, data: DataSet, *, batch: int = _BATCH) -> Backtest:
    """Score every reading of `data` causally.

    The scores are those the daemon gives for the same readings in the same order.
    """
    pipeline = Pipeline(settings, detector, version)
    for name in data.names:
        pipeline.streams.add(name)
    score = np.full(len(data), np.nan, np.float32)
    error = np.full(len(data), np.nan, np.float32)
    filled = np.full(len(data), np.nan, np.float32)
    complete = data.admitted(settings.records)
    alerts: list[Alert] = []
    duplicates = late = 0
    with progress("backtest", len(data)) as advance:
        for readings in data.batches(batch):
            outcome = pipeline.process(readings.take(complete[readings.offset]))
            score[outcome.readings.offset] = outcome.scores.score
            error[outcome.readings.offset] = outcome.scores.error
            filled[outcome.readings.offset] = outcome.scores.filled
            alerts += outcome.alerts
            duplicates, late = duplicates + outcome.duplicates, late + outcome.late
            advance(len(readings))
    return Backtest(score, error, filled, alerts, int((~complete).sum()), duplicates, late)


def write(result: Backtest, data: DataSet, settings: Settings, version: str, directory: Path) -> None:
    """Write scores, alerts and the report.

    Raises:
        DataError: The directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        stamps = pd.to_datetime(pd.Series(data.time_ns), utc=True)
        table = pd.DataFrame(
            {
                "stream": np.array(data.names, object)[data.stream],
                "timestamp": stamps,
                "score": result.score,
                "error": result.error,
            }
        )
        if settings.records.missing == "fill":
            table["filled"] = result.filled
        table.to_csv(directory / "scores.csv", index=False, float_format="%.8g")
        lines = b"".join(alert.encode() + b"\n" for alert in result.alerts)
        (directory / "alerts.jsonl").write_bytes(lines)
        (directory / "report.html").write_text(_report(result, data, settings, version), encoding="utf-8")
    except OSError as error:
        raise DataError(f"--out: wanted a writable directory; {directory}: {error.strerror}") from None


def summary(result: Backtest, data: DataSet) -> dict[str, float]:
    """Figures of a run."""
    opened = [alert for alert in result.alerts if alert.event == OPEN]
    span_s = _stream_seconds(data)
    return {
        "readings": len(data),
        "streams": len(np.unique(data.stream)),
        "scored": int((~np.isnan(result.score)).sum()),
        "incidents": len(opened),
        "incidents_per_stream_week": len(opened) / max(span_s / (7 * 86_400), 1e-9),
        "skipped": result.skipped,
        "duplicates": result.duplicates,
        "late": result.late,
    }


def _stream_seconds(data: DataSet) -> float:
    total = 0.0
    for times, _ in data.by_stream().values():
        total += float(times[-1] - times[0]) / 1e9
    return total


def _report(result: Backtest, data: DataSet, settings: Settings, version: str) -> str:
    peaks = pd.Series(result.score).groupby(data.stream).max().sort_values(ascending=False)
    pictures = []
    for code in peaks.index[:_PICTURES]:
        rows = data.stream == code
        name = data.names[code]
        image = picture.draw_stream(
            name,
            data.time_ns[rows],
            data.values[rows],
            result.score[rows],
            settings.records.features,
            [alert for alert in result.alerts if alert.stream == name],
        )
        pictures.append((name, base64.b64encode(image).decode()))
    environment = jinja2.Environment(autoescape=True)
    return environment.from_string(_PAGE).render(
        version=version,
        summary=summary(result, data),
        budget=settings.alerting.budget_per_stream_per_week,
        alerts=result.alerts,
        pictures=pictures,
    )


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>streamer backtest</title>
<style>
 body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; color: #1b1f24; padding: 0 1rem }
 td { overflow-wrap: anywhere } td:first-child { white-space: nowrap }
 table { border-collapse: collapse; width: 100% } td, th { padding: .3rem .6rem; text-align: left; vertical-align: top }
 tr:nth-child(even) { background: #f4f6f8 } th { border-bottom: 2px solid #d0d7de } img { max-width: 100% }
 .critical { color: #b3261e; font-weight: 600 } .warning { color: #9a6700; font-weight: 600 } .info { color: #57606a }
</style>
<h1>Backtest</h1>
<p>Bundle <code>{{ version }}</code>. {{ "{:,}".format(summary.readings) }} readings of {{ summary.streams }} stream(s),
{{ "{:,}".format(summary.scored) }} scored; {{ summary.incidents }} incident(s), that is
{{ "%.2f" | format(summary.incidents_per_stream_week) }} per stream and week. The alert line allows
{{ budget }} false one(s). {% if summary.skipped %}{{ summary.skipped }} row(s) were no numbers.{% endif %}
{% if summary.duplicates or summary.late %}{{ summary.duplicates }} duplicate(s), {{ summary.late }} late.
{% endif %}</p>
{% for name, image in pictures %}<h2>{{ name }}</h2>
<img alt="values and score of {{ name }}" src="data:image/png;base64,{{ image }}">{% endfor %}
<h2>Alerts</h2>
<table><tr><th>time</th><th>stream</th><th>event</th><th>severity</th><th>what</th></tr>
{% for alert in alerts %}<tr><td>{{ alert.time[:16] | replace("T", " ") }}</td><td>{{ alert.stream }}</td>
<td>{{ alert.event }}</td><td class="{{ alert.severity }}">{{ alert.severity }}</td>
<td>{{ alert.summary }}</td></tr>{% endfor %}
</table></html>
"""
