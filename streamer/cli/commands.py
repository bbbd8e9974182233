"""One function for each command: settings in, one call, a few lines of output, an exit code.

Heavy imports stand inside the functions, so that `--help` and a wrong setting answer at
once. Not inside: what can be typed (`arguments`) and which error means which exit code
(`main`).
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from streamer import config
from streamer.cli.checking import check
from streamer.cli.completion import completion
from streamer.cli.dead_letters import dlq
from streamer.cli.exit_codes import EXIT_INTERNAL, EXIT_OK
from streamer.cli.incidents import incidents
from streamer.cli.injecting import inject
from streamer.cli.looking import init, inspect, look_first
from streamer.cli.notifications import notifications
from streamer.cli.signals import stop_on_signals
from streamer.cli.sinks import sinks
from streamer.errors import ConfigError
from streamer.observability import logs

if TYPE_CHECKING:
    from models.store.registry import Registry


def demo(options: Namespace) -> int:
    from streamer.offline.demo import run_demo
    from streamer.runtime.daemon import Daemon

    logs.configure(config.LogConfig(level="ERROR"))
    well = run_demo(Daemon, seconds=options.seconds, out=options.out, seed=options.seed)
    return EXIT_OK if well else EXIT_INTERNAL


def run(options: Namespace) -> int:
    settings = _settings(options)
    from streamer.runtime.daemon import Daemon
    from streamer.runtime.garbage import collect_seldom

    collect_seldom()
    Daemon(settings).run(stop_on_signals())
    return EXIT_OK


def retrain(options: Namespace) -> int:
    settings = _settings(options)
    if options.from_kafka:
        from streamer.connectors.kafka.probe import Needs, require

        require(settings.kafka, Needs(reads=(settings.kafka.topic,)))  # before the imports below, which take seconds
    from streamer.offline import retrain as training

    promote = not options.no_promote
    if options.from_kafka:
        from streamer.connectors.kafka.topic_reader import TimeRange, TopicReader
        from streamer.offline.progress import progress

        time_range = TimeRange.of(options.since, options.until)
        look_first(settings, time_range=time_range)
        data = TopicReader(settings, time_range, progress)
        version = training.retrain(
            settings, data, promote=promote, warm_start=options.warm_start, trained_on=data.trained_on
        )
    else:
        look_first(settings, data=options.data)
        version = training.retrain_from_files(
            settings, options.data, options.where, promote=promote, warm_start=options.warm_start
        )
    if version:  # this process may have helped another
        print(version)
    return EXIT_OK


def backtest(options: Namespace) -> int:
    settings = _settings(options)
    import torch

    from models.store.registry import Registry
    from streamer.connectors import files as datafiles
    from streamer.offline import backtest as backtesting

    torch.set_num_threads(settings.model.threads)
    data = datafiles.load(
        options.data,
        settings.records,
        options.where,
        options.labels,
        files=settings.files,
        exact=settings.time.active,
    )
    detector, manifest = Registry(settings.model.directory).load(options.model)
    figures = backtesting.carry_out(
        settings,
        detector,
        str(manifest["version"]),
        data,
        options.out,
        embeddings=options.embeddings,
        reconstruction=options.reconstruction,
    )
    for name, value in figures.items():
        print(f"{name:<26} {value:.6g}")
    files = ["report.html", "scores.csv", "alerts.jsonl"]
    files += ["labels.csv"] * bool(options.labels) + ["embeddings.parquet", "nearest.csv"] * options.embeddings
    files += ["rebuilt.parquet"] * options.reconstruction
    print(f"written to {options.out}: {', '.join(files)}")
    return EXIT_OK


def replay(options: Namespace) -> int:
    settings = _settings(options)
    from streamer.connectors import files as datafiles
    from streamer.connectors.kafka import connect_producer
    from streamer.connectors.kafka.probe import Needs, require
    from streamer.offline import replay as replaying

    replaying.require_writable(settings.records)
    require(settings.kafka, Needs(writes=(settings.kafka.topic,)))
    data = datafiles.load(options.data, settings.records, options.where, files=settings.files, as_sent=True)
    if options.shift_to_now:
        data = replaying.shifted_to_now(data, options.speed, time.time_ns())
    producer = connect_producer(settings.kafka)
    try:
        sent = replaying.replay(data, settings, producer, speed=options.speed, stop=stop_on_signals())
    finally:
        producer.close()
    print(f"{sent} readings of {len(data.names)} stream(s) sent to {settings.kafka.topic}")
    return EXIT_OK


def simulate(options: Namespace) -> int:
    from streamer.offline import simulate as simulation

    if options.out is not None:
        logs.configure(config.LogConfig())
        simulation.write_history(
            options.out, machines=options.machines, hours=options.hours, interval_s=options.interval, seed=options.seed
        )
        print(f"{options.hours:g} hours of {options.machines} machines written to {options.out}")
        return EXIT_OK
    settings = _settings(options)
    simulation.send_live(
        settings,
        machines=options.machines,
        interval_s=options.interval,
        seed=options.seed,
        requests=options.requests,
        stop=stop_on_signals(),
    )
    return EXIT_OK


def models(options: Namespace) -> int:
    settings = _settings(options)
    import json

    from models.store.registry import Registry

    registry = Registry(settings.model.directory)
    if options.action == "list":
        _list_models(registry)
    elif options.action == "show":
        chosen = options.version or registry.current()
        if chosen is None:
            raise ConfigError(
                f"models show: no bundle is current in {registry.directory}; name one that `streamer models list` shows"
            )
        print(json.dumps(registry.manifest(chosen), indent=2))
    elif options.action == "promote":
        registry.promote(options.version)
        print(f"current: {options.version}")
    else:
        print(f"current: {registry.rollback()}")
    return EXIT_OK


def _list_models(registry: Registry) -> None:
    """One line for each bundle, the current one marked, with what is known of its promotion."""
    from models.errors import ArtifactError

    current, versions = registry.current(), registry.versions()
    if not versions:
        print(f"no bundles in {registry.directory}; `streamer retrain` makes one", file=sys.stderr)
    latest = {entry.version: entry for entry in registry.history()}
    for version in versions:
        known = latest.get(version)
        state = "never promoted"
        if version == current:
            state = f"current since {known.promoted}" if known and known.promoted else "current"
        elif known:
            state = f"withdrawn {known.withdrawn}" if known.withdrawn else f"promoted {known.promoted or 'earlier'}"
        mark = "*" if version == current else " "
        try:
            about = registry.manifest(version)
            what = f"{about['streams']} stream(s)  held-out loss {about['fit']['held_out_loss']:.4f}"
        except ArtifactError as error:
            what = f"cannot be read: {error}"
        except (KeyError, TypeError, ValueError) as error:
            what = f"its manifest is incomplete or wrong: {error!r}"
        print(f"{mark} {version}  {what}  {state}")


COMMANDS: Mapping[str, Callable[[Namespace], int]] = {
    "demo": demo,
    "inspect": inspect,
    "init": init,
    "run": run,
    "check": check,
    "retrain": retrain,
    "backtest": backtest,
    "replay": replay,
    "simulate": simulate,
    "inject": inject,
    "dlq": dlq,
    "notifications": notifications,
    "incidents": incidents,
    "sinks": sinks,
    "models": models,
    "completion": completion,
}


def _settings(options: Namespace) -> config.Settings:
    settings = config.load(options.config)
    logs.configure(settings.log)
    return settings
