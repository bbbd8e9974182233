"""Where default partitioners put keys: as the clients themselves do."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as of_the_client

from streamer.core.partitioners import murmur2, which


@given(st.binary(max_size=40))
def test_murmur2_is_that_of_the_client(key: bytes) -> None:
    assert murmur2(key) == of_the_client(key) & 0x7FFFFFFF


def names_in(partition: int, count: int, crc: bool = False) -> list[str]:
    number = zlib.crc32 if crc else murmur2
    return [f"s{i}" for i in range(200) if number(f"s{i}".encode()) % count == partition]


def test_a_partitioner_is_recognised_by_where_all_streams_are() -> None:
    assert which(names_in(1, 2), 1, 2) is murmur2
    assert which(names_in(3, 4, crc=True), 3, 4) is zlib.crc32
    assert which([*names_in(1, 2), *names_in(0, 2)], 1, 2) is None


def test_what_may_be_chance_shows_nothing() -> None:
    assert which(names_in(1, 2)[:9], 1, 2) is None
    assert which(names_in(1, 2)[:10], 1, 2) is murmur2
    assert which([f"s{i}" for i in range(100)], 0, 1) is None  # in the only partition there is
