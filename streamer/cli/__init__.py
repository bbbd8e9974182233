"""The command line: parse, call one function, return a named exit code.

    arguments    what can be typed, and its help
    values       what an option's value may be
    commands     one function for each command
    parser       argparse in the words of this program
    exit_codes   what a command returns

Nothing here decides; heavy imports wait until a command needs them.
"""

from __future__ import annotations

import sys
import traceback

from streamer.cli.arguments import parse
from streamer.cli.commands import COMMANDS
from streamer.cli.exit_codes import (
    EXIT_BROKER,
    EXIT_CONFIG,
    EXIT_DATA,
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
)
from streamer.errors import BrokerError, ConfigError, DataError, StreamerError, UsageError

__all__ = ["EXIT_BROKER", "EXIT_CONFIG", "EXIT_DATA", "EXIT_INTERNAL", "EXIT_OK", "EXIT_USAGE", "main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        options = parse(arguments)
        return COMMANDS[options.command](options)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_OK  # `streamer models list | head`
    except Exception as error:
        code = _code_of(error)
        if code == EXIT_INTERNAL and not isinstance(error, StreamerError):
            traceback.print_exception(error)
        else:
            print(f"streamer: {error}", file=sys.stderr)
        return code


def _code_of(error: Exception) -> int:
    from models.errors import ArtifactError, ModelError

    if isinstance(error, UsageError):
        return EXIT_USAGE
    if isinstance(error, (ConfigError, ArtifactError)):
        return EXIT_CONFIG
    if isinstance(error, (DataError, ModelError)):
        return EXIT_DATA
    if isinstance(error, BrokerError):
        return EXIT_BROKER
    return EXIT_INTERNAL
