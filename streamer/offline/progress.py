"""Progress of long work: a bar on a terminal, elsewhere a log line every ten seconds."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)
_LINE_EVERY_S = 10.0


class Advance(Protocol):
    def __call__(self, steps: float, note: str = "") -> None: ...


@contextmanager
def progress(title: str, total: float, *, shown: bool = True) -> Iterator[Advance]:
    """Yields a function to call with steps done, or parts of one; its last note is shown beside them.

    Log lines come every ten seconds, so short work leaves none.
    """
    if not shown:
        yield lambda steps, note="": None
        return
    done, last = 0.0, ""
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=total, note="")

            def move(steps: float, note: str = "") -> None:
                nonlocal done, last
                done, last = round(done + steps, 6), note or last
                bar.update(task, completed=done, note=last)

            yield move
        return
    told = time.monotonic()
    first: tuple[float, float] | None = None  # time and steps at the first call; what came before is no measure

    def advance(steps: float, note: str = "") -> None:
        nonlocal done, told, last, first
        done, last, now = round(done + steps, 6), note or last, time.monotonic()
        first = first or (now, done)
        if now - told >= _LINE_EVERY_S and done > first[1]:
            told = now
            left = (now - first[0]) / (done - first[1]) * (total - done)
            log.info("%s: %d of %d, about %.0f s left%s", title, done, total, max(0.0, left), f"; {last}" * bool(last))

    yield advance
