"""What is refused of a message: one reject, however many of its elements are bad.

Not inside: why an element is refused (`assembly`, `wording`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from streamer.formats.rejects import STREAM_LIMIT, Reject

_LONGEST = 900  # characters; longer ones would be cut in the header of the dead letter


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is refused; without a place the message as a whole."""

    row: int
    place: int | None
    reason: str
    detail: str


def joined(faults: Iterable[Fault], sizes: Mapping[int, int]) -> list[Reject]:
    """One reject for each message, in order.

    Args:
        faults: In any order.
        sizes: How many elements messages with several hold.

    >>> some = [Fault(0, 2, "schema", "no a"), Fault(0, 0, "schema", "no a"), Fault(0, 1, "future", "soon")]
    >>> joined(some, {0: 5})[0].detail
    '3 of 5 readings refused: [0], [2]: no a; [1]: soon'
    """
    by_row: dict[int, list[Fault]] = {}
    for fault in faults:
        by_row.setdefault(fault.row, []).append(fault)
    return [_one(row, by_row[row], sizes.get(row, 1)) for row in sorted(by_row)]


def _one(row: int, faults: list[Fault], size: int) -> Reject:
    whole = next((fault for fault in faults if fault.place is None), None)
    if whole is not None:
        return Reject(row, whole.reason, whole.detail)
    if size == 1:
        return Reject(row, faults[0].reason, faults[0].detail)
    faults.sort(key=lambda fault: fault.place or 0)
    # A limit is no fault of the message: what is wrong with it otherwise is said first.
    reason = next((fault.reason for fault in faults if fault.reason != STREAM_LIMIT), STREAM_LIMIT)
    places: dict[str, list[str]] = {}
    for fault in faults:
        places.setdefault(fault.detail, []).append(f"[{fault.place}]")
    parts = [f"{', '.join(some[:20])}{', ...' if len(some) > 20 else ''}: {detail}" for detail, some in places.items()]
    text = f"{len(faults)} of {size} readings refused: " + "; ".join(parts)
    return Reject(row, reason, text if len(text) <= _LONGEST else text[:_LONGEST] + " ...")
