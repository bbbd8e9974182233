"""The name that was probably meant, for one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST = 1000  # names compared
_LONGEST = 256  # characters


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The most similar known name; None if none is similar. Case, and - for _, make no difference.

    >>> nearest("Vibraton", ["heat", "vibration"]), nearest("bootstrap-servers", ["bootstrap_servers"])
    ('vibration', 'bootstrap_servers')
    >>> nearest("current", ["heat", "vibration"])
    """
    if len(name) > _LONGEST:
        return None
    plain = {_plain(one): one for one in list(known)[:_MOST] if len(one) <= _LONGEST}
    found = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=cutoff)
    return plain[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question to end an error with; empty if no known name is similar.

    >>> did_you_mean("vibraton", ["heat", "vibration"]), did_you_mean("current", ["heat"])
    ("; did you mean 'vibration'?", '')
    """
    found = nearest(name, known)
    return "" if found is None else f"; did you mean {found!r}?"


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
