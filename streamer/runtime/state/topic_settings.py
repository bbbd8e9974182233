"""The topic that holds state: made as it must be, or checked, with the command that mends what is wrong."""

from __future__ import annotations

import logging
import time

from streamer.config import KafkaConfig
from streamer.connectors.kafka import AdminRefused, TopicAdmin
from streamer.errors import BrokerError, StateError, StateNotMade, StateUnavailable

# Nothing expires by time or size: a group may stand still for longer than any retention. `delete` lets us remove from
# the front what is superseded, `compact` removes it where that is not granted. Small segments give the disk back soon.
SETTINGS = {
    "cleanup.policy": "compact,delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "segment.bytes": str(64 * 1024 * 1024),
}
SETTLE_S = 5.0
MIN_MESSAGE_BYTES = 1_000_000

log = logging.getLogger(__name__)


class StateTopic:
    """What is asked of the broker about the topic of snapshots.

    Args:
        admin: Asks.
        topic: Of snapshots.
        config: Connection and input topic.
    """

    def __init__(self, admin: TopicAdmin, topic: str, config: KafkaConfig) -> None:
        self._admin, self._topic, self._config = admin, topic, config

    def prepare(self, at_least: int = 1) -> int:
        """See that the topic is there and will do; its partitions.

        Args:
            at_least: Partitions that the input is known to have: the broker asked may not have heard of all yet.

        Raises:
            StateError: It is not and will not.
            StateUnavailable: The broker does not answer.
        """
        wanted, there = self._count()
        wanted = max(wanted, at_least)
        try:
            if there == 0:
                self._admin.create(self._topic, wanted, SETTINGS)
                log.info("topic %s made, for state: %d partition(s)", self._topic, wanted)
            elif there < wanted:
                self._admin.grow(self._topic, wanted)
                log.info("topic %s gets %d partition(s), as the input", self._topic, wanted)
            if there < wanted:
                self._wait_for(wanted)
        except AdminRefused as error:
            raise StateError(f"topic {self._topic}, for state: {error}; run {self._command(there, wanted)}") from None
        except BrokerError as error:
            raise StateUnavailable(f"topic {self._topic}, for state: {error}") from None
        self._check()
        return max(wanted, there)

    def look(self) -> int:
        """As `prepare`, changing nothing."""
        wanted, there = self._count()
        if there < wanted:
            what = "does not exist" if there == 0 else f"has {there} partitions, the input {wanted}"
            raise StateNotMade(
                f"topic {self._topic}, for state, {what}; `streamer run` sees to it if it has "
                f"{'ALTER' if there else 'CREATE'} on it, or run {self._command(there, wanted)}"
            )
        self._check()
        return there

    def advice(self, error: str) -> str:
        """What to do about a write that was refused."""
        if "uthoriz" in error:
            return f"grant WRITE on topic {self._topic}"
        if "TooLarge" in error or "too large" in error:
            return f"raise max.message.bytes of {self._topic} to {MIN_MESSAGE_BYTES}"
        return "is the broker away?"

    def grant_delete(self) -> str:
        """The command that grants what removing from the front needs."""
        who = self._config.sasl_username or "ANONYMOUS"
        return (
            f"to grant it, run kafka-acls --add --allow-principal User:{who} --operation Delete --topic {self._topic}"
        )

    def _count(self) -> tuple[int, int]:
        """Partitions of the input, and of this topic."""
        wanted = 0
        try:
            wanted = self._admin.partitions(self._config.topic) or 1
            return wanted, self._admin.partitions(self._topic)
        except AdminRefused as error:
            raise StateError(
                f"topic {self._topic}, for state: {error}; grant READ and WRITE on it, and CREATE, or run "
                f"{self._command(0, wanted or 1)}"
            ) from None
        except BrokerError as error:
            raise StateUnavailable(f"topic {self._topic}, for state: {error}") from None

    def _wait_for(self, partitions: int) -> None:
        """The controller has them; the broker that clients ask learns of it a moment later."""
        deadline_s = time.monotonic() + SETTLE_S
        while self._admin.partitions(self._topic) < partitions and time.monotonic() < deadline_s:
            time.sleep(0.05)

    def _check(self) -> None:
        try:
            found = self._admin.settings(self._topic)
        except BrokerError as error:
            # Not every broker tells, nor every user: DESCRIBE_CONFIGS is a permission of its own.
            log.warning("the settings of topic %s cannot be checked: %s", self._topic, error)
            return
        policy = {word.strip() for word in found.get("cleanup.policy", "").split(",")}
        wrong = {} if "compact" in policy else {"cleanup.policy": "[compact,delete]"}
        if "delete" in policy:
            wrong |= {name: "-1" for name in ("retention.ms", "retention.bytes") if found.get(name, "-1") != "-1"}
        if int(found.get("max.message.bytes", MIN_MESSAGE_BYTES)) < MIN_MESSAGE_BYTES:
            wrong["max.message.bytes"] = str(MIN_MESSAGE_BYTES)
        if wrong:
            has = ", ".join(f"{name} is {found.get(name)}" for name in wrong)
            change = ",".join(f"{name}={value}" for name, value in wrong.items())
            raise StateError(
                f"topic {self._topic}, for state, would lose it or refuse it: {has}; run kafka-configs "
                f"--bootstrap-server {self._config.bootstrap_servers} --alter --topic {self._topic} "
                f"--add-config {change}"
            )

    def _command(self, there: int, wanted: int) -> str:
        if there:
            return f"{self._topics()} --alter --topic {self._topic} --partitions {wanted}"
        settings = " ".join(f"--config {name}={value}" for name, value in SETTINGS.items())
        return f"{self._topics()} --create --topic {self._topic} --partitions {wanted} {settings}"

    def _topics(self) -> str:
        return f"kafka-topics --bootstrap-server {self._config.bootstrap_servers}"
