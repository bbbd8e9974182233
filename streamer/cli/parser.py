"""argparse with the exit code and the words of this program.

Not inside: which commands and options there are (`arguments`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from streamer.cli.exit_codes import EXIT_USAGE
from streamer.formats.nearest import did_you_mean, nearest


class Parser(argparse.ArgumentParser):
    """Leaves with `EXIT_USAGE`; asks about commands, options and choices that are almost right."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        missing = message.removeprefix("the following arguments are required: ")
        if missing != message:
            one = missing in ("COMMAND", "ACTION")
            message = f"no {missing.lower()} given" if one else f"{missing} is missing"
        if "did you mean" not in message:
            message += self._misspelt()
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see `{self.prog} --help`\n")

    def chosen(self, options: argparse.Namespace) -> Parser:
        """The parser of the command, or action of one, that was given."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                inner: Parser = action.choices[getattr(options, action.dest)]
                return inner.chosen(options)
        return self

    def _misspelt(self) -> str:
        """A question about options that are not there and almost are."""
        if any(isinstance(action, argparse._SubParsersAction) for action in self._actions):
            return ""  # what was given is for another parser
        known = self._option_string_actions
        names = [word.partition("=")[0] for word in self._given if word.startswith("--") and len(word) > 2]
        # An option may be given by its beginning.
        odd = [name for name in dict.fromkeys(names) if not any(one.startswith(name) for one in known)]
        pairs = [(name, nearest(name, known)) for name in odd]
        meant = [f"{close} for {name}" for name, close in pairs if close is not None]
        return f"; did you mean {' and '.join(meant)}?" if meant else ""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = list(map(str, action.choices))
            meant = did_you_mean(str(value), known) or f"; there is {', '.join(known)}"
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}{meant}")
