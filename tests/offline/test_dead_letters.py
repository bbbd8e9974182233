"""Dead letters without a broker: what is held in memory, and what is said when the broker stops taking them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from streamer.config import Settings
from streamer.errors import DeliveryFailed
from streamer.offline.dead_letters import DeadLetter, Place, listing, replay

SETTINGS = Settings.model_validate({"records": {"features": ["heat"]}})


def letters(count: int, *, size: int = 10, reason: str = "schema") -> Iterator[DeadLetter]:
    for n in range(count):
        about = {"reason": reason.format(n), "topic": "readings", "error": "e" * size}
        yield DeadLetter(Place(0, n), 1_700_000_000_000 + n, b"k", b"v" * size, (), about)


class Taking:
    """A producer that acknowledges what it holds at each flush, so many times."""

    def __init__(self, flushes: int = 1_000) -> None:
        self.flushes, self.pending, self.most, self.bytes, self.most_bytes, self.sent = flushes, 0, 0, 0, 0, 0

    def send(self, topic: str, **message: Any) -> None:
        self.pending, self.bytes = self.pending + 1, self.bytes + len(message["value"])
        self.most, self.most_bytes = max(self.most, self.pending), max(self.most_bytes, self.bytes)

    def flush(self, timeout_s: float) -> None:
        if self.flushes == 0:
            raise DeliveryFailed("the broker is away")
        self.flushes, self.sent = self.flushes - 1, self.sent + self.pending
        self.pending = self.bytes = 0

    def close(self) -> None: ...


def test_a_list_counts_all_and_holds_the_newest_alone() -> None:
    found = listing(letters(5000), 3)

    assert (found.total, found.reasons) == (5000, {"schema": 5000})
    assert [row.place.offset for row in found.newest] == [4999, 4998, 4997]


def test_reasons_that_somebody_makes_up_do_not_grow_the_list() -> None:
    found = listing(letters(5000, reason="made-up-{}"), 3)

    assert found.total == 5000
    assert len(found.reasons) <= 51
    assert next(iter(found.reasons.items())) == ("others", 4950)


def test_a_row_is_short_however_large_the_letter() -> None:
    (row,) = listing(letters(1, size=900_000, reason="r" * 900_000), 1).newest

    assert max(map(len, (row.reason, row.error, row.sample))) <= 300


@pytest.mark.parametrize(("size", "count"), [(10, 3500), (900_000, 40)])
def test_letters_are_acknowledged_before_many_more_are_read(size: int, count: int) -> None:
    producer = Taking()

    done = replay(letters(count, size=size), SETTINGS, producer)

    assert done.acknowledged == producer.sent == count
    assert producer.most <= 1000
    assert producer.most_bytes <= 9 * 2**20


def test_a_broker_that_stops_taking_letters_is_told_with_how_many_it_took() -> None:
    with pytest.raises(DeliveryFailed, match="Of the letters, 2000 were sent before; of 1000 more some may have been"):
        replay(letters(5000), SETTINGS, Taking(flushes=2))
