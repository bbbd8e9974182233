"""A fleet of simulated machines, and faults to inject into them.

Each machine follows a daily load. Its current follows the load, its temperature follows
the power with a lag and the ambient temperature, vibration grows with speed, flow and
pressure follow a pump curve; all carry noise. The features are correlated, and a fault
changes one value, its course, or the correlation. Seeded; no clock, no Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FEATURES = ("load", "temperature", "current", "vibration", "flow", "pressure")
LOAD, TEMPERATURE, CURRENT, VIBRATION, FLOW, PRESSURE = range(6)
INTERVAL_S = 60  # seconds of the machines' own time between two readings
READINGS_A_DAY = 1440
KINDS = ("spike", "drift", "stuck", "decoupled", "dropout")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one machine; steps count readings."""

    kind: str  # one of KINDS
    machine: int
    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


FAULT_LENGTH = {"spike": 4, "drift": 150, "stuck": 130, "decoupled": 60, "dropout": 60}


class Fleet:
    """Machines that advance one reading at a time.

    Args:
        machines: How many.
        seed: Same seed, same readings.
        faults: What goes wrong, and when.
    """

    def __init__(self, machines: int, *, seed: int = 0, faults: Sequence[Fault] = ()) -> None:
        self.names = [f"machine-{i + 1}" for i in range(machines)]
        self.faults = list(faults)
        self.step_number = 0  # readings since a midnight
        self._random = np.random.default_rng(seed)
        r = self._random
        self._size = r.uniform(0.8, 1.25, machines)  # rated power
        self._phase = r.uniform(-0.06, 0.06, machines)  # days the shift begins earlier or later
        self._ambient = r.uniform(17, 23, machines)
        self._sway = np.zeros(machines)  # slow drift of the load
        self._heat = np.full(machines, 25.0)
        self._held = np.zeros((machines, len(FEATURES)))
        self.start(0)

    def start(self, number: int) -> None:
        """Continue from reading `number` of the machines' day, with the temperatures of that time of day."""
        for _ in range(600):
            self._advance(number)
        self.step_number = number

    def step(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The next reading of each machine, `(machines, features)`, and which machines send it."""
        number = self.step_number
        values = self._advance(number)
        sends = np.ones(len(values), bool)
        for fault in self.faults:
            if fault.start <= number < fault.end:
                self._inject(fault, number, values, sends)
        self._held = np.where(sends[:, None], values, self._held)
        self.step_number += 1
        return values, sends

    def history(self, steps: int, start: pd.Timestamp, interval_s: float = INTERVAL_S) -> pd.DataFrame:
        """The next `steps` readings as a table: timestamp, stream, one column per feature."""
        taken = [self.step() for _ in range(steps)]
        values = np.concatenate([v[s] for v, s in taken])
        which = np.concatenate([np.flatnonzero(s) for _, s in taken])
        when = np.repeat(np.arange(steps), [int(s.sum()) for _, s in taken])
        frame = pd.DataFrame(values, columns=list(FEATURES))
        frame.insert(0, "stream", np.array(self.names)[which])
        frame.insert(0, "timestamp", start + pd.to_timedelta(when * interval_s, unit="s"))
        return frame

    def _advance(self, number: int) -> NDArray[np.float64]:
        r, n = self._random, len(self.names)
        day = number / READINGS_A_DAY + self._phase
        shift = 0.5 - 0.5 * np.cos(2 * np.pi * day)  # nights are quiet
        self._sway += -0.02 * self._sway + 0.008 * r.normal(size=n)
        load = np.clip(0.25 + 0.55 * shift**1.5 + 0.05 * np.sin(2 * np.pi * day * 24) + self._sway, 0.05, 1.2)
        power = load * self._size
        current = 4 + 22 * power + 0.35 * r.normal(size=n)
        ambient = self._ambient + 3 * np.sin(2 * np.pi * (day - 0.35))
        self._heat += (ambient + 45 * power - self._heat) / 25
        temperature = self._heat + 0.25 * r.normal(size=n)
        speed = 0.6 + 0.4 * load
        vibration = 0.8 + 1.6 * speed**2 * self._size + 0.08 * r.normal(size=n)
        flow = 30 * speed * self._size + 0.4 * r.normal(size=n)
        pressure = 6.5 - 2.0 * (flow / (30 * self._size)) ** 2 + 0.05 * r.normal(size=n)
        return np.stack([load * 100 + 0.6 * r.normal(size=n), temperature, current, vibration, flow, pressure], 1)

    def _inject(self, fault: Fault, number: int, values: NDArray[np.float64], sends: NDArray[np.bool_]) -> None:
        m, since = fault.machine, number - fault.start
        if fault.kind == "spike":
            values[m, VIBRATION] += 2.5 + 0.5 * (since % 2)
        elif fault.kind == "drift":
            values[m, TEMPERATURE] += 14 * since / fault.length
        elif fault.kind == "stuck":
            values[m, PRESSURE] = self._held[m, PRESSURE]
        elif fault.kind == "decoupled":
            values[m, CURRENT] = 30 * self._size[m] - values[m, CURRENT] * 0.8
        elif fault.kind == "dropout":
            sends[m] = False
        else:
            raise ValueError(f"fault kind must be one of {KINDS}; got {fault.kind!r}")


def random_fault(random: np.random.Generator, machines: int, earliest: int) -> Fault:
    """A fault of any kind on any machine, within the next half hour of readings."""
    kind = KINDS[int(random.integers(len(KINDS)))]
    return Fault(kind, int(random.integers(machines)), earliest + int(random.integers(30)), FAULT_LENGTH[kind])
