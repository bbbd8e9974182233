"""What can be typed after `streamer`, and the help that explains it.

A wrong command line ends here with a sentence. Not inside: what the
commands do (`commands`).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from streamer import __version__
from streamer.cli import incidents, injecting, notifications, sinks, values
from streamer.cli.parser import Parser
from streamer.errors import UsageError
from streamer.formats.rejects import REASONS

DESCRIPTION = "Detects anomalies in Kafka time series and raises alerts."
EPILOG = """\
examples:
  streamer demo
  streamer inspect  --topic readings
  streamer init     --topic readings --out streamer.yaml
  streamer check    --config streamer.yaml
  streamer retrain  --config streamer.yaml --data history.parquet
  streamer backtest --config streamer.yaml --data last-month.csv --out backtest/ --labels fault
  streamer run      --config streamer.yaml
  streamer replay   --config streamer.yaml --data last-month.csv --speed 60
  streamer dlq list --config streamer.yaml --since 1d
  streamer incidents list --config streamer.yaml --open
"""
_COMPLETION = """\
to use it:
  bash  streamer completion bash > ~/.local/share/bash-completion/completions/streamer
  zsh   streamer completion zsh  > ~/.zfunc/_streamer      # a folder in fpath, before compinit
  fish  streamer completion fish > ~/.config/fish/completions/streamer.fish
"""
SHELLS = ("bash", "zsh", "fish")
DIRECTORY = "DIR"  # stands for the value of an option that names one
_DATA = "CSV, Parquet, JSON lines or JSON files, also compressed, or folders of them"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of one command; `command` is its name. Leaves with exit code 64 if they are wrong.

    Raises:
        UsageError: They are right one by one and do not go together.
    """
    parser = command_line()
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0].partition("=")[0] == "--config":
        parser.error("options come after the command: streamer COMMAND --config FILE")
    options: argparse.Namespace
    options, left = parser.parse_known_args(arguments)
    if left and options.command == "models" and options.version is None and not left[0].startswith("-"):
        # argparse takes a version only right after the action; people write it after --config, too.
        options.version, left = left[0], left[1:]
    if left and options.command == "dlq" and options.action == "replay" and not options.places:
        # So it does with places.
        while left and not left[0].startswith("-"):
            try:
                options.places.append(values.place(left[0]))
            except argparse.ArgumentTypeError as error:
                parser.error(str(error))
            left = left[1:]
    if left and options.command == "incidents" and getattr(options, "text", None) == "" and not left[0].startswith("-"):
        options.text, left = left[0], left[1:]  # and so with the remark
    if left:
        parser.chosen(options).error(f"unrecognized arguments: {' '.join(left)}")
    if options.command in ("dlq", "incidents") and options.config is None:
        parser.chosen(options).error("--config is missing")
    _check_together(options)
    return options


def command_line() -> Parser:
    """All commands with their options."""
    parser = Parser(
        prog="streamer",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"streamer {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, dest="command", metavar="COMMAND")

    def add(name: str, text: str, *, config: bool = True) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if config:
            one.add_argument("--config", type=Path, required=True, metavar="FILE", help="settings, YAML")
        return one

    _add_demo(add("demo", "try everything: embedded broker, simulated machines with faults, live alerts", config=False))
    _add_inspect(
        add("inspect", "show what the messages of a topic, or files, look like, and what settings fit", config=False)
    )
    _add_init(add("init", "write settings that fit a topic or files", config=False))
    add("run", "run the daemon")
    add("check", "check settings, bundle, broker, topics and permissions, without changing anything")
    _add_retrain(add("retrain", "train a model, make it current and print its version"))
    _add_backtest(add("backtest", "run files through the daemon's pipeline and write scores, alerts and a report"))
    _add_replay(add("replay", "send the readings of files to Kafka"))
    _add_simulate(
        add("simulate", "send readings of simulated machines to Kafka, or write them to a file", config=False)
    )
    injecting.add_options(add("inject", "ask a running simulator for a fault in a machine", config=False))
    _add_dlq(add("dlq", "list and show dead letters, the records that were refused, and send them again", config=False))
    notifications.add_arguments(add("notifications", "explain who is told of an incident, and which rule decides"))
    sinks.add_arguments(add("sinks", "send a test alert through a sink of the section sinks"))
    incidents.add_arguments(
        add("incidents", "list, show, acknowledge and judge incidents, and comment on them", config=False)
    )
    _add_models(add("models", "list, show or promote bundles, or return to the bundle that was current before"))
    shells = add("completion", "print a script for a shell that completes commands and options", config=False)
    shells.add_argument("shell", choices=SHELLS, help="to be completed in")
    shells.epilog = _COMPLETION
    shells.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


def _add_inspect(inspect: argparse.ArgumentParser) -> None:
    _add_source(inspect)
    inspect.add_argument("--json", action="store_true", help="for programs")


def _add_init(init: argparse.ArgumentParser) -> None:
    _add_source(init)
    init.add_argument(
        "--out", type=Path, default=Path("streamer.yaml"), metavar="FILE", help="to write (default streamer.yaml)"
    )
    init.add_argument("--yes", action="store_true", help="overwrite the file")


def _add_source(parser: argparse.ArgumentParser) -> None:
    """What to look at, and what to decide otherwise than found."""
    parser.add_argument("--topic", metavar="T", help="input topic; messages from several places of it are read")
    parser.add_argument("--data", type=Path, nargs="+", metavar="PATH", help="look at files instead")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings, YAML; its sections kafka and files are used"
    )
    parser.add_argument("--bootstrap-servers", metavar="LIST", help="host:port list (default: kafka.bootstrap_servers)")
    parser.add_argument("--schema-registry", metavar="URL", help="of messages in the Confluent wire format")
    parser.add_argument(
        "--messages", type=values.sample, default=3000, metavar="N", help="about how many to look at (default 3000)"
    )
    decide = parser.add_argument_group("decide instead of finding out")
    decide.add_argument(
        "--stream", type=values.names, metavar="FIELD", help='that names the stream; "@key": the message key'
    )
    decide.add_argument("--timestamp", metavar="FIELD", help='with the event time; or "@kafka", "@header:NAME"')
    decide.add_argument("--timestamp-unit", choices=["iso8601", "s", "ms", "us", "ns"], help="of the event time")
    decide.add_argument("--features", type=values.names, metavar="LIST", help="fields or metrics, joined by commas")
    decide.add_argument("--metric", metavar="FIELD", help="that names the metric, if each message has one")
    decide.add_argument("--value", metavar="FIELD", help="with the value of the metric")
    decide.add_argument("--readings", metavar="FIELD", help='an array of readings; "@root": the message is one')
    decide.add_argument(
        "--grid", type=values.duration, metavar="TIME", help="interval to work on, such as 10s; 0s: none"
    )
    decide.add_argument("--lateness", type=values.duration, metavar="TIME", help="how long to wait for late readings")
    decide.add_argument(
        "--preset", choices=["sensor", "sensor-long", "ticks-trades", "ticks-quotes"], help="kind of data"
    )


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--seconds", type=values.positive, default=60.0, help="length of the live part (default 60)")
    demo.add_argument(
        "--out", type=Path, default=Path("demo-out"), metavar=DIRECTORY, help="folder for the plot (default demo-out/)"
    )
    demo.add_argument("--seed", type=values.seed, default=7, help="seed of machines and faults (default 7)")


def _add_retrain(retrain: argparse.ArgumentParser) -> None:
    source = retrain.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, nargs="+", metavar="PATH", help=f"train on {_DATA}")
    source.add_argument("--from-kafka", action="store_true", help="train on the readings in the input topic")
    age = "an age such as 7d, 12h or 30m, or a time in ISO 8601"
    retrain.add_argument(
        "--since",
        metavar="WHEN",
        help=f"with --from-kafka: records that arrived from then on, by the broker's clock; {age}",
    )
    retrain.add_argument(
        "--until", metavar="WHEN", help="with --from-kafka: records that arrived before then; as --since"
    )
    _add_where(retrain)
    retrain.add_argument("--no-promote", action="store_true", help="store the bundle without making it current")
    retrain.add_argument(
        "--warm-start",
        nargs="?",
        const="current",
        metavar="VERSION",
        help="begin with the weights of this bundle (default: the current one) instead of random ones",
    )


def _add_backtest(backtest: argparse.ArgumentParser) -> None:
    backtest.add_argument("--data", type=Path, nargs="+", required=True, metavar="PATH", help=_DATA)
    backtest.add_argument("--out", type=Path, required=True, metavar=DIRECTORY, help="folder for the results")
    backtest.add_argument("--model", metavar="VERSION", help="bundle to use (default: the current one)")
    backtest.add_argument(
        "--labels", metavar="COLUMN", help="column with 1 inside a known anomaly, else 0: reports recall and delay"
    )
    backtest.add_argument(
        "--embeddings", action="store_true", help="also write each window's embedding and each incident's neighbours"
    )
    backtest.add_argument(
        "--reconstruction", "--rebuilt", action="store_true", help="also write the signal as the model reconstructs it"
    )
    _add_where(backtest)


def _add_replay(replay: argparse.ArgumentParser) -> None:
    replay.add_argument("--data", type=Path, nargs="+", required=True, metavar="PATH", help=_DATA)
    replay.add_argument(
        "--speed",
        type=values.positive,
        metavar="N",
        help="N seconds of event time per second (default: as fast as possible)",
    )
    replay.add_argument(
        "--shift-to-now", action="store_true", help="move all times so that the newest is that of the end of the replay"
    )
    _add_where(replay)


def _add_simulate(simulate: argparse.ArgumentParser) -> None:
    simulate.add_argument("--config", type=Path, metavar="FILE", help="settings, YAML; sends to its input topic")
    simulate.add_argument("--out", type=Path, metavar="FILE", help="write history (.parquet or .csv) instead")
    simulate.add_argument("--machines", type=values.count, default=6, metavar="N", help="how many (default 6)")
    simulate.add_argument(
        "--hours",
        type=values.hours,
        default=72.0,
        metavar="H",
        help="with --out: length, 60 readings an hour (default 72)",
    )
    simulate.add_argument(
        "--interval", type=values.positive, default=60.0, metavar="S", help="seconds between timestamps (default 60)"
    )
    simulate.add_argument("--seed", type=values.seed, default=7, metavar="N", help="seed of the machines (default 7)")
    simulate.add_argument("--requests", type=Path, metavar="DIR", help="folder where `inject` asks for faults")


def _add_models(models: argparse.ArgumentParser) -> None:
    models.add_argument("action", choices=["list", "show", "promote", "rollback"])
    models.add_argument("version", nargs="?", help="of show (default: the current one) and promote")


def _add_dlq(dlq: argparse.ArgumentParser) -> None:
    actions = dlq.add_subparsers(title="actions", required=True, dest="action", metavar="ACTION")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        one = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        # Taken before the action, too.
        one.add_argument("--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="settings, YAML")
        return one

    dlq.add_argument("--config", type=Path, metavar="FILE", help="settings, YAML")
    listed = add("list", "count dead letters by reason and list the newest")
    _add_choice(listed)
    listed.add_argument("--limit", type=values.rows, default=20, metavar="N", help="letters to list (default 20)")
    listed.add_argument("--json", action="store_true", help="for programs")
    shown = add("show", "show one dead letter with all that is known of it")
    shown.add_argument("place", type=values.place, metavar="PARTITION:OFFSET", help="as `list` names it")
    shown.add_argument("--json", action="store_true", help="for programs; the value whole, in base64 if it is binary")
    again = add("replay", "send dead letters again to the topic they came from")
    again.add_argument(
        "places", type=values.place, nargs="*", metavar="PARTITION:OFFSET", help="these; as `list` names them"
    )
    _add_choice(again)
    again.add_argument("--all", action="store_true", help="all that are in the topic")
    again.add_argument("--yes", action="store_true", help="send them; without, only what would be sent is said")


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", action="append", choices=REASONS, metavar="WORD", help="only of this; repeatable")
    parser.add_argument(
        "--since", metavar="WHEN", help="only those written from then on: an age such as 7d or 12h, or an ISO 8601 time"
    )


def _add_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE", help="only rows with this value; repeatable"
    )


def _check_together(options: argparse.Namespace) -> None:
    """Refuse options that make no sense with or without others; durations become seconds."""
    if options.command == "retrain":
        for option in ("since", "until"):
            if getattr(options, option) is not None and not options.from_kafka:
                raise UsageError(f"--{option}: goes with --from-kafka; choose rows of files with --where")
        if options.where and options.from_kafka:
            raise UsageError("--where: goes with --data; choose readings of the topic with --since")
        _check_times(options)
    elif options.command in ("inspect", "init"):
        if options.command == "inspect" and options.topic is not None and options.data:
            raise UsageError("inspect: wanted --topic or --data; got both")
        if options.topic is None and not options.data and options.config is None:
            raise UsageError(f"{options.command}: wanted --topic T, --data FILE, or --config FILE with kafka.topic")
    elif options.command == "simulate":
        if options.config is None and options.out is None:
            raise UsageError(
                "simulate: wanted --config FILE to send readings to Kafka, or --out FILE to write them to a file; "
                "got neither"
            )
    elif options.command == "dlq":
        _check_dlq(options)
    elif options.command == "models":
        if options.action == "promote" and options.version is None:
            raise UsageError("models promote: wanted a version; see `streamer models list`")
        if options.action == "rollback" and options.version is not None:
            raise UsageError(
                "models rollback: takes no version, it returns to the bundle that was current before; for a certain "
                f"one: streamer models promote {options.version}"
            )
        if options.action == "list" and options.version is not None:
            raise UsageError("models list: takes no version; for one bundle: streamer models show VERSION")


def _check_dlq(options: argparse.Namespace) -> None:
    if options.action == "replay":
        chosen = {"--reason": options.reason, "--since": options.since, "--all": options.all}
        others = [option for option, value in chosen.items() if value]
        if not others and not options.places:
            raise UsageError("dlq replay: wanted PARTITION:OFFSET, --reason, --since or --all; got none of them")
        if others and options.places:
            raise UsageError(f"{others[0]}: does not go with PARTITION:OFFSET, which names letters one by one")
        if options.all and len(others) > 1:
            raise UsageError(f"--all: does not go with {others[0]}, which chooses some")
    if options.action != "show":
        options.since = values.moment("--since", options.since, time.time())


def _check_times(options: argparse.Namespace) -> None:
    """`--since` and `--until` become seconds since 1970, in this order."""
    now_s = time.time()
    since, until = options.since, options.until
    options.since, options.until = values.moment("--since", since, now_s), values.moment("--until", until, now_s)
    if None not in (options.since, options.until) and options.since >= options.until:
        raise UsageError(f"--since: wanted a time before --until; got --since {since} and --until {until}")
