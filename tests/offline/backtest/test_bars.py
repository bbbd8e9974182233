"""A backtest of readings that become bars: rows are bars, and they are those that training saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.store.registry import Registry
from streamer.connectors.files import DataSet
from streamer.errors import ConfigError
from streamer.offline import backtest
from streamer.offline.retrain import retrain
from streamer.offline.training_store import TrainingStore
from tests import tiny

S = 1_000_000_000


def trades(minutes: int, *, seed: int = 0, wild: tuple[int, int] | None = None) -> DataSet:
    """Two symbols, several trades a minute in order; between two minutes prices of the first jump about."""
    random = np.random.default_rng(seed)
    n = minutes * 12
    second = np.sort(random.uniform(0, 60 * minutes, n))
    stream = random.integers(0, 2, n)
    price = 50 + np.cumsum(random.normal(0, 0.002, n)) + random.normal(0, 0.01, n)
    label = np.zeros(n, bool)
    if wild is not None:
        label = (second >= 60 * wild[0]) & (second < 60 * wild[1]) & (stream == 0)
        price = price + np.where(label, random.choice([-3.0, 3.0], n), 0)
    values = np.column_stack([price, random.integers(1, 9, n).astype(float)])
    start = pd.Timestamp("2026-01-05T14:30Z").value
    return DataSet(["AAA", "BBB"], stream, start + (second * S).astype(np.int64), values, label)


def settings(directory: Path, **time: object):  # type: ignore[no-untyped-def]
    return tiny.settings(
        records={"features": ["price", "size"]},
        time={
            "grid": 60,
            "features": {"return": "last(price) | log_return", "swing": "range(price)", "volume": "sum(size) | log1p"},
            **time,
        },
        model={"directory": directory, "epochs": 4, "steps_per_epoch": 10, "hidden": 8, "latent": 4},
    )


def test_trades_are_trained_on_and_scored_as_bars(tmp_path: Path) -> None:
    with_bars = settings(tmp_path / "bundles")
    version = retrain(with_bars, trades(400))
    detector, _ = Registry(tmp_path / "bundles").load(version)
    live = trades(200, seed=1, wild=(120, 135))

    backtest.carry_out(with_bars, detector, version, live, tmp_path / "out")
    result = backtest.run(with_bars, detector, version, live)
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")

    assert detector.features == ("return", "swing", "volume")
    assert len(scores) == len(result.data) == 2 * 200
    assert set(pd.to_datetime(scores["timestamp"]).dt.second) == {0}
    labelled = result.data.label
    assert labelled is not None
    assert int(labelled.sum()) == 15
    assert result.score[labelled].max() > 1 > np.nanquantile(result.score[~labelled], 0.9)
    assert backtest.summary(result, with_bars)["caught"] == 1
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("batch", [1, 97])
def test_no_batch_shows_in_the_scores_of_bars(tmp_path: Path, batch: int) -> None:
    with_bars = settings(tmp_path / "bundles", lateness=20)
    version = retrain(with_bars, trades(200))
    detector, _ = Registry(tmp_path / "bundles").load(version)
    live = trades(60, seed=2, wild=(40, 50))

    whole = backtest.run(with_bars, detector, version, live)
    cut = backtest.run(with_bars, detector, version, live, batch=batch)

    def table(result: backtest.Backtest) -> pd.DataFrame:
        columns = {"stream": result.data.stream, "time": result.data.time_ns, "score": result.score}
        return pd.DataFrame(columns).sort_values(["stream", "time"], ignore_index=True)

    pd.testing.assert_frame_equal(table(whole), table(cut))
    assert {alert.alert_id for alert in whole.alerts} == {alert.alert_id for alert in cut.alerts}


def test_training_sees_the_bars_that_the_backtest_scores(tmp_path: Path) -> None:
    with_bars = settings(tmp_path / "bundles", lateness=5)
    data = trades(120)
    version = retrain(with_bars, data)
    detector, _ = Registry(tmp_path / "bundles").load(version)
    seen = backtest.run(with_bars, detector, version, data).data

    with TrainingStore(tmp_path, with_bars.pipeline_options()) as store:
        store.fill([data.select(slice(i, i + 100)) for i in range(0, len(data), 100)])
        for code, (times, values) in enumerate(store.series().values()):
            mine = seen.stream == code
            np.testing.assert_array_equal(times, seen.time_ns[mine])
            np.testing.assert_array_equal(values, seen.values[mine].astype(np.float32))


def test_rows_out_of_order_train_and_score_like_rows_in_order_within_the_lateness(tmp_path: Path) -> None:
    waits = settings(tmp_path / "bundles", lateness=30)
    ordered = trades(200)
    random = np.random.default_rng(7)
    arrival = ordered.time_ns + np.where(random.random(len(ordered)) < 0.08, random.uniform(0, 30, len(ordered)) * S, 0)
    disordered = ordered.select(np.argsort(arrival, kind="stable"))
    prints = []
    for data in (ordered, disordered):
        with TrainingStore(tmp_path, waits.pipeline_options()) as store:
            store.fill([data])
            prints.append(store.fingerprint)
            assert store.left_out.late == 0

    assert prints[0] == prints[1]
    with TrainingStore(tmp_path, settings(tmp_path).pipeline_options()) as store:
        store.fill([disordered])
        assert store.left_out.late > 0  # what the lateness is for


def test_settled_scores_of_a_backtest_are_those_that_late_readings_have_put_right(tmp_path: Path) -> None:
    plain, corrects = settings(tmp_path / "bundles"), settings(tmp_path / "bundles", correct=True)
    detector, _ = Registry(tmp_path / "bundles").load(retrain(plain, trades(200)))
    live = trades(120, seed=3)
    n = len(live)
    order = np.arange(n)
    late = np.flatnonzero((live.stream == 0) & (live.time_ns - live.time_ns[0] > 3600 * S))[:20]
    order = np.argsort(live.time_ns + np.isin(order, late) * 18 * 60 * S - np.isin(order, late) * 3 * 60 * S)

    in_time = backtest.run(plain, detector, "v", live)
    dropped, corrected = (backtest.run(some, detector, "v", live.select(order)) for some in (plain, corrects))

    def settled(result: backtest.Backtest) -> pd.Series:
        columns = {"stream": result.data.stream, "time": result.data.time_ns, "settled": result.settled}
        return pd.DataFrame(columns).set_index(["stream", "time"])["settled"].dropna().sort_index()

    assert dropped.late == 20
    assert (corrected.late, corrected.corrected) == (20 - corrected.corrected, corrected.corrected)
    assert corrected.corrected > 10
    wanted = settled(in_time)
    off = [(settled(result) - wanted).abs().sum() for result in (dropped, corrected)]
    assert off[1] < 0.5 * off[0]


def test_a_model_told_the_hour_trains_scores_and_is_drawn_like_any_other(tmp_path: Path) -> None:
    told = settings(tmp_path / "bundles", context=["time-of-day", "day-of-week"])
    registry = Registry(tmp_path / "bundles")
    detector, manifest = registry.load(retrain(told, trades(200)))
    live = trades(200, seed=1, wild=(120, 135))

    backtest.carry_out(told, detector, "v", live, tmp_path / "out", embeddings=True, reconstruction=True)

    assert manifest["context"] == ["time-of-day", "day-of-week"]
    assert manifest["architecture"]["context"] == 4
    assert manifest["features"] == ["return", "swing", "volume"]
    rebuilt = pd.read_parquet(tmp_path / "out" / "rebuilt.parquet")
    assert list(rebuilt.columns) == ["stream", "timestamp", "return", "swing", "volume"]
    assert len(pd.read_parquet(tmp_path / "out" / "embeddings.parquet")) > 0
    assert (tmp_path / "out" / "report.html").exists()
    # A warm start goes on from the same inputs, and from no others.
    assert retrain(told, trades(200), warm_start="current") != manifest["version"]
    with pytest.raises(ConfigError, match=r"time\.context \[\], not \['time-of-day', 'day-of-week'\]"):
        retrain(settings(tmp_path / "bundles"), trades(200), warm_start="current")
