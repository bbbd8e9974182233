"""`init` writes market hours only where readings keep them, and nothing drops many rows in silence."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from streamer.connectors.files import DataSet
from streamer.errors import DataError
from streamer.offline import backtest
from streamer.offline.look.presets import calendar_of
from streamer.offline.retrain import retrain
from tests import tiny

pytestmark = pytest.mark.usefixtures("keep_logging")

S = 1_000_000_000
MONDAY = np.datetime64("2026-03-02").astype("datetime64[s]").astype(np.int64)


def times(days: int, begin_h: float, end_h: float, every_s: int = 60) -> np.ndarray:
    """Of some days from a Monday on, between two hours of UTC."""
    day = np.arange(int(3600 * begin_h), int(3600 * end_h), every_s)
    return np.concatenate([(MONDAY + 86_400 * number + day) * S for number in range(days)])


def test_hours_that_readings_of_several_days_keep_are_market_hours() -> None:
    found = calendar_of(times(4, 14.5, 21))

    assert found is not None
    assert found == ("XNYS", "100.0% of the readings, of 4 days, lie in its sessions")


@pytest.mark.parametrize(
    "some",
    [times(4, 9.5, 17), times(4, 13.5, 22), times(1, 14.5, 21), times(7, 14.5, 21)],
    ids=["of nobody", "longer", "one day", "at weekends too"],
)
def test_no_market_hours_are_made_up(some: np.ndarray) -> None:
    assert calendar_of(some) is None


def data(some: np.ndarray) -> DataSet:
    return DataSet(["a"], np.zeros(len(some), np.int64), some, tiny.wave(len(some)).astype(np.float64))


def test_rows_outside_of_the_sessions_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = {"directory": tmp_path, "epochs": 1, "steps_per_epoch": 2, "batch_size": 16, "hidden": 4, "latent": 2}
    settings = tiny.settings(model=model, sessions={"calendar": "XNYS"})
    caplog.set_level(logging.WARNING)
    retrain(settings, data(times(4, 13.5, 21)))
    assert "240 of 1800 rows are left out of training: they lie outside of the sessions of XNYS" in caplog.text

    backtest.run(settings, tiny.fit(epochs=1), tiny.VERSION, data(times(2, 13.5, 21)))
    assert "120 of 900 rows are not scored: they lie outside of the sessions of XNYS" in caplog.text

    with pytest.raises(DataError, match=r"all of 120 rows lie outside of the market hours of sessions\.calendar"):
        backtest.run(settings, tiny.fit(epochs=1), tiny.VERSION, data(times(1, 2, 4)))
    with pytest.raises(DataError, match="120 of 120 rows lie outside of the market hours"):
        retrain(settings, data(times(1, 2, 4)))
