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
    """Where most documents have a list of objects with numbers in them, not the same list in all."""
    found: Counter[str] = Counter()
    shown: dict[str, set[str]] = {}
    for one in documents:
        for name, value in [(ROOT, one)] if isinstance(one, list) else _lists(one) if isinstance(one, Mapping) else ():
            if value and all(isinstance(element, Mapping) for element in value) and _has_number(value[0]):
                found[name] += 1
                if len(seen := shown.setdefault(name, set())) < 2:
                    seen.add(str(value)[:1000])
    for name, count in found.most_common():
        if count >= 0.5 * len(documents) and (len(shown[name]) > 1 or count < 3):
            return name
    return None


def _has_number(element: Mapping[str, Any]) -> bool:
    """Whether any value is a number, or looks like one."""
    return any(
        (isinstance(value, (int, float)) and not isinstance(value, bool))
        or (isinstance(value, str) and value[:1] in "+-.0123456789" and bool(value))
        for _, value in _fields(element)
    )


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
