r"""Influx line protocol: `measurement,tag=a field=1.5,other=2i 1700000000000000000`, one line or many in a message.

Tags and fields are fields of the reading by their own names, beside `measurement` and `timestamp`, the time at the end
of the line. A line with none of the configured features is another measurement's and ignored.

No kept library parses it (docs/decisions/0014), so this does:
https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

from __future__ import annotations

import re
from typing import Any

from streamer.formats.decoding import Parser
from streamer.formats.rejects import MALFORMED, Refused

_KEY = r"(?:[^,= \\]|\\.)+"
_LINE = re.compile(
    rf"((?:[^, \\]|\\.)+)((?:,{_KEY}={_KEY})*) +"  # measurement and tags
    rf'({_KEY}=(?:"(?:[^"\\]|\\.)*"|[^", ]+)(?:,{_KEY}=(?:"(?:[^"\\]|\\.)*"|[^", ]+))*)'  # fields
    r"(?: +(-?\d{1,20}))? *"
)
_TAG = re.compile(rf",({_KEY})=({_KEY})")
_FIELD = re.compile(rf',?({_KEY})=("(?:[^"\\]|\\.)*"|[^", ]+)')
_ESCAPED = re.compile(r"\\([,= \"\\])")
_TRUTH = dict.fromkeys(("t", "T", "true", "True", "TRUE"), True) | dict.fromkeys(
    ("f", "F", "false", "False", "FALSE"), False
)


class InfluxParser(Parser):
    """Lines, one reading each."""

    several = True
    skips_bare = True

    def document(self, value: bytes) -> Any:
        """A dict for every line; a line that is none of the protocol stays text."""
        lines = map(str.strip, value.decode().split("\n"))
        return [_parsed(line) for line in lines if line and not line.startswith("#")]

    def explain(self, element: Any) -> str | None:
        return super().explain(parse_line(element) if isinstance(element, str) else element)


def _parsed(line: str) -> Any:
    try:
        return parse_line(line)
    except Refused:
        return line


def parse_line(line: str) -> dict[str, Any]:
    r"""One line as a dict.

    Raises:
        Refused: It is no line of the protocol.

    >>> parse_line(r'air\ flow,host=a,rack=2 t=1.5,n=3i,ok=T,s="x, y" 17')
    {'host': 'a', 'rack': '2', 't': 1.5, 'n': 3, 'ok': True, 's': 'x, y', 'measurement': 'air flow', 'timestamp': 17}
    """
    match = _LINE.fullmatch(line)
    if match is None:
        shown = line if len(line) <= 80 else line[:80] + "..."
        raise Refused(MALFORMED, f"wanted Influx line protocol, measurement,tag=a field=1.5 time; got {shown!r}")
    measurement, tags, fields, time = match.groups()
    reading: dict[str, Any] = {_plain(key): _plain(value) for key, value in _TAG.findall(tags)}
    for key, text in _FIELD.findall(fields):
        reading[_plain(key)] = _value(text)
    reading["measurement"] = _plain(measurement)
    if time is not None:
        reading["timestamp"] = int(time)
    return reading


def _value(text: str) -> Any:
    if text[0] == '"':
        return _plain(text[1:-1])
    if text in _TRUTH:
        return _TRUTH[text]
    try:
        return int(text[:-1]) if text[-1] in "iu" and len(text) <= 22 else float(text)
    except ValueError:
        raise Refused(
            MALFORMED, f"wanted a number, a truth value or quoted text in a field; got {text[:64]!r}"
        ) from None


def _plain(text: str) -> str:
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text
