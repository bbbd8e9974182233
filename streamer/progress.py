"""Progress of long work: a bar on a terminal, now and then a log line elsewhere."""

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
    def __call__(self, steps: int, note: str = "") -> None: ...


@contextmanager
def progress(title: str, total: int) -> Iterator[Advance]:
    """Yields a function to call with steps done; its note is shown beside the bar."""
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
            yield lambda steps, note="": bar.update(task, advance=steps, note=note)
        return
    done, began, told = 0, time.monotonic(), time.monotonic()

    def advance(steps: int, note: str = "") -> None:
        nonlocal done, told
        done += steps
        now = time.monotonic()
        if now - told >= _LINE_EVERY_S or done >= total > done - steps:
            told = now
            left = (now - began) / max(done, 1) * (total - done)
            log.info("%s: %d of %d, about %.0f s left %s", title, done, total, left, note)

    yield advance
