"""Making and changing topics, with kafka-python's AdminClient whichever client reads and writes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewPartitions, NewTopic
from kafka.protocol.metadata import MetadataRequest

from streamer.config import KafkaConfig
from streamer.connectors.kafka.interface import AdminRefused
from streamer.connectors.kafka.kafka_python.asking import persistently
from streamer.connectors.kafka.kafka_python.options import bootstrap_list, connection_options, no_connection
from streamer.errors import BrokerError

_REFUSED = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.PolicyViolationError,
    kafka_errors.IncompatibleBrokerVersion,
    kafka_errors.UnsupportedVersionError,
)

T = TypeVar("T")


class KafkaPythonTopicAdmin:
    """A `TopicAdmin` on kafka-python."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._admin: KafkaAdminClient | None = None

    def partitions(self, topic: str) -> int:
        """See `TopicAdmin.partitions`."""

        def ask(admin: KafkaAdminClient) -> int:
            # describe_topics() also asks for permissions, and cannot read the answer about a topic it may not see.
            version = admin._client.api_version(MetadataRequest, max_version=7)
            must_not_make = (False,) if version >= 4 else ()
            (found,) = admin.send_request(MetadataRequest[version]([topic], *must_not_make)).to_object()["topics"]
            if found["error_code"] == kafka_errors.UnknownTopicOrPartitionError.errno:
                return 0
            if found["error_code"] and found["error_code"] != kafka_errors.LeaderNotAvailableError.errno:
                raise kafka_errors.for_code(found["error_code"])(topic)
            return len(found["partitions"])

        return self._ask(f"partitions of {topic}", ask)

    def create(self, topic: str, partitions: int, settings: Mapping[str, str]) -> None:
        """See `TopicAdmin.create`."""

        def ask(admin: KafkaAdminClient) -> None:
            try:
                admin.create_topics([NewTopic(topic, partitions, -1, topic_configs=dict(settings))])
            except kafka_errors.TopicAlreadyExistsError:
                pass  # somebody was faster
            except kafka_errors.IncompatibleBrokerVersion:
                # The embedded broker knows no CreateTopics; there, being asked for a topic by name makes it.
                admin.send_request(MetadataRequest[4]([topic], True))

        self._ask(f"making {topic}", ask)

    def grow(self, topic: str, partitions: int) -> None:
        """See `TopicAdmin.grow`."""

        def ask(admin: KafkaAdminClient) -> None:
            with contextlib.suppress(kafka_errors.InvalidPartitionsError):  # somebody was faster
                admin.create_partitions({topic: NewPartitions(partitions)})

        self._ask(f"adding partitions to {topic}", ask)

    def settings(self, topic: str) -> dict[str, str]:
        """See `TopicAdmin.settings`."""

        def ask(admin: KafkaAdminClient) -> dict[str, str]:
            (response,) = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            ((code, _, _, _, settings),) = response.resources
            if code:
                raise kafka_errors.for_code(code)(topic)
            return {setting[0]: setting[1] for setting in settings}

        return self._ask(f"settings of {topic}", ask)

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """See `TopicAdmin.delete_records`."""

        def ask(admin: KafkaAdminClient) -> None:
            # What is deleted already is not there to be deleted.
            with contextlib.suppress(kafka_errors.OffsetOutOfRangeError):
                admin.delete_records({TopicPartition(topic, partition): before_offset})

        self._ask(f"deleting records of {topic}[{partition}]", ask)

    def close(self) -> None:
        """Let go of the client; the next question connects again."""
        if self._admin is not None:
            admin, self._admin = self._admin, None
            with contextlib.suppress(Exception):
                admin.close()

    def _ask(self, what: str, ask: Callable[[KafkaAdminClient], T]) -> T:
        try:
            admin = self._admin = self._admin or self._connect()
            return persistently(lambda: ask(admin))
        except _REFUSED as error:
            raise AdminRefused(f"{what}: {type(error).__name__}: {error}") from error
        except kafka_errors.KafkaError as error:
            self.close()
            raise BrokerError(f"{what}: {type(error).__name__}: {error}") from error

    def _connect(self) -> KafkaAdminClient:
        options: dict[str, Any] = connection_options(self._config)
        try:
            return KafkaAdminClient(
                **{name: value for name, value in options.items() if name in KafkaAdminClient.DEFAULT_CONFIG},
                bootstrap_servers=bootstrap_list(self._config),
                request_timeout_ms=self._config.request_timeout_ms,
            )
        except kafka_errors.IncompatibleBrokerVersion:
            raise
        except kafka_errors.KafkaError as error:
            raise no_connection(self._config) from error
