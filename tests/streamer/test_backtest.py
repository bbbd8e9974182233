"""A backtest gives the scores and alerts that the daemon gives, and writes them down."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.detector import Detector
from streamer import backtest
from streamer.datafiles import DataSet
from streamer.errors import DataError
from streamer.pipeline import Pipeline
from tests import tiny
from tests.tiny import MINUTE_NS, VERSION


def data(rows: int = 200) -> DataSet:
    """Two streams, one with a fault, with a row that is incomplete and one that comes twice."""
    values = np.stack([tiny.wave(rows, seed=7), tiny.wave(rows, seed=8, level=10)], 1).reshape(-1, 2).astype(np.float64)
    values[200:220:2, 1] += 8
    values[50 % len(values), 0] = np.nan
    times = tiny.START_NS + np.repeat(np.arange(rows), 2) * MINUTE_NS
    if rows > 150:
        times[301] = times[299]
    return DataSet(["a", "b"], np.tile([0, 1], rows), times, values)


def test_a_backtest_scores_as_the_stations_of_the_daemon_do(tiny_detector: Detector) -> None:
    some = data()
    pipeline = Pipeline(tiny.settings(), tiny_detector, VERSION)
    pipeline.streams.add("a")
    pipeline.streams.add("b")

    result = backtest.run(tiny.settings(), tiny_detector, VERSION, some)

    live = np.full(len(some), np.nan, np.float32)
    alerts = []
    for part in some.batches(17):  # as small polls would bring them
        outcome = pipeline.process(part.take(some.complete[part.offset]))
        live[outcome.readings.offset] = outcome.scores.score
        alerts += outcome.alerts
    assert result.score == pytest.approx(live, rel=1e-5, nan_ok=True)
    assert [alert.alert_id for alert in result.alerts] == [alert.alert_id for alert in alerts]
    assert (result.skipped, result.duplicates, result.late) == (1, 1, 0)


def test_scores_are_causal(tiny_detector: Detector) -> None:
    whole = backtest.run(tiny.settings(), tiny_detector, VERSION, data()).score

    half = backtest.run(tiny.settings(), tiny_detector, VERSION, data().select(np.arange(400) < 200)).score

    assert half == pytest.approx(whole[:200], rel=1e-5, nan_ok=True)


def test_a_backtest_writes_scores_alerts_and_a_report(tiny_detector: Detector, tmp_path: Path) -> None:
    some = data()
    result = backtest.run(tiny.settings(), tiny_detector, VERSION, some)

    backtest.write(result, some, tiny.settings(), VERSION, tmp_path / "deep" / "out")

    table = pd.read_csv(tmp_path / "deep" / "out" / "scores.csv")
    assert list(table.columns[:3]) == ["stream", "timestamp", "score"]
    assert len(table) == len(some)
    assert table["score"].to_numpy() == pytest.approx(result.score, rel=1e-6, nan_ok=True)
    lines = (tmp_path / "deep" / "out" / "alerts.jsonl").read_text().splitlines()
    assert [json.loads(line)["alert_id"] for line in lines] == [alert.alert_id for alert in result.alerts]
    assert {"open", "resolve"} <= {json.loads(line)["event"] for line in lines}
    assert VERSION in (tmp_path / "deep" / "out" / "report.html").read_text()


def test_a_summary_counts(tiny_detector: Detector) -> None:
    some = data()

    summary = backtest.summary(backtest.run(tiny.settings(), tiny_detector, VERSION, some), some)

    assert (summary["readings"], summary["streams"], summary["skipped"]) == (400, 2, 1)
    assert summary["scored"] == 400 - 1 - 1 - 2 * (tiny.LENGTH - 1)
    assert summary["incidents"] >= 1


def test_a_directory_that_cannot_be_written_is_an_error_of_data(tiny_detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    some = data(20)
    result = backtest.run(tiny.settings(), tiny_detector, VERSION, some)

    with pytest.raises(DataError, match="--out: wanted a writable directory"):
        backtest.write(result, some, tiny.settings(), VERSION, tmp_path / "file" / "out")
