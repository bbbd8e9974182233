"""Members with a name of their own (`kafka.group_instance_id`): restarts do not disturb the rest of the group."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from streamer.connectors.kafka import Consumer, connect_consumer
from tests.brokers import Broker, config_for
from tests.connectors.kafka.test_clients import CLIENTS, until


class Member:
    """A member that writes down what it was told."""

    def __init__(self, broker: Broker, client: str, topic: str, name: str) -> None:
        self.events: list[tuple[str, Sequence[int]]] = []
        config = config_for(broker, client=client, topic=topic, group=topic, group_instance_id=name)
        self.consumer: Consumer = connect_consumer(
            config.model_copy(update={"session_timeout_ms": 30_000}),
            on_assigned=lambda partitions: self.events.append(("assigned", partitions)),
            on_revoked=lambda partitions: self.events.append(("revoked", partitions)),
        )

    def has(self, count: int) -> bool:
        return bool(self.events) and self.events[-1][0] == "assigned" and len(self.events[-1][1]) == count


@pytest.mark.parametrize("client", CLIENTS)
def test_a_member_that_comes_back_under_its_name_gets_its_partitions_and_nobody_else_is_disturbed(
    broker: Broker, client: str
) -> None:
    if broker.kind == "embedded":
        pytest.skip("the embedded broker knows no static members; set KAFKA_HOME")
    topic = config_for(broker).topic
    broker.create_topic(topic, 2)
    first, second = (Member(broker, client, topic, name) for name in ("first", "second"))
    until(lambda: first.has(1) and second.has(1), lambda: (first.consumer.poll(0.1), second.consumer.poll(0.1)))
    before = list(first.events)

    second.consumer.close()
    again = Member(broker, client, topic, "second")
    until(lambda: again.has(1), lambda: (first.consumer.poll(0.1), again.consumer.poll(0.1)))
    for _ in range(5):
        first.consumer.poll(0.1)

    assert again.events[-1] == next(event for event in reversed(second.events) if event[0] == "assigned")
    assert first.events == before
    first.consumer.close()
    again.consumer.close()
