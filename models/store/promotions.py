"""Which versions were current, and since when: the way back that a rollback takes.

    bundles/promotions   one JSON object a line, oldest first

A line is `{"version": ..., "promoted": ..., "withdrawn": ...}`, times in ISO 8601. The file
is written after `current`, so after a crash between the two `current` is right and the
history is made good from it. A registry of an earlier version has no such file, a damaged
file loses the lines that cannot be read: then less is known, and nothing else happens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from models.store import bundle
from models.store.files import write_atomically

MOST = 200  # entries kept
_MOST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Promotion:
    """One time that a version became current."""

    version: str
    promoted: str | None  # when, ISO 8601; None if it is not known
    withdrawn: str | None = None  # when a rollback led away from it


def read(path: Path) -> list[Promotion]:
    """The history, oldest first; lines that cannot be read are left out."""
    try:
        with path.open("rb") as file:
            lines = file.read(_MOST_BYTES).splitlines()
    except OSError:
        return []
    return [entry for entry in map(_parse, lines) if entry is not None][-MOST:]


def write(path: Path, history: list[Promotion]) -> None:
    """Replace the history.

    Raises:
        OSError: The disk refuses; the old history is untouched.
    """
    lines = [
        json.dumps({"version": entry.version, "promoted": entry.promoted, "withdrawn": entry.withdrawn}) + "\n"
        for entry in history[-MOST:]
    ]
    write_atomically(path, [line.encode() for line in lines], mode=0o600)


def made_good(history: list[Promotion], current: str | None, since: str | None, now: str) -> list[Promotion]:
    """The history that ends with `current`, as it must be where the two differ.

    They differ after a crash between the two writes, after someone wrote `current` by hand, or
    when an earlier version of streamer did: `current` is right.

    Args:
        history: As it was read.
        current: What `current` holds.
        since: When `current` was written.
        now: When what came after it counts as withdrawn.
    """
    if current is None:
        return history
    active = [i for i, entry in enumerate(history) if entry.withdrawn is None]
    mine = [i for i in active if history[i].version == current]
    if not mine:
        return [*history, Promotion(current, since)]
    return [
        replace(entry, withdrawn=now) if i > mine[-1] and entry.withdrawn is None else entry
        for i, entry in enumerate(history)
    ]


def way_back(history: list[Promotion], current: str | None) -> list[str]:
    """Versions to go back to, the nearest first; of a history that ends with `current`."""
    versions = [entry.version for entry in history if entry.withdrawn is None]
    return list(dict.fromkeys(version for version in reversed(versions) if version != current))


def _parse(line: bytes) -> Promotion | None:
    try:
        found = json.loads(line)
        version, promoted, withdrawn = found["version"], found.get("promoted"), found.get("withdrawn")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    texts = all(time is None or (isinstance(time, str) and len(time) < 40) for time in (promoted, withdrawn))
    if not isinstance(version, str) or not bundle.VERSION.fullmatch(version) or not texts:
        return None
    return Promotion(version, promoted, withdrawn)
