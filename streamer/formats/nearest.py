"""The name that was probably meant, for one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST = 1000  # names compared
_LONGEST = 256  # characters


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The most similar known name, wherever it is nested; None if none is similar. Case, and - for _, do not matter.

    >>> nearest("Vibraton", ["heat", "vibration"]), nearest("bootstrap-servers", ["bootstrap_servers"])
    ('vibration', 'bootstrap_servers')
    >>> nearest("vibraton", ["pump.heat", "pump.vibration"])
    'pump.vibration'
    >>> nearest("current", ["heat", "vibration"])
    """
    if len(name) > _LONGEST:
        return None
    whole = {_plain(one): one for one in list(known)[:_MOST] if len(one) <= _LONGEST}
    last = {_last(text): one for text, one in whole.items()}
    texts = dict.fromkeys((_plain(name), _last(_plain(name))))  # comparing is slow, and most names are not nested
    for candidates in (whole, last) if last.keys() != whole.keys() else (whole,):
        for text in texts:
            if found := difflib.get_close_matches(text, candidates, n=1, cutoff=cutoff):
                return candidates[found[0]]
    return None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question to end an error with; empty if no known name is similar.

    >>> did_you_mean("vibraton", ["heat", "vibration"]), did_you_mean("current", ["heat"])
    ("; did you mean 'vibration'?", '')
    """
    found = nearest(name, known)
    return "" if found is None else f"; did you mean {found!r}?"


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _last(name: str) -> str:
    return name.rpartition(".")[2]
