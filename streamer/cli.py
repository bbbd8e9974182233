"""The command line: parse, call one function, return a named exit code.

Nothing here decides; heavy imports wait until a command needs them.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import NoReturn

from streamer import __version__, config
from streamer.errors import BrokerError, ConfigError, DataError, StreamerError
from streamer.observability import logs

EXIT_OK = 0
EXIT_USAGE = 64  # unknown command or option
EXIT_DATA = 65  # a data file cannot be used, or cannot train a model
EXIT_BROKER = 69  # the broker is away or refuses
EXIT_INTERNAL = 70  # a fault of ours
EXIT_CONFIG = 78  # a setting or the model is wrong

EPILOG = """\
examples:
  streamer demo
  streamer check    --config streamer.yaml
  streamer retrain  --config streamer.yaml --data history.parquet
  streamer backtest --config streamer.yaml --data last-month.csv --out backtest/ --labels fault
  streamer run      --config streamer.yaml
  streamer replay   --config streamer.yaml --data last-month.csv --speed 60
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except StreamerError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return EXIT_OK
    except Exception as error:
        from models.errors import ArtifactError, ModelError

        if isinstance(error, ArtifactError):
            print(f"streamer: {error}", file=sys.stderr)
            return EXIT_CONFIG
        if isinstance(error, ModelError):
            print(f"streamer: {error}", file=sys.stderr)
            return EXIT_DATA
        traceback.print_exc()
        return EXIT_INTERNAL
    return code


def _demo(options: argparse.Namespace) -> int:
    from streamer.offline.demo import run_demo

    logs.configure(config.LogConfig(level="ERROR"))
    return EXIT_OK if run_demo(seconds=options.seconds, out=options.out, seed=options.seed) else EXIT_INTERNAL


def _run(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from streamer.runtime.daemon import Daemon

    Daemon(settings).run(_stop_on_signals())
    return EXIT_OK


def _check(options: argparse.Namespace) -> int:
    settings = _settings(options)
    print(f"ok    configuration {options.config}")
    from models.errors import ModelError
    from models.store.registry import Registry
    from streamer.connectors.kafka.probe import probe
    from streamer.core.pipeline import canary, check_fit

    code = EXIT_OK
    try:
        detector, manifest = Registry(settings.model.directory).load()
        check_fit(settings, detector, str(manifest["version"]))
        canary(detector)
        print(f"ok    bundle {manifest['version']}, {manifest['streams']} stream(s)")
    except (ModelError, ConfigError) as error:
        print(f"FAIL  bundle: {error}")
        code = EXIT_CONFIG
    report = probe(settings.kafka, create_missing=False)
    for step in report.steps:
        word = {True: "ok  ", False: "FAIL", None: "?   "}[step.ok]
        print(f"{word}  {step.detail}")
    return code if report.ok else EXIT_BROKER


def _retrain(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from streamer.offline.retrain import retrain, retrain_from_files

    if options.since is not None and not options.from_kafka:
        raise ConfigError("--since: goes with --from-kafka; choose rows of files with --where")
    if options.from_kafka:
        from streamer.connectors.kafka.topic_reader import read_topic

        since = None if options.since is None else _seconds(options.since)
        data = read_topic(settings, since)
        version = retrain(settings, data, promote=not options.no_promote, warm_start=options.warm_start)
    else:
        version = retrain_from_files(
            settings, options.data, options.where, promote=not options.no_promote, warm_start=options.warm_start
        )
    if version:  # this process may have helped another
        print(version)
    return EXIT_OK


def _backtest(options: argparse.Namespace) -> int:
    settings = _settings(options)
    import torch

    from models.store.registry import Registry
    from streamer.connectors import files as datafiles
    from streamer.offline.backtest import runner as backtest

    torch.set_num_threads(settings.model.threads)
    data = datafiles.load(options.data, settings.records, options.where, options.labels)
    detector, manifest = Registry(settings.model.directory).load(options.model)
    figures = backtest.carry_out(
        settings,
        detector,
        str(manifest["version"]),
        data,
        options.out,
        embeddings=options.embeddings,
        rebuilt=options.rebuilt,
    )
    for name, value in figures.items():
        print(f"{name:<26} {value:.6g}")
    files = ["report.html", "scores.csv", "alerts.jsonl"]
    files += ["labels.csv"] * bool(options.labels) + ["embeddings.parquet", "nearest.csv"] * options.embeddings
    files += ["rebuilt.parquet"] * options.rebuilt
    print(f"written to {options.out}: {', '.join(files)}")
    return EXIT_OK


def _replay(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from streamer.connectors import files as datafiles
    from streamer.connectors.kafka import connect_producer
    from streamer.offline.replay import replay

    data = datafiles.load(options.data, settings.records, options.where)
    producer = connect_producer(settings.kafka)
    try:
        sent = replay(data, settings, producer, speed=options.speed, stop=_stop_on_signals())
    finally:
        producer.close()
    print(f"{sent} readings of {len(data.names)} stream(s) sent to {settings.kafka.topic}")
    return EXIT_OK


def _simulate(options: argparse.Namespace) -> int:
    from streamer.offline import simulate as live

    if options.out is not None:
        logs.configure(config.LogConfig())
        live.write_history(
            options.out,
            machines=options.machines,
            hours=options.hours,
            interval_s=options.interval,
            seed=options.seed,
        )
        print(f"{options.hours:g} hours of {options.machines} machines written to {options.out}")
        return EXIT_OK
    settings = _settings(options)
    live.feed(
        settings, machines=options.machines, interval_s=options.interval, seed=options.seed, stop=_stop_on_signals()
    )
    return EXIT_OK


def _models(options: argparse.Namespace) -> int:
    settings = _settings(options)
    import json

    from models.store.registry import Registry

    registry = Registry(settings.model.directory)
    if options.action == "list":
        current = registry.current()
        for version in registry.versions():
            about = registry.manifest(version)
            mark = "*" if version == current else " "
            print(f"{mark} {version}  {about['streams']} stream(s)  held-out loss {about['fit']['held_out_loss']:.4f}")
    elif options.action == "show":
        chosen = options.version or registry.current()
        if chosen is None:
            raise ConfigError(f"models show: no bundle is current in {registry.directory}; name a version")
        print(json.dumps(registry.manifest(chosen), indent=2))
    elif options.action == "promote":
        if options.version is None:
            raise ConfigError("models promote: wanted a version; see `streamer models list`")
        registry.promote(options.version)
        print(f"current: {options.version}")
    else:
        print(f"current: {registry.rollback()}")
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="streamer",
        description="Watches time series in Kafka and tells people what is strange.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"streamer {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="embedded broker, simulated machines with faults, live alerts, a report")
    demo.add_argument("--seconds", type=_positive, default=60.0, help="how long the live part runs (default 60)")
    demo.add_argument("--out", type=Path, default=Path("demo-out"), help="where the picture goes (default demo-out/)")
    demo.add_argument("--seed", type=_seed, default=7, help="seed of machines and faults (default 7)")
    demo.set_defaults(command=_demo)

    for name, command, text in (
        ("run", _run, "the daemon"),
        ("check", _check, "validate configuration, broker, topics, rights and bundle; change nothing"),
    ):
        one = commands.add_parser(name, help=text)
        _add_config(one)
        one.set_defaults(command=command)

    retrain = commands.add_parser("retrain", help="fit a model and make it current; prints its version")
    _add_config(retrain)
    source = retrain.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, nargs="+", metavar="PATH", help="CSV or Parquet files")
    source.add_argument("--from-kafka", action="store_true", help="what the input topic holds")
    retrain.add_argument("--since", help="with --from-kafka: only the last 7d, 12h, 30m, 45s")
    _add_where(retrain)
    retrain.add_argument("--no-promote", action="store_true", help="store the bundle without making it current")
    retrain.add_argument(
        "--warm-start",
        nargs="?",
        const="current",
        metavar="VERSION",
        help="begin with the weights of this bundle (default: the current one) instead of random ones",
    )
    retrain.set_defaults(command=_retrain)

    backtest = commands.add_parser("backtest", help="files through the daemon's own stations: scores, alerts, report")
    _add_config(backtest)
    backtest.add_argument("--data", type=Path, nargs="+", required=True, metavar="PATH", help="CSV or Parquet files")
    backtest.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    backtest.add_argument("--model", metavar="VERSION", help="bundle to use (default: the current one)")
    backtest.add_argument(
        "--labels", metavar="COLUMN", help="1 inside a known anomaly, else 0: what was caught, how late"
    )
    backtest.add_argument(
        "--embeddings", action="store_true", help="the latent of every window, a map of them, neighbours of incidents"
    )
    backtest.add_argument(
        "--rebuilt", action="store_true", help="the signal without its noise, as the model rebuilds it"
    )
    _add_where(backtest)
    backtest.set_defaults(command=_backtest)

    replay = commands.add_parser("replay", help="files into Kafka")
    _add_config(replay)
    replay.add_argument("--data", type=Path, nargs="+", required=True, metavar="PATH", help="CSV or Parquet files")
    replay.add_argument("--speed", type=_positive, help="event seconds in a second (default: as fast as it goes)")
    _add_where(replay)
    replay.set_defaults(command=_replay)

    simulate = commands.add_parser("simulate", help="simulated machines into Kafka without end, or into a file")
    simulate.add_argument("--config", type=Path, metavar="FILE", help="needed unless --out is given")
    simulate.add_argument("--out", type=Path, metavar="FILE", help="write history (.parquet or .csv) instead")
    simulate.add_argument("--machines", type=_count, default=6)
    simulate.add_argument(
        "--hours", type=_hours, default=72.0, help="with --out: hours of the machines' time, 60 readings each"
    )
    simulate.add_argument(
        "--interval", type=_positive, default=60.0, metavar="S", help="seconds between time stamps (default 60)"
    )
    simulate.add_argument("--seed", type=_seed, default=7)
    simulate.set_defaults(command=_simulate)

    models = commands.add_parser("models", help="list, show, promote or roll back bundles")
    models.add_argument("action", choices=["list", "show", "promote", "rollback"])
    models.add_argument("version", nargs="?")
    _add_config(models)
    models.set_defaults(command=_models)
    return parser


class _Parser(argparse.ArgumentParser):
    """argparse, with the exit code of this program's contract."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="YAML settings")


def _add_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE", help="only rows with this value; repeatable"
    )


def _settings(options: argparse.Namespace) -> config.Settings:
    settings = config.load(options.config)
    logs.configure(settings.log)
    return settings


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"wanted a number above 0; got {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 100_000:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 1 to 100000; got {text}")
    return value


def _hours(text: str) -> float:
    value = float(text)
    if not 1 / 60 <= value <= 24 * 3660:
        raise argparse.ArgumentTypeError(f"wanted hours, at least one reading (0.0167), at most ten years; got {text}")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 0; got {text}")
    return value


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not found:
        raise ConfigError(f"--since: wanted a duration such as 7d, 12h, 30m or 45s; got {text!r}")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]


def _stop_on_signals() -> threading.Event:
    """An event that SIGTERM or SIGINT sets; a second signal leaves at once."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


def _fail(error: StreamerError) -> int:
    print(f"streamer: {error}", file=sys.stderr)
    if isinstance(error, ConfigError):
        return EXIT_CONFIG
    if isinstance(error, DataError):
        return EXIT_DATA
    if isinstance(error, BrokerError):
        return EXIT_BROKER
    return EXIT_INTERNAL
