"""Expected values in batches equal those of a loop over windows."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.detector import Detector
from streamer.core.resets import Resets
from streamer.offline.backtest import reconstruction
from tests import tiny
from tests.tiny import LENGTH, PATCH


def by_loop(detector: Detector, values: NDArray[np.float32], row: int) -> NDArray[np.float32]:
    found = np.full(values.shape, np.nan, np.float32)
    inputs = detector.prepare(values, np.full(len(values), row))
    for end in range(LENGTH, len(values) + 1, PATCH):
        found[end - PATCH : end] = detector.explain(inputs[end - LENGTH : end], row).expected[-PATCH:]
    return found


@pytest.mark.parametrize("rows", [0, 15, 16, 101])
def test_every_patch_comes_from_the_window_that_ends_with_it(tiny_detector: Detector, rows: int) -> None:
    values = tiny.wave(max(rows, 1), seed=5)[:rows]

    found, error = reconstruction.expected_series(tiny_detector, values, 1)

    assert found == pytest.approx(by_loop(tiny_detector, values, 1), rel=1e-4, abs=1e-4, nan_ok=True)
    assert np.array_equal(np.isnan(error), np.isnan(found))
    inputs = tiny_detector.prepare(values, np.ones(rows, np.int64))
    again = tiny_detector.prepare(np.nan_to_num(found), np.ones(rows, np.int64))
    seen = ~np.isnan(found)
    assert error[seen] == pytest.approx(((again - inputs) ** 2)[seen], rel=1e-2, abs=1e-4)


def test_expected_values_are_causal(tiny_detector: Detector) -> None:
    values = tiny.wave(100, seed=5)
    changed = values.copy()
    changed[60:] += 5

    before, _ = reconstruction.expected_series(tiny_detector, values, 1)
    after, _ = reconstruction.expected_series(tiny_detector, changed, 1)

    assert np.array_equal(before[:60], after[:60], equal_nan=True)
    assert not np.allclose(before[60:], after[60:])


def test_windows_do_not_reach_over_two_runs(tiny_detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruction, "_BATCH", 3)  # batches that hold windows of several runs
    parts = [tiny.wave(n, seed=n) for n in (30, 7, 16, 41)]
    whole = np.concatenate(parts)
    found = np.full(whole.shape, np.nan, np.float32)
    begins = np.cumsum([0, 30, 7, 16])
    rows = np.repeat([1, 2, 0, 1], [30, 7, 16, 41])

    for places, values, _ in reconstruction.reconstruct(
        tiny_detector, lambda p: (whole[p], rows[p]), begins, len(whole)
    ):
        found[places] = values

    alone = [reconstruction.expected_series(tiny_detector, p, r)[0] for p, r in zip(parts, (1, 2, 0, 1), strict=True)]
    assert found == pytest.approx(np.concatenate(alone), rel=1e-4, abs=1e-4, nan_ok=True)


def test_no_window_is_reconstructed_across_a_gap(tiny_detector: Detector) -> None:
    values = tiny.wave(60, seed=5)
    minute = np.arange(60) + 100 * (np.arange(60) >= 30)
    begins = reconstruction.run_begins(np.zeros(60, np.int64), minute * tiny.MINUTE_NS, Resets(600 * 10**9))

    whole, _ = reconstruction.expected_series(tiny_detector, values, 1, begins)

    parts = [reconstruction.expected_series(tiny_detector, part, 1)[0] for part in (values[:30], values[30:])]
    assert begins.tolist() == [0, 30]
    assert whole == pytest.approx(np.concatenate(parts), rel=1e-4, abs=1e-4, nan_ok=True)
