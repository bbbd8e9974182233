"""What a broker says of topics: whether they are there, under which id, who leads their partitions.

kafka-python knows this request up to version 8; ids, which tell a topic made again from the one before it, came
with version 10 (Kafka 2.8), so that version is described here.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kafka.protocol.api import Request, Response
from kafka.protocol.metadata import MetadataRequest
from kafka.protocol.types import (
    AbstractType,
    BitField,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from streamer.connectors.kafka.probe.connection import Connection, Connections

NOT_REPORTED = frozenset({31})  # the field's value -2^31: the broker does not know
NO_LEADER, UNKNOWN, NOT_AUTHORISED = 5, 3, 29
_NO_ID = bytes(16)

Brokers = dict[int, tuple[str, int]]  # host and port by node id


@dataclass(frozen=True, slots=True)
class Partition:
    """What the broker says of a partition."""

    code: int
    number: int
    leader: int  # node id


@dataclass(frozen=True, slots=True)
class Topic:
    """What the broker says of a topic."""

    code: int = UNKNOWN  # 0: it is there
    partitions: tuple[Partition, ...] = ()
    permissions: frozenset[int] = NOT_REPORTED
    id: str | None = None  # None: the broker does not say

    @property
    def settled(self) -> bool:
        """Whether every partition has a leader."""
        return self.code != NO_LEADER and all(part.code != NO_LEADER for part in self.partitions)


def ask(first: Connection, connections: Connections, names: Sequence[str]) -> tuple[Brokers, dict[str, Topic]] | None:
    """Brokers by id and what is said of each topic; None if no answer came in time. Asking creates nothing."""
    version = connections.version(first, _VERSIONS)
    if version is None:
        return None
    wanted: list[Any] = list(names) if version < 10 else [(_NO_ID, name, {}) for name in names]
    arguments: tuple[Any, ...] = (wanted,)
    if version >= 4:
        arguments += (False,)
    if version >= 8:
        arguments += (False, True)
    if version >= 10:
        arguments += ({},)
    response = connections.ask(first, _VERSIONS, version, arguments)
    if response is None:
        return None
    topics = dict.fromkeys(names, Topic())
    for said in response.topics:
        if version >= 10:
            code, name, identity, _, partitions, permissions, _ = said
        else:
            code, name, _, partitions, *rest = said
            identity, permissions = _NO_ID, rest[0] if rest else NOT_REPORTED
        # A partition is its error, number, leader and more.
        parts = tuple(Partition(*part[:3]) for part in partitions)
        known_as = None if identity == _NO_ID else str(uuid.UUID(bytes=identity))
        topics[name] = Topic(code, parts, frozenset(permissions), known_as)
    return {broker[0]: (broker[1], broker[2]) for broker in response.brokers}, topics


class _Uuid(AbstractType):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: Any) -> bytes:
        found: bytes = data.read(16)
        if len(found) != 16:
            raise ValueError("a topic id has 16 bytes")
        return found


class _MetadataResponse10(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", BitField),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", BitField),
        ("tags", TaggedFields),
    )


class _MetadataRequest10(Request):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse10
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


# By version. Version 9 has no ids either; a broker that knows no 10 is asked with 8.
_VERSIONS = dict(enumerate(MetadataRequest)) | {10: _MetadataRequest10}
