"""The benchmark of ticks: faults are seeded, few and labelled; incidents are set against them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from benchmarks import tick_faults, tick_verdicts, ticks
from benchmarks.tick_faults import MINUTE, MOST_ROWS, SECOND, Fault, Feed
from benchmarks.tick_verdicts import Opened
from streamer.core.sessions import Sessions

pytestmark = pytest.mark.usefixtures("keep_logging")

DAY = 1440 * MINUTE
FIRST_OPEN = pd.Timestamp("2024-03-05 14:30", tz="UTC").value
OPEN = [(FIRST_OPEN + day * DAY, FIRST_OPEN + day * DAY + 390 * MINUTE) for day in range(2)]


def trades(day: int = 1, *, symbol: str = "XYZ", rows: int = 60_000, tick: float = 0.01, level: float = 40.0) -> Feed:
    rng = np.random.default_rng(day)
    # Quiet at noon, as markets are.
    share = np.sort(np.where(rng.random(rows) < 0.7, rng.beta(0.4, 0.4, rows), rng.random(rows)))
    time_ns = OPEN[day][0] + (share * 390 * MINUTE).astype(np.int64)
    price = np.round(level / tick + np.cumsum(rng.normal(0, 0.3, rows))) * tick
    return Feed(symbol, time_ns, {"price": price, "size": rng.integers(1, 20, rows) * 100})


def quotes(day: int = 1) -> Feed:
    """Rows of one side each, as an exchange sends them; 0 is the side that is absent."""
    feed = trades(day)
    is_bid = np.arange(len(feed)) % 2 == 0
    price, size = feed.columns["price"], feed.columns["size"]
    columns = {
        "bid": np.where(is_bid, price, 0),
        "bid_size": np.where(is_bid, size, 0),
        "ask": np.where(is_bid, 0, price + 0.01),
        "ask_size": np.where(is_bid, 0, size),
    }
    return Feed(feed.symbol, feed.time_ns, columns)


def injected(feed: Feed, seed: int, clean: Feed) -> tuple[Feed, list[Fault]]:
    return tick_faults.inject(feed, OPEN[1:], seed=seed, rows=int(MOST_ROWS * 2 * len(feed)), clean=clean)


@pytest.mark.parametrize("make", [trades, quotes])
def test_the_same_seed_gives_the_same_faults_and_another_seed_others(make) -> None:  # type: ignore[no-untyped-def]
    clean, feed = make(0), make(1)

    once, again, other = (injected(feed, seed, clean) for seed in (3, 3, 4))

    pd.testing.assert_frame_equal(once[0].table(), again[0].table())
    assert once[1] == again[1]
    assert once[1] != other[1]
    pd.testing.assert_frame_equal(feed.table(), make(1).table())  # the given one is left alone


@pytest.mark.parametrize("make", [trades, quotes])
def test_a_round_touches_few_rows_and_its_labels_name_all_of_them(make) -> None:  # type: ignore[no-untyped-def]
    clean, feed = make(0), make(1)
    kinds: Counter[str] = Counter()
    for seed in range(6):
        made, faults = injected(feed, seed, clean)

        kinds.update(fault.kind for fault in faults)
        assert sum(fault.rows for fault in faults) <= MOST_ROWS * 2 * len(feed)
        before, after = feed.table(), made.table()
        both = pd.concat([before.value_counts(dropna=False), after.value_counts(dropna=False)], axis=1).fillna(0)
        changed = both[both.iloc[:, 0] != both.iloc[:, 1]]
        stamps = changed.index.get_level_values("timestamp").as_unit("ns").asi8
        for stamp in stamps:
            assert any(fault.begin_ns <= stamp < fault.end_ns for fault in faults)
    assert kinds[tick_faults.SPIKE] >= 12
    wanted = {tick_faults.SLIDE, tick_faults.STUCK, tick_faults.GAP, tick_faults.SLIP, tick_faults.BURST}
    assert wanted | set(tick_faults.HARMLESS) <= set(kinds)
    assert (tick_faults.CROSSED in kinds) == feed.is_quotes


def test_faults_are_what_they_are_called() -> None:
    clean, feed = trades(0), trades(1)
    rounds = [injected(feed, seed, clean) for seed in range(3)]

    found = {fault.kind: (made, fault) for made, faults in rounds for fault in faults}
    original = feed.columns["price"]
    for kind, (made, fault) in found.items():
        inside = (made.time_ns >= fault.begin_ns) & (made.time_ns < fault.end_ns)
        was = (feed.time_ns >= fault.begin_ns) & (feed.time_ns < fault.end_ns)
        price, size = made.columns["price"][inside], made.columns["size"][inside]
        if kind == tick_faults.SPIKE:
            off = abs(np.log(price[0] / original[was][0]))
            sigma = tick_faults.local_sigma(feed.time_ns, feed.prices(), fault.begin_ns)
            assert off == pytest.approx(8 * sigma, abs=0.01 / 40)
        if kind == tick_faults.STUCK:
            assert len(np.unique(price)) == 1
            assert fault.end_ns - fault.begin_ns >= 2 * MINUTE
        if kind == tick_faults.GAP:
            assert not inside.any()
            assert was.sum() == fault.rows
        if kind == tick_faults.SLIP:
            assert price[0] / original[was][0] == pytest.approx(10, rel=0.01) or price[0] < original[was][0] / 9
        if kind == tick_faults.SLIDE:
            assert abs(price[-1] / original[was][-1] - 1) == pytest.approx(0.03, abs=0.002)
        if kind == tick_faults.BURST:
            assert (size == 20 * feed.columns["size"][was]).all()
        if kind == tick_faults.DUPLICATE:
            assert inside.sum() == was.sum() + fault.rows
        if kind == tick_faults.DISORDER:
            assert sorted(price) == sorted(original[was])


def test_a_crossed_book_has_its_bids_above_the_offers_and_only_for_seconds() -> None:
    made, faults = injected(quotes(1), 0, quotes(0))

    fault = next(fault for fault in faults if fault.kind == tick_faults.CROSSED)
    bid = pd.Series(made.columns["bid"]).where(lambda x: x > 0).ffill()
    ask = pd.Series(made.columns["ask"]).where(lambda x: x > 0).ffill()
    inside = (made.time_ns > fault.begin_ns + SECOND) & (made.time_ns < fault.end_ns)
    assert (bid[inside] > ask[inside]).all()
    assert fault.end_ns - fault.begin_ns == 10 * SECOND


def test_a_round_holds_one_long_fault_and_all_are_apart() -> None:
    for seed in range(3):
        _, faults = injected(trades(1), seed, trades(0))

        assert sum(fault.kind in (tick_faults.SLIDE, tick_faults.STUCK, tick_faults.GAP) for fault in faults) == 1
        begins, ends = [f.begin_ns for f in faults], [f.end_ns for f in faults]
        assert all(begin >= end + 10 * MINUTE for begin, end in zip(begins[1:], ends[:-1], strict=True))
        assert begins[0] >= OPEN[1][0] + 20 * MINUTE


def test_the_last_day_is_scored_and_of_one_day_the_second_half() -> None:
    market = Sessions(np.array([begin for begin, _ in OPEN]), np.array([end for _, end in OPEN]), name="XNYS")
    both = pd.concat([trades(0).table(), trades(1).table()])

    two, one = tick_verdicts.part(Feed.of(both), market), tick_verdicts.part(trades(1), market)

    assert (len(two.train), len(two.test), two.open, two.days) == (60_000, 60_000, (OPEN[1],), 1.0)
    assert one.open == ((OPEN[1][0] + 195 * MINUTE, OPEN[1][1]),)
    assert one.days == 0.5
    assert one.train.time_ns.max() < one.open[0][0] <= one.test.time_ns.min()
    swapped = [tick_verdicts.part(feed, market, swap=True) for feed in (Feed.of(both), trades(1))]
    assert swapped[0].open == (OPEN[0],)
    assert (len(swapped[0].train), len(swapped[0].test)) == (60_000, 60_000)
    assert swapped[1].open == ((OPEN[1][0], OPEN[1][0] + 195 * MINUTE),)
    assert swapped[1].test.time_ns.max() < swapped[1].open[0][1] <= swapped[1].train.time_ns.min()


def test_a_file_can_stand_for_another_symbol() -> None:
    feed = trades()

    other = ticks.disguised(feed, 0.3, 5)

    assert len(other) == len(feed) // 5
    assert set(other.time_ns) <= set(feed.time_ns)
    assert (np.abs(other.columns["price"] * 100 % 1 - 0.5) > 0.49).all()
    assert other.columns["price"].max() == pytest.approx(0.3 * feed.columns["price"].max(), rel=0.01)


def fault(kind: str, begin_s: int, end_s: int, symbol: str = "XYZ") -> Fault:
    return Fault(kind, symbol, begin_s * SECOND, end_s * SECOND, 1)


def test_incidents_are_set_against_faults() -> None:
    spike, slide = fault(tick_faults.SPIKE, 1000, 1001), fault(tick_faults.SLIDE, 5000, 5300)
    twice, other = fault(tick_faults.DUPLICATE, 8000, 8001), fault(tick_faults.SPIKE, 1000, 1001, "ABC")
    opened = [
        Opened("XYZ", "anomaly", 900 * SECOND),  # before: false
        Opened("XYZ", "anomaly", 1020 * SECOND),  # catches the spike
        Opened("XYZ", "anomaly", 1500 * SECOND),  # its echo
        Opened("XYZ", "anomaly", 5310 * SECOND),  # the slide is over: no catch, and not false either
        Opened("XYZ", "power_of_ten", 8010 * SECOND),  # false, and blamed on the duplicates
    ]

    verdict = tick_verdicts.judge(opened, [spike, slide, twice, other])

    assert verdict.delay_s == {spike: 20.0, slide: None, twice: 10.0, other: None}
    assert verdict.by[spike] == "anomaly"
    assert tick_verdicts.judge(opened, [twice], clean=[Opened("XYZ", "anomaly", 8020 * SECOND)]).delay_s == {
        twice: None
    }
    assert [one.time_ns // SECOND for one in verdict.false] == [900, 8010]
    part = tick_verdicts.Part(trades(0), trades(1), (OPEN[1],), 10)
    said = tick_verdicts.table([part], {tick_verdicts.CLEAN: tick_verdicts.judge([], []), 0: verdict})
    assert "| spike | XYZ | 1 of 1 (100%) | 20 s | anomaly |" in said
    assert "| duplicate | XYZ | 1 harmless, 1 alerted | 10 s | power_of_ten |" in said
    assert "| XYZ | 1.0 | 0.0 | 2.0 | 2.0 |" in said


def test_it_runs_from_files_to_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = yaml.safe_load((ticks.EXAMPLES / "ticks-trades.yaml").read_text())
    quick["model"] = {"epochs": 2, "steps_per_epoch": 5, "hidden": 8, "latent": 4}
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(quick))
    (tmp_path / "data").mkdir()
    both = pd.concat([trades(0, rows=15_000).table(), trades(1, rows=15_000).table()])
    both.to_parquet(tmp_path / "data" / "xyz.parquet")
    common = ["--data", str(tmp_path / "data"), "--trades", str(tmp_path / "quick.yaml"), "--backtest"]

    code = ticks.main([*common, "--seeds", "1", "--out", str(tmp_path / "out")])

    said = capsys.readouterr().out
    assert code == 0
    assert "## quick: XYZ 15,000 + 15,000 rows" in said
    assert re.search(r"\| slip \| XYZ \| \d of \d \(100%\) \| \d+ s \| .*power_of_ten", said), said
    assert "| XYZ | 1.0 |" in said
    assert (tmp_path / "out" / "quick" / "round1.json").exists()


def test_market_hours_are_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plain.yaml").write_text("records: {stream: symbol, features: [price, size]}\n")
    trades(0, rows=500).table().to_parquet(tmp_path / "xyz.parquet")

    assert ticks.main(["--data", str(tmp_path), "--trades", str(tmp_path / "plain.yaml"), "--backtest"]) == 65

    assert "wanted sessions.calendar; got none" in capsys.readouterr().err
