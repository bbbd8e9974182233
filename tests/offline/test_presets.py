"""Every preset under `examples/` trains on data of its kind and finds what is put into it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.store.registry import Registry
from streamer import config
from streamer.config import Settings
from streamer.connectors import files as datafiles
from streamer.core.alerts import Alert
from streamer.offline import backtest
from streamer.offline.retrain import retrain_from_files

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TICKS = Path(__file__).resolve().parents[3] / "shared" / "data" / "ticks"
MINUTE = 60_000_000_000
START = pd.Timestamp("2026-01-05", tz="UTC").value
OPEN = pd.Timestamp("2024-03-05 14:30", tz="UTC").value  # of New York; the next day is one of trading as well
DAY = 1440 * MINUTE

QUICK = {"EPOCHS": "6", "STEPS_PER_EPOCH": "30", "BATCH_SIZE": "64", "HIDDEN": "16", "LATENT": "6"}


def settings(name: str, tmp_path: Path) -> Settings:
    quick = {f"STREAMER_MODEL__{key}": value for key, value in QUICK.items()}
    return config.load(EXAMPLES / f"{name}.yaml", quick | {"STREAMER_MODEL__DIRECTORY": str(tmp_path / "bundles")})


def opened(name: str, train: pd.DataFrame, test: pd.DataFrame, tmp_path: Path) -> list[Alert]:
    """Train on one table, run the other; the incidents."""
    own = settings(name, tmp_path)
    train.to_parquet(tmp_path / "train.parquet")
    test.to_parquet(tmp_path / "test.parquet")
    version = retrain_from_files(own, [tmp_path / "train.parquet"])
    detector, _ = Registry(own.model.directory).load(version)
    result = backtest.run(own, detector, version, datafiles.load([tmp_path / "test.parquet"], own.records))
    return [alert for alert in result.alerts if alert.event == "open"]


def machines(begin: int, minutes: int) -> pd.DataFrame:
    """Two machines whose values follow one load, a reading a minute."""
    rows = []
    for number, device in enumerate(("press-7", "press-8")):
        rng = np.random.default_rng([begin, number])
        at = np.arange(begin, begin + minutes)
        load = np.sin(2 * np.pi * (at + 20 * number) / 120)
        noise = rng.normal(0, 0.1, (3, minutes))
        rows.append(
            pd.DataFrame(
                {
                    "device": device,
                    "timestamp": pd.to_datetime(START + at * MINUTE, utc=True),
                    "temperature": 40 + 2 * load + noise[0],
                    "vibration": 1.5 + 0.5 * load + 0.3 * noise[1],
                    "current": 12 - 3 * load + noise[2],
                }
            )
        )
    return pd.concat(rows).sort_values("timestamp", kind="stable").reset_index(drop=True)


def broken_machine() -> tuple[pd.DataFrame, pd.DataFrame]:
    """History, and a later day on which the current of one machine no longer follows its load."""
    train, test = machines(0, 3000), machines(3000, 600)
    bad = (test["device"] == "press-8") & test.index.isin(range(600, 1000))
    test.loc[bad, "current"] = 15.5
    return train, test


def test_sensor_finds_a_value_that_no_longer_follows_the_others(tmp_path: Path) -> None:
    train, test = broken_machine()
    test.loc[test.index % 50 == 7, "vibration"] = np.nan

    found = opened("sensor", train, test, tmp_path)

    assert {alert.stream for alert in found if alert.onset >= "2026-01-07T07"} == {"press-8"}
    assert found[-1].features[0].name == "current"


def test_sensor_long_makes_one_vector_of_three_metrics_and_finds_the_same(tmp_path: Path) -> None:
    tables = []
    for table in broken_machine():
        long = table.melt(["device", "timestamp"], var_name="metric", value_name="value")
        long["timestamp"] += pd.to_timedelta(
            long["metric"].map({"temperature": 3, "vibration": 11, "current": 19}), "s"
        )
        other = long[long["metric"] == "vibration"].assign(metric="humidity")
        tables.append(pd.concat([long, other]).sort_values("timestamp", kind="stable"))

    found = opened("sensor-long", tables[0], tables[1], tmp_path)

    assert {alert.stream for alert in found if alert.onset >= "2026-01-07T07"} == {"press-8"}
    assert found[-1].features[0].name == "current"


def trades(day: int, rows: int = 12_000) -> pd.DataFrame:
    tables = []
    for number, symbol in enumerate(("XYZ", "ABC")):
        rng = np.random.default_rng([day, number])
        at = OPEN + day * DAY + np.sort(rng.integers(0, 390 * MINUTE, rows))
        cents = np.round(4000 * (number + 1) + np.cumsum(rng.normal(0, 0.4, rows))) + rng.integers(0, 2, rows)
        stamps = pd.to_datetime(at, utc=True)
        tables.append(
            pd.DataFrame(
                {"timestamp": stamps, "symbol": symbol, "price": cents / 100, "size": 100 * rng.integers(1, 20, rows)}
            )
        )
    return pd.concat(tables).sort_values("timestamp", kind="stable").reset_index(drop=True)


def of_symbol(table: pd.DataFrame, symbol: str, time: str, minutes: float) -> pd.Series:
    begin = pd.Timestamp(f"2024-03-06 {time}", tz="UTC")
    inside = table["timestamp"].between(begin, begin + pd.Timedelta(minutes=minutes))
    return inside & (table["symbol"] == symbol)


def kinds(found: list[Alert], symbol: str) -> list[tuple[str, str]]:
    return [(alert.kind, alert.onset[11:16]) for alert in found if alert.stream == symbol]


def test_ticks_trades_finds_a_spike_a_slip_and_a_price_that_is_stuck(tmp_path: Path) -> None:
    test = trades(1)
    spike = test.index[of_symbol(test, "XYZ", "16:00", 5)][0]
    slip = test.index[of_symbol(test, "XYZ", "17:00", 5)][0]
    test.loc[spike, "price"] += 1.5
    test.loc[slip, "price"] *= 10
    test.loc[of_symbol(test, "ABC", "18:00", 10), "price"] = 80.0

    found = opened("ticks-trades", trades(0), test, tmp_path)

    assert {("price_spike", "16:00"), ("power_of_ten", "17:00")} <= set(kinds(found, "XYZ"))
    assert {onset[:4] for _, onset in kinds(found, "XYZ")} <= {"15:5", "16:0", "16:5", "17:0"}
    assert "18:0" in {onset[:4] for kind, onset in kinds(found, "ABC") if kind == "anomaly"}


def test_ticks_quotes_finds_a_crossed_book_and_a_quote_that_is_stuck(tmp_path: Path) -> None:
    def quotes(day: int) -> pd.DataFrame:
        table = trades(day, 24_000)
        turn = table.groupby("symbol").cumcount() % 2 == 0  # rows of one side each, as exchanges send them
        price, size = table.pop("price"), table.pop("size")
        table["bid"], table["bid_size"] = price.where(turn, 0.0), size.where(turn, 0)
        table["ask"], table["ask_size"] = (price + 0.03).where(~turn, 0.0), size.where(~turn, 0)
        return table

    test = quotes(1)
    crossed = of_symbol(test, "XYZ", "16:00", 0.5) & (test["bid"] > 0)
    test.loc[crossed, "bid"] += 1.0
    stuck = of_symbol(test, "ABC", "18:00", 10)
    for name in ("bid", "bid_size", "ask", "ask_size"):
        some = stuck & (test[name] > 0)
        test.loc[some, name] = test.loc[some, name].iloc[0]

    found = opened("ticks-quotes", quotes(0), test, tmp_path)

    assert ("crossed_book", "16:00") in kinds(found, "XYZ")
    assert ("stale_quote", "18:00") in kinds(found, "ABC")
    assert len(found) <= 6


@pytest.mark.skipif(not TICKS.is_dir(), reason=f"needs real ticks in {TICKS}")
def test_ticks_trades_reports_next_to_nothing_on_a_real_day_and_a_tenfold_price(tmp_path: Path) -> None:
    table = pd.read_parquet(TICKS / "aig-trades.parquet")
    second = table["timestamp"] >= "2013-10-08"
    test = table[second].reset_index(drop=True)
    slip = test.index[test["timestamp"] >= "2013-10-08 16:00"][0]
    test["price"] = test["price"].where(test.index != slip, test["price"] * 10)

    found = opened("ticks-trades", table[~second], test, tmp_path)

    assert ("power_of_ten", "16:00") in kinds(found, "AIG")
    assert len(found) <= 3
