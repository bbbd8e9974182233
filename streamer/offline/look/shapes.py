"""Documents as flat rows: nested objects by dotted names, arrays of readings as one row each.

Pure. Not inside: which row is what (`choosing`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ROOT = "@root"  # `records.readings` of a message that is an array itself
_DEEP = 6  # levels of nesting
_WIDE = 2000  # fields of one document
_MOST = 200_000  # rows of one look


@dataclass(frozen=True, slots=True)
class Rows:
    """One flat mapping for each reading, in the order of the messages."""

    rows: Sequence[Mapping[str, Any]]
    document: Sequence[int]  # of each row
    readings: str | None = None  # where the array of readings stood
    inside: frozenset[str] = frozenset()  # names of fields inside the array; others stand beside it


def flatten(documents: Sequence[Any], readings: str | None = None, *, found: bool = True) -> Rows:
    """Rows of documents.

    Args:
        documents: Dicts or lists.
        readings: Path of the array of readings; None: see `found`.
        found: Without a path, look where most documents have one; else a document is a reading.

    >>> flatten([{"id": "a", "values": [{"t": 1}, {"t": 2}]}]).rows
    [{'t': 1, 'id': 'a'}, {'t': 2, 'id': 'a'}]
    """
    path = readings or (_array(documents) if found else None)
    rows: list[Mapping[str, Any]] = []
    document: list[int] = []
    inside: set[str] = set()
    for number, one in enumerate(documents):
        if len(rows) >= _MOST:
            break
        if path is None:
            rows.append(dict(_fields(one)) if isinstance(one, Mapping) else {})
            document.append(number)
            continue
        common = {} if path == ROOT else {name: value for name, value in _fields(one) if not name.startswith(path)}
        for element in _at(one, path):
            mine = dict(_fields(element)) if isinstance(element, Mapping) else {}
            inside |= mine.keys()
            rows.append(mine | {name: value for name, value in common.items() if name not in mine})
            document.append(number)
    return Rows(rows, document, path, frozenset(inside))


def _array(documents: Sequence[Any]) -> str | None:
    """Where most documents have a list of objects."""
    found: Counter[str] = Counter()
    for one in documents:
        if isinstance(one, list):
            found[ROOT] += bool(one) and all(isinstance(element, Mapping) for element in one)
        elif isinstance(one, Mapping):
            for name, value in _lists(one):
                found[name] += all(isinstance(element, Mapping) for element in value)
    if not found:
        return None
    name, count = found.most_common(1)[0]
    return name if count >= 0.5 * len(documents) else None


def _lists(document: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, list[Any]]]:
    for name, value in document.items():
        if isinstance(value, list) and value:
            yield f"{prefix}{name}", value
        elif isinstance(value, Mapping) and depth < _DEEP:
            yield from _lists(value, f"{prefix}{name}.", depth + 1)


def _at(document: Any, path: str) -> Sequence[Any]:
    if path == ROOT:
        return document if isinstance(document, list) else [document]
    for part in path.split("."):
        document = document.get(part) if isinstance(document, Mapping) else None
    return document if isinstance(document, list) else []


def _fields(document: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Dotted names and values; what is nested too deeply is one value."""
    for count, (key, value) in enumerate(document.items()):
        if count > _WIDE:
            return
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and depth < _DEEP:
            yield from _fields(value, f"{name}.", depth + 1)
        else:
            yield name, value
