"""An hour of operation: steady load, streams that come and go, a replica killed every two minutes.

    make soak ARGS="--minutes 60 --rate 12000"

After every kill the load goes on while the others take over; then it rests for a moment. At every rest the group must
have committed every record there is, each living process must account for every record it has consumed, and its memory
is noted. At the end the memory of the last third must be that of the first; the first replica is never killed, so its
memory is that of a process as old as the run. Counters begin anew with a process, so what a killed one had counted is
not added up: its successor reads again what it had not committed.

KAFKA_HOME names a Kafka distribution. Exit code 1 if anything of this does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from tests.brokers import Broker, KafkaNode, kafka_home
from tests.faults import load
from tests.faults.lives import Life, context
from tests.faults.site import Setup, Site

SLICE_S = 0.05
STREAM_TTL_S = 180.0  # of the run, without a reading of a stream, until it is forgotten
REST_WITHIN_S = 90.0  # by when a group that falls behind for good is given up
MEMORY = 0.05


@dataclass
class Cycle:
    """What was seen from one kill to the next."""

    at_s: float
    slot: int
    takeover_s: float  # until every partition was committed beyond where it ended at the kill
    drained_s: float  # from the end of the load until all was committed
    rss: dict[int, int]  # bytes, by slot
    streams: int  # tracked by all replicas
    records: int  # in the topic
    wrong: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    home = kafka_home()
    if home is None:
        print("the soak needs a real broker: set KAFKA_HOME to a Kafka distribution", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="soak-") as kept, contextlib.ExitStack() as stack:
        scratch = Path(options.keep or kept)
        load.train(scratch / "bundles", bundles=1)
        broker = KafkaNode(home, scratch / "kafka").start()
        stack.callback(broker.stop)
        return Soak(broker, scratch, options).run()


class Soak:
    """One run."""

    def __init__(self, broker: Broker, scratch: Path, options: argparse.Namespace) -> None:
        self._options, self._broker = options, broker
        setup = Setup("soak", options.replicas, options.store, options.client, partitions=options.partitions)
        self._site = Site(setup, broker, scratch / "site", scratch / "bundles", 0)
        self._keep_little()
        self._lives: dict[int, Life] = {}
        self._cycles: list[Cycle] = []
        self._dice = random.Random(options.seed)
        forking = context()
        self._paused, self._stop = forking.Event(), forking.Event()
        self._sent = forking.Value("q", 0)
        self._feed = forking.Process(
            target=feed,
            args=(
                broker.bootstrap_servers, self._site.topic, options.rate, options.streams, options.rename_minutes * 60,
                self._paused, self._stop, self._sent,
            ),
            daemon=True,
        )  # fmt: skip

    def run(self) -> int:
        options = self._options
        for slot in range(options.replicas):
            self._start(slot)
        self._feed.start()
        began_s = time.monotonic()
        print(
            f"{options.replicas} replicas, {options.client}, state {options.store}: {options.streams:,} streams, "
            f"{options.rate:,} records/s, one killed every {options.kill_every:g} s for {options.minutes:g} min\n\n"
            f"{'min':>6}{'killed':>8}{'takeover s':>12}{'drained s':>11}{'records':>13}{'streams':>9}   memory MB",
            flush=True,
        )
        try:
            time.sleep(min(30.0, options.kill_every))  # windows fill
            number = 0
            while time.monotonic() - began_s < options.minutes * 60:
                self._cycle(1 + number % (options.replicas - 1), began_s)
                number += 1
        finally:
            self._stop.set()
            self._feed.join(20)
            for life in self._lives.values():
                life.signal(signal.SIGTERM)
            for life in self._lives.values():
                life.ended(25)
                life.signal(signal.SIGKILL)
        return self._verdict()

    def _cycle(self, slot: int, began_s: float) -> None:
        """Kill one, let the others take over under load, rest, look."""
        options, wrong = self._options, list[str]()
        for other, life in list(self._lives.items()):
            if not life.runs:
                wrong.append(f"replica {other} ended by itself with {life.exit_code}: ...{life.log()[-500:]}")
                self._start(other)
        cycle_s = time.monotonic()
        # Right after a rest all is committed, and a kill would lose nothing that has to be read again.
        time.sleep(self._dice.uniform(0.1, 0.3) * options.kill_every)
        killed_s = time.monotonic()
        ends = self._site.ends()
        self._lives[slot].signal(signal.SIGKILL)
        self._lives[slot].ended(10)
        self._start(slot)
        takeover_s = self._until_committed(ends, killed_s, options.kill_every)
        rest_s = min(15.0, options.kill_every / 4)
        time.sleep(max(0.0, cycle_s + options.kill_every - rest_s - time.monotonic()))

        self._paused.set()
        time.sleep(1.0)  # what is on its way arrives
        ends, rest_began_s = self._site.ends(), time.monotonic()
        drained_s = self._until_committed(ends, rest_began_s, REST_WITHIN_S)
        if math.isinf(drained_s):
            wrong.append(f"the lag did not go back to zero: committed {self._site.committed()} of {ends}")
        streams = 0
        for other, life in self._lives.items():
            # A record on its way through the pipeline is counted in two places, one after the other.
            metrics = life.metrics()
            consumed, accounted = metrics.get("streamer_records_consumed_total", -1.0), metrics.accounted()
            if consumed != accounted:
                wrong.append(f"replica {other}: {consumed:,.0f} records consumed, {accounted:,.0f} accounted for")
            streams += int(metrics.total("streamer_streams_tracked"))
        rss = {other: life.rss_bytes() for other, life in sorted(self._lives.items())}
        cycle = Cycle(time.monotonic() - began_s, slot, takeover_s, drained_s, rss, streams, sum(ends.values()), wrong)
        self._cycles.append(cycle)
        memory = "  ".join(f"{size / 1e6:6.1f}" for size in rss.values())
        print(
            f"{cycle.at_s / 60:6.1f}{slot:>8}{takeover_s:>12.1f}{drained_s:>11.1f}{cycle.records:>13,}{streams:>9,}   "
            f"{memory}{'   WRONG: ' + '; '.join(wrong) if wrong else ''}",
            flush=True,
        )
        self._paused.clear()

    def _until_committed(self, ends: dict[int, int], since_s: float, within_s: float) -> float:
        """Seconds until the group has committed up to `ends`; infinity if it does not."""
        while time.monotonic() - since_s < within_s:
            now = self._site.committed()
            if now and all(now[partition] >= end for partition, end in ends.items()):
                return time.monotonic() - since_s
            time.sleep(0.2)
        return math.inf

    def _start(self, slot: int) -> None:
        self._lives[slot] = self._site.start(
            slot,
            kafka={"session_timeout_ms": 6_000, "max_poll_records": 5_000, "scores_topic": None},
            records={"stream_ttl": max(20.0, self._ttl_steps) * load.INTERVAL_MS / 1000},
            state={"checkpoint_s": 5.0, "replay_records": 20_000},
            model={"poll_s": 5.0},
        )

    @property
    def _ttl_steps(self) -> float:
        return float(STREAM_TTL_S * self._options.rate / self._options.streams)

    def _verdict(self) -> int:
        cycles, wrong = self._cycles, [text for cycle in self._cycles for text in cycle.wrong]
        if not cycles:
            print("too short for a single kill")
            return 1
        third = max(1, len(cycles) // 3)
        print(f"\n{'replica':>8}{'first third MB':>16}{'last third MB':>15}{'change':>9}")
        for slot in sorted(self._lives):
            first, last = (
                statistics.mean(cycle.rss[slot] for cycle in some) for some in (cycles[:third], cycles[-third:])
            )
            change = last / first - 1
            print(f"{slot:>8}{first / 1e6:>16.1f}{last / 1e6:>15.1f}{change:>9.1%}")
            if change > MEMORY:
                wrong.append(f"replica {slot}: memory grew by {change:.1%}")
        wrong += [
            f"after {cycle.at_s / 60:.1f} min nobody took over" for cycle in cycles if math.isinf(cycle.takeover_s)
        ]
        takeover, drained = [cycle.takeover_s for cycle in cycles], [cycle.drained_s for cycle in cycles]
        print(
            f"\n{len(cycles)} kill -9, {cycles[-1].records:,} records; "
            f"taken over after {statistics.median(takeover):.1f} s (at most {max(takeover):.1f}), "
            f"all committed {statistics.median(drained):.1f} s after the load stopped (at most {max(drained):.1f}); "
            f"{len(wrong)} wrong"
        )
        for text in wrong:
            print(f"  {text}")
        return 1 if wrong else 0

    def _keep_little(self) -> None:
        """The input topic anew, so that an hour of it does not fill the disk."""
        site, name = self._site, f"{self._site.topic}-short"
        admin = AdminClient({"bootstrap.servers": self._broker.bootstrap_servers})
        config = {"retention.bytes": "200000000", "segment.bytes": "50000000"}
        for made in admin.create_topics([NewTopic(name, self._options.partitions, 1, config=config)]).values():
            made.result()
        self._broker.create_topic(f"{name}.dlq")
        site.topic = name


def feed(servers: str, topic: str, rate: int, streams: int, rename_s: float, paused: Any, stop: Any, sent: Any) -> None:
    """A process of its own: sends readings of all streams in turn, at a rate, and renames some now and then."""
    producer = Producer(
        {"bootstrap.servers": servers, "linger.ms": 20, "acks": "all", "queue.buffering.max.messages": 500_000}
    )
    dice = random.Random(1)
    texts = _texts(dice, 0.0), _texts(dice, -8.0)
    names, generation = [f"unit-{number}-0" for number in range(streams)], 0
    odd: dict[int, int] = {}  # streams with an anomaly, and the step that ends it
    step, number, due = 0, 0, 0.0
    renamed_s = last_s = time.monotonic()
    while not stop.is_set():
        now_s = time.monotonic()
        # What could not be sent in time is not made up for: the rate is a bound, too.
        due = min(due + (now_s - last_s) * rate, rate * 0.5) if not paused.is_set() else 0.0
        last_s = now_s
        if now_s - renamed_s > rename_s:
            renamed_s, generation = now_s, generation + 1
            for some in dice.sample(range(streams), streams // 20):
                names[some] = f"unit-{some}-{generation}"
        count = int(due)
        due -= count
        for _ in range(count):
            name = names[number].encode()
            text = texts[number in odd][(step + number) % 24]
            value = b'{"stream":"%s","timestamp":%d,%s}' % (
                name, load.START_MS + step * load.INTERVAL_MS, text[dice.getrandbits(6)],
            )  # fmt: skip
            while True:
                try:
                    producer.produce(topic, value, name)
                    break
                except BufferError:
                    producer.poll(0.05)
            number += 1
            if number == streams:
                number, step = 0, step + 1
                odd = {each: last for each, last in odd.items() if last > step} | {
                    dice.randrange(streams): step + 10 for _ in range(max(1, streams // 5000))
                }
        producer.poll(0)
        if paused.is_set():
            producer.flush(5)
        sent.value += count
        stop.wait(SLICE_S)
    producer.flush(10)


def _texts(dice: random.Random, shift: float) -> list[list[bytes]]:
    """Values as they stand in a message, 64 for each hour of the day."""
    found = []
    for hour in range(24):
        some = [load.clean(0, hour, (dice.gauss(0, 1), dice.gauss(0, 1))) for _ in range(64)]
        found.append([b'"heat":%.4f,"current":%.4f' % (heat, current + shift) for heat, current in some])
    return found


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="(default: 60)")
    parser.add_argument("--rate", type=int, default=10_000, help="records a second (default: 10000)")
    parser.add_argument("--streams", type=int, default=10_000, help="(default: 10000)")
    parser.add_argument("--rename-minutes", type=float, default=10.0, help="5%% of the streams get new names so often")
    parser.add_argument("--kill-every", type=float, default=120.0, metavar="SECONDS", help="(default: 120)")
    parser.add_argument("--replicas", type=int, default=3, help="two or more; the first is never killed (default: 3)")
    parser.add_argument("--partitions", type=int, default=6, help="(default: 6)")
    parser.add_argument("--client", default="confluent", choices=["kafka-python", "confluent", "mixed"])
    parser.add_argument("--store", default="topic", choices=["topic", "file", "shared"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a directory for logs and data, kept")
    options = parser.parse_args(arguments)
    if options.replicas < 2:
        parser.error(f"--replicas: wanted two or more, since the first is never killed; got {options.replicas}")
    return options


if __name__ == "__main__":
    sys.exit(main())
