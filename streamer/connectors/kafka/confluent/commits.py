"""What a group has committed, committing with confluent-kafka, and what its refusals mean.

Not inside: which partitions a member may commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streamer.config import KafkaConfig
from streamer.connectors.kafka.confluent.records import explain
from streamer.connectors.kafka.interface import Commit, told
from streamer.errors import BrokerError, CommitFailed


def commit(consumer: Consumer, config: KafkaConfig, commits: Mapping[int, Commit]) -> None:
    """Commit, and wait until the coordinator has acknowledged it.

    Raises:
        CommitFailed: It refused; nothing may be assumed committed.
    """
    what = told(commits, config.topic, config.group)
    wanted = [TopicPartition(config.topic, p, each.offset, each.note) for p, each in commits.items()]
    try:
        done = consumer.commit(offsets=wanted, asynchronous=False)
    except (KafkaException, RuntimeError) as error:
        raise CommitFailed(f"{what}: {explain(error, config)}") from error
    refused = [f"{tp.partition}: {tp.error}" for tp in done or () if tp.error is not None]
    if refused:
        raise CommitFailed(f"{what}: {'; '.join(refused)}")


def committed(consumer: Consumer, config: KafkaConfig, partitions: Iterable[int]) -> dict[int, Commit]:
    """Where the group stands in those of some partitions in which it has committed; one question for all.

    Raises:
        BrokerError: There is no answer.
    """
    what, commits = f"committed offsets of {config.topic}", dict[int, Commit]()
    wanted = [TopicPartition(config.topic, partition) for partition in partitions]
    try:
        found = consumer.committed(wanted, timeout=config.request_timeout_ms / 1000) if wanted else []
    except (KafkaException, RuntimeError) as error:
        raise BrokerError(f"{what}: {explain(error, config)}") from error
    for tp in found:
        if tp.error is not None:
            raise BrokerError(f"{what}[{tp.partition}]: {tp.error}")
        try:
            note = tp.metadata or ""
        except UnicodeDecodeError:  # written by another program; not ours
            note = ""
        if tp.offset >= 0:
            commits[tp.partition] = Commit(int(tp.offset), note)
    return commits
