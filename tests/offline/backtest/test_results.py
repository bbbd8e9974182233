"""A backtest gives the scores and alerts that the daemon gives, and writes them down."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from models.detector import Detector
from streamer.connectors.files import DataSet
from streamer.core.pipeline import Pipeline
from streamer.core.retrospective import DELAY
from streamer.errors import DataError
from streamer.offline import backtest
from streamer.offline.backtest import embeddings, plots
from streamer.offline.backtest.reconstruction import expected_series
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
    pipeline = Pipeline(tiny.settings().pipeline_options(), tiny_detector, VERSION)
    pipeline.keys.add("a")
    pipeline.keys.add("b")

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


def test_a_settled_score_stands_beside_the_reading_it_is_of(tiny_detector: Detector) -> None:
    some = data()

    result = backtest.run(tiny.settings(), tiny_detector, VERSION, some, batch=31)

    for code in (0, 1):
        score = result.score[(some.stream == code) & ~np.isnan(result.score)]
        settled = result.settled[(some.stream == code) & ~np.isnan(result.score)]
        wanted = [score[i : i + DELAY + 1].max() for i in range(len(score) - DELAY)]
        assert settled == pytest.approx([*wanted, *[np.nan] * DELAY], nan_ok=True)


def test_a_backtest_writes_scores_alerts_and_a_report(tiny_detector: Detector, tmp_path: Path) -> None:
    some = data()
    result = backtest.run(tiny.settings(), tiny_detector, VERSION, some)

    backtest.write(result, tiny.settings(), tiny_detector, VERSION, tmp_path / "deep" / "out")

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

    result = backtest.run(tiny.settings(), tiny_detector, VERSION, some)

    summary = backtest.summary(result, tiny.settings())

    assert (summary["readings"], summary["streams"], summary["skipped"]) == (400, 2, 1)
    assert summary["scored"] == 400 - 1 - 1 - 2 * (tiny.LENGTH - 1)
    assert summary["incidents"] >= 1


def labelled() -> DataSet:
    """Two streams without holes; a label where stream a has its fault, one where nothing happens to stream b."""
    values = np.stack([tiny.wave(200, seed=7), tiny.wave(200, seed=8, level=10)], 1).reshape(-1, 2).astype(np.float64)
    values[200:220:2, 1] += 8
    label = np.zeros(400, bool)
    label[200:220:2] = True
    label[101:121:2] = True
    times = tiny.START_NS + np.repeat(np.arange(200), 2) * MINUTE_NS
    return DataSet(["a", "b"], np.tile([0, 1], 200), times, values, label)


def test_labels_say_what_was_caught_and_how_late(tiny_detector: Detector, tmp_path: Path) -> None:
    some = labelled()

    figures = backtest.carry_out(tiny.settings(), tiny_detector, VERSION, some, tmp_path / "out")

    table = pd.read_csv(tmp_path / "out" / "labels.csv")
    assert list(table.columns) == [
        *("stream", "begin", "end", "readings", "caught", "delay_s", "delay_readings", "incident_id")
    ]
    assert table[["stream", "readings", "caught"]].to_numpy().tolist() == [["a", 10, 1], ["b", 10, 0]]
    opening = json.loads((tmp_path / "out" / "alerts.jsonl").read_text().splitlines()[0])
    begin = pd.Timestamp(some.time_ns[200], unit="ns", tz="UTC")
    assert pd.Timestamp(table["begin"][0]) == begin
    assert table["incident_id"][0] == opening["incident_id"]
    assert table["delay_s"][0] == (pd.Timestamp(opening["time"]) - begin).total_seconds()
    assert table["delay_readings"][0] == table["delay_s"][0] / 60
    assert table[["delay_s", "delay_readings", "incident_id"]].isna().all(axis=1).tolist() == [False, True]
    assert (figures["labelled_incidents"], figures["caught"], figures["caught_open_already"]) == (2, 1, 0)
    assert figures["false_incidents"] == figures["incidents"] - 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert "1 of 2" in page
    assert "missed" in page


def test_the_rate_is_set_against_the_budget(tiny_detector: Detector) -> None:
    some, settings = data(), tiny.settings(alerting={"budget_per_stream_per_week": 4.0})
    result = backtest.run(settings, tiny_detector, VERSION, some)

    figures = backtest.summary(result, settings)

    days = 2 * 199 / 1440
    assert figures["stream_days"] == pytest.approx(days)
    assert figures["incidents_per_stream_week"] == pytest.approx(figures["incidents"] * 7 / days)
    assert figures["rate_to_budget"] == pytest.approx(figures["incidents_per_stream_week"] / 4)
    assert figures["alerts_per_stream_day"] == pytest.approx(len(result.alerts) / days)


def test_nothing_more_is_written_than_was_asked_for(tiny_detector: Detector, tmp_path: Path) -> None:
    backtest.carry_out(tiny.settings(), tiny_detector, VERSION, data(), tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["alerts.jsonl", "report.html", "scores.csv"]


@pytest.mark.parametrize("stride", [1, 3])
def test_embeddings_are_the_latents_of_the_scored_windows(
    tiny_detector: Detector, tmp_path: Path, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "_GROUP", 100)  # several groups of rows
    some, settings = data(), tiny.settings(window={"stride": stride, "max_gap_s": 90})

    backtest.carry_out(settings, tiny_detector, VERSION, some, tmp_path, embeddings=True)

    table = pd.read_parquet(tmp_path / "embeddings.parquet")
    scores = pd.read_csv(tmp_path / "scores.csv").dropna(subset="score")
    assert list(table.columns) == ["stream", "timestamp", "score", "z00", "z01", "z02", "z03"]
    assert table["stream"].tolist() == scores["stream"].tolist()
    assert table["timestamp"].tolist() == pd.to_datetime(scores["timestamp"], utc=True).tolist()
    assert table["score"].to_numpy() == pytest.approx(scores["score"].to_numpy(), rel=1e-6)
    last = table[table["stream"] == "b"].iloc[-1]
    ends = int((last["timestamp"].value - some.time_ns[0]) // MINUTE_NS)  # of a window without a hole
    mine = some.values[some.stream == 1].astype(np.float32)[ends - tiny.LENGTH + 1 : ends + 1]
    inputs = tiny_detector.prepare(mine, np.full(tiny.LENGTH, 2))[None]
    assert last[["z00", "z01", "z02", "z03"]].to_numpy(float) == pytest.approx(tiny_detector.embed(inputs)[0], abs=1e-5)


def minutes(column: pd.Series) -> NDArray[np.float64]:
    """Times as minutes from the begin of the data."""
    return (column.astype("datetime64[ns, UTC]").astype(np.int64).to_numpy() - tiny.START_NS) / MINUTE_NS


def test_incidents_with_the_same_fault_are_neighbours(tiny_detector: Detector, tmp_path: Path) -> None:
    rows = 600
    values = tiny.wave(rows, seed=7).astype(np.float64)
    for begin in (100, 340):  # the same fault at the same phase of the wave, twice
        values[begin + 4 : begin + 14, 1] += 8
    values[220:230, 0] -= 8
    some = DataSet(["a"], np.zeros(rows, np.int64), tiny.START_NS + np.arange(rows) * MINUTE_NS, values)
    settings = tiny.settings(alerting={"resolve_after": 20})

    figures = backtest.carry_out(settings, tiny_detector, VERSION, some, tmp_path, embeddings=True)

    near = pd.read_csv(tmp_path / "nearest.csv", parse_dates=["peak", "neighbour_time"])
    opened = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    ids = [alert["incident_id"] for alert in opened if alert["event"] == "open"]
    assert near["incident"].unique().tolist() == ids
    assert figures["incidents"] == len(ids) >= 3
    assert (near["incident"] != near["neighbour_incident"]).all()
    peak, other = (minutes(near[name]) for name in ("peak", "neighbour_time"))
    is_incident = (near["kind"] == "incident").to_numpy()
    first = np.flatnonzero(is_incident & (peak >= 104) & (peak < 130) & (near["rank"] == 1).to_numpy())
    assert len(first) >= 1
    assert ((other[first] >= 344) & (other[first] < 370)).all()
    normal = near[near["kind"] == "normal"]
    assert len(normal) == len(ids)
    assert (normal["neighbour_score"] < settings.alerting.exit_below).all()
    assert (np.abs(peak - other)[~is_incident] >= tiny.LENGTH).all()
    assert "The map of windows" in (tmp_path / "report.html").read_text()


def test_nearest_neighbours_are_those_of_a_plain_search(tiny_detector: Detector, tmp_path: Path) -> None:
    some = data()
    backtest.carry_out(tiny.settings(), tiny_detector, VERSION, some, tmp_path, embeddings=True)
    table = pd.read_parquet(tmp_path / "embeddings.parquet")
    near = pd.read_csv(tmp_path / "nearest.csv", parse_dates=["peak", "neighbour_time"])
    names = [name for name in table.columns if name.startswith("z")]

    calm = table[(table["score"] < 0.8) & (minutes(table["timestamp"]) < 80)]  # before all incidents
    normal = near[near["kind"] == "normal"]
    assert len(normal) >= 1
    for line in normal.to_dict("records"):
        own = table[(table["stream"] == line["stream"]) & (table["timestamp"] == line["peak"])]
        far = np.sqrt(((calm[names].to_numpy() - own[names].to_numpy()) ** 2).sum(1))
        assert line["distance"] <= far.min() + 1e-5
        there = table[(table["stream"] == line["neighbour_stream"]) & (table["timestamp"] == line["neighbour_time"])]
        exact = np.sqrt(((there[names].to_numpy() - own[names].to_numpy()) ** 2).sum())
        assert line["distance"] == pytest.approx(exact, rel=1e-4, abs=1e-6)


def test_the_rebuilt_signal_is_what_the_pictures_expect(tiny_detector: Detector, tmp_path: Path) -> None:
    some = data()

    backtest.carry_out(tiny.settings(), tiny_detector, VERSION, some, tmp_path, reconstruction=True)

    table = pd.read_parquet(tmp_path / "rebuilt.parquet")
    assert list(table.columns) == ["stream", "timestamp", "heat", "current"]
    assert table["stream"].tolist() == [some.names[code] for code in some.stream]
    assert table["timestamp"].astype("int64").tolist() == some.time_ns.tolist()
    result = backtest.run(tiny.settings(), tiny_detector, VERSION, some)
    for code in (0, 1):
        rows = np.flatnonzero(result.admitted & (some.stream == code))
        wanted, _ = expected_series(tiny_detector, some.values[rows].astype(np.float32), code + 1)
        found = table.iloc[rows][["heat", "current"]].to_numpy()
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-4, nan_ok=True)
    assert table.loc[~result.admitted, "heat"].isna().all()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("alerts.jsonl", "report.html", "scores.csv", "rebuilt.parquet")
    }


def test_a_gap_resets_the_reconstructed_signal(tiny_detector: Detector, tmp_path: Path) -> None:
    times = tiny.START_NS + (np.arange(60) + 100 * (np.arange(60) >= 30)) * MINUTE_NS
    some = DataSet(["a"], np.zeros(60, np.int64), times, tiny.wave(60).astype(np.float64))

    backtest.carry_out(
        tiny.settings(window={"max_gap_s": 600}), tiny_detector, VERSION, some, tmp_path, reconstruction=True
    )

    missing = pd.read_parquet(tmp_path / "rebuilt.parquet")["heat"].isna().to_numpy()
    assert np.flatnonzero(missing).tolist() == [*range(12), 28, 29, *range(30, 42), 58, 59]


@pytest.mark.parametrize("rows", [1, 20])
def test_data_too_short_for_an_incident_make_a_report(tiny_detector: Detector, tmp_path: Path, rows: int) -> None:
    values = np.full((rows, 2), np.nan) if rows == 1 else tiny.wave(rows).astype(np.float64)
    some = DataSet(
        ["a"], np.zeros(rows, np.int64), tiny.START_NS + np.arange(rows) * MINUTE_NS, values, np.zeros(rows, bool)
    )

    figures = backtest.carry_out(
        tiny.settings(), tiny_detector, VERSION, some, tmp_path, embeddings=True, reconstruction=True
    )

    assert figures["incidents"] == 0
    assert "None." in (tmp_path / "report.html").read_text()
    assert len(pd.read_parquet(tmp_path / "rebuilt.parquet")) == rows
    assert pd.read_csv(tmp_path / "nearest.csv").empty


def test_a_report_of_many_streams_and_incidents_stays_small(
    tiny_detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "draw_stream", lambda *_: b"")  # drawing takes its time
    monkeypatch.setattr(plots, "draw_incident", lambda *_, **__: b"")
    streams, rows = 60, 300
    values = np.stack([tiny.wave(rows, seed=s) for s in range(streams)], 1).astype(np.float64)
    for begin in range(30, rows - 20, 45):
        values[begin : begin + 6, :, 1] += 8
    names = [f"pump <{s}>" if s == 0 else f"pump-{s}" for s in range(streams)]
    time_ns = tiny.START_NS + np.repeat(np.arange(rows), streams) * MINUTE_NS
    some = DataSet(names, np.tile(np.arange(streams), rows), time_ns, values.reshape(-1, 2))

    settings = tiny.settings(alerting={"resolve_after": 5})
    figures = backtest.carry_out(settings, tiny_detector, VERSION, some, tmp_path)

    page = (tmp_path / "report.html").read_text()
    assert figures["incidents"] > 200
    assert page.count("<img") <= 24
    assert page.count("<tr") < 600
    assert "20 other streams" in page
    assert "The 200 incidents with the highest peaks" in page
    assert "pump <0>" not in page


def test_a_directory_that_cannot_be_written_is_an_error_of_data(tiny_detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    some = data(20)
    result = backtest.run(tiny.settings(), tiny_detector, VERSION, some)

    with pytest.raises(DataError, match="--out: wanted a writable directory"):
        backtest.write(result, tiny.settings(), tiny_detector, VERSION, tmp_path / "file" / "out")


def stream_after_stream() -> DataSet:
    """Two streams, all readings of one before those of the other, which stops halfway."""
    values = np.concatenate([tiny.wave(200, seed=7), tiny.wave(100, seed=8, level=10)]).astype(np.float64)
    values[100:110, 1] += 8
    times = tiny.START_NS + np.concatenate([np.arange(200), np.arange(100)]) * MINUTE_NS
    return DataSet(["a", "b"], np.repeat([0, 1], [200, 100]), times, values)


def test_a_silence_is_found_where_streams_stand_one_after_another(tiny_detector: Detector) -> None:
    some, settings = stream_after_stream(), tiny.settings(alerting={"silent_after": 30})

    result = backtest.run(settings, tiny_detector, VERSION, some)

    assert [(alert.stream, alert.event) for alert in result.alerts if alert.kind == "silence"] == [("b", "open")]


def test_scores_stand_beside_their_readings_whatever_the_order_they_were_sent_in(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    some = stream_after_stream()
    order = np.argsort(some.time_ns, kind="stable")
    figures = backtest.carry_out(tiny.settings(), tiny_detector, VERSION, some, tmp_path / "x", embeddings=True)
    backtest.carry_out(tiny.settings(), tiny_detector, VERSION, some.select(order), tmp_path / "y", embeddings=True)

    apart, merged = (pd.read_csv(tmp_path / name / "scores.csv") for name in "xy")
    assert figures["incidents"] >= 1
    pd.testing.assert_frame_equal(apart.iloc[order].reset_index(drop=True), merged)
    near, near_merged = (pd.read_csv(tmp_path / name / "nearest.csv") for name in "xy")
    pd.testing.assert_frame_equal(near, near_merged)


def test_a_backtest_counts_the_incidents_of_rules_by_kind(tiny_detector: Detector) -> None:
    some = data(120)
    some.values[60, 0] *= 10
    settings = tiny.settings(rules={"power_of_ten": {"field": tiny.FEATURES[0]}})

    result = backtest.run(settings, tiny_detector, VERSION, some)

    figures = backtest.summary(result, settings)
    assert (figures["power_of_ten"], figures["crossed_book"]) == (1, 0)
    assert "power_of_ten" not in backtest.summary(result, tiny.settings())


def test_a_report_shows_what_nobody_would_have_been_told_of(tiny_detector: Detector, tmp_path: Path) -> None:
    rule = {"name": "a is under repair", "streams": ["a"], "mute": True}
    settings = tiny.settings(notifications={"rules": [rule]})
    result = backtest.run(settings, tiny_detector, VERSION, data())

    backtest.write(result, settings, tiny_detector, VERSION, tmp_path)

    found = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    muted = {alert["incident_id"] for alert in found if alert["muted"] == "rule a is under repair"}
    assert muted
    assert muted == {alert["incident_id"] for alert in found if alert["stream"] == "a"}
    assert backtest.summary(result, settings)["muted"] == len(muted)
    assert (tmp_path / "report.html").read_text().count('<small title="rule a is under repair">muted</small>') >= 1
