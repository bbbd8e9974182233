"""`streamer inject`: ask a running simulator for a fault. Not inside: how it learns of it (`offline.injecting`)."""

from __future__ import annotations

import argparse
from pathlib import Path

from streamer.cli import values
from streamer.cli.exit_codes import EXIT_OK

KINDS = ("spike", "drift", "stuck", "decoupled", "dropout")  # of offline.machines, which takes a second to import


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=KINDS, help=", ".join(KINDS), metavar="KIND")
    parser.add_argument("machine", metavar="MACHINE", help="such as machine-3")
    parser.add_argument(
        "--readings", type=values.count, metavar="N", help="how long it lasts (default: as usual for its kind)"
    )
    parser.add_argument(
        "--requests", type=Path, required=True, metavar="DIR", help="the folder that `simulate --requests` watches"
    )


def inject(options: argparse.Namespace) -> int:
    from streamer.offline.injecting import request

    print(request(options.requests, options.kind, options.machine, options.readings))
    return EXIT_OK
