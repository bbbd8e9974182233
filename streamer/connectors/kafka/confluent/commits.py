"""Committing with confluent-kafka, and what its refusals mean. Not inside: which partitions a member may commit."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streamer.config import KafkaConfig
from streamer.connectors.kafka.confluent.records import explain
from streamer.connectors.kafka.interface import Commit
from streamer.errors import CommitFailed


def commit(consumer: Consumer, config: KafkaConfig, commits: Mapping[int, Commit]) -> None:
    """Commit, and wait until the coordinator has acknowledged it.

    Raises:
        CommitFailed: It refused; nothing may be assumed committed.
    """
    what = f"commit of {dict(commits)} on {config.topic} for group {config.group!r}"
    wanted = [TopicPartition(config.topic, p, each.offset, each.note) for p, each in commits.items()]
    try:
        done = consumer.commit(offsets=wanted, asynchronous=False)
    except (KafkaException, RuntimeError) as error:
        raise CommitFailed(f"{what}: {explain(error, config)}") from error
    refused = [f"{tp.partition}: {tp.error}" for tp in done or () if tp.error is not None]
    if refused:
        raise CommitFailed(f"{what}: {'; '.join(refused)}")
