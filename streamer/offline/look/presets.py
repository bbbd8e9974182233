"""What goes with each kind of ticks: features of bars, windows, alerting, market hours.

The same as in `examples/ticks-*.yaml`, with the fields named as they are in the data. Not inside: what was measured
(`proposing`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.config import SessionsConfig
from streamer.offline.look.features import QUOTES, TRADES

_CALENDARS = ("XNYS", "XLON", "XETR", "XTKS")  # tried, by how much of the data lies in their sessions
_INSIDE = 0.3  # of the readings, at least: some come before the open and after the close
_CLOSED_DAYS = 0.01  # of the readings, at most


@dataclass(frozen=True, slots=True)
class Preset:
    """Settings that do not depend on what was measured."""

    features: Mapping[str, str]  # expressions over roles
    lateness_s: float
    grid_s: float
    time: Mapping[str, Any] = field(default_factory=dict)
    window: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    alerting: Mapping[str, Any] = field(default_factory=dict)

    def expressions(self, roles: Mapping[str, str]) -> dict[str, str]:
        """Features over the fields that have the roles; those whose roles nothing has are left out."""
        found = {}
        for name, text in self.features.items():
            wanted = set(re.findall(r"\w+", text)) & _ROLES
            if wanted <= roles.keys():
                found[name] = re.sub(r"\w+", lambda word: roles.get(word[0], word[0]), text)
        return found


_ROLES = {"price", "size", "bid", "ask", "bid_size", "ask_size"}

PRESETS: Mapping[str, Preset] = {
    TRADES: Preset(
        {
            "return": "last(price) | log_return",
            "reversal": "reversal(price)",
            "volume": "sum(size) | log1p",
            "largest": "max(size) | log1p",
            "volatility": "volatility(price)",
            "trades": "count | log1p",
            "unchanged": "age(price)",
        },
        lateness_s=2.0,
        grid_s=10.0,
        time={"gap_limit": 60},
        window={"length": 64, "patch": 2},
        model={"hidden": 32, "latent": 8},
        alerting={"budget_per_stream_per_week": 50, "open_after": 2, "open_within": 3, "resolve_after": 16},
    ),
    QUOTES: Preset(
        {
            "return": "mid(bid, ask) | log_return",
            "bid_reversal": "reversal(bid)",
            "ask_reversal": "reversal(ask)",
            "range": "range(bid)",
            "imbalance": "imbalance(bid_size, ask_size)",
            "quotes": "count | log1p",
            "unchanged": "age(bid_size)",
        },
        lateness_s=2.0,
        grid_s=10.0,
        time={"gap_limit": 60},
        window={"length": 32, "patch": 2},
        model={"hidden": 32, "latent": 8},
        alerting={"budget_per_stream_per_week": 60, "open_after": 2, "open_within": 3, "resolve_after": 16},
    ),
}


def calendar_of(times_ns: NDArray[np.int64]) -> tuple[str, str] | None:
    """The exchange whose hours readings keep, and why; None if they keep none that is tried, or none can be tried."""
    best: tuple[float, str] = (_INSIDE, "")
    for name in _CALENDARS:
        try:
            sessions = SessionsConfig(calendar=name).build()
        except ValueError:  # the package is not installed
            return None
        if sessions is None:
            continue
        inside = float(sessions.is_open(times_ns).mean())
        day = 86_400_000_000_000
        # Half a day around the session, and the reading's day counts as one of trading.
        middle = (sessions.open_ns + sessions.close_ns) // 2
        after = np.searchsorted(middle, times_ns)
        near = np.minimum(
            np.abs(times_ns - middle[np.clip(after, 0, len(middle) - 1)]),
            np.abs(times_ns - middle[np.clip(after - 1, 0, len(middle) - 1)]),
        )
        if float((near > day // 2).mean()) <= _CLOSED_DAYS and inside > best[0]:
            best = (inside, name)
    if not best[1]:
        return None
    return best[1], f"{best[0]:.0%} of the readings lie in its sessions, none on days on which it is closed"
