"""The commands that look before anything is trained: `inspect`, `init`, and the beginning of `check` and `retrain`.

Not inside: what can be typed (`arguments`), what is found (`offline.look`).
"""

from __future__ import annotations

import json
import logging
import shlex
import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from streamer import config
from streamer.cli.exit_codes import EXIT_DATA, EXIT_OK
from streamer.errors import BrokerError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from streamer.connectors.kafka.topic_reader import TimeRange
    from streamer.offline.look.examined import Examined
    from streamer.offline.look.looking import Look
    from streamer.offline.look.proposing import Proposal

_MANY = 10  # times as many messages, where streams are many

Connections = tuple[config.KafkaConfig, config.SchemaRegistryConfig]

log = logging.getLogger(__name__)


def inspect(options: Namespace) -> int:
    """Print what messages look like."""
    from streamer.offline.look import report

    sections, seen, proposal = _look(options)
    examined = _try(sections, seen, proposal)
    if options.json:
        print(json.dumps(report.as_json(seen, proposal, examined), indent=2))
    else:
        print(report.as_text(seen, proposal, examined), end="")
    return EXIT_OK


def _try(sections: Connections, seen: Look, proposal: Proposal) -> Examined | None:
    """What the daemon would make of the messages under the proposal; None if it is not complete."""
    from streamer.offline.look.examining import examine
    from streamer.offline.look.proposing import plain
    from streamer.offline.look.writing import check_complete

    try:
        check_complete(seen)
    except DataError:
        return None
    kafka, registry = sections
    settings = config.Settings.model_validate({"kafka": kafka, "schema_registry": registry, **plain(proposal)})
    return examine(settings, seen.sample, seen=seen)


def look_first(settings: config.Settings, *, time_range: TimeRange | None = None, data: Sequence[Path] = ()) -> None:
    """Before training: stop where the data is not what the settings say.

    Raises:
        DataError: Says what is there instead, and the likely remedy.
    """
    from streamer.offline.look.examining import require_fit
    from streamer.offline.look.files import sample_files
    from streamer.offline.look.registry import from_registry
    from streamer.offline.look.sampling import sample_topic

    if not all(path.exists() for path in data):
        return  # reading them will say so
    sample = sample_files(data, written=settings.files) if data else sample_topic(settings.kafka, time_range=time_range)
    registry = from_registry(settings.schema_registry)
    for remark in require_fit(settings, sample, from_registry=registry).remarks:
        log.warning("%s", remark)


def check_topic(settings: config.Settings) -> tuple[int, int | None]:
    """Print what the settings make of the newest and oldest messages of the topic.

    Returns:
        The exit code, and when the newest message was taken, in ms since 1970, as far as it is known.
    """
    from streamer.offline.look.examining import examine
    from streamer.offline.look.registry import from_registry
    from streamer.offline.look.sampling import sample_topic

    try:
        sample = sample_topic(settings.kafka)
    except BrokerError as error:
        if not settings.kafka.create_topics:
            raise
        print(f"?     no message to try the settings on: {error}")  # `run` will create the topic
        return EXIT_OK, None
    if not sample.messages:
        print(f"?     {sample.origin} is empty: no message to try the settings on")
        return EXIT_OK, None
    found = examine(settings, sample, from_registry=from_registry(settings.schema_registry))
    print(f"{'FAIL' if found.hopeless else 'ok  '}  {found.lines()[0]}")
    for line in [*found.samples, *found.lines()[1:]]:
        print(f"      {line}")
    newest_ms = max(message.taken_ms for message in sample.messages)
    return EXIT_DATA if found.hopeless else EXIT_OK, newest_ms if newest_ms > 0 else None


def init(options: Namespace) -> int:
    """Write a configuration made from what messages look like."""
    from streamer.offline.look.writing import check_free, document, save

    check_free(options.out, overwrite=options.yes)
    sections, seen, proposal = _look(options)
    text = document(seen, proposal, *sections, asked=shlex.join(["streamer", *sys.argv[1:]]))
    save(options.out, text, overwrite=options.yes)
    if seen.split is not None:
        print(f"streamer: WARNING: {seen.split.words()}", file=sys.stderr)
    features = ", ".join(feature.name for feature in seen.features.taken)
    print(f"{options.out}: {seen.features.kind}, {seen.timing.streams} stream(s), features {features}")
    print(f"next: streamer retrain --config {shlex.quote(str(options.out))} ", end="")
    print("--data " + shlex.join(map(str, options.data)) if options.data else "--from-kafka")
    return EXIT_OK


def _look(options: Namespace) -> tuple[Connections, Look, Proposal]:
    from streamer.observability import logs
    from streamer.offline.look.choosing import Wanted
    from streamer.offline.look.looking import look
    from streamer.offline.look.proposing import Decided, propose
    from streamer.offline.look.registry import from_registry

    logs.configure(config.LogConfig(level="WARNING"))
    kafka, registry = config.load_connections(
        options.config,
        registry_url=options.schema_registry,
        topic=options.topic,
        bootstrap_servers=options.bootstrap_servers,
    )
    if options.data:
        from streamer.offline.look.files import sample_files

        sample = sample_files(options.data, options.messages, config.load_files(options.config))
    else:
        from streamer.connectors.kafka.probe import Needs, require
        from streamer.offline.look.sampling import sample_topic

        require(kafka, Needs(reads=(kafka.topic,)))
        sample = sample_topic(kafka, options.messages)
    wanted = Wanted(
        stream=options.stream,
        timestamp=options.timestamp,
        timestamp_unit=options.timestamp_unit,
        metric=options.metric,
        value=options.value,
        features=options.features,
        grid_s=options.grid,
    )
    seen = look(sample, wanted, readings=options.readings, from_registry=from_registry(registry))
    if not options.data and len(sample.messages) < sample.total and seen.timing.steps < seen.timing.readings / 2:
        # So many streams that they are hardly met twice in one place.
        sample = sample_topic(kafka, min(sample.total, _MANY * options.messages), newest=True)
        seen = look(sample, wanted, readings=options.readings, from_registry=from_registry(registry))
    return (kafka, registry), seen, propose(seen, Decided(options.grid, options.lateness, options.preset))
