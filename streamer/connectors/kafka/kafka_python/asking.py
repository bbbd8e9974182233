"""Asking once more where kafka-python lost a connection that the broker did not mean to close.

Over TLS 1.3 a broker sends session tickets behind the handshake (RFC 8446, section 4.6.1). When they come while no
request is under way, kafka-python 2.3.3 takes them for an answer to nothing and closes the connection ("Socket
EVENT_READ without in-flight-requests"). Its consumer and producer connect again by themselves; its AdminClient raises,
here about one time in twenty, and goes on raising until its reconnect back-off has passed. Nothing here is for a broker
that is away: the last attempt's error is passed on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from kafka.errors import KafkaConnectionError

_WAITS_S = (0.1, 0.2, 0.4, 0.8)

T = TypeVar("T")


def persistently(ask: Callable[[], T]) -> T:
    """The answer of `ask`, which is called up to five times within 1.5 s, so it must be safe to repeat.

    Raises what `ask` raises: at once, but for a `KafkaConnectionError` only at the last attempt.
    """
    for wait_s in _WAITS_S:
        try:
            return ask()
        except KafkaConnectionError:
            time.sleep(wait_s)
    return ask()
