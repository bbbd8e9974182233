"""`python -m benchmarks.membership`: how long readings wait while the members of a group change.

Two daemons on four partitions of a real broker (KAFKA_HOME), a steady trickle of readings, scores published. One
replica is stopped in good order and started again, then killed and started again; a third one joins, and leaves for
good. For each event: the longest time between the moment a reading was sent and its score, of the partitions that
hardly noticed and of those that did.

With and without `kafka.group_instance_id` (static membership), with both clients; docs/decisions/0018 says what
followed from it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import confluent_kafka
import numpy as np
from kafka import KafkaConsumer, TopicPartition

from benchmarks import workloads
from benchmarks.__main__ import machine
from benchmarks.replicas import PARTITIONS, Replica, configuration, wait_for
from models.store.registry import Registry
from tests import brokers

EVERY_S = 0.2  # between two readings of a stream; one stream in each partition
SETTLE_S = 8.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.membership")
    parser.add_argument("--client", action="append", choices=["kafka-python", "confluent"], help="default: both")
    parser.add_argument("--members", action="append", choices=["dynamic", "static"], help="default: both")
    parser.add_argument("--session-timeout-ms", type=int, default=45_000)
    options = parser.parse_args()
    home = brokers.kafka_home()
    if home is None:
        print("wanted KAFKA_HOME, the directory of a Kafka distribution: this measures a real broker", file=sys.stderr)
        return 2
    print(f"{machine()}; session timeout {options.session_timeout_ms / 1000:g} s; longest waits by partition, s")
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        Registry(Path(directory) / "bundles").publish(
            workloads.detector(), created=datetime.now(UTC), fingerprint="benchmark"
        )
        broker = brokers.KafkaNode(home, Path(directory) / "broker").start()
        stack.callback(broker.stop)
        for client in options.client or ["kafka-python", "confluent"]:
            for members in options.members or ["dynamic", "static"]:
                place = Path(directory) / f"{client}-{members}"
                for event, waits in Group(broker, place, client, members, options.session_timeout_ms).measure():
                    told = "  ".join(f"{wait:5.1f}" for wait in sorted(waits))
                    print(f"{client:<13}{members:<9}{event:<28}{told}", flush=True)
    return 0


class Group:
    """Daemons of one group, and what they read."""

    def __init__(self, broker: brokers.KafkaNode, place: Path, client: str, members: str, session_ms: int) -> None:
        self._broker, self._place = broker, place
        self._topic, self._static = brokers.unique("readings"), members == "static"
        names = {kind: f"{self._topic}-{kind}" for kind in ("alerts", "dlq", "scores")}
        self._kafka: dict[str, str] = {
            "topic": self._topic,
            "group": self._topic,
            "alerts_topic": names["alerts"],
            "dead_letter_topic": names["dlq"],
            "scores_topic": names["scores"],
            "client": client,
            "session_timeout_ms": str(session_ms),
        }
        broker.create_topic(self._topic, PARTITIONS)
        for name in names.values():
            broker.create_topic(name)

    def measure(self) -> Iterator[tuple[str, list[float]]]:
        """Events and the longest wait in each partition."""
        with contextlib.ExitStack() as stack:
            first, second = (stack.enter_context(self._replica(name)) for name in ("first", "second"))
            wait_for(lambda: [self._held(first), self._held(second)] == [2, 2], "two partitions each", within_s=120)
            trickle = stack.enter_context(Trickle(self._broker, self._topic))
            time.sleep(2 * SETTLE_S)
            began = time.time()
            time.sleep(SETTLE_S)
            spans = [("nothing happens", began, time.time())]

            def until(what: str, began: float, *held: tuple[Replica, int]) -> None:
                wait_for(lambda: all(self._held(one) == count for one, count in held), what, within_s=180)
                time.sleep(SETTLE_S)
                spans.append((what, began, time.time()))

            began = time.time()
            second.stop()
            second = stack.enter_context(self._replica("second"))
            until("SIGTERM, started again", began, (first, 2), (second, 2))
            began = time.time()
            second.kill()
            second = stack.enter_context(self._replica("second"))
            until("kill -9, started again", began, (first, 2), (second, 2))
            began = time.time()
            third = stack.enter_context(self._replica("third"))
            wait_for(lambda: self._held(third) >= 1, "a third one joins", within_s=180)
            time.sleep(SETTLE_S)
            spans.append(("a third one joins", began, time.time()))
            began = time.time()
            third.stop()
            until("SIGTERM, for good", began, (first, 2), (second, 2))
            trickle.stop()
            time.sleep(3.0)
        waits = self._waits()
        for what, start, end in spans:
            yield what, [max((w for at, w in some if start <= at < end), default=np.nan) for some in waits]

    def _replica(self, name: str) -> Replica:
        place = self._place / name
        place.mkdir(parents=True, exist_ok=True)
        kafka = self._kafka | ({"group_instance_id": name} if self._static else {})
        shared = [f"state.directory={self._place / 'state'}", "http.max_stream_series=0"]
        return Replica(configuration(place, self._broker, self._place.parent / "bundles", kafka, shared))

    def _held(self, replica: Replica) -> int:
        return int(replica.scrape("streamer_partitions_assigned"))

    def _waits(self) -> list[list[tuple[float, float]]]:
        """Of each partition when a reading was sent, and how long its score took."""
        found: dict[tuple[str, int], float] = {}
        part = TopicPartition(self._kafka["scores_topic"], 0)
        with contextlib.closing(KafkaConsumer(bootstrap_servers=self._broker.bootstrap_servers)) as consumer:
            consumer.assign([part])
            consumer.seek_to_beginning()
            end = consumer.end_offsets([part])[part]
            while consumer.position(part) < end:
                for records in consumer.poll(timeout_ms=500).values():
                    for record in records:
                        columns = json.loads(record.value)
                        for stream, at in zip(columns["stream"], columns["time_ns"], strict=True):
                            found.setdefault((stream, at), record.timestamp / 1000)
        waits: list[list[tuple[float, float]]] = [[] for _ in range(PARTITIONS)]
        for (stream, at), told_s in found.items():
            waits[int(stream[1:])].append((at / 1e9, told_s - at / 1e9))
        return waits


class Trickle:
    """A reading of each stream now and then; the first windows are filled at once."""

    def __init__(self, broker: brokers.KafkaNode, topic: str) -> None:
        self._topic, self._stop = topic, threading.Event()
        self._producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 0})
        self._thread = threading.Thread(target=self._run, name="trickle", daemon=True)

    def __enter__(self) -> Trickle:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.flush(10)

    def _run(self) -> None:
        now_s = time.time()
        for back in range(2 * workloads.WINDOW, 0, -1):
            self._send(now_s - back * EVERY_S)
        while not self._stop.wait(EVERY_S):
            self._send(time.time())

    def _send(self, at_s: float) -> None:
        values = dict.fromkeys(workloads.NAMES, 0.5)
        for partition in range(PARTITIONS):
            reading = {"stream": f"p{partition}", "timestamp": round(at_s * 1000), **values}
            self._producer.produce(self._topic, json.dumps(reading), f"p{partition}", partition)
        self._producer.poll(0)


if __name__ == "__main__":
    sys.exit(main())
