"""What became of the faults in ticks: incidents against labels, and tables of it.

Pure. Not inside: the faults (`tick_faults`), how incidents come about (`ticks`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks import tick_faults
from benchmarks.tick_faults import HARMLESS, MINUTE, SECOND, SLIDE, Fault, Feed
from streamer.core.sessions import Sessions

GRACE_NS = 5 * MINUTE  # after the end of a fault, in which it is still caught; a slide must be caught before
ECHO_NS = 12 * MINUTE  # after the end of a fault, in which another incident is its echo: a window with the fault in it
HARMLESS_NS = 2 * MINUTE  # after a harmless fault, in which an incident is blamed on it
MILLISECOND = 1_000_000
CLEAN = -1  # in place of a seed


@dataclass(frozen=True, slots=True)
class Part:
    """One file: what is trained on, what is scored, when its market is open in the scored part."""

    train: Feed
    test: Feed
    open: tuple[tuple[int, int], ...]
    rows: int  # that may be changed in one round

    @property
    def days(self) -> float:
        """Scored, in trading days of six and a half hours."""
        return sum(end - begin for begin, end in self.open) / (390 * MINUTE)


@dataclass(frozen=True, slots=True)
class Opened:
    """An incident that was reported."""

    symbol: str
    kind: str
    time_ns: int  # when it was known, event time


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a round came to."""

    delay_s: Mapping[Fault, float | None]  # of each fault; None: missed, or nothing reported of a harmless one
    by: Mapping[Fault, str]  # kind of the incident that caught it
    false: Sequence[Opened]


def part(feed: Feed, sessions: Sessions, *, swap: bool = False) -> Part:
    """What of a file is trained on, and what is scored: its last day, of one day the second half.

    Args:
        feed: The file.
        sessions: Market hours.
        swap: Score the first day, or the first half, and train on what comes after it.

    Raises:
        ValueError: The market was closed all the time.
    """
    number = sessions.session_of(feed.time_ns)
    found, count = np.unique(number[number >= 0], return_counts=True)
    found = found[count >= 0.05 * count.max(initial=0)]  # a few stray ticks are not a day
    if not len(found):
        raise ValueError(f"{feed.symbol}: wanted ticks in a session of {sessions.name}; got none")
    first, last = found[0], found[-1]
    day = first if swap else last
    opens, closes = int(sessions.open_ns[day]), int(sessions.close_ns[day])
    middle = opens + (closes - opens) // 2
    if first == last:
        begin, end = (opens, middle) if swap else (middle, closes)
        cut = middle
    else:
        begin, end = opens, closes
        cut = int(sessions.open_ns[found[1]]) if swap else opens
    before, near = feed.time_ns < cut, feed.time_ns < closes + 240 * MINUTE
    earlier, later = feed.take(before & (near | ~np.bool_(swap))), feed.take(~before & (near | np.bool_(swap)))
    train, test = (later, earlier) if swap else (earlier, later)
    return Part(train, test, ((begin, end),), int(tick_faults.MOST_ROWS * len(feed)))


def judge(opened: Sequence[Opened], faults: Sequence[Fault], clean: Sequence[Opened] = ()) -> Verdict:
    """Set incidents against faults.

    An incident belongs to the newest fault of its symbol that began before it was known, as long as it is
    not over for long; the first one catches it. All others are false. Those that the round without faults had as well
    (`clean`) are not blamed on harmless ones.
    """
    delay: dict[Fault, float | None] = dict.fromkeys(faults)
    by: dict[Fault, str] = {}
    false = []
    for one in sorted(opened, key=lambda one: one.time_ns):
        # An alert's time is in whole milliseconds.
        begun = [f for f in faults if f.symbol == one.symbol and f.begin_ns <= one.time_ns + MILLISECOND]
        fault = max((f for f in begun if f.kind not in HARMLESS), key=lambda f: f.begin_ns, default=None)
        if fault is not None and one.time_ns <= fault.end_ns + ECHO_NS:
            limit = fault.end_ns + (0 if fault.kind == SLIDE else GRACE_NS)
            if delay[fault] is None and one.time_ns <= limit:
                delay[fault], by[fault] = max(0, one.time_ns - fault.begin_ns) / SECOND, one.kind
            continue
        false.append(one)
        if any(one.symbol == x.symbol and abs(one.time_ns - x.time_ns) <= MINUTE for x in clean):
            continue
        for harmless in begun:
            if harmless.kind in HARMLESS and one.time_ns <= harmless.end_ns + HARMLESS_NS:
                delay[harmless], by[harmless] = (one.time_ns - harmless.begin_ns) / SECOND, one.kind
    return Verdict(delay, by, false)


def table(parts: Sequence[Part], verdicts: Mapping[int, Verdict]) -> str:
    """Both tables of one preset, as Markdown."""
    lines = ["| fault | symbol | caught | delay, median | raised by |", "|---|---|---|---|---|"]
    faults = [(fault, verdict) for verdict in verdicts.values() for fault in verdict.delay_s]
    for kind, symbol in sorted({(f.kind, f.symbol) for f, _ in faults}, key=lambda pair: (pair[0] in HARMLESS, pair)):
        some = [(f, v) for f, v in faults if (f.kind, f.symbol) == (kind, symbol)]
        delays = [delay for f, v in some if (delay := v.delay_s[f]) is not None]
        kinds = sorted({v.by[f] for f, v in some if f in v.by})
        share = f"{len(delays)} of {len(some)} ({len(delays) / len(some):.0%})"
        if kind in HARMLESS:
            share = f"{len(some)} harmless, {len(delays)} alerted"
        lines.append(
            f"| {kind} | {symbol} | {share} | {f'{median(delays):.0f} s' if delays else ''} | {', '.join(kinds)} |"
        )
    lines += ["", "| symbol | days scored | false alerts a day, no faults | with faults, mean | with faults, highest |"]
    lines.append("|---|---|---|---|---|")
    for one in parts:
        own = {seed: sum(x.symbol == one.test.symbol for x in v.false) / one.days for seed, v in verdicts.items()}
        faulty = [figure for seed, figure in own.items() if seed != CLEAN] or [float("nan")]
        figures = f"{own.get(CLEAN, float('nan')):.1f} | {np.mean(faulty):.1f} | {max(faulty):.1f}"
        lines.append(f"| {one.test.symbol} | {one.days:.1f} | {figures} |")
    known = {one.test.symbol for one in parts}
    others = sum(one.symbol not in known for verdict in verdicts.values() for one in verdict.false)
    if others:
        lines.append(f"\n{others} incident(s) of no single symbol")
    return "\n".join(lines)
