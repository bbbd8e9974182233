"""Faults in real ticks: what is caught, how late, and what is reported although nothing is wrong.

    python -m benchmarks.ticks --data FOLDER [--backtest] [--seeds 0,1,2,3,4,5] [--sigmas 8] [--out DIR]
                               [--swap] [--price X] [--thin N]

FOLDER holds Parquet files of one symbol each, in order of arrival: `timestamp`, `symbol` and either `price`, `size`
or `bid`, `bid_size`, `ask`, `ask_size`. A model is trained on the first part of each file, one for all trades and one
for all quotes; the last trading day of a file is scored, of a file of one day its second half. Every seed is a round:
a copy of the scored part with faults in at most 0.5 % of the file's rows (`tick_faults`); one more round has none.

Each round goes through a broker: files are replayed into a topic, `streamer run` reads it, and what counts is the
alerts topic. The broker is that of the tests: KAFKA_BOOTSTRAP_SERVERS, KAFKA_HOME, Docker, or the embedded one. With
--backtest the same rounds go through `streamer backtest` instead. --swap, --price and --thin make other days and other
symbols of the same files. Not inside: the faults (`tick_faults`), what they came to (`tick_verdicts`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from benchmarks import tick_faults
from benchmarks.__main__ import machine
from benchmarks.tick_faults import SECOND, Fault, Feed
from benchmarks.tick_verdicts import CLEAN, Opened, Verdict, judge, part, table
from models.store.registry import Registry
from streamer import config
from streamer.config import Settings
from streamer.connectors import files as datafiles
from streamer.connectors.kafka import connect_producer
from streamer.errors import StreamerError
from streamer.observability import logs
from streamer.offline import backtest
from streamer.offline.replay import replay
from streamer.offline.retrain import retrain_from_files
from tests import brokers

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PATIENCE_S = 300.0
T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all rounds and print the tables; returns an exit code."""
    options = _parser().parse_args(arguments)
    logs.configure(config.LogConfig(level="WARNING"))
    began = time.monotonic()
    try:
        feeds = [Feed.of(pd.read_parquet(path)) for path in sorted(options.data.glob("*.parquet"))]
        feeds = [disguised(feed, options.price, options.thin) for feed in feeds]
        with tempfile.TemporaryDirectory() as scratch:
            out = options.out or Path(scratch)
            out.mkdir(parents=True, exist_ok=True)
            broker = None if options.backtest else brokers.choose_broker(out)
            try:
                how = "backtest" if broker is None else f"through a broker ({broker.kind})"
                what = f"seeds {options.seeds}, spikes of {options.sigmas:g} local sigmas{_variant(options)}"
                print(f"{machine()}\n{how}; {what}")
                for quotes, preset in ((False, options.trades), (True, options.quotes)):
                    some = [feed for feed in feeds if feed.is_quotes == quotes]
                    if some:
                        _run(some, preset, out / preset.stem, broker, options)
            finally:
                if broker is not None:
                    broker.stop()
    except (StreamerError, ValueError) as error:
        print(f"benchmarks.ticks: {error}", file=sys.stderr)
        return 65
    print(f"\ndone in {time.monotonic() - began:.0f} s")
    return 0


def disguised(feed: Feed, factor: float, thin: int) -> Feed:
    """As another symbol would be: prices times a factor, in cents as before, and one of `thin` rows, by chance."""
    columns = {
        name: np.round(column * factor, 2) if name in ("price", "bid", "ask") and factor != 1 else column
        for name, column in feed.columns.items()
    }
    kept = np.random.default_rng(0).permutation(len(feed))[: len(feed) // thin]
    return Feed(feed.symbol, feed.time_ns, columns).take(np.sort(kept))


def _run(
    feeds: Sequence[Feed], preset: Path, home: Path, broker: brokers.Broker | None, options: argparse.Namespace
) -> None:
    """Train on the first parts, run all rounds, print."""
    home.mkdir(parents=True, exist_ok=True)
    settings = config.load(preset, {"STREAMER_MODEL__DIRECTORY": str(home / "bundles")})
    market = settings.sessions.build()
    if market is None:
        raise ValueError(f"{preset}: wanted sessions.calendar; got none")
    parts = [part(feed, market, swap=options.swap) for feed in feeds]
    train = home / "train.parquet"
    pd.concat([one.train.table() for one in parts]).to_parquet(train)
    began = time.monotonic()
    version = retrain_from_files(settings, [train])
    what = ", ".join(f"{one.test.symbol} {len(one.train):,} + {len(one.test):,} rows" for one in parts)
    print(f"\n## {preset.stem}: {what}; trained in {time.monotonic() - began:.0f} s\n", flush=True)
    verdicts: dict[int, Verdict] = {}
    for seed in (CLEAN, *options.seeds):
        made: list[tuple[Feed, list[Fault]]] = [(one.test, []) for one in parts]
        if seed != CLEAN:
            made = [
                tick_faults.inject(one.test, one.open, seed=seed, rows=one.rows, clean=one.train, sigmas=options.sigmas)
                for one in parts
            ]
        data = home / f"round{seed}.parquet"
        pd.concat([feed.table() for feed, _ in made]).to_parquet(data)
        alerts = _backtest(settings, version, data) if broker is None else _live(settings, preset, broker, home, data)
        faults = [fault for _, own in made for fault in own]
        clean = verdicts[CLEAN].false if CLEAN in verdicts else ()
        verdicts[seed] = judge(_opened(alerts, settings), faults, clean)
        (home / f"round{seed}.json").write_text(_record(verdicts[seed], alerts))
    print(table(parts, verdicts), flush=True)


def _opened(alerts: Sequence[Mapping[str, object]], settings: Settings) -> list[Opened]:
    """Incidents from alerts; a bar's alert carries the time at which the bar begins, and is known when it ends."""
    found = []
    for alert in alerts:
        if alert["event"] == "open":
            later = round(settings.time.grid * SECOND) if alert["kind"] == "anomaly" else 0
            time_ns = pd.Timestamp(str(alert["time"])).value + later
            found.append(Opened(str(alert["stream"]), str(alert["kind"]), time_ns))
    return found


def _backtest(settings: Settings, version: str, data: Path) -> list[dict[str, object]]:
    detector, _ = Registry(settings.model.directory).load(version)
    result = backtest.run(settings, detector, version, datafiles.load([data], settings.records))
    return [json.loads(alert.encode()) for alert in result.alerts]


def _live(settings: Settings, preset: Path, broker: brokers.Broker, home: Path, data: Path) -> list[dict[str, object]]:
    """Replay a file into a new topic, let `streamer run` read all of it, and read the alerts topic."""
    topic = brokers.unique(f"ticks-{preset.stem}")
    own = {
        "STREAMER_MODEL__DIRECTORY": str(settings.model.directory),
        "STREAMER_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "STREAMER_KAFKA__TOPIC": topic,
        "STREAMER_KAFKA__GROUP": f"{topic}-group",
        "STREAMER_KAFKA__ALERTS_TOPIC": f"{topic}-alerts",
        "STREAMER_KAFKA__CREATE_TOPICS": "false",
        "STREAMER_STATE__DIRECTORY": str(home / topic),
        "STREAMER_HTTP__PORT": "0",
    }
    live = config.load(preset, own)
    for name in (live.kafka.topic, live.kafka.alerts_topic, live.kafka.dlq_topic, live.kafka.scores_topic):
        if name is not None:
            broker.create_topic(name)
    producer = connect_producer(live.kafka)
    try:
        sent = replay(datafiles.load([data], live.records), live, producer)
    finally:
        producer.close()
    with (home / f"{topic}.log").open("w+") as log:
        command = [*brokers.ends_with_us(), sys.executable, "-m", "streamer", "run", "--config", str(preset)]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | own)
        try:
            said = Path(log.name)
            address = _wait(process, said, lambda: re.findall(r"metrics at (http://\S+)/metrics", said.read_text()))[0]
            _wait(process, said, lambda: _consumed(address) >= sent)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    count = _end(broker, live.kafka.alerts_topic)
    return [json.loads(record.value) for record in brokers.consume(broker, live.kafka.alerts_topic, count)]


def _wait(process: subprocess.Popen[bytes], said: Path, condition: Callable[[], T]) -> T:
    deadline_s = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise ValueError(f"wanted a daemon that reads its topic to the end; it said {said.read_text()[-2000:]}")
        time.sleep(0.2)
    return found


def _consumed(address: str) -> float:
    with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:
        found = re.search(r"^streamer_records_consumed_total (\S+)", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def _end(broker: brokers.Broker, topic: str) -> int:
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers)
    try:
        return int(sum(consumer.end_offsets([TopicPartition(topic, 0)]).values()))
    finally:
        consumer.close()


def _record(verdict: Verdict, alerts: Sequence[Mapping[str, object]]) -> str:
    """A round as JSON, to look into."""
    faults = [
        {**dataclasses.asdict(fault), "delay_s": delay, "by": verdict.by.get(fault)}
        for fault, delay in verdict.delay_s.items()
    ]
    false = [dataclasses.asdict(one) for one in verdict.false]
    return json.dumps({"faults": faults, "false": false, "alerts": list(alerts)}, indent=1)


def _variant(options: argparse.Namespace) -> str:
    said = ", days swapped" if options.swap else ""
    said += f", prices times {options.price:g}" if options.price != 1 else ""
    return said + (f", one of {options.thin} rows" if options.thin != 1 else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ticks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="Parquet files of one symbol each")
    parser.add_argument("--backtest", action="store_true", help="without a broker")
    parser.add_argument("--seeds", type=_seeds, default=[0, 1, 2, 3, 4, 5], help="rounds (default 0,1,2,3,4,5)")
    parser.add_argument("--sigmas", type=float, default=tick_faults.SPIKE_SIGMAS, help="height of a spike (default 8)")
    parser.add_argument("--swap", action="store_true", help="train on the later part, score the earlier one")
    parser.add_argument("--price", type=float, default=1.0, metavar="X", help="as if prices were X times as high")
    parser.add_argument("--thin", type=int, default=1, metavar="N", help="as if one of N rows had come")
    parser.add_argument("--trades", type=Path, default=EXAMPLES / "ticks-trades.yaml", metavar="FILE", help="settings")
    parser.add_argument("--quotes", type=Path, default=EXAMPLES / "ticks-quotes.yaml", metavar="FILE", help="settings")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keeps files, alerts and logs of every round")
    return parser


def _seeds(text: str) -> list[int]:
    try:
        return sorted({int(seed) for seed in text.split(",")})
    except ValueError:
        raise argparse.ArgumentTypeError(f"wanted whole numbers, with commas; got {text}") from None


if __name__ == "__main__":
    sys.exit(main())
