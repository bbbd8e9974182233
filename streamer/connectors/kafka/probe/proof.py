"""Prove again, while the daemon runs, that what it relies on is still so.

The same questions as at start-up, over connections of their own that are closed afterwards: can we log in, are the
topics there, do the leaders of their partitions answer, do we have the rights. Besides: which id the input topic
has, whether the group knows us as a member, and where our partitions end. Nothing is joined, committed or created,
so the group is not disturbed. Blocks: to be called from a thread of its own. Not inside: when to ask, and what to
do about the answer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kafka.protocol.list_offsets import ListOffsetsRequest

from streamer.config import KafkaConfig
from streamer.connectors.kafka.probe.connection import Connections
from streamer.connectors.kafka.probe.group import check_group
from streamer.connectors.kafka.probe.metadata import Brokers, Topic, ask
from streamer.connectors.kafka.probe.report import Fault, Missing, Needs, Notes, ProbeReport, ProbeStep, Stop
from streamer.connectors.kafka.probe.topics import TopicChecks

_LATEST = -1  # the time that asks for the end of a partition
_CONSUMER = -1  # the replica id of one who is no broker
_OURS: set[int] = set()  # threads that prove


@dataclass(frozen=True, slots=True)
class Standing:
    """Where this replica believes it stands."""

    member: str | None = None  # its id in the group; None: not joined
    partitions: Sequence[int] = ()  # read now


@dataclass(frozen=True, slots=True)
class Proof:
    """What the broker says."""

    failed: ProbeStep | None = None  # the first thing that is wrong
    topic_id: str | None = None  # None: the topic is not there, or the broker does not say
    partitions: int | None = None  # of the input topic
    member: bool | None = None  # None: not asked or not known
    members: int | None = None  # of the group
    ends: Mapping[int, int] = field(default_factory=dict)  # offset after the newest record


def prove(config: KafkaConfig, standing: Standing) -> Proof:
    """Ask everything within `config.probe_timeout_s`; never raises for what the broker does.

    Raises:
        ConfigError: A certificate or key file cannot be used.
    """
    notes, needs = Notes(config), Needs.of_daemon(config)
    found: dict[str, Topic] = {}
    members: frozenset[str] | None = None
    ends: dict[int, int] = {}
    thread = threading.get_ident()
    _OURS.add(thread)
    connections = Connections(config, notes)
    try:
        topics = TopicChecks(config, needs, Missing.FAIL, connections, notes)
        first = connections.log_in()
        brokers, found = topics.find(first)
        topics.reach_leaders(brokers, found)
        topics.check_permissions(found)
        members = check_group(config.group, first, connections, notes)
        if config.topic in found:
            ends = _ends(config, found[config.topic], standing.partitions, brokers, connections)
    except Stop:
        pass
    finally:
        connections.close()
        _OURS.discard(thread)
    topic = found.get(config.topic)
    return Proof(
        failed=ProbeReport(tuple(notes.steps)).failed,
        topic_id=None if topic is None else topic.id,
        partitions=None if topic is None else len(topic.partitions),
        member=None if members is None or standing.member is None else standing.member in members,
        members=None if members is None else len(members),
        ends=ends,
    )


def topic_id(config: KafkaConfig) -> str | None:
    """Id of the input topic; None: not there, not told, or no answer within `config.probe_timeout_s`. Blocks.

    Raises:
        ConfigError: A certificate or key file cannot be used.
    """
    thread = threading.get_ident()
    _OURS.add(thread)
    connections = Connections(config, Notes(config))
    try:
        answer = ask(connections.log_in(), connections, [config.topic])
    except Stop:
        return None
    finally:
        connections.close()
        _OURS.discard(thread)
    return None if answer is None else answer[1][config.topic].id


def no_answer(config: KafkaConfig) -> ProbeStep:
    """What to say of a proof that does not come back."""
    late = f"no answer from {config.bootstrap_servers} within {config.probe_timeout_s:g} s"
    return ProbeStep("time", False, f"{late}; is the name server working?", Fault.BROKER_UNREACHABLE)


def _ends(
    config: KafkaConfig, topic: Topic, partitions: Sequence[int], brokers: Brokers, connections: Connections
) -> dict[int, int]:
    """The offset after the newest record of each partition whose leader says it."""
    ends: dict[int, int] = {}
    ours = [part for part in topic.partitions if part.number in partitions and part.leader in brokers]
    for leader in sorted({part.leader for part in ours}):
        connection, _ = connections.connect(*brokers[leader], connections.left_s())
        version = None if connection is None else connections.version(connection, _LIST_OFFSETS)
        if connection is None or version is None:
            continue
        asked = [(part.number, _LATEST) for part in ours if part.leader == leader]
        # What is in a transaction that is still open cannot be read yet, so it is no lag.
        isolation = () if version < 2 else (int(config.isolation_level == "read_committed"),)
        arguments = (_CONSUMER, *isolation, [(config.topic, asked)])
        answer = connections.ask(connection, _LIST_OFFSETS, version, arguments)
        for _, answered in () if answer is None else answer.topics:
            ends |= {number: offset for number, code, _, offset in answered if code == 0}
    return ends


_LIST_OFFSETS = {number: ListOffsetsRequest[number] for number in (1, 2)}


class _NotOurs(logging.Filter):
    """What went wrong in a proof is said once, by whoever asked; kafka-python would log it too, several times."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread not in _OURS


for _name in ("kafka.conn", "kafka.protocol.parser", "kafka.sasl.scram", "kafka.sasl.plain", "kafka.sasl.oauth"):
    logging.getLogger(_name).addFilter(_NotOurs())
