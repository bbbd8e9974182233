"""What signals mean to a command that runs until it is told to stop.

    first SIGTERM or SIGINT (Ctrl-C)        stop in good order: finish the batch, take a last checkpoint
    second SIGTERM                          said to be under way already; nothing is cut short
    second SIGINT, or third SIGTERM         leave at once; what the last checkpoint does not know is read again

Supervisors and people send SIGTERM again out of impatience; the last checkpoint is worth the wait. A supervisor
that has waited long enough sends SIGKILL, which needs no help.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections import Counter
from types import FrameType

_ENOUGH = {signal.SIGTERM: 3, signal.SIGINT: 2}

log = logging.getLogger(__name__)


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM or SIGINT sets."""
    stop = threading.Event()
    came: Counter[int] = Counter()

    def handle(number: int, frame: FrameType | None) -> None:
        came[number] += 1
        if any(came[one] >= enough for one, enough in _ENOUGH.items()):
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        elif stop.is_set():
            log.warning("already stopping, a last checkpoint is taken; a third SIGTERM or second Ctrl-C leaves at once")
        stop.set()

    for number in _ENOUGH:
        signal.signal(number, handle)
    return stop
