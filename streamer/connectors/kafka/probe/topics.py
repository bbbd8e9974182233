"""Are the topics there, do their leaders answer, and may we read and write them?"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from functools import partial

from kafka import errors as kafka_errors
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.protocol.admin import CreateTopicsRequest
from kafka.protocol.metadata import MetadataRequest

from streamer.config import KafkaConfig
from streamer.connectors.kafka.kafka_python.asking import persistently
from streamer.connectors.kafka.kafka_python.options import bootstrap_list, connection_options
from streamer.connectors.kafka.probe.connection import Connection, Connections
from streamer.connectors.kafka.probe.metadata import NOT_AUTHORISED, NOT_REPORTED, UNKNOWN, Brokers, Topic
from streamer.connectors.kafka.probe.metadata import ask as ask_metadata
from streamer.connectors.kafka.probe.report import Fault, Missing, Needs, Notes, Stop

RETRY_S = 0.05
_BITS = {"READ": 3, "WRITE": 4}  # of Kafka's authorised-operations field


class TopicChecks:
    """Topics of one probe."""

    def __init__(
        self, config: KafkaConfig, needs: Needs, missing: Missing, connections: Connections, notes: Notes
    ) -> None:
        self._config, self._needs, self._missing = config, needs.topics, missing
        self._daemon = needs.group is not None
        self._connections, self._notes = connections, notes
        self._asked: set[str] = set()  # to be created
        self._created: set[str] = set()

    def find(self, first: Connection) -> tuple[Brokers, dict[str, Topic]]:
        """Brokers by id and the topics that are there; what is wrong with the others is noted."""
        while True:
            brokers, topics = self._metadata(first)
            missing = [name for name, topic in topics.items() if topic.code == UNKNOWN]
            if self._missing is Missing.CREATE and (new := [name for name in missing if name not in self._asked]):
                self._asked.update(new)
                self._created.update(new)
                self._create(first, new)
                continue
            unsettled = {name for name, topic in topics.items() if not topic.settled} | self._created & set(missing)
            if not unsettled or self._connections.left_s() == 0:
                break
            time.sleep(min(RETRY_S, self._connections.left_s()))
        for name, topic in topics.items():
            self._note(name, topic, unsettled=name in unsettled)
        return brokers, {name: topic for name, topic in topics.items() if topic.code == 0}

    def reach_leaders(self, brokers: Brokers, topics: dict[str, Topic]) -> None:
        """The address a broker advertises is often not the one that works; that shows only here."""
        leaders = sorted({part.leader for topic in topics.values() for part in topic.partitions} & brokers.keys())
        for node in leaders:
            connection, reason = self._connections.connect(*brokers[node], self._connections.left_s())
            if connection is None:
                self._notes.add(
                    f"broker {node}",
                    False,
                    f"broker {node} leads partitions of our topics and advertises (advertised.listeners) "
                    f"{brokers[node][0]}:{brokers[node][1]}: {reason}",
                )
                raise Stop
        if leaders:
            self._notes.add("brokers", True, f"every broker that leads a partition of ours answers ({len(leaders)})")

    def check_permissions(self, topics: dict[str, Topic]) -> None:
        for name, topic in topics.items():
            operation = self._needs[name]
            self._notes.permission(operation, "topic", name, granted(operation, topic.permissions))

    def _note(self, name: str, topic: Topic, *, unsettled: bool) -> None:
        operation, step = self._needs[name], f"topic {name}"
        if topic.code == 0 and not unsettled and name in self._created and operation == "READ":
            self._notes.add(
                step,
                None,
                f"topic {name}, to read from, did not exist and was created (kafka.create_topics: true): nothing comes "
                "until a producer writes to it; check kafka.topic if one does already",
            )
        elif topic.code == 0 and not unsettled:
            count = f"{len(topic.partitions)} partition{'' if len(topic.partitions) == 1 else 's'}"
            self._notes.add(step, True, f"topic {name} has {count}{' (just created)' * (name in self._created)}")
        elif topic.code == UNKNOWN and self._missing is Missing.CREATED_BY_RUN:
            self._notes.add(
                step, None, f"topic {name} does not exist yet; `streamer run` creates it (kafka.create_topics: true)"
            )
        elif topic.code == UNKNOWN:
            self._notes.add(step, False, self._say_missing(name, operation), Fault.TOPIC_MISSING)
        elif topic.code == NOT_AUTHORISED:
            grant = self._notes.grant(operation, "topic", name)
            self._notes.add(step, False, f"{self._notes.who} may not see topic {name}; {grant}", Fault.NOT_PERMITTED)
        elif unsettled:
            self._notes.add(step, False, f"topic {name} has partitions without a leader; is a broker down?")
        else:
            self._notes.add(step, False, f"topic {name} cannot be used: {error_name(topic.code)}")

    def _say_missing(self, name: str, operation: str) -> str:
        role = "read from" if operation == "READ" else "write to"
        if name in self._created:
            return f"topic {name}, to {role}, was created and is not there yet; is the broker overloaded?"
        if self._config.create_topics or (operation == "READ" and not self._daemon):
            advice = "check kafka.topic and kafka.bootstrap_servers"
        else:
            advice = "create it or set kafka.create_topics: true"
        return f"topic {name}, to {role}, does not exist; {advice}"

    def _metadata(self, first: Connection) -> tuple[Brokers, dict[str, Topic]]:
        answer = ask_metadata(first, self._connections, list(self._needs))
        if answer is None:
            raise self._notes.late("topics", "a metadata request")
        return answer

    def _create(self, first: Connection, names: list[str]) -> None:
        if self._connections.version(first, CreateTopicsRequest) is None:
            # The embedded broker knows no CreateTopics; there, being asked for a topic by name makes it.
            known = self._connections.version(first, MetadataRequest)
            if known is not None and known >= 4:
                self._connections.ask(first, MetadataRequest, 4, (names, True))
            return
        try:
            with contextlib.closing(self._admin()) as admin:
                for name in names:
                    persistently(partial(self._create_one, admin, name))
        except kafka_errors.KafkaError as error:
            self._created.difference_update(names)
            self._notes.add("create topics", False, f"topics cannot be created: {type(error).__name__}: {error}")

    def _create_one(self, admin: KafkaAdminClient, name: str) -> None:
        for partitions, replicas in ((-1, -1), (1, 1)):  # the broker's defaults; explicit for one before 2.4
            try:
                admin.create_topics([NewTopic(name, partitions, replicas)], timeout_ms=self._left_ms())
            except (kafka_errors.InvalidPartitionsError, kafka_errors.InvalidReplicationFactorError):
                if partitions == 1:
                    raise
                continue
            except kafka_errors.TopicAlreadyExistsError:
                pass  # somebody was faster
            except (kafka_errors.TopicAuthorizationFailedError, kafka_errors.ClusterAuthorizationFailedError):
                self._created.discard(name)
                self._notes.add(
                    f"create {name}",
                    False,
                    f"{self._notes.who} may not create topic {name}: create it or "
                    f"{self._notes.grant('CREATE', 'topic', name)}",
                )
            return

    def _admin(self) -> KafkaAdminClient:
        # Each of its requests has this bound, not their sum: the thread of the probe has the last word.
        options = {k: v for k, v in connection_options(self._config).items() if k in KafkaAdminClient.DEFAULT_CONFIG}
        return KafkaAdminClient(
            **options | {"api_version_auto_timeout_ms": self._left_ms()},
            bootstrap_servers=bootstrap_list(self._config),
            request_timeout_ms=self._left_ms(),
        )

    def _left_ms(self) -> int:
        return max(1, round(1000 * self._connections.left_s()))


def granted(operation: str, permissions: Iterable[int]) -> bool | None:
    """Whether an operation is permitted; None if the broker does not say."""
    return None if permissions == NOT_REPORTED else _BITS[operation] in permissions


def error_name(code: int) -> str:
    return f"{kafka_errors.for_code(code).__name__} ({code})"
