"""The benchmark of strides counts incidents within faults as caught, and all others as false."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks import stride
from models.detector import Detector
from models.scoring.alert_line import AlertPolicy
from streamer.offline.machines import READINGS_A_DAY, Fault


def test_incidents_are_set_against_faults(tiny_detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    cut, first = 1000, 1000 - tiny_detector.architecture.window
    # Machine 0: within a short fault, again within it, long after it. Machine 1: within a window after a long one.
    opened = [(0, 1103), (0, 1108), (0, 1500), (1, 1255)]

    def found(made: Detector, policy: AlertPolicy, values: np.ndarray) -> list[tuple[int, int]]:
        return [(machine, step - first) for machine, step in opened]

    monkeypatch.setattr(stride, "incidents", found)
    faults = [Fault("spike", 0, 1100, stride.SHORT), Fault("stuck", 1, 1100, 150), Fault("drift", 0, 1800, 150)]

    row = stride.measure(tiny_detector, np.zeros((2000, 2, 6), np.float32), cut, faults)

    assert row.caught == {True: 1, False: 1}
    assert row.delays == {True: [3], False: [155]}
    assert row.false == 1


def test_faults_come_one_at_a_time_and_are_over_before_the_next() -> None:
    faults = stride.scattered(3, READINGS_A_DAY, 4 * READINGS_A_DAY, seed=1)

    assert len(faults) == 3 * 3 * READINGS_A_DAY // stride.APART
    for machine in range(3):
        own = [fault for fault in faults if fault.machine == machine]
        assert all(one.end + 100 < other.start for one, other in itertools.pairwise(own))
    assert {fault.length == stride.SHORT for fault in faults} == {True, False}
