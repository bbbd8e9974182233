"""`python -m benchmarks.replicas`: two replicas against one, on the cores of this machine, the broker beside them.

A real broker from KAFKA_HOME, daemons as their users start them, a backlog large enough that nobody waits. Of each
client, in turn, one replica and two: readings a second, and what a reading costs in CPU time, in the replica (its
loop, and its other threads) and in the broker. A replica beside one that has a core to itself can do no better than
`2 * loop / (replica + broker)` times as much on two cores, which is printed too: it holds on a machine that is not
quiet. The busy share of everything else on the machine says whether it was.

Needs Linux, for the CPU time of threads.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from typing import Any, TypeVar

import confluent_kafka
import yaml

from benchmarks import workloads
from benchmarks.__main__ import machine
from models.store.registry import Registry
from tests import brokers

AIM = 1.8
PARTITIONS = 4
WARM_STEPS = 2 * workloads.WINDOW  # readings of each stream before the measured part
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Result:
    """One run."""

    client: str
    replicas: int
    per_s: float  # readings a second, of all replicas
    loop_us: float  # CPU time of the loop for a reading
    replica_us: float  # ... of the whole replica
    broker_us: float  # ... of the broker
    others: float  # part of the machine's time that went elsewhere


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.replicas", description=(__doc__ or "").splitlines()[0].partition(": ")[2]
    )
    parser.add_argument("--client", action="append", choices=["kafka-python", "confluent"], help="default: both")
    parser.add_argument("--replicas", action="append", type=int, help="default: 1 and 2")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run that are measured")
    parser.add_argument("--compression", default="none", help="of the readings: none, lz4, zstd, snappy, gzip")
    parser.add_argument("--batch-bytes", type=int, default=16_384, help="of the producer's batches, at most")
    parser.add_argument("--expected", type=int, default=45_000, help="readings a second of one replica, at most")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="of the configuration")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    home = brokers.kafka_home()
    if home is None:
        print("wanted KAFKA_HOME, the directory of a Kafka distribution: this measures a real broker", file=sys.stderr)
        return 2
    clients, counts = options.client or ["kafka-python", "confluent"], options.replicas or [1, 2]
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        bundles = Path(directory) / "bundles"
        Registry(bundles).publish(workloads.detector(), created=datetime.now(UTC), fingerprint="benchmark")
        broker = brokers.KafkaNode(home, Path(directory) / "broker").start()
        stack.callback(broker.stop)
        for number in range(options.rounds * len(clients) * len(counts)):
            client, replicas = clients[number // len(counts) % len(clients)], counts[number % len(counts)]
            place = Path(directory) / f"run-{number}"
            results.append(measure(broker, bundles, place, client, replicas, options))
            if not options.json:
                print(line(results[-1]), flush=True)
    print(json.dumps(told(results, options), indent=2) if options.json else "\n" + summary(results))
    return 0


def line(result: Result) -> str:
    return (
        f"{result.client:<13}{result.replicas} x{result.per_s:>9,.0f} readings/s   CPU us a reading: loop "
        f"{result.loop_us:5.1f}, replica {result.replica_us:5.1f}, broker {result.broker_us:4.1f}   "
        f"others {result.others:4.0%}"
    )


def medians(results: list[Result], client: str, replicas: int) -> Result | None:
    some = [result for result in results if (result.client, result.replicas) == (client, replicas)]
    if not some:
        return None
    names = [field.name for field in dataclasses.fields(Result)][2:]
    return Result(client, replicas, *(statistics.median(getattr(each, name) for each in some) for name in names))


def ratios(results: list[Result]) -> Iterator[tuple[str, Result, Result, float, float]]:
    """Of each client one replica, two, their ratio, and what CPU time alone would allow."""
    for client in dict.fromkeys(result.client for result in results):
        one, two = medians(results, client, 1), medians(results, client, 2)
        if one is not None and two is not None:
            yield client, one, two, two.per_s / one.per_s, 2 * one.loop_us / (two.replica_us + two.broker_us)


def summary(results: list[Result]) -> str:
    lines = [f"{machine()}, {os.cpu_count()} cores, medians"]
    for client in dict.fromkeys(result.client for result in results):
        lines += [line(found) for count in (1, 2) if (found := medians(results, client, count)) is not None]
    for client, _, two, ratio, bound in ratios(results):
        quiet = "" if two.others < 0.03 else "   the machine was not quiet, see `others`"
        met = "" if ratio >= AIM else "   MISSED"
        lines.append(f"{client}: two / one {ratio:.2f}, aim >= {AIM}{met}; by CPU time {bound:.2f}{quiet}")
    return "\n".join(lines)


def told(results: list[Result], options: argparse.Namespace) -> dict[str, Any]:
    return {
        "machine": machine(),
        "cores": os.cpu_count(),
        "compression": options.compression,
        "runs": [dataclasses.asdict(result) for result in results],
        "ratios": {client: {"measured": ratio, "by CPU time": bound} for client, _, _, ratio, bound in ratios(results)},
    }


def measure(
    broker: brokers.KafkaNode, bundles: Path, place: Path, client: str, replicas: int, options: argparse.Namespace
) -> Result:
    """One run: a topic of its own, filled when all replicas have joined."""
    topic = brokers.unique("readings")
    names = {"topic": topic, "group": topic, "alerts_topic": f"{topic}-alerts", "dead_letter_topic": f"{topic}-dlq"}
    broker.create_topic(topic, PARTITIONS)
    for name in ("alerts_topic", "dead_letter_topic"):
        broker.create_topic(names[name])
    with contextlib.ExitStack() as stack:
        daemons = []
        for number in range(replicas):
            file = configuration(place / str(number), broker, bundles, names | {"client": client}, options.set)
            daemons.append(stack.enter_context(Replica(file)))
        share = [PARTITIONS // replicas] * replicas
        wait_for(lambda: sorted(d.scrape("streamer_partitions_assigned") for d in daemons) == share, "partitions")
        fill = Fill(broker, topic, options.compression, options.batch_bytes)
        fill.send(WARM_STEPS)
        done = WARM_STEPS * workloads.STREAMS
        wait_for(lambda: sum(d.scrape("streamer_records_windowed_total") for d in daemons) == done, "the first windows")
        # Enough for all to be busy from here to the end of the measured part, and the start of it is left out.
        fill.send(round(options.expected * replicas * (options.seconds + 3) / workloads.STREAMS))
        time.sleep(1.0)
        assert broker._process is not None
        before = [daemon.standing() for daemon in daemons], cpu_s(broker._process.pid), machine_s()
        time.sleep(options.seconds)
        after = [daemon.standing() for daemon in daemons], cpu_s(broker._process.pid), machine_s()
        if not all(daemon.scrape("streamer_consumer_lag_records") for daemon in daemons):
            raise RuntimeError(f"a replica had nothing left to do; raise --expected {options.expected}")
    moved = [Standing(*(b - a for a, b in zip(*pair, strict=True))) for pair in zip(before[0], after[0], strict=True)]
    readings, broker_s = sum(each.readings for each in moved), after[1] - before[1]
    ours_s = broker_s + sum(each.cpu_s for each in moved)
    busy_s, all_s = (now - then for then, now in zip(before[2], after[2], strict=True))
    return Result(
        client,
        replicas,
        per_s=sum(each.readings / each.at_s for each in moved),
        loop_us=1e6 * sum(each.loop_s for each in moved) / readings,
        replica_us=1e6 * sum(each.cpu_s for each in moved) / readings,
        broker_us=1e6 * broker_s / readings,
        others=max(0.0, busy_s - ours_s) / all_s,
    )


def configuration(
    place: Path, broker: brokers.KafkaNode, bundles: Path, kafka: dict[str, str], changes: list[str]
) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    sections: dict[str, dict[str, Any]] = {
        "kafka": {"session_timeout_ms": 10_000} | kafka | {"bootstrap_servers": broker.bootstrap_servers},
        "records": {"features": list(workloads.NAMES), "timestamp_unit": "ms"},
        "window": {"length": workloads.WINDOW},
        "model": {"directory": str(bundles)},
        "state": {"directory": "state"},
        "http": {"port": 0},
    }
    for change in changes:
        key, _, value = change.partition("=")
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = yaml.safe_load(value)
    file = place / "streamer.yaml"
    file.write_text(yaml.safe_dump(sections))
    return file


@dataclasses.dataclass(frozen=True)
class Standing:
    """What a replica has done so far."""

    readings: float
    at_s: float  # when it had done so many
    loop_s: float  # CPU time of its first thread
    cpu_s: float  # ... of all its threads

    def __iter__(self) -> Iterator[float]:
        return iter(dataclasses.astuple(self))


class Replica:
    """`streamer run` in a process of its own."""

    def __init__(self, file: Path) -> None:
        self._log = file.with_suffix(".log")
        command = [*brokers.ends_with_us(), sys.executable, "-m", "streamer", "run", "--config", str(file)]
        with self._log.open("wb") as log:
            self._process = Popen(command, stdout=log, stderr=STDOUT, stdin=PIPE)
        self._address = ""

    def __enter__(self) -> Replica:
        def address() -> str:
            if self._process.poll() is not None:
                raise RuntimeError(f"the daemon ended:\n{self._log.read_text()[-3000:]}")
            found = re.search(r"metrics at (http://\S+)/metrics", self._log.read_text())
            return found[1] if found else ""

        self._address = wait_for(address, "a daemon", within_s=180)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGTERM."""
        self._process.terminate()
        self._process.wait(30)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(30)

    def scrape(self, *names: str) -> float:
        """Sum of all series of the metrics named."""
        with urllib.request.urlopen(self._address + "/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = re.findall(rf"^(?:{'|'.join(names)})(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def standing(self) -> Standing:
        with urllib.request.urlopen(self._address + "/metrics", timeout=10) as answer:
            text = answer.read().decode()
        # The two are set one after the other, when a poll has been dealt with.
        readings, at_s = (
            float(re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)[0])
            for name in ("streamer_records_windowed_total", "streamer_last_record_timestamp_seconds")
        )
        pid = self._process.pid
        return Standing(readings, at_s, cpu_s(pid, pid), cpu_s(pid))


class Fill:
    """Readings of all streams, in order; made by a client that costs little."""

    def __init__(self, broker: brokers.KafkaNode, topic: str, compression: str, batch_bytes: int) -> None:
        self._topic, self._step = topic, 0
        self._steps = workloads.messages(WARM_STEPS)
        self._keys = [workloads.stream_name(i).encode() for i in range(workloads.STREAMS)]
        self._producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": broker.bootstrap_servers,
                "compression.type": compression,
                "linger.ms": 50,
                "batch.size": batch_bytes,
                "queue.buffering.max.messages": 5_000_000,
                "queue.buffering.max.kbytes": 2_000_000,
            }
        )

    def send(self, steps: int) -> None:
        """So many readings of every stream; returns when all are acknowledged."""
        produce, topic = self._producer.produce, self._topic
        partitions = [i % PARTITIONS for i in range(workloads.STREAMS)]
        for step in range(self._step, self._step + steps):
            messages, then = self._steps[step % len(self._steps)], step % len(self._steps)
            old, new = (b"%d" % (workloads.START_MS + 60_000 * when) for when in (then, step))
            for message, key, partition in zip(messages, self._keys, partitions, strict=True):
                produce(topic, message.replace(old, new, 1), key, partition)
            if step % 50 == 0:
                self._producer.poll(0)
        self._step += steps
        if self._producer.flush(60):
            raise RuntimeError("the broker does not take the readings")


def cpu_s(process: int, thread: int | None = None) -> float:
    """CPU time of a process, or of one of its threads."""
    path = f"/proc/{process}/stat" if thread is None else f"/proc/{process}/task/{thread}/stat"
    fields = Path(path).read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def machine_s() -> tuple[float, float]:
    """CPU time of the whole machine: busy, and all there was."""
    user, nice, system, idle, waiting, *others = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    busy = user + nice + system + sum(others)
    return busy / TICKS_A_SECOND, (busy + idle + waiting) / TICKS_A_SECOND


def wait_for(condition: Callable[[], T], what: str, *, within_s: float = 60.0) -> T:
    """The first true value of a condition."""
    deadline_s = time.monotonic() + within_s
    while not (found := condition()):
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"waited {within_s:g} s for {what}")
        time.sleep(0.2)
    return found


if __name__ == "__main__":
    sys.exit(main())
