"""Records whose schema cannot be had now: read again from where they began, and told of while this replica has them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from streamer.connectors.kafka import RecordBatch
from streamer.errors import SchemasUnavailable
from streamer.runtime import connection
from streamer.runtime.connection import UNNAMED_S, Connection
from streamer.runtime.positions import Position
from tests.messages import batch


class Consumer:
    def __init__(self) -> None:
        self.sought: list[tuple[int, int]] = []

    def seek(self, partition: int, offset: int) -> None:
        self.sought.append((partition, offset))


class Intake:
    away = True

    def take_in(self, polled: Sequence[RecordBatch]) -> None:
        if self.away:
            raise SchemasUnavailable("the registry is away")


class Named:
    """The commits name the bundle in use, or cannot be made to."""

    now = True

    def named(self) -> bool:
        return self.now


@pytest.fixture
def some(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A connection that holds partitions 0 and 1, and no client behind it."""
    monkeypatch.setattr(connection, "SCHEMAS_PAUSE_S", 0.0)
    made: Any = Connection.__new__(Connection)
    made.positions = {number: Position(0, 0, -1) for number in (0, 1)}
    made.consumer, made.intake, made._stop = Consumer(), Intake(), threading.Event()
    made._waiting, made.one_bundle = ("", []), Named()
    made._unnamed, made.now_s = (0.0, []), 1000.0
    made._clock = lambda: made.now_s
    return made


def test_records_that_wait_are_read_again_from_the_first_of_each_partition_that_is_held(some: Any) -> None:
    polled = [batch([b"?"] * 3, first=17), batch([b"?"], first=5, partition=1), batch([b"?"], first=9, partition=2)]

    taken = some.take_in(polled)

    assert not taken
    assert some.consumer.sought == [(0, 17), (1, 5)]
    assert some.waiting() == "the registry is away"


def test_what_waits_is_forgotten_when_it_was_taken_or_its_partitions_left(some: Any) -> None:
    polled = [batch([b"?"], first=17)]
    assert not some.take_in(polled)
    held = some.positions.pop(0)
    left = some.waiting()
    some.positions[0] = held
    some.intake.away = False

    taken = some.take_in(polled)

    assert left is None
    assert taken
    assert some.waiting() is None


def test_nothing_is_told_before_the_commits_name_the_bundle_in_use(some: Any) -> None:
    some.intake.away, some.one_bundle.now = False, False
    polled = [batch([b"?"], first=17)]

    taken = some.take_in(polled)
    some.one_bundle.now = True
    taken_later = some.take_in(polled)

    assert (taken, taken_later) == (False, True)
    assert some.consumer.sought == [(0, 17)]


def test_that_nothing_is_told_because_commits_are_refused_is_said_after_a_while(some: Any) -> None:
    some.intake.away, some.one_bundle.now = False, False
    polled = [batch([b"?"], first=17)]
    said = []
    for _ in range(3):
        some.take_in(polled)
        said.append(some.unnamed())
        some.now_s += UNNAMED_S
    held = some.positions.pop(0)
    left = some.unnamed()
    some.positions[0], some.one_bundle.now = held, True
    some.take_in(polled)

    assert said == [False, False, True]
    assert not left
    assert not some.unnamed()
