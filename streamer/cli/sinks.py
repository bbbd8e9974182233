"""`streamer sinks test NAME`: one alert, marked as a test, through a sink as it is configured.

    add_arguments   what can be typed
    sinks           what it does

Nothing is written to any topic. Not inside: what a sink sends (`connectors.alert_sinks`).
"""

from __future__ import annotations

import argparse
import time
from argparse import Namespace

from streamer import config
from streamer.cli.exit_codes import EXIT_BROKER, EXIT_OK
from streamer.core.events import OPEN, RESOLVE
from streamer.errors import UsageError
from streamer.formats.nearest import did_you_mean
from streamer.observability import logs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Action, sink and options."""
    parser.add_argument("action", choices=["test"], help="send one alert that is marked as a test")
    parser.add_argument("name", metavar="NAME", help="of the sink, as the section sinks has it")
    parser.add_argument("--resolve", action="store_true", help="end the incident of the test before")


def sinks(options: Namespace) -> int:
    """Send, and print what the other side said."""
    from streamer.connectors.alert_sinks import DELIVERED, Incident, open_sinks
    from streamer.connectors.alert_sinks.sample import sample

    settings = config.load(options.config)
    logs.configure(settings.log)
    found = {sink.name: sink for sink, _ in open_sinks(settings)}
    if options.name not in found:
        known = f"the sinks are {', '.join(found)}" if found else "the section sinks names none"
        raise UsageError(
            f"sinks test: no sink is called {options.name!r}{did_you_mean(options.name, tuple(found))}; {known}"
        )
    now_s = time.time()
    alert = sample(RESOLVE if options.resolve else OPEN, sink=options.name, at_ns=int(now_s * 1e9))
    answer = found[options.name].deliver(Incident(alert, (alert.severity,), now_s), now_s)
    if answer.outcome != DELIVERED:
        print(f"FAIL  sink {options.name}: {answer.outcome}, {answer.why}")
        return EXIT_BROKER
    print(f"ok    sink {options.name}: delivered, incident {alert.incident_id}")
    return EXIT_OK
