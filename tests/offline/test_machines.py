"""The simulated machines: seeded, tied together, and broken only where a fault says so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from streamer.offline.machines import FEATURES, KINDS, Fault, Fleet, random_fault

CHANGES = {"spike": "vibration", "drift": "temperature", "stuck": "pressure", "decoupled": "current", "dropout": None}


def play(
    steps: int = 60, *, machines: int = 3, seed: int = 1, faults: tuple[Fault, ...] = ()
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values `(steps, machines, features)` and who sends `(steps, machines)`."""
    fleet = Fleet(machines, seed=seed, faults=faults)
    taken = [fleet.step() for _ in range(steps)]
    return np.stack([values for values, _ in taken]), np.stack([sends for _, sends in taken])


def test_the_same_seed_gives_the_same_readings_and_another_seed_others() -> None:
    assert np.array_equal(play()[0], play()[0])
    assert not np.array_equal(play()[0], play(seed=2)[0])


def test_every_kind_of_fault_is_known() -> None:
    assert set(CHANGES) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_changes_only_its_feature_of_its_machine_in_its_time(kind: str) -> None:
    clean, _ = play()
    broken, sends = play(faults=(Fault(kind, 1, 20, 10),))

    changed = {(int(t), int(m), FEATURES[f]) for t, m, f in np.argwhere(clean != broken)}
    silent = {(int(t), int(m)) for t, m in np.argwhere(~sends)}
    wanted = {(t, 1) for t in range(20, 30)}
    if kind == "dropout":
        assert (silent, changed) == (wanted, set())
        return
    assert silent == set()
    assert {(m, f) for _, m, f in changed} == {(1, CHANGES[kind])}
    # A drift begins at nothing.
    assert {t for t, _, _ in changed} == set(range(21 if kind == "drift" else 20, 30))


def test_a_stuck_sensor_repeats_its_last_value() -> None:
    broken, _ = play(faults=(Fault("stuck", 0, 20, 10),))

    assert len(set(broken[19:30, 0, FEATURES.index("pressure")])) == 1


def test_current_follows_load_until_they_are_decoupled() -> None:
    clean, _ = play(1440)
    broken, _ = play(1440, faults=(Fault("decoupled", 0, 0, 1440),))

    def tie(values: NDArray[np.float64]) -> float:
        return float(np.corrcoef(values[:, 0, 0], values[:, 0, 2])[0, 1])

    assert tie(clean) > 0.9
    assert tie(broken) < -0.9


def test_an_unknown_kind_of_fault_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fault kind must be one of .*; got 'gremlins'"):
        play(5, faults=(Fault("gremlins", 0, 0, 5),))


def test_history_is_a_table_without_rows_of_machines_that_do_not_send() -> None:
    start = pd.Timestamp("2024-01-01", tz="UTC")

    table = Fleet(2, seed=1, faults=(Fault("dropout", 1, 2, 3),)).history(10, start)

    assert list(table.columns) == ["timestamp", "stream", *FEATURES]
    assert table["stream"].value_counts().to_dict() == {"machine-1": 10, "machine-2": 7}
    mine = table[table["stream"] == "machine-2"]["timestamp"]
    assert ((mine - start) / pd.Timedelta(minutes=1)).tolist() == [0, 1, 5, 6, 7, 8, 9]


def test_readings_are_finite_and_move_on_after_history() -> None:
    fleet = Fleet(2, seed=1)
    first = fleet.history(5, pd.Timestamp("2024-01-01", tz="UTC"))

    values, _ = fleet.step()

    assert fleet.step_number == 6
    assert np.isfinite(values).all()
    assert np.isfinite(first[list(FEATURES)].to_numpy()).all()


def test_random_faults_are_seeded_and_within_reach() -> None:
    some, again = ([random_fault(np.random.default_rng(s), 4, 100) for s in range(50)] for _ in range(2))

    assert some == again
    assert {fault.kind for fault in some} == set(KINDS)
    assert all(0 <= fault.machine < 4 and 100 <= fault.start < 130 < fault.end + 30 for fault in some)
