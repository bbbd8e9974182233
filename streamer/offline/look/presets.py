"""What goes with each kind of ticks: features of bars, rules, alerting, market hours.

As in `ticks-trades.yaml` and `ticks-quotes.yaml` beside this module (the same files as under `examples/`, which a test
compares), with the fields named as they are in the data. Not inside: what was measured
(`proposing`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from streamer.config import SessionsConfig
from streamer.config.section import seconds
from streamer.offline.look.features import QUOTES, TRADES

_CALENDARS = ("XNYS", "XLON", "XETR", "XTKS")  # tried, by how much of the data lies in their sessions
_INSIDE = 0.99  # of the readings, at least: those outside are dropped
_DAYS = 3  # that readings are of, at least: a part of a day lies in many hours
_DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Preset:
    """Settings that do not depend on what was measured, by section."""

    sections: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, kind: str) -> Preset:
        """The one beside this module, which is also under `examples/`."""
        text = resources.files(__package__).joinpath(f"{kind}.yaml").read_text(encoding="utf-8")
        return cls(yaml.safe_load(text))

    @property
    def lateness_s(self) -> float:
        return float(seconds(self.sections["time"].get("lateness", 0.0)))

    @property
    def grid_s(self) -> float:
        return float(seconds(self.sections["time"]["grid"]))

    def section(self, name: str) -> Mapping[str, Any]:
        return self.sections.get(name) or {}

    def features(self, roles: Mapping[str, str]) -> dict[str, str]:
        """`time.features` over the fields that have the roles; those whose roles nothing has are left out."""
        return {
            name: re.sub(r"\w+", lambda word: roles.get(word[0], word[0]), text)
            for name, text in self.section("time")["features"].items()
            if set(re.findall(r"\w+", text)) & _ROLES <= roles.keys()
        }

    def rules(self, roles: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """`rules`, over the same fields."""
        found: dict[str, dict[str, Any]] = {}
        for name, rule in self.section("rules").items():
            mine = dict(rule)
            if name == "crossed_book":
                mine = {"bid": roles["bid"], "ask": roles["ask"]} | mine
            if "field" in mine:
                mine["field"] = roles.get(mine["field"], mine["field"])
            if "fields" in mine:
                mine["fields"] = [roles[field] for field in mine["fields"] if field in roles]
            found[name] = mine
        return found


_ROLES = {"price", "size", "bid", "ask", "bid_size", "ask_size"}


@functools.cache
def preset(kind: str) -> Preset | None:
    """What goes with a kind of data; None if nothing does."""
    return Preset.read(kind) if kind in (TRADES, QUOTES) else None


def calendar_of(times_ns: NDArray[np.int64]) -> tuple[str, str] | None:
    """The exchange whose hours readings keep, and why; None if they keep none that is tried, or none can be tried."""
    days = len(np.unique(times_ns // _DAY_NS))
    if days < _DAYS:
        return None
    best: tuple[float, str] = (0.0, "")
    for name in _CALENDARS:
        try:
            sessions = SessionsConfig(calendar=name).build()
        except ValueError:  # the package is not installed
            return None
        inside = 0.0 if sessions is None else float(sessions.is_open(times_ns).mean())
        if inside >= _INSIDE and inside > best[0]:
            best = (inside, name)
    return (best[1], f"{best[0]:.1%} of the readings, of {days} days, lie in its sessions") if best[1] else None
