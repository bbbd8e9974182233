"""Where producers put a key: the default partitioners of the usual clients.

    murmur2    Java and what is built on it, kafka-python
    crc32      librdkafka (`consistent_random`): confluent-kafka, and clients of many other languages

Pure. Not inside: what follows from it (`moves`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable

Partitioner = Callable[[bytes], int]  # a number that is not negative, to be divided by the count of partitions

_CHANCE = 1e-3  # that keys are all where a partitioner would put them, though another one did


def murmur2(key: bytes) -> int:
    """Kafka's hash of a key, without its sign.

    >>> [murmur2(key) % 100 for key in (b"", b"a", b"pump-1", b"stream-0042")]
    [81, 24, 75, 33]
    """
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    n = len(key)
    h = 0x9747B28C ^ n
    whole = n - n % 4
    for at in range(0, whole, 4):
        k = int.from_bytes(key[at : at + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    if rest := key[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return (h ^ h >> 15) & 0x7FFFFFFF


def which(names: Iterable[str], partition: int, count: int) -> Partitioner | None:
    """The partitioner that has put streams, whose names are the keys, into a partition of `count`.

    None if none puts all of them there, or if so few could be there by chance.
    """
    keys = [name.encode() for name in names]
    if count < 2 or float(count) ** -len(keys) > _CHANCE:
        return None
    for partitioner in (murmur2, zlib.crc32):
        if all(partitioner(key) % count == partition for key in keys):
            return partitioner
    return None
