"""A thread beside the loop that does one thing after the other, and is left behind when it never ends.

Not `ThreadPoolExecutor`: the interpreter waits for its threads before it exits, also for one whose state store does
not answer. What this one is cut off in is written aside and never named by a commit.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple[Future[Any], Callable[[], Any]]


class Beside:
    """One thread, which begins with the first thing to do.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def submit(self, do: Callable[[], T]) -> Future[T]:
        """To be done when everything before is."""
        if not self._thread.ident:
            self._thread.start()
        future: Future[T] = Future()
        self._jobs.put((future, do))
        return future

    def close(self, timeout_s: float, *, beat: Callable[[], None] = lambda: None) -> bool:
        """Nothing new is begun; False when what is being done has not ended in time, and goes on alone.

        Args:
            timeout_s: At most.
            beat: Called every second.
        """
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None:
                job[0].cancel()
        self._jobs.put(None)
        deadline_s = time.monotonic() + timeout_s
        while self._thread.is_alive():
            beat()
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            self._thread.join(min(1.0, left_s))
        return True

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, do = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(do())
            except BaseException as error:
                future.set_exception(error)
