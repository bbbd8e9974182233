"""`streamer incidents`: listed, shown, acknowledged, commented and judged.

    add_arguments   what can be typed
    incidents       what it does

Whatever an alert or an action holds, no control character reaches the terminal. Not inside: reading and writing
(`offline.incidents`).
"""

from __future__ import annotations

import argparse
import getpass
import json
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer import config
from streamer.cli import values
from streamer.cli.exit_codes import EXIT_OK
from streamer.core.alerts import Alert, duration
from streamer.core.events import KINDS
from streamer.core.incident_life import (
    ACKNOWLEDGE,
    COMMENT,
    EXPECTED,
    FALSE_ALARM,
    MAX_WHO,
    UNACKNOWLEDGE,
    UNDO,
    Incident,
    as_json,
    iso_ms,
    moment_as_json,
)
from streamer.errors import UsageError
from streamer.observability import logs

if TYPE_CHECKING:
    from streamer.connectors.incident_store import Moment

# What is typed, what it is called in a message, and what is said of it.
_DOES = {
    "ack": (ACKNOWLEDGE, "say that somebody is working on it", "acknowledged"),
    "unack": (UNACKNOWLEDGE, "say that nobody is any more", "no longer acknowledged"),
    "comment": (COMMENT, "add a remark", "comment added"),
    "false-alarm": (FALSE_ALARM, "record that nothing was wrong", "recorded as a false alarm"),
    "expected": (EXPECTED, "record that it was meant to happen: maintenance, a test", "recorded as expected"),
    "undo": (UNDO, "take back the last of these, comments apart", "undone"),
}
_WORDS = {kind: said for kind, _, said in _DOES.values()}
_SHORT = 8  # characters of an id in a list; `show` takes any unique beginning
_FEATURES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Actions and their options."""
    actions = parser.add_subparsers(title="actions", required=True, dest="action", metavar="ACTION")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        one = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        # Taken before the action, too.
        one.add_argument("--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="settings, YAML")
        return one

    parser.add_argument("--config", type=Path, metavar="FILE", help="settings, YAML")
    listed = add("list", "list incidents, the newest first")
    listed.add_argument("--open", action="store_true", help="only those that are not resolved")
    listed.add_argument("--stream", metavar="GLOB", help="only of streams like this, such as 'press-*'")
    listed.add_argument("--kind", choices=KINDS, metavar="WORD", help="only of this kind")
    listed.add_argument(
        "--since",
        metavar="WHEN",
        help="only those open, or told of then or later: an age such as 7d or 12h, or an ISO 8601 time",
    )
    listed.add_argument("--limit", type=values.rows, default=20, metavar="N", help="incidents to list (default 20)")
    listed.add_argument("--json", action="store_true", help="for programs")
    shown = add("show", "show one incident: what it is about, its features, its alerts and what was done")
    shown.add_argument("id", metavar="ID", help="as `list` names it; the beginning is enough")
    shown.add_argument("--json", action="store_true", help="for programs; with all alerts as they were sent")
    for name, (kind, text, _) in _DOES.items():
        one = add(name, text)
        one.add_argument("id", metavar="ID", help="as `list` names it; the beginning is enough")
        one.add_argument("text", metavar="TEXT", nargs=None if kind == COMMENT else "?", default="", help="a remark")
        one.add_argument("--by", metavar="NAME", help="who does it (default: the user of this machine)")


def incidents(options: Namespace) -> int:
    """List, show or act."""
    if options.action == "list":
        options.since = values.moment("--since", options.since, time.time())
    settings = config.load(options.config)
    logs.configure(settings.log)
    return {"list": _list, "show": _show}.get(options.action, _act)(options, settings)


def _list(options: Namespace, settings: config.Settings) -> int:
    from streamer.connectors.incident_store import Wanted
    from streamer.offline.incidents import opened
    from streamer.offline.progress import progress

    since_ms = None if options.since is None else round(options.since * 1000)
    wanted = Wanted(options.open, options.stream, options.kind, since_ms)
    found: list[Incident] = []
    with opened(settings, progress) as store:
        page = store.page(wanted, options.limit)
        found += page.incidents
        while page.next is not None and len(found) < options.limit:
            page = store.page(wanted, options.limit - len(found), page.next)
            found += page.incidents
    more = page.next is not None
    if options.json:
        print(json.dumps({"incidents": [as_json(each) for each in found], "more": more}, indent=2))
        return EXIT_OK
    for incident in found:
        print(logs.escape(_row(incident)))
        print(logs.escape(f"    {incident.summary}"))
    if not found:
        print("no incident is open" if options.open else "no incidents")
    elif more:
        print(f"and older ones; --limit {options.limit} are shown")
    return EXIT_OK


def _row(incident: Incident) -> str:
    state = "open" if incident.open else "resolved"
    parts = [incident.id[:_SHORT], _moment(incident.opened_ms), f"{state:<8}", f"{incident.peak_severity:<8}"]
    parts += [incident.kind, incident.stream]
    return "  ".join([*parts, *_judged(incident)])


def _judged(incident: Incident) -> Iterator[str]:
    if incident.acknowledged_by is not None:
        yield f"acknowledged by {incident.acknowledged_by}"
    if incident.verdict is not None:
        yield f"{incident.verdict} according to {incident.verdict_by}"
    if incident.muted is not None:
        yield f"muted: {incident.muted}"


def _show(options: Namespace, settings: config.Settings) -> int:
    from streamer.offline.incidents import one, opened
    from streamer.offline.progress import progress

    with opened(settings, progress) as store:
        incident = one(store, options.id)
        timeline = store.timeline(incident.id)
    if options.json:
        told = {"incident": as_json(incident), "timeline": [moment_as_json(*moment) for moment in timeline]}
        print(json.dumps(told, indent=2))
        return EXIT_OK
    for name, text in _about(incident):
        print(logs.escape(f"{name:<12} {text}"))
    for line in _features(incident):
        print(logs.escape(line))
    print("\ntimeline")
    for moment in timeline:
        print(logs.escape(f"  {_moment(moment.at_ms)}  {_said(moment)}"))
    return EXIT_OK


def _about(incident: Incident) -> Iterator[tuple[str, str]]:
    ended_ms = incident.updated_ms if incident.resolved_ms is None else incident.resolved_ms
    lasted = duration(max(0, ended_ms - incident.onset_ms) * 1_000_000)
    yield "incident", incident.id
    yield "stream", incident.stream + ("" if incident.scope == "stream" else f" (a whole {incident.scope})")
    yield "kind", incident.kind
    if incident.resolved_ms is None:
        yield "state", f"open since {_moment(incident.opened_ms)}, newest alert {_moment(incident.updated_ms)}"
    else:
        why = f": {incident.reason}" if incident.reason else ""
        yield "state", f"resolved {_moment(incident.resolved_ms)}{why}"
    yield "onset", f"{_moment(incident.onset_ms)}, {lasted} before the {'end' if not incident.open else 'newest alert'}"
    yield "severity", f"{incident.severity}, at its worst {incident.peak_severity}"
    yield "score", f"{incident.score:g}, peak {incident.peak_score:g} (alert line 1.0)"
    for judged in _judged(incident):
        yield "standing", judged
    yield "model", incident.model_version
    if incident.dashboard is not None:
        yield "dashboard", incident.dashboard
    yield "summary", incident.summary


def _features(incident: Incident) -> Iterator[str]:
    features: list[dict[str, Any]] = json.loads(incident.features)
    if not features:
        return
    width = max(len("feature"), *(len(str(each["name"])) for each in features[:_FEATURES]))
    yield ""
    yield f"{'feature':<{width}}  share     observed     expected"
    for each in features[:_FEATURES]:
        lower, upper = each.get("lower"), each.get("upper")
        band = "" if lower is None or upper is None else f"  {lower:.6g} to {upper:.6g}"
        values = f"{each['share']:>5.0%}  {each['observed']:>11.6g}  {each['expected']:>11.6g}"
        yield f"{each['name']:<{width}}  {values}{band}"
    if len(features) > _FEATURES:
        yield f"and {len(features) - _FEATURES} more (--json shows all)"


def _said(moment: Moment) -> str:
    what = moment.what
    if isinstance(what, Alert):
        return f"{what.event:<8} {what.severity:<8}  {what.summary}"
    return f"{_WORDS.get(what.action, what.action)} by {what.who}{f': {what.text}' if what.text else ''}"


def _act(options: Namespace, settings: config.Settings) -> int:
    from streamer.offline.incidents import act, one, opened
    from streamer.offline.progress import progress

    kind, _, said = _DOES[options.action]
    who = options.by if options.by is not None else _user()
    with opened(settings, progress) as store:
        incident = one(store, options.id)
        action = act(settings, store, incident, kind, who=who, text=options.text)
    print(logs.escape(f"{incident.id[:_SHORT]} {said} by {action.who}: {incident.summary}"))
    return EXIT_OK


def _user() -> str:
    try:
        return getpass.getuser()[:MAX_WHO]
    except (OSError, KeyError):
        raise UsageError("incidents: who does this is not known on this machine; say it with --by NAME") from None


def _moment(time_ms: int) -> str:
    return f"{iso_ms(time_ms)[:19]}Z"
