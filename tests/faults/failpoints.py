"""Named places in the daemon at which a process kills itself, as `kill -9` would.

Nothing in the product knows of them: a method is wrapped in the child before the daemon starts. A failpoint kills at
its k-th pass once it is armed, from the start or by SIGUSR1. A place that the product no longer has is an error: a
method with a new name must not turn a test into one that tests nothing.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BEFORE, AFTER = "before", "after"


@dataclass(frozen=True)
class Place:
    """A failpoint: before or after a call of any of some methods, `module:Class.method`."""

    when: str
    methods: tuple[str, ...]
    needs: str = ""  # what has to happen for it to be passed: "rebalance", "start", "swap"
    stores: tuple[str, ...] = ()  # state stores that have it; none: all

    def there(self) -> list[tuple[Any, str]]:
        """Those of the methods that exist: owner and name."""
        found = []
        for method in self.methods:
            module, _, path = method.partition(":")
            *owners, name = path.split(".")
            try:
                owner = functools.reduce(getattr, owners, importlib.import_module(module))
            except (ImportError, AttributeError):
                continue
            if hasattr(owner, name):
                found.append((owner, name))
        return found


_COMMIT = (
    "streamer.connectors.kafka.kafka_python.consumer:KafkaPythonConsumer.commit",
    "streamer.connectors.kafka.confluent.consumer:ConfluentConsumer.commit",
)
_WRITE = (
    "streamer.runtime.state.local:LocalStore.write",
    "streamer.runtime.state.topic:TopicStore.write",
    "streamer.runtime.state.objects:ObjectStore.write",
)
_FORGET = tuple(method.replace(".write", ".forget") for method in _WRITE)
_FLUSH = ("streamer.connectors.sinks:KafkaSinks.flush",)
_PARTITIONS = "streamer.runtime.partitions:Partitions."
_FILES = ("local", "shared", "file")

PLACES: dict[str, Place] = {
    "before flush": Place(BEFORE, _FLUSH),
    "after flush": Place(AFTER, _FLUSH),
    "state frozen": Place(AFTER, ("streamer.runtime.checkpoints:Checkpoints._freeze",)),
    "before snapshot": Place(BEFORE, _WRITE),
    "after snapshot": Place(AFTER, _WRITE),
    "before rename": Place(BEFORE, ("pathlib:Path.replace",), stores=_FILES),
    "after rename": Place(AFTER, ("pathlib:Path.replace",), stores=_FILES),
    "before commit": Place(BEFORE, _COMMIT),
    "after commit": Place(AFTER, _COMMIT),
    "old state removed": Place(AFTER, _FORGET),
    "revoke begins": Place(BEFORE, (_PARTITIONS + "revoked",), needs="rebalance"),
    "revoke ends": Place(AFTER, (_PARTITIONS + "revoked",), needs="rebalance"),
    "assign begins": Place(BEFORE, (_PARTITIONS + "assigned",), needs="start"),
    "state restored": Place(AFTER, ("streamer.core.pipeline:Pipeline.restore",), needs="start"),
    "before swap": Place(BEFORE, ("streamer.core.pipeline:Pipeline.swap",), needs="swap"),
    "after swap": Place(AFTER, ("streamer.core.pipeline:Pipeline.swap",), needs="swap"),
    "in take_in": Place(AFTER, ("streamer.core.pipeline:Pipeline.process",)),
    "in publish": Place(AFTER, ("streamer.connectors.sinks:KafkaSinks.publish_alert",)),
}


@dataclass(frozen=True)
class Failpoint:
    """A place and how often it is passed before it kills."""

    name: str
    passes: int = 1  # kills at this one, counted from when it is armed
    armed: bool = True  # from the start; else by SIGUSR1


def check(name: str) -> None:
    """Raises if the product has no such place."""
    if not PLACES[name].there():
        raise LookupError(f"failpoint {name!r}: none of {PLACES[name].methods} exists; name the method as it is now")


def install(failpoint: Failpoint) -> None:
    """Wrap the methods of a place in this process."""
    place, armed, left = PLACES[failpoint.name], [failpoint.armed], [failpoint.passes]

    def arm(number: int, frame: object) -> None:
        armed[0] = True

    signal.signal(signal.SIGUSR1, arm)

    def pass_by(arguments: tuple[Any, ...]) -> None:
        if not armed[0] or (arguments and isinstance(arguments[0], Path) and not _is_snapshot(arguments)):
            return
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    check(failpoint.name)
    for owner, name in place.there():
        setattr(owner, name, _wrapped(getattr(owner, name), place.when, pass_by))


def _wrapped(method: Callable[..., Any], when: str, pass_by: Callable[[tuple[Any, ...]], None]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        if when == BEFORE:
            pass_by(arguments)
        result = method(*arguments, **named)
        if when == AFTER:
            pass_by(arguments)
        return result

    return wrapped


def _is_snapshot(arguments: tuple[Any, ...]) -> bool:
    """Whether `Path.replace` puts a snapshot in its place; the log and bundles do not count."""
    return ".snapshot" in str(arguments[1]) if len(arguments) > 1 else False
