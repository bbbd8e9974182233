"""Which names a stream may have: one rule for messages, message keys and files.

A name is shown in logs, alerts, metrics, web pages and links, so it may not hold what
could forge or hide a part of them: line breaks and other control characters, unpaired
surrogates, and invisible characters, among them those that reverse the direction of
text. Names are compared as they are sent: nothing is trimmed, folded or normalised.
"""

from __future__ import annotations

MAX_NAME_BYTES = 256  # of UTF-8
NAME_RULE = (
    "a stream name is 1 to 256 bytes of UTF-8: printable characters and spaces, with no space at either end and no "
    "control or invisible characters"
)


def valid_stream_name(name: str) -> bool:
    """Whether a stream may be called this.

    >>> [valid_stream_name(name) for name in ("pump-1", "Halle 3, Pumpe 1", "泵", "", " pump", "a\\nb", "a\\u202eb")]
    [True, True, True, False, False, False, False]
    """
    # Of white space, `isprintable` takes the ordinary space alone. It refuses surrogates too, so `encode` cannot fail.
    return name.isprintable() and name == name.strip(" ") and 0 < len(name.encode()) <= MAX_NAME_BYTES


def refusal(name: str) -> str:
    """What was wanted and what came, with the name escaped so that it can be shown anywhere."""
    shown = ascii(name) if len(name) <= 80 else ascii(name[:80]) + "..."
    return f"{NAME_RULE}; got {shown}"
