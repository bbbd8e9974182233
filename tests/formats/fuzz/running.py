"""All decoders one after the other, each with its share of the inputs."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tests.formats.fuzz import messages, schemas, states, stored
from tests.formats.fuzz.messages import MessageTarget, Tally


class Target(Protocol):
    """Something that is fed."""

    @property
    def name(self) -> str: ...

    def try_some(self, rng: random.Random, most: int) -> Tally:
        """Feed it `most` inputs at most, and one at least; an `AssertionError` or any other exception is a find."""
        ...


class Find(AssertionError):
    """An exception escaped, or something is unaccounted for; says how to see it again."""


@dataclass(frozen=True, slots=True)
class Share:
    """A target and how many of each thousand inputs it gets."""

    name: str
    make: Callable[[], Target]
    share: int


SHARES = [
    Share("json", lambda: MessageTarget("json", messages.OBJECTS, messages.write_json), 260),
    Share("msgpack", lambda: MessageTarget("msgpack", messages.OBJECTS, messages.write_msgpack), 150),
    Share("csv", lambda: MessageTarget("csv", messages.ROWS, messages.write_rows), 110),
    Share("tsv", lambda: MessageTarget("tsv", messages.ROWS, messages.write_rows), 40),
    Share("influx", lambda: MessageTarget("influx", messages.LINES, messages.write_lines), 120),
    Share("avro", schemas.avro_target, 120),
    Share("protobuf", schemas.protobuf_target, 100),
    Share("json-schema", schemas.json_schema_target, 60),
    Share("snapshots", states.SnapshotTarget, 20),
    Share("notes", states.NoteTarget, 20),
    Share("manifest", stored.ManifestTarget, 15),
    Share("promotions", stored.PromotionsTarget, 5),
    Share("dead letters", stored.DeadLetterTarget, 20),
]


def shares_of(inputs: int) -> list[tuple[Target, int]]:
    """Targets and how many inputs each gets."""
    whole = sum(one.share for one in SHARES)
    return [(one.make(), max(1, round(inputs * one.share / whole))) for one in SHARES]


def feed(target: Target, inputs: int, seed: int) -> tuple[Tally, float]:
    """Feed a target, and how long it took.

    Raises:
        Find: The first find.
    """
    started_s, total, part = time.perf_counter(), Tally(), 0
    while total.inputs < inputs:
        name = f"{seed}/{target.name}/{part}"
        try:
            total += target.try_some(random.Random(name), inputs - total.inputs)
        except Exception as error:
            raise Find(f"{target.name}: {type(error).__name__}: {error}; random.Random({name!r})") from error
        part += 1
    return total, time.perf_counter() - started_s
