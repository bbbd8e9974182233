"""`streamer completion`: a script that completes commands, options and their values in a shell.

Made from the parser by shtab; the shell runs the script alone, not this program (docs/decisions/0021).
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path

from streamer.cli.arguments import DIRECTORY, command_line
from streamer.cli.exit_codes import EXIT_OK


def completion(options: Namespace) -> int:
    """Print the script."""
    import shtab

    parser = command_line()
    _complete_paths(parser, {"file": shtab.FILE, "directory": shtab.DIRECTORY})
    print(shtab.complete(parser, shell=options.shell))
    return EXIT_OK


def _complete_paths(parser: argparse.ArgumentParser, complete: dict[str, object]) -> None:
    """Say of each option that takes a path that the shell's own completion of paths serves."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _complete_paths(inner, complete)
        elif action.type is Path:
            kind = "directory" if action.metavar == DIRECTORY else "file"
            action.complete = complete[kind]  # type: ignore[attr-defined]
