"""Scaling is invertible, keeps order, and survives features without width."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.scaling import RobustScaler, squash, unsquash


def rows(n: int, row: int = 1) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.full(n, row, np.int64)


def normal(
    n: int, *, mean: float = 0.0, std: float = 1.0, seed: int = 0
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(mean, std, (n, 1))


@given(st.floats(-1e6, 1e6))
def test_unsquash_undoes_squash(z: float) -> None:
    assert unsquash(squash(np.array([z])))[0] == pytest.approx(z, rel=1e-9, abs=1e-9)


@given(*[st.floats(-1e30, 1e30, allow_subnormal=False)] * 2)
def test_squash_keeps_order_and_sign(one: float, other: float) -> None:
    a, b = squash(np.array([one, other]))

    assert (a <= b) == (one <= other) or a == b
    assert np.sign(a) == np.sign(one)


def test_squash_tells_a_tenfold_fault_from_a_thousandfold_one() -> None:
    tenfold, thousandfold = squash(np.array([10.0, 1000.0]))

    assert thousandfold - tenfold > 5


@given(st.lists(st.tuples(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32)), min_size=1, max_size=50))
def test_inverse_gives_raw_units_back(values: list[tuple[float, float]]) -> None:
    scaler = RobustScaler.fit([np.random.default_rng(0).normal([5, -300], [2, 40], (200, 2))])
    raw = np.array(values, np.float32)

    back = scaler.inverse(scaler.transform(raw, rows(len(raw))), rows(len(raw)))

    assert back == pytest.approx(raw, rel=1e-4, abs=1e-3)


def test_normal_data_gets_a_width_near_its_standard_deviation() -> None:
    scaler = RobustScaler.fit([normal(5000, mean=7, std=3)])

    assert scaler.center[1, 0] == pytest.approx(7, abs=0.2)
    assert scaler.width[1, 0] == pytest.approx(3, rel=0.1)


def test_a_few_wild_readings_hardly_move_the_scale() -> None:
    clean = normal(1000)
    wild = clean.copy()
    wild[::100] = 30

    before, after = RobustScaler.fit([clean]), RobustScaler.fit([wild])

    assert after.center[1, 0] == pytest.approx(before.center[1, 0], abs=0.1)
    assert after.width[1, 0] < 1.5 * before.width[1, 0]


@pytest.mark.parametrize("level", [0.0, 5.0, -1e6, 1e30])
def test_a_constant_feature_scales_to_zero_and_a_change_of_it_stays_finite(level: float) -> None:
    scaler = RobustScaler.fit([np.full((100, 1), level)])

    same, moved = scaler.transform(np.array([[level], [level * 1.1 + 1]], np.float32), rows(2))

    assert same[0] == 0
    assert np.isfinite(moved[0])
    assert abs(moved[0]) > 1


def test_a_feature_that_mostly_rests_keeps_a_width() -> None:
    # rest rest rest ... burst: the interquartile range is 0
    resting = np.zeros((1000, 1))
    resting[::20] = 10

    scaler = RobustScaler.fit([resting])

    assert scaler.transform(np.array([[10.0]], np.float32), rows(1))[0, 0] < 10


def test_each_stream_has_its_own_row_and_row_0_is_the_fleets() -> None:
    scaler = RobustScaler.fit([normal(500, mean=mean) for mean in (0, 100, 200)])

    assert scaler.center[:, 0] == pytest.approx([100, 0, 100, 200], abs=0.3)


def test_the_fleets_row_is_as_wide_as_streams_differ() -> None:
    alike = RobustScaler.fit([normal(500, seed=i) for i in range(5)])
    apart = RobustScaler.fit([normal(500, mean=50 * i, seed=i) for i in range(5)])

    assert alike.width[0, 0] < 2
    assert apart.width[0, 0] > 20


def test_a_float_max_sentinel_stays_finite() -> None:
    scaler = RobustScaler.fit([normal(500, mean=0.5, std=0.05)])

    with np.errstate(over="ignore"):
        scaled = scaler.transform(np.array([[np.finfo(np.float32).max]], np.float32), rows(1))

    assert np.isfinite(scaled).all()


def test_a_long_stream_is_scaled_by_a_part_of_it_that_knows_no_rhythm() -> None:
    # a rest at every 8th reading: each 8th row would say that it always rests
    values = np.random.default_rng(0).normal(size=(1 << 20, 1)).astype(np.float32)
    values[::8] = 100.0

    scaler = RobustScaler.fit([values])

    low, center, high = np.percentile(values.astype(np.float64), [25, 50, 75])
    assert scaler.center[1, 0] == pytest.approx(center, abs=0.01)
    assert scaler.width[1, 0] == pytest.approx(
        max((high - low) / 1.349, 0.3 * values.astype(np.float64).std()), rel=0.01
    )
