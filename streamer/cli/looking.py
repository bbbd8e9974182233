"""The commands that look before anything is trained: `inspect` and `init`.

Not inside: what can be typed (`arguments`), what is found (`offline.look`).
"""

from __future__ import annotations

import json
import shlex
import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from streamer import config
from streamer.cli.exit_codes import EXIT_OK

if TYPE_CHECKING:
    from streamer.offline.look.looking import Look
    from streamer.offline.look.proposing import Proposal


def inspect(options: Namespace) -> int:
    """Print what messages look like."""
    from streamer.offline.look import report

    _, seen, proposal = _look(options)
    if options.json:
        print(json.dumps(report.as_json(seen, proposal, None), indent=2))
    else:
        print(report.as_text(seen, proposal, None), end="")
    return EXIT_OK


def init(options: Namespace) -> int:
    """Write a configuration made from what messages look like."""
    from streamer.offline.look.writing import document, save

    kafka, seen, proposal = _look(options)
    text = document(seen, proposal, kafka, asked=shlex.join(["streamer", *sys.argv[1:]]))
    save(options.out, text, overwrite=options.yes)
    features = ", ".join(feature.name for feature in seen.features.taken)
    print(f"{options.out}: {seen.features.kind}, {seen.timing.streams} stream(s), features {features}")
    print(f"next: streamer retrain --config {shlex.quote(str(options.out))} ", end="")
    print("--data " + shlex.join(map(str, options.data)) if options.data else "--from-kafka")
    return EXIT_OK


def _look(options: Namespace) -> tuple[config.KafkaConfig, Look, Proposal]:
    from streamer.observability import logs
    from streamer.offline.look.choosing import Wanted
    from streamer.offline.look.looking import look
    from streamer.offline.look.proposing import Decided, propose

    logs.configure(config.LogConfig(level="WARNING"))
    kafka = config.load_kafka(options.config, topic=options.topic, bootstrap_servers=options.bootstrap_servers)
    if options.data:
        from streamer.offline.look.files import sample_files

        sample = sample_files(options.data, options.messages)
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
    )
    seen = look(sample, wanted, readings=options.readings)
    return kafka, seen, propose(seen, Decided(options.grid, options.lateness, options.preset))
