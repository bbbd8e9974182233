"""What a backtest comes to, and the files it writes.

    DIR/scores.csv           stream,timestamp,score,error,settled; one row per reading, empty while warming up;
                             with records.missing: fill also filled, the part of the window that was missing
    DIR/alerts.jsonl         the messages the daemon would have published
    DIR/report.html          what was found, how often, with plots
    DIR/labels.csv           with --labels: each labelled incident, caught or not, how late
    DIR/embeddings.parquet   with --embeddings: the embedding of each window; and DIR/nearest.csv
    DIR/rebuilt.parquet      with --reconstruction: the denoised signal, as reconstructed by the model

Not inside: the scoring (`running`), incidents and labels (`evaluation`), the page (`report`).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from models.detector import Detector
from streamer.config import Settings
from streamer.connectors.files import DataSet
from streamer.core.detectors import fitted
from streamer.core.events import OPEN, RULE_KINDS, SILENCE
from streamer.errors import DataError
from streamer.offline.backtest import evaluation, report
from streamer.offline.backtest.denoised import write_reconstruction
from streamer.offline.backtest.embeddings import EmbeddingWriter, Neighbourhood, neighbourhood
from streamer.offline.backtest.evaluation import Incident, Timeline, Verdict
from streamer.offline.backtest.running import Backtest, run

_CHUNK = 1 << 18  # rows of scores.csv written at once


@dataclass(frozen=True, slots=True)
class Findings:
    """What a run comes to."""

    timeline: Timeline  # admitted readings
    incidents: list[Incident]
    verdict: Verdict | None  # None without labels


def carry_out(
    settings: Settings,
    detector: Detector,
    version: str,
    data: DataSet,
    directory: Path,
    *,
    embeddings: bool = False,
    reconstruction: bool = False,
) -> dict[str, float]:
    """Score all of `data`, write everything that was asked for, and return the figures of `summary`.

    Raises:
        DataError: The directory cannot be written.
        ConfigError: The detector was made for other features or windows.
    """
    detector = fitted(settings.pipeline_options(), detector, version)
    with _writable(directory):
        directory.mkdir(parents=True, exist_ok=True)
        if not embeddings:
            result = run(settings, detector, version, data)
        else:
            with EmbeddingWriter(directory / "embeddings.parquet", settings, detector, data.names) as writer:
                result = run(settings, detector, version, data, watch=writer.push)
        data = result.data
        found = find(result)
        if reconstruction:
            write_reconstruction(
                directory / "rebuilt.parquet",
                detector,
                data,
                found.timeline,
                settings.features,
                settings.pipeline_options().resets,
            )
        near = None
        if embeddings:
            near = neighbourhood(
                directory / "embeddings.parquet",
                found.incidents,
                found.timeline,
                result.score,
                result.order,
                data.names,
                normal_below=settings.alerting.exit_below,
                window=settings.window.length,
            )
        write(
            result,
            settings,
            detector,
            version,
            directory,
            found=found,
            neighbours=near,
            reconstruction=reconstruction,
        )
    return summary(result, settings, found)


def find(result: Backtest) -> Findings:
    """Incidents of a run and, where the data have labels, what those say of them."""
    data = result.data
    timeline = Timeline.of(data.stream, data.time_ns, result.admitted)
    incidents = evaluation.gather(result.alerts, result.events, timeline, result.score)
    if data.label is None:
        return Findings(timeline, incidents, None)
    labelled = evaluation.runs(data.label, Timeline.of(data.stream, data.time_ns))
    return Findings(timeline, incidents, evaluation.evaluate(labelled, incidents, timeline))


def summary(result: Backtest, settings: Settings, found: Findings | None = None) -> dict[str, float]:
    """Figures of a run."""
    data, found = result.data, found or find(result)
    days = found.timeline.stream_days
    budget = settings.alerting.budget_per_stream_per_week
    weekly = 7 * len(found.incidents) / days if days else np.nan
    figures = {} if found.verdict is None else found.verdict.figures()
    false_weekly = figures.get("false_per_stream_week", weekly)
    return {
        "readings": len(data),
        "streams": len(np.unique(data.stream)),
        "stream_days": days,
        "scored": int((~np.isnan(result.score)).sum()),
        "incidents": len(found.incidents),
        "incidents_per_stream_week": weekly,
        "alerts": len(result.alerts),
        "alerts_per_stream_day": len(result.alerts) / days if days else np.nan,
        "silences": sum(event.kind == SILENCE and event.event == OPEN for event in result.events),
        **_rules(result, settings),
        **_muted(result, settings),
        **figures,
        "budget_per_stream_week": budget,
        "rate_to_budget": false_weekly / budget,
        "skipped": result.skipped,
        "duplicates": result.duplicates,
        "late": result.late,
        "outside": result.outside,
    }


def _rules(result: Backtest, settings: Settings) -> dict[str, int]:
    """Incidents by rule, where rules are on."""
    if not settings.rules_options().active:
        return {}
    opened = Counter(event.kind for event in result.events if event.event == OPEN)
    return {kind: opened[kind] for kind in RULE_KINDS}


def _muted(result: Backtest, settings: Settings) -> dict[str, int]:
    """Incidents of all kinds that nobody would have been told of, where anything mutes."""
    if settings.notifications.options() is None:
        return {}
    newest = {alert.incident_id: alert for alert in result.alerts}
    return {"muted": sum(alert.muted is not None for alert in newest.values())}


def write(
    result: Backtest,
    settings: Settings,
    detector: Detector,
    version: str,
    directory: Path,
    *,
    found: Findings | None = None,
    neighbours: Neighbourhood | None = None,
    reconstruction: bool = False,
) -> None:
    """Write scores, alerts, the report, and what goes with labels and embeddings if there are any.

    Raises:
        DataError: The directory cannot be written.
    """
    data, found = result.data, found or find(result)
    files = ["scores.csv", "alerts.jsonl"]
    with _writable(directory):
        directory.mkdir(parents=True, exist_ok=True)
        _write_scores(
            result, directory / "scores.csv", filled=settings.records.missing == "fill" or settings.time.active
        )
        with (directory / "alerts.jsonl").open("wb") as file:
            file.writelines(alert.encode() + b"\n" for alert in result.alerts)
        if found.verdict is not None:
            _label_table(found.verdict, data).to_csv(directory / "labels.csv", index=False)
            files.append("labels.csv")
        if neighbours is not None:
            neighbours.nearest.to_csv(directory / "nearest.csv", index=False, float_format="%.6g")
            files += ["embeddings.parquet", "nearest.csv"]
        if reconstruction:
            files.append("rebuilt.parquet")
        page = report.render(
            report.Facts(
                version=version,
                settings=settings,
                detector=detector,
                data=data,
                score=result.score,
                timeline=found.timeline,
                incidents=found.incidents,
                verdict=found.verdict,
                neighbourhood=neighbours,
                figures=summary(result, settings, found),
                files=files,
            )
        )
        (directory / "report.html").write_text(page, encoding="utf-8")


def _write_scores(result: Backtest, path: Path, *, filled: bool) -> None:
    data = result.data
    names = np.array(data.names, object)
    for i in range(0, len(data), _CHUNK):
        some = slice(i, i + _CHUNK)
        table = pd.DataFrame(
            {
                "stream": names[data.stream[some]],
                "timestamp": pd.to_datetime(pd.Series(data.time_ns[some]), utc=True),
                "score": result.score[some],
                "error": result.error[some],
                "settled": result.settled[some],
            }
        )
        if filled:
            table["filled"] = result.filled[some]
        if result.carried is not None:
            table["carried"] = result.carried[some]
        table.to_csv(path, mode="a" if i else "w", header=not i, index=False, float_format="%.8g")


def _label_table(verdict: Verdict, data: DataSet) -> pd.DataFrame:
    """`labels.csv`: one row for each labelled incident."""
    rows = [
        (
            data.names[one.stream],
            pd.Timestamp(one.begin_ns, unit="ns", tz="UTC"),
            pd.Timestamp(one.end_ns, unit="ns", tz="UTC"),
            one.readings,
            int(one.incident is not None),
            one.delay_ns / 1e9 if one.incident else None,
            one.delay_readings if one.incident else None,
            one.incident.id if one.incident else None,
        )
        for one in verdict.labelled
    ]
    columns = ["stream", "begin", "end", "readings", "caught", "delay_s", "delay_readings", "incident_id"]
    return pd.DataFrame(rows, columns=columns).astype({"delay_readings": "Int64"})


@contextlib.contextmanager
def _writable(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"--out: wanted a writable directory; {directory}: {error.strerror}") from None
