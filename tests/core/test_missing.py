"""Missing values through the whole pipeline: filled, flagged, and never a reason to alert."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.detector import Detector
from streamer.connectors.files import DataSet
from streamer.core.outcome import Outcome
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from streamer.offline import backtest
from tests import tiny
from tests.tiny import FEATURES, LENGTH, MINUTE_NS, VERSION

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
SETTINGS = tiny.settings(records={"missing": "fill"}, alerting={"open_after": 2, "open_within": 3, "resolve_after": 4})
ROWS = 400


def pipeline(detector: Detector) -> Pipeline:
    made = Pipeline(SETTINGS.pipeline_options(), detector, VERSION)
    for name in tiny.STREAMS:
        made.keys.add(name)
    return made


def with_holes(values: Float32, lost: Bools) -> Float32:
    """Values without those that are lost, but for one of each reading: a reading with nothing is none."""
    lost = lost.copy()
    lost[lost.all(1), 0] = False
    return np.where(lost, np.float32(np.nan), values)


@st.composite
def losses(draw: st.DrawFn) -> Bools:
    """Values lost one by one, and in bursts of a channel, up to half of all."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lost = random.random((ROWS, 2)) < draw(st.floats(0, 0.4))
    for _ in range(draw(st.integers(0, 12))):
        begin, channel = random.integers(0, ROWS), random.integers(0, 2)
        lost[begin : begin + random.integers(1, 3 * LENGTH), channel] = True
    return lost


def one(detector: Detector, values: Float32) -> Outcome:
    return pipeline(detector).process(tiny.fleet({0: values}))


def troubled() -> Readings:
    """Two streams, a fifth of the values missing, one with a fault."""
    series = {code: tiny.wave(120, seed=20 + code, level=10.0 * code) for code in range(2)}
    series[0][60:75, 1] += 8
    random = np.random.default_rng(3)
    return tiny.fleet({code: with_holes(v, random.random(v.shape) < 0.2) for code, v in series.items()})


WHOLE = troubled()


@settings(max_examples=60)
@given(lost=losses())
def test_a_clean_stream_with_holes_never_alerts(tiny_detector: Detector, lost: Bools) -> None:
    values = tiny.wave(ROWS, seed=5)
    complete = one(tiny_detector, values)

    outcome = one(tiny_detector, with_holes(values, lost))

    assert complete.alerts == outcome.alerts == []
    scored = ~np.isnan(outcome.scores.score)
    assert scored[LENGTH - 1 :].all()  # of two channels one is there: never less than half
    further = outcome.scores.score[scored] - complete.scores.score[scored]  # in alert lines
    assert np.median(np.abs(further)) < 0.15
    assert np.quantile(further, 0.9) < 0.4


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_fault_is_caught_though_a_fifth_is_missing(tiny_detector: Detector, seed: int) -> None:
    values = tiny.wave(ROWS, seed=5)
    values[200:215, 1] += 8

    outcome = one(tiny_detector, with_holes(values, np.random.default_rng(seed).random(values.shape) < 0.2))

    opened = [event.onset_ns for event in outcome.events if event.event == "open"]
    fault = range(tiny.START_NS + 200 * MINUTE_NS, tiny.START_NS + (215 + LENGTH) * MINUTE_NS)
    assert opened[0] in fault[: 4 * MINUTE_NS]
    assert all(onset in fault for onset in opened)
    assert "current" in {alert.features[0].name for alert in outcome.alerts}


@pytest.mark.parametrize("channel", [0, 1])
def test_a_channel_that_fell_out_does_not_alert_and_is_not_spoken_of(tiny_detector: Detector, channel: int) -> None:
    values = tiny.wave(ROWS, seed=5)
    values[100:, channel] = np.nan
    values[300:310, 1 - channel] += 9

    outcome = one(tiny_detector, values)

    first = outcome.alerts[0]
    assert outcome.events[0].onset_ns >= tiny.START_NS + 300 * MINUTE_NS
    assert [(part.name, part.share) for part in first.features] == [(FEATURES[1 - channel], 1.0)]
    assert first.filled == 0.5
    assert first.summary.endswith(" (50% of the window's values were missing and filled in).")


def test_an_alert_says_how_much_was_missing_and_shows_only_what_was_observed(tiny_detector: Detector) -> None:
    outcome = pipeline(tiny_detector).process(WHOLE)

    of_a = [alert for alert in outcome.alerts if alert.stream == "a"]
    assert {alert.event for alert in of_a} >= {"open", "resolve"}
    seen = {float(f"{value:.6g}") for value in WHOLE.values[~np.isnan(WHOLE.values)].astype(float)}
    for alert, event in zip(outcome.alerts, outcome.events, strict=True):
        rows = np.flatnonzero(WHOLE.stream[: event.row + 1] == event.code)[-LENGTH:]
        assert alert.filled == pytest.approx(np.isnan(WHOLE.values[rows]).mean(), abs=1e-4)
        for part in alert.features:
            assert min(abs(part.observed - value) for value in seen) < 1e-3
        if alert.event != "resolve":
            assert f"({alert.filled:.0%} of the window's values were missing and filled in)" in alert.summary


def test_a_complete_stream_says_nothing_of_filling(tiny_detector: Detector) -> None:
    values = tiny.wave(200, seed=5)
    values[100:110, 1] += 8

    outcome = one(tiny_detector, values)

    assert outcome.alerts
    for alert in outcome.alerts:
        assert alert.filled == 0
        assert "missing" not in alert.summary
    assert np.nanmax(outcome.scores.filled) == 0


@settings(max_examples=15)
@given(st.lists(st.integers(1, len(WHOLE) - 1), max_size=12))
def test_any_split_into_batches_gives_the_same_bits(tiny_detector: Detector, cuts: list[int]) -> None:
    together = pipeline(tiny_detector).process(WHOLE)
    parted = pipeline(tiny_detector)

    apart = [parted.process(part) for part in tiny.split(WHOLE, cuts)]

    for column in ("score", "error", "filled"):
        parts = [getattr(outcome.scores, column) for outcome in apart]
        assert np.array_equal(np.concatenate(parts), getattr(together.scores, column), equal_nan=True)
    assert [alert for outcome in apart for alert in outcome.alerts] == together.alerts


@settings(max_examples=15)
@given(st.integers(0, len(WHOLE)))
def test_holes_survive_a_restart(tiny_detector: Detector, at: int) -> None:
    before, after = pipeline(tiny_detector), pipeline(tiny_detector)
    before.process(WHOLE.take(np.arange(at)))

    after.restore(before.export_partition(0))

    rest = WHOLE.take(np.arange(at, len(WHOLE)))
    here, there = before.process(rest), after.process(rest)
    assert np.array_equal(here.scores.score, there.scores.score, equal_nan=True)
    assert here.alerts == there.alerts


def test_a_window_mostly_missing_is_not_scored_and_counted(tiny_detector: Detector) -> None:
    lost = np.zeros((ROWS, 2), bool)
    lost[100:110] = True
    values = tiny.wave(ROWS, seed=5)
    values[lost] = np.nan  # the stations take what the decoder would not: nothing at all in ten readings

    outcome = one(tiny_detector, values)

    share = np.array([lost[i + 1 - LENGTH : i + 1].mean() for i in range(LENGTH - 1, ROWS)])
    assert np.array_equal(np.isnan(outcome.scores.score[LENGTH - 1 :]), share > 0.5)
    assert outcome.scores.sparse == (share > 0.5).sum() > 0
    assert outcome.scores.failures == 0
    assert outcome.scores.filled[LENGTH - 1 :] == pytest.approx(share)
    assert outcome.alerts == []


def data(**changes: Any) -> DataSet:
    values = WHOLE.values.astype(np.float64)
    values[7], values[9, 0] = np.nan, np.inf
    return DataSet(list(tiny.STREAMS), WHOLE.stream, WHOLE.time_ns, values)


def test_a_backtest_takes_what_the_daemon_would_and_tells_of_gaps(tiny_detector: Detector, tmp_path: Any) -> None:
    some = data()

    result = backtest.run(SETTINGS, tiny_detector, VERSION, some)
    backtest.write(result, SETTINGS, tiny_detector, VERSION, tmp_path)

    taken = some.admitted(SETTINGS.records)
    live = pipeline(tiny_detector).process(WHOLE.take(np.flatnonzero(taken)))
    assert result.skipped == 2
    assert np.array_equal(result.score[taken], live.scores.score, equal_nan=True)
    header, *lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert header.split(",")[-1] == "filled"
    assert float(lines[-1].split(",")[-1]) == pytest.approx(result.filled[-1])


def test_a_backtest_that_refuses_gaps_has_no_such_column(tiny_detector: Detector, tmp_path: Any) -> None:
    some = data()
    plain = tiny.settings()

    result = backtest.run(plain, tiny_detector, VERSION, some)
    backtest.write(result, plain, tiny_detector, VERSION, tmp_path)

    assert result.skipped == (~some.complete).sum() > 2
    assert "filled" not in (tmp_path / "scores.csv").read_text().splitlines()[0]


def test_latents_and_the_rebuilt_signal_bridge_gaps(tiny_detector: Detector, tmp_path: Path) -> None:
    waves = tiny.wave(200, seed=5).astype(np.float64)
    with_gaps = waves.copy()
    with_gaps[50::7, 0], with_gaps[93:98, 1] = np.nan, np.nan
    times = tiny.START_NS + np.arange(200) * tiny.MINUTE_NS
    some = DataSet(["a"], np.zeros(200, np.int64), times, with_gaps)

    backtest.carry_out(SETTINGS, tiny_detector, VERSION, some, tmp_path, embeddings=True, reconstruction=True)

    latents = pd.read_parquet(tmp_path / "embeddings.parquet")
    scored = pd.read_csv(tmp_path / "scores.csv")["score"].notna().sum()
    assert len(latents) == scored == 200 - LENGTH + 1
    assert np.isfinite(latents[["z00", "z01", "z02", "z03"]].to_numpy()).all()
    rebuilt = pd.read_parquet(tmp_path / "rebuilt.parquet")[["heat", "current"]].to_numpy()
    missing = np.isnan(with_gaps)
    assert np.abs(rebuilt - waves)[missing].mean() < 0.5 * np.abs(waves - waves.mean(0))[missing].mean()
