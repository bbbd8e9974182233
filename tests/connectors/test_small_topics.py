"""Topics that take smaller messages than we send: what is too large is cut or split, and everything else goes on."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from streamer.config import KafkaConfig
from streamer.connectors.kafka import connect_producer
from streamer.connectors.sinks import KafkaSinks
from streamer.core.alerts import Alert, Attribution
from streamer.errors import DeliveryFailed
from streamer.formats.rejects import MALFORMED, Reject
from tests.brokers import Broker, config_for, consume, unique
from tests.messages import batch

PATIENCE_S = 30.0


class Small:
    """Sinks whose topics take no message beyond so many bytes."""

    def __init__(self, broker: Broker, client: str, most_bytes: int) -> None:
        if broker.kind == "embedded":
            pytest.skip("the embedded broker has no max.message.bytes; set KAFKA_HOME")
        self.broker = broker
        self.config: KafkaConfig = config_for(broker, client=client, scores_topic=unique("scores"))
        names = [self.config.alerts_topic, self.config.dlq_topic, str(self.config.scores_topic)]
        options = {"max.message.bytes": str(most_bytes)}
        with contextlib.closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)) as admin:
            admin.create_topics([NewTopic(name, 1, 1, topic_configs=options) for name in names], timeout_ms=10_000)
        self.cut = 0
        self.sinks = KafkaSinks(connect_producer(self.config), self.config, max_value_bytes=900_000, on_cut=self._count)

    def _count(self) -> None:
        self.cut += 1

    def flush(self) -> None:
        """As the daemon does: again and again."""
        for _ in range(10):
            with contextlib.suppress(DeliveryFailed):
                self.sinks.flush(3.0)
                return
        self.sinks.flush(PATIENCE_S)

    def refuse(self, *values: bytes, key: bytes | None = None, headers: Any = ()) -> None:
        n = len(values)
        polled = batch(list(values), [key] * n, headers=[headers] * n)
        for row in range(n):
            self.sinks.publish_dead_letter(polled, Reject(row, MALFORMED, "not JSON"))


@pytest.fixture(params=["kafka-python", "confluent"])
def small(request: pytest.FixtureRequest, broker: Broker) -> Iterator[Small]:
    made = Small(broker, request.param, 20_000)
    yield made
    made.sinks.close()


def test_a_dead_letter_too_large_for_its_topic_arrives_as_an_excerpt_and_the_others_whole(small: Small) -> None:
    large = bytes(range(256)) * 2000

    small.refuse(b"before", large, b"after")
    small.flush()

    records = consume(small.broker, small.config.dlq_topic, 3)
    whole = {record.value for record in records if len(record.value) < 10}
    (cut,) = [record for record in records if len(record.value) > 10]
    assert whole == {b"before", b"after"}
    headers = dict(cut.headers)
    assert cut.value == large[:1024]
    assert headers["streamer.dlq.bytes"] == b"512000"
    assert headers["streamer.dlq.sha256"] == hashlib.sha256(large).hexdigest().encode()
    assert headers["streamer.dlq.reason"] == b"malformed"
    assert small.sinks.pending == 0
    assert small.cut == 1


def test_after_one_was_too_large_the_next_is_cut_before_it_is_sent(small: Small) -> None:
    small.refuse(bytes(500_000))
    small.flush()

    small.refuse(bytes(600_000))
    small.sinks.flush(PATIENCE_S)

    assert [len(record.value) for record in consume(small.broker, small.config.dlq_topic, 2)] == [1024, 1024]


def test_a_dead_letter_with_a_large_key_and_large_headers_is_cut_in_these_too(small: Small) -> None:
    small.refuse(b"v" * 5000, key=b"k" * 50_000, headers=[("trace", b"t" * 60_000)])
    small.flush()

    (cut,) = consume(small.broker, small.config.dlq_topic, 1)
    headers = dict(cut.headers)
    assert cut.key == b"k" * 1024
    assert "trace" not in headers
    assert (headers["streamer.dlq.key_bytes"], headers["streamer.dlq.header_bytes"]) == (b"50000", b"60005")
    assert headers["streamer.dlq.bytes"] == b"5000"


def test_scores_too_many_for_one_message_of_their_topic_arrive_in_several(small: Small) -> None:
    streams = [f"press {number}" for number in range(2000)]
    score = np.linspace(0, 1, 2000).astype(np.float32)

    small.sinks.publish_scores(streams, np.arange(2000), score, "v")
    small.flush()

    messages = [json.loads(r.value) for r in consume(small.broker, str(small.config.scores_topic), 8)]
    assert [name for message in messages for name in message["stream"]] == streams
    assert [number for message in messages for number in message["time_ns"]] == list(range(2000))
    assert {message["model_version"] for message in messages} == {"v"}


def test_an_alert_too_large_for_its_topic_keeps_its_strongest_features(small: Small) -> None:
    features = [Attribution(f"feature {number} " + "x" * 100, 1 / 500, 1.0, 2.0) for number in range(500)]
    told_of: Any = ("id", "incident", "open", "anomaly", "critical", "press 1", "", "", 2.0, 2.0)
    alert: Alert = Alert(*told_of, features, "v", "s", None)  # type: ignore[call-arg]

    small.sinks.publish_alert(alert)
    small.flush()

    (record,) = consume(small.broker, small.config.alerts_topic, 1)
    told = msgspec.json.decode(record.value, type=Alert)
    assert told.features == features[:5]
    assert (told.alert_id, told.incident_id, told.stream) == ("id", "incident", "press 1")


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_small_messages_that_only_together_are_too_large_arrive_whole(broker: Broker, client: str) -> None:
    small = Small(broker, client, 3000)
    values = [b"%d" % number * 100 for number in range(100)]

    small.refuse(*values)
    small.flush()
    small.sinks.close()

    assert [record.value for record in consume(broker, small.config.dlq_topic, 100)] == values
    assert small.cut == 0


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_what_cannot_be_cut_any_more_is_kept_and_named(broker: Broker, client: str) -> None:
    small = Small(broker, client, 120)
    small.refuse(b"x")

    def flush() -> None:
        for _ in range(10):
            with contextlib.suppress(TimeoutError):
                small.sinks.flush(3.0)

    with pytest.raises(DeliveryFailed, match=rf"{small.config.dlq_topic}.*max\.message\.bytes"):
        flush()
    assert small.sinks.pending == 1
    small.sinks.close()
