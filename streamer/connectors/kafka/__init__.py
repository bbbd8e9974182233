"""The only code that imports a Kafka client; everything else uses the types of `interface`.

Inside: `connect_*` functions that pick a client (`kafka_python`, `confluent`). Not inside:
decoding, scoring, retry policy of alerts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamer.connectors.kafka.interface import (
    AdminRefused,
    Commit,
    Consumer,
    Headers,
    OffsetReset,
    OnOffsetReset,
    OnPartitions,
    Parts,
    PoisonedBatch,
    Producer,
    RangeReader,
    RecordBatch,
    Shorten,
    TopicAdmin,
)
from streamer.connectors.kafka.log_writer import Entry, LogWriter

if TYPE_CHECKING:
    from streamer.config import KafkaConfig, LimitsConfig

__all__ = [
    "AdminRefused",
    "Commit",
    "Consumer",
    "Entry",
    "Headers",
    "LogWriter",
    "OffsetReset",
    "OnOffsetReset",
    "OnPartitions",
    "Parts",
    "PoisonedBatch",
    "Producer",
    "RangeReader",
    "RecordBatch",
    "Shorten",
    "TopicAdmin",
    "connect_consumer",
    "connect_log_writer",
    "connect_producer",
    "connect_range_reader",
    "connect_topic_admin",
]


def connect_consumer(
    config: KafkaConfig,
    *,
    on_assigned: OnPartitions,
    on_revoked: OnPartitions,
    on_offset_reset: OnOffsetReset | None = None,
    limits: LimitsConfig | None = None,
) -> Consumer:
    """Join `config.group` on `config.topic` with the configured client.

    Args:
        config: Connection, topic and group.
        on_assigned: Called inside `poll` with partitions just gained, which may be none; may `seek`.
        on_revoked: Called inside `poll` or `close` with partitions about to be lost;
            may `commit`.
        on_offset_reset: Called inside `poll` when the log does not hold the offset wanted;
            what was remembered of the partition may belong to another log.
        limits: How much memory reading may take; None: the defaults.
    """
    if config.client == "confluent":
        from streamer.connectors.kafka.confluent.consumer import ConfluentConsumer

        return ConfluentConsumer(
            config, on_assigned=on_assigned, on_revoked=on_revoked, on_offset_reset=on_offset_reset, limits=limits
        )
    from streamer.connectors.kafka.kafka_python.consumer import KafkaPythonConsumer

    return KafkaPythonConsumer(
        config, on_assigned=on_assigned, on_revoked=on_revoked, on_offset_reset=on_offset_reset, limits=limits
    )


def connect_producer(config: KafkaConfig, limits: LimitsConfig | None = None) -> Producer:
    """A producer with the configured client; `acks=all`."""
    if config.client == "confluent":
        from streamer.connectors.kafka.confluent.producer import ConfluentProducer

        return ConfluentProducer(config, limits)
    from streamer.connectors.kafka.kafka_python.producer import KafkaPythonProducer

    return KafkaPythonProducer(config, limits)


def connect_range_reader(config: KafkaConfig, limits: LimitsConfig | None = None) -> RangeReader:
    """A reader of `config.topic` with the configured client.

    Raises:
        BrokerError: No broker lets us in.
    """
    if config.client == "confluent":
        from streamer.connectors.kafka.confluent.range_reader import ConfluentRangeReader

        return ConfluentRangeReader(config, limits=limits)
    from streamer.connectors.kafka.kafka_python.range_reader import KafkaPythonRangeReader

    return KafkaPythonRangeReader(config, limits=limits)


def connect_log_writer(config: KafkaConfig) -> LogWriter:
    """A writer to chosen partitions with the configured client; connects when it first writes."""
    if config.client == "confluent":
        from streamer.connectors.kafka.confluent.log_writer import ConfluentLogWriter

        return ConfluentLogWriter(config)
    from streamer.connectors.kafka.kafka_python.log_writer import KafkaPythonLogWriter

    return KafkaPythonLogWriter(config)


def connect_topic_admin(config: KafkaConfig) -> TopicAdmin:
    """Makes and changes topics; connects when it is first asked. One client for all: it is needed seldom."""
    from streamer.connectors.kafka.kafka_python.topic_admin import KafkaPythonTopicAdmin

    return KafkaPythonTopicAdmin(config)
