"""Faults for files of ticks: what goes wrong with a feed, put into clean rows with a fixed seed, and the list of it.

Pure: tables in, tables and labels out. Rows stay in the order in which they arrive. Sizes follow from the data alone
(local volatility, the symbol's longest natural pause), never from a symbol's name. Not inside: what came of them
(`ticks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SECOND = 1_000_000_000
MINUTE = 60 * SECOND

SPIKE, STUCK, CROSSED, BURST, GAP, SLIP, SLIDE = "spike", "stuck", "crossed", "burst", "gap", "slip", "slide"
DUPLICATE, DISORDER = "duplicate", "disorder"
HARMLESS = (DUPLICATE, DISORDER)  # must not alert
MOST_ROWS = 0.005  # share of a file's rows that one round may change, remove or add

SPIKE_SIGMAS = 8.0
SLIDE_SHARE, SLIDE_NS = 0.03, 5 * MINUTE
SHORTEST_NS = 2 * MINUTE  # of a stuck price and a gap; longer where the symbol itself rests longer
BURST_FACTOR, BURST_NS = 20, 30 * SECOND
CROSSED_NS, CROSSED_SIGMAS = 10 * SECOND, 2.0
DISORDER_NS, DUPLICATE_NS = SECOND, 5 * SECOND
LEAD_NS, APART_NS, TAIL_NS = 20 * MINUTE, 15 * MINUTE, 8 * MINUTE  # before the first, between two, after the last

# Long faults take turns, one a round: two of them would leave no room for anything else.
_LONG = (SLIDE, STUCK, GAP)
_SHORT = (SPIKE, SLIP, BURST, DUPLICATE, SPIKE, DISORDER, SLIP, SPIKE)


@dataclass(frozen=True, slots=True)
class Fault:
    """One injected fault; times are event times."""

    kind: str
    symbol: str
    begin_ns: int
    end_ns: int
    rows: int  # changed, removed or added


@dataclass(frozen=True, slots=True)
class Feed:
    """Ticks of one symbol as columns, in order of arrival: trades or quotes."""

    symbol: str
    time_ns: Ints
    columns: dict[str, NDArray[Any]]

    @property
    def is_quotes(self) -> bool:
        return "bid" in self.columns

    def __len__(self) -> int:
        return len(self.time_ns)

    def take(self, rows: Ints | NDArray[np.bool_]) -> Feed:
        return Feed(self.symbol, self.time_ns[rows], {name: column[rows] for name, column in self.columns.items()})

    def prices(self) -> Floats:
        """Last price, or the middle of the newest bid and ask; NaN before both were seen."""
        if not self.is_quotes:
            return np.asarray(self.columns["price"], np.float64)
        sides = [pd.Series(self.columns[side]).where(lambda s: s > 0).ffill().to_numpy() for side in ("bid", "ask")]
        middle: Floats = (sides[0] + sides[1]) / 2
        return middle

    @classmethod
    def of(cls, table: pd.DataFrame) -> Feed:
        """From a table with `timestamp` and `symbol`, which has one value."""
        symbols = table["symbol"].unique()
        if len(symbols) != 1:
            raise ValueError(f"wanted ticks of one symbol; got {sorted(symbols)}")
        time_ns = pd.DatetimeIndex(table["timestamp"]).as_unit("ns").asi8
        rest = [name for name in table.columns if name not in ("timestamp", "symbol")]
        return cls(str(symbols[0]), time_ns, {name: table[name].to_numpy(copy=True) for name in rest})

    def table(self) -> pd.DataFrame:
        stamps = pd.to_datetime(self.time_ns, utc=True)
        return pd.DataFrame({"timestamp": stamps, "symbol": self.symbol, **self.columns})


def inject(
    feed: Feed, sessions: Sequence[tuple[int, int]], *, seed: int, rows: int, clean: Feed, sigmas: float = SPIKE_SIGMAS
) -> tuple[Feed, list[Fault]]:
    """A copy of a feed with one round of faults in it, and what they are, in order of time.

    A fault that changes every row of some minutes is put where those minutes hold few rows; one that fits
    nowhere is left out.

    Args:
        feed: Ticks of one symbol, at least some hundred.
        sessions: Begin and end of trading on each day, Unix time in ns; faults lie well inside.
        seed: The same seed, the same faults; three in a row hold one long fault of each kind.
        rows: How many may be changed, removed or added in all.
        clean: Earlier ticks of the symbol: how long it rests by itself.
        sigmas: Height of a spike, in local sigmas.
    """
    rng = np.random.default_rng([seed, *feed.symbol.encode()])
    crossed = (CROSSED,) if feed.is_quotes else ()
    kinds = (_LONG[seed % len(_LONG)], *crossed, *_SHORT, *crossed)
    own = _Lengths.of(clean, sessions)
    places: list[tuple[int, int, str]] = []
    left = rows
    for number, kind in enumerate(kinds):
        length = own.of_kind(kind)
        # Long faults come first and must leave something for each of those to come.
        allowed = left - 8 * (len(kinds) - number - 1)
        begin = _place(rng, feed, sessions, length, allowed, places, _changes(feed, kind))
        if begin is None:
            continue
        places.append((begin, begin + length, kind))
        left -= _count(feed, begin, length, _changes(feed, kind))
    faults = []
    made = feed
    for begin, end, kind in sorted(places, reverse=True):  # from behind, so that rows before keep their places
        made, fault = _MAKERS[kind](made, begin, end, rng, sigmas)
        faults.append(fault)
    return made, sorted(faults, key=lambda fault: fault.begin_ns)


def local_sigma(time_ns: Ints, prices: Floats, at_ns: int) -> float:
    """Standard deviation of one-minute log returns in the half hour before; at least half a tick.

    A minute is the scale on which a desk looks at a price; between single trades it bounces between bid and ask.
    """
    some = slice(*np.searchsorted(time_ns, [at_ns - 30 * MINUTE, at_ns]))
    minutes, own = time_ns[some] // MINUTE, prices[some]
    last = own[np.append(np.flatnonzero(np.diff(minutes)), len(own) - 1)] if len(own) else own
    last = last[np.isfinite(last)]
    steps = np.diff(np.unique(own[np.isfinite(own)]))
    tick = float(steps.min()) if len(steps) else 0.01
    level = float(last[-1]) if len(last) else 1.0
    floor = tick / 2 / level
    return max(float(np.diff(np.log(last)).std()), floor) if len(last) > 3 else 4 * floor


@dataclass(frozen=True, slots=True)
class _Lengths:
    """How long faults of each kind last for one symbol."""

    stuck: int
    gap: int

    @classmethod
    def of(cls, clean: Feed, sessions: Sequence[tuple[int, int]]) -> _Lengths:
        """Longer than the symbol by itself stands still, or pauses: a shorter one is no fault."""
        minute = clean.time_ns // MINUTE % 1440
        opens, closes = (sessions[0][0] // MINUTE) % 1440, (sessions[0][1] // MINUTE) % 1440
        some = clean.take((minute >= opens) & (minute < closes))
        if len(some) < 2:
            return cls(SHORTEST_NS, SHORTEST_NS)
        day = some.time_ns // (1440 * MINUTE)
        same_day = np.diff(day) == 0
        pause = int(np.diff(some.time_ns)[same_day].max(initial=0))
        # A price that is repeated; of a quote nothing changes, on either side.
        parts = [_sides(some.columns[name], some) for name in _frozen(some)]
        changed = np.any([np.diff(part, prepend=np.nan) != 0 for part in parts], axis=0)
        still = some.time_ns[changed]
        rest = int(np.diff(still)[np.diff(still // (1440 * MINUTE)) == 0].max(initial=0))
        return cls(max(SHORTEST_NS, 2 * rest), max(SHORTEST_NS, 3 * pause))

    def of_kind(self, kind: str) -> int:
        lengths = {STUCK: self.stuck, GAP: self.gap, SLIDE: SLIDE_NS, BURST: BURST_NS, CROSSED: CROSSED_NS}
        return lengths.get(kind, DUPLICATE_NS if kind in HARMLESS else SECOND)


def _frozen(feed: Feed) -> tuple[str, ...]:
    return ("bid", "bid_size", "ask", "ask_size") if feed.is_quotes else ("price",)


def _sides(column: NDArray[Any], feed: Feed) -> Floats:
    """A column as last seen: a quote of one side leaves the other as it was."""
    values = pd.Series(np.asarray(column, np.float64))
    return np.asarray(values.where(values > 0).ffill().fillna(0) if feed.is_quotes else values)


def _changes(feed: Feed, kind: str) -> int:
    """Rows a fault changes at most; -1: all of its time."""
    return {SPIKE: 2 if feed.is_quotes else 1, SLIP: 1, DUPLICATE: 4, DISORDER: 4}.get(kind, -1)


def _count(feed: Feed, begin: int, length: int, most: int) -> int:
    first, last = np.searchsorted(feed.time_ns, [begin, begin + length])
    return int(last - first) if most < 0 else most


def _place(
    rng: np.random.Generator,
    feed: Feed,
    sessions: Sequence[tuple[int, int]],
    length: int,
    allowed: int,
    taken: Sequence[tuple[int, int, str]],
    most: int,
) -> int | None:
    """A time with rows enough and not too many, apart from all others."""
    for _ in range(400):
        opens, closes = sessions[int(rng.integers(len(sessions)))]
        opens, closes = max(opens, int(feed.time_ns[0])), min(closes, int(feed.time_ns[-1]))
        first, last = opens + LEAD_NS, closes - TAIL_NS - length
        if last <= first:
            continue
        begin = int(rng.integers(first, last))
        if most >= 0:  # at a row, for there may be none in that second
            row = int(np.searchsorted(feed.time_ns, begin))
            begin = int(feed.time_ns[row]) if row < len(feed) else last
            if not first <= begin < last:
                continue
        free = all(begin >= end + APART_NS or begin + length + APART_NS <= start for start, end, _ in taken)
        if free and 4 * (most < 0) <= _count(feed, begin, length, most) <= allowed:
            return begin
    return None


def _span(feed: Feed, begin: int, end: int) -> Ints:
    return np.flatnonzero((feed.time_ns >= begin) & (feed.time_ns < end))


def _changed(feed: Feed, **columns: NDArray[Any]) -> Feed:
    return Feed(feed.symbol, feed.time_ns, {**feed.columns, **columns})


def _scaled(feed: Feed, rows: Ints, factor: float | Floats) -> Feed:
    """Prices of some rows times a factor, to the cent or finer where the feed is; absent sides stay absent."""
    made = {}
    for name in ("bid", "ask") if feed.is_quotes else ("price",):
        values = np.array(feed.columns[name], np.float64)
        values[rows] = np.round(values[rows] * factor, 4 if np.abs(values).max() < 1 else 2)
        made[name] = values
    return _changed(feed, **made)


def _fault(kind: str, feed: Feed, rows: Ints, begin: int, end: int) -> Fault:
    return Fault(kind, feed.symbol, begin, end, len(rows))


def _spike(feed: Feed, begin: int, end: int, rng: np.random.Generator, sigmas: float) -> tuple[Feed, Fault]:
    """One trade, or one update of both sides, off by so many sigmas, up or down."""
    first = int(np.searchsorted(feed.time_ns, begin))
    rows = np.arange(first, first + (2 if feed.is_quotes else 1))
    sigma = local_sigma(feed.time_ns, feed.prices(), begin)
    move = float(rng.choice([-1.0, 1.0])) * sigmas * sigma
    return _scaled(feed, rows, np.exp(move)), _fault(SPIKE, feed, rows, begin, int(feed.time_ns[rows[-1]]) + 1)


def _slip(feed: Feed, begin: int, end: int, rng: np.random.Generator, sigmas: float) -> tuple[Feed, Fault]:
    """A decimal point in the wrong place."""
    first = int(np.searchsorted(feed.time_ns, begin))
    factor = float(rng.choice([0.1, 10.0]))
    return _scaled(feed, np.array([first]), factor), _fault(SLIP, feed, np.array([first]), begin, begin + 1)


def _stuck(feed: Feed, begin: int, end: int, rng: np.random.Generator, sigmas: float) -> tuple[Feed, Fault]:
    """The price that was, again and again; of quotes both sides with their sizes."""
    rows = _span(feed, begin, end)
    made = {}
    for name in _frozen(feed):
        values = feed.columns[name].copy()
        before = values[: rows[0]]
        if feed.is_quotes:
            seen = before[before > 0]
            values[rows] = np.where(values[rows] > 0, seen[-1] if len(seen) else 0, 0)
        else:
            values[rows] = before[-1]
        made[name] = values
    return _changed(feed, **made), _fault(STUCK, feed, rows, begin, end)


def _crossed(feed: Feed, begin: int, end: int, rng: np.random.Generator, sigmas: float) -> tuple[Feed, Fault]:
    """Bids above the offers: by two sigmas, at least two ticks."""
    rows = _span(feed, begin, end)
    prices = feed.prices()
    sigma = local_sigma(feed.time_ns, prices, begin)
    asks = np.asarray(feed.columns["ask"], np.float64)
    spread = pd.Series(asks).where(asks > 0).ffill().to_numpy() - prices
    bids = np.array(feed.columns["bid"], np.float64)
    up = np.round(np.maximum(CROSSED_SIGMAS * sigma * prices[rows], 4 * spread[rows]), 2)
    bids[rows] = np.where(bids[rows] > 0, bids[rows] + up + 0.01, 0)
    return _changed(feed, bid=bids), _fault(CROSSED, feed, rows, begin, end)


def _burst(feed: Feed, begin: int, end: int, rng: np.random.Generator, sigmas: float) -> tuple[Feed, Fault]:
    """Sizes many times what they are."""
    rows = _span(feed, begin, end)
    made = {}
    for name in ("bid_size", "ask_size") if feed.is_quotes else ("size",):
        values = feed.columns[name].copy()
        values[rows] = np.asarray(values[rows]) * BURST_FACTOR
        made[name] = values
    return _changed(feed, **made), _fault(BURST, feed, rows, begin, end)


def _gap(feed: Feed, begin: int, end: int, rng: np.random.Generator, sigmas: float) -> tuple[Feed, Fault]:
    """Nothing at all."""
    rows = _span(feed, begin, end)
    return feed.take(np.delete(np.arange(len(feed)), rows)), _fault(GAP, feed, rows, begin, end)


def _slide(feed: Feed, begin: int, end: int, rng: np.random.Generator, sigmas: float) -> tuple[Feed, Fault]:
    """The price drifts away, evenly in time, and is back at once when the fault ends."""
    rows = _span(feed, begin, end)
    share = (feed.time_ns[rows] - begin) / (end - begin)
    move = 1 + float(rng.choice([-1.0, 1.0])) * SLIDE_SHARE * share
    return _scaled(feed, rows, move), _fault(SLIDE, feed, rows, begin, end)


def _duplicate(feed: Feed, begin: int, end: int, rng: np.random.Generator, sigmas: float) -> tuple[Feed, Fault]:
    """Some rows sent twice."""
    first = int(np.searchsorted(feed.time_ns, begin))
    rows = np.arange(first, min(first + 4, len(feed)))
    order = np.concatenate([np.arange(first), np.repeat(rows, 2), np.arange(rows[-1] + 1, len(feed))])
    return feed.take(order), _fault(DUPLICATE, feed, rows, begin, int(feed.time_ns[rows[-1]]) + 1)


def _disorder(feed: Feed, begin: int, end: int, rng: np.random.Generator, sigmas: float) -> tuple[Feed, Fault]:
    """Some rows arrive up to a second after younger ones."""
    first = int(np.searchsorted(feed.time_ns, begin))
    rows = np.arange(first, min(first + 4, len(feed)))
    arrival = feed.time_ns.copy()
    arrival[rows] += rng.integers(0, DISORDER_NS, len(rows))
    # Only these rows move: those before are not put in order, should they not be.
    later = int(np.searchsorted(feed.time_ns, int(feed.time_ns[rows[-1]]) + DISORDER_NS))
    order = np.arange(len(feed))
    order[first:later] = first + np.argsort(arrival[first:later], kind="stable")
    return feed.take(order), _fault(DISORDER, feed, rows, begin, int(feed.time_ns[rows[-1]]) + 1)


_MAKERS = {
    SPIKE: _spike,
    STUCK: _stuck,
    CROSSED: _crossed,
    BURST: _burst,
    GAP: _gap,
    SLIP: _slip,
    SLIDE: _slide,
    DUPLICATE: _duplicate,
    DISORDER: _disorder,
}
