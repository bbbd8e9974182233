"""`streamer notifications explain`: which rule decides on an incident, and whether anybody would be told of it.

Not inside: the rules (`core.notifying`), what a stream has had so far, which only the daemon knows.
"""

from __future__ import annotations

import argparse
import time
from argparse import Namespace
from collections.abc import Iterator

from streamer import config
from streamer.cli import values
from streamer.cli.exit_codes import EXIT_OK
from streamer.core.alerts import iso
from streamer.core.durations import duration_text
from streamer.core.events import ANOMALY, KINDS, SEVERITY, severity
from streamer.core.notifying import Decider, Facts, Levels, NotifyingOptions
from streamer.errors import UsageError
from streamer.observability import logs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be typed after `streamer notifications`."""
    parser.add_argument("action", choices=["explain"])
    parser.add_argument("--stream", required=True, metavar="NAME", help="an incident of this stream")
    parser.add_argument("--kind", choices=KINDS, default=ANOMALY, help=f"kind of the incident (default {ANOMALY})")
    parser.add_argument("--feature", metavar="F", help="its leading feature (default: the first configured one)")
    parser.add_argument("--at", metavar="WHEN", help="event time: an age such as 12h, or ISO 8601 (default: now)")
    parser.add_argument("--score", type=values.positive, default=1.0, metavar="S", help="its peak score (default 1)")
    parser.add_argument("--observed", type=float, metavar="O", help="value of the leading feature")
    parser.add_argument("--expected", type=float, metavar="E", help="what was expected of it")


def notifications(options: Namespace) -> int:
    """Print which rules decide, and what comes of them."""
    now_s = time.time()
    at_s = values.moment("--at", options.at, now_s)
    if (options.observed is None) != (options.expected is None):
        raise UsageError("notifications explain: --observed and --expected go together")
    settings = config.load(options.config)
    logs.configure(settings.log)
    feature = options.feature or settings.features[0]
    if options.kind != ANOMALY:
        feature = None
    facts = Facts(
        stream=options.stream,
        kind=options.kind,
        at_ns=round((now_s if at_s is None else at_s) * 1e9),
        severity=severity(options.score) if options.kind == ANOMALY else SEVERITY[options.kind],
        peak=options.score,
        feature=feature,
        observed=options.observed if feature else None,
        expected=options.expected if feature else None,
    )
    for line in _explained(settings.notifications.options() or NotifyingOptions(), facts):
        print(logs.escape(line))
    return EXIT_OK


def summary(options: NotifyingOptions) -> str:
    """How many rules there are, in a line of `streamer check`."""
    limit = options.per_stream
    at_most = (
        f", at most {limit.at_most} incident(s) of a stream within {duration_text(limit.within_ns / 1e9)}"
        if limit
        else ""
    )
    return f"notifications: {len(options.rules)} rule(s), {len(options.maintenance)} maintenance window(s){at_most}"


def _explained(options: NotifyingOptions, facts: Facts) -> Iterator[str]:
    decider = Decider(options)
    decision = decider.decide(facts)
    about = f" of {facts.feature}" if facts.feature else ""
    yield f"{facts.kind}{about} on {facts.stream} at {iso(facts.at_ns)}, severity {decision.severity}"
    settings = decider.settings(facts)
    for setting, (rule, value) in settings.items():
        yield f"  {setting}: {_value(value)} (rule {rule})"
    if not settings:
        yield "  no rule matches"
    for window in decider.windows(facts):
        yield f"  {window}"
    needs = any(name in settings for name in ("direction", "least_deviation", "least_relative_deviation"))
    if needs and facts.feature and facts.observed is None:
        yield "  direction and deviation are left out: give --observed and --expected"
    if decision.muted is not None:
        yield f"muted: {decision.muted.words}"
        return
    limit = options.per_stream
    but = f", unless {limit.at_most} of the stream were within {duration_text(limit.within_ns / 1e9)}" if limit else ""
    yield f"told{but}"


def _value(value: object) -> str:
    if isinstance(value, Levels):
        return f"warning from {value.warning:g}, critical from {value.critical:g}"
    return str(value).lower() if isinstance(value, bool) else str(value)
