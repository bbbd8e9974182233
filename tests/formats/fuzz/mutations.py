"""Bends valid things: the structure of a document, the bytes of a message."""

from __future__ import annotations

import copy
import random
from typing import Any

ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    -(2**63),
    2**64,
    10**40,
    -0.0,
    1e308,
    1e39,
    5e-324,
    1.5,
    "",
    " ",
    "x",
    "x" * 300,
    "a/b",
    "ä\u2028\u200b😀",
    "\x00",
    "1e400",
    "NaN",
    "inf",
    "12,5",
    " 7 ",
    "0x10",
    "1_000",
    "٣",
    "now",
    "today",
    "2026-01-02T03:04:05Z",
    "2026-02-30",
    "1677-01-01",
    "9999-12-31T23:59:59.999999999Z",
    "2026-01-02T03:04:05+99:99",
    "20260102",
    "2026-W01-1",
    "-1",
    [],
    [[]],
    {},
    {"": None},
    [{}],
    {"a": {"a": {"a": 1}}},
]
TOKENS = [
    b"\x00",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b'"',
    b"\\",
    b"\\ud800",
    b"\n",
    b"\r",
    b"\t",
    b",",
    b"=",
    b" ",
    b"#",
    b"[" * 40,
    b'{"a":' * 40,
    b"[" * 1100,
    b"\x91" * 1100,
    b"\x81\xa1a" * 600,
    b"]",
    b"}",
    b"null",
    b"NaN",
    b"-Infinity",
    b"1e400",
    b"1e99999999",
    b"9" * 400,
    b"-",
    b"0",
    b"\xc7\x0c\xff" + b"\xff" * 12,
    b"\xd6\xff\x00\x00\x00\x01",
    b"\xd7\xff" + b"\xff" * 8,
    b"\xcf" + b"\xff" * 8,
    b"\xca\x7f\xc0\x00\x00",
    b"\xcb\x7f\xf8" + b"\x00" * 6,
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\x0f",
    b"\x80" * 12,
]


def bent(rng: random.Random, document: Any) -> Any:
    """A copy of a document of dicts, lists and plain values, in which a thing or two is odd."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        document = _bent_once(rng, document)
    return document


def _bent_once(rng: random.Random, document: Any) -> Any:
    places: list[tuple[Any, Any]] = []
    _walk(document, places)
    if not places or rng.random() < 0.03:
        return copy.deepcopy(rng.choice(ODD))
    holder, key = rng.choice(places)
    what = rng.random()
    if what < 0.6:
        holder[key] = copy.deepcopy(rng.choice(ODD))
    elif what < 0.75:
        del holder[key]
    elif what < 0.85:
        other, where = rng.choice(places)
        holder[key] = copy.deepcopy(other[where]) if where in other or isinstance(other, list) else None
    elif isinstance(holder, dict):
        holder[str(rng.choice(ODD))[:40]] = holder.pop(key) if rng.random() < 0.5 else copy.deepcopy(rng.choice(ODD))
    else:
        holder.extend(copy.deepcopy(holder[: rng.choice((1, 3, 40))]))
    return document


def _walk(inside: Any, places: list[tuple[Any, Any]]) -> None:
    if isinstance(inside, dict):
        for key, value in inside.items():
            places.append((inside, key))
            _walk(value, places)
    elif isinstance(inside, list):
        for place, value in enumerate(inside):
            places.append((inside, place))
            _walk(value, places)


def broken(rng: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """Some bytes changed, cut, doubled, moved or spliced with those of another message."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = rng.randint(0, len(made))
        to = min(len(made), at + rng.choice((1, 1, 2, 4, 16, 200)))
        what = rng.randrange(8)
        if what == 0 and at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        elif what == 1 and at < len(made):
            made[at] = rng.randrange(256)
        elif what == 2:
            del made[at:to]
        elif what == 3:
            del made[at:]
        elif what == 4:
            made[at:at] = rng.choice(TOKENS)
        elif what == 5:
            made[at:at] = made[at:to]
        elif what == 6:
            other = rng.choice(others)
            made[at:] = other[rng.randint(0, len(other)) :]
        else:
            made[at:to] = rng.choice(TOKENS)
    return bytes(made)


def noise(rng: random.Random) -> bytes:
    """Bytes of no format."""
    return rng.randbytes(rng.choice((0, 1, 2, 5, 6, 9, 30, 200)))
