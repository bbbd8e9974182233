"""The topic of actions: made as it must be, and written to.

One message for each thing a person did, keyed by the incident, kept for ever unless the topic says otherwise. Who may
write to it, may act.
"""

from __future__ import annotations

import logging
import time

from streamer.config import Settings
from streamer.connectors.kafka import AdminRefused, Producer, connect_producer, connect_topic_admin
from streamer.core.incident_life import Action
from streamer.errors import BrokerError

# Compaction would keep the newest action about an incident and lose those before it.
SETTINGS = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
SETTLE_S = 5.0

log = logging.getLogger(__name__)


class ActionsTopic:
    """What is asked of the broker about the topic."""

    def __init__(self, settings: Settings) -> None:
        self.name, self._kafka = settings.actions_topic, settings.kafka
        self._admin = connect_topic_admin(settings.kafka)

    def there(self) -> bool:
        """Whether it exists.

        Raises:
            BrokerError: That is not known.
        """
        return self._admin.partitions(self.name) > 0

    def prepare(self) -> None:
        """See that it exists.

        Raises:
            BrokerError: It does not, and cannot be made; says how to.
        """
        try:
            if not self.there():
                self._admin.create(self.name, 1, SETTINGS)
                log.info("topic %s made, for what people do about incidents", self.name)
                deadline_s = time.monotonic() + SETTLE_S
                while not self.there() and time.monotonic() < deadline_s:
                    time.sleep(0.05)  # the broker that clients ask learns of it a moment later
        except AdminRefused as error:
            settings = " ".join(f"--config {name}={value}" for name, value in SETTINGS.items())
            raise BrokerError(
                f"topic {self.name}, for what people do about incidents: {error}; run kafka-topics --bootstrap-server "
                f"{self._kafka.bootstrap_servers} --create --topic {self.name} --partitions 1 {settings}"
            ) from None
        self._check()

    def close(self) -> None:
        """Let go of the client."""
        self._admin.close()

    def _check(self) -> None:
        try:
            policy = self._admin.settings(self.name).get("cleanup.policy", "")
        except BrokerError as error:
            log.debug("the settings of topic %s cannot be checked: %s", self.name, error)  # not every user may ask
            return
        if "compact" in policy:
            log.warning(
                "topic %s is compacted, which loses actions: run kafka-configs --bootstrap-server %s --alter "
                "--topic %s --add-config cleanup.policy=delete,retention.ms=-1",
                self.name, self._kafka.bootstrap_servers, self.name,
            )  # fmt: skip


def send(settings: Settings, action: Action) -> None:
    """Write an action; returns once all in-sync replicas have it.

    Raises:
        BrokerError: It was not acknowledged.
    """
    topic = ActionsTopic(settings)
    try:
        topic.prepare()
    finally:
        topic.close()
    producer: Producer = connect_producer(settings.kafka)
    try:
        producer.send(topic.name, key=action.incident_id.encode(), value=action.encode())
        producer.flush(settings.kafka.delivery_timeout_s)
    finally:
        producer.close()
