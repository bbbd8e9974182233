"""`streamer dlq`: dead letters listed, shown, and sent again.

Whatever a message holds, no control character reaches the terminal. Not inside: what can be typed (`arguments`),
reading and sending (`offline.dead_letters`).
"""

from __future__ import annotations

import base64
import json
from argparse import Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from streamer import config
from streamer.cli.exit_codes import EXIT_DATA, EXIT_OK
from streamer.errors import DataError
from streamer.observability import logs

if TYPE_CHECKING:
    from streamer.offline.dead_letters import DeadLetter, Listing, Replayed

_SHOWN = 16_384  # bytes of a value, as text
_DUMPED = 1_024  # bytes of a value, as hex
_HEADERS = 100


def dlq(options: Namespace) -> int:
    """List, show or replay."""
    settings = config.load(options.config)
    logs.configure(settings.log)
    return {"list": _list, "show": _show, "replay": _replay}[options.action](options, settings)


def _list(options: Namespace, settings: config.Settings) -> int:
    from streamer.offline.dead_letters import listing

    found = listing(_letters(options, settings), options.limit)
    if options.json:
        print(json.dumps(_as_json(found, settings), indent=2))
    else:
        _print(found, settings)
    return EXIT_OK


def _print(found: Listing, settings: config.Settings) -> None:
    print(f"{settings.kafka.dlq_topic}: {found.total} dead letter(s)")
    width = max(map(len, found.reasons), default=0)
    for reason, count in found.reasons.items():
        print(f"  {reason:<{width}}  {count}")
    if found.newest:
        print(f"the newest{'' if len(found.newest) == found.total else f' {len(found.newest)}'}:")
    for row in found.newest:
        cut = f" ({' and '.join(row.cut)} cut)" if row.cut else ""
        print(f"{row.place}  {_moment(row.written_ms)}  {row.reason}  from {row.origin}{cut}")
        print(f"    {row.error}")
        print(f"    {row.sample}" if row.key is None else f"    {row.key}: {row.sample}")


def _as_json(found: Listing, settings: config.Settings) -> dict[str, Any]:
    newest = [
        {
            "partition": row.place.partition,
            "offset": row.place.offset,
            "written": _moment(row.written_ms),
            "reason": row.reason,
            "error": row.error,
            "origin": row.origin,
            "key": row.key,
            "sample": row.sample,
            "cut": list(row.cut),
        }
        for row in found.newest
    ]
    return {
        "topic": settings.kafka.dlq_topic,
        "letters": found.total,
        "reasons": dict(found.reasons),
        "newest": newest,
    }


def _show(options: Namespace, settings: config.Settings) -> int:
    options.places = [options.place]
    found = next(iter(_letters(options, settings)), None)
    if found is None:
        raise DataError(f"{options.place[0]}:{options.place[1]}: no record there; it was compacted away, or aborted")
    if options.json:
        print(json.dumps(_whole(found), indent=2))
        return EXIT_OK
    for name, text in _about(found, settings):
        print(f"{name:<10} {text}")
    for line in _value(found.value):
        print(line)
    return EXIT_OK


def _about(letter: DeadLetter, settings: config.Settings) -> Iterator[tuple[str, str]]:
    """What is said above the value."""
    from streamer.offline.dead_letters import in_a_line

    about = {name: logs.escape(text) for name, text in letter.about.items()}
    yield "letter", f"{letter.place} of {settings.kafka.dlq_topic}, written {_moment(letter.written_ms)}"
    yield "reason", about.pop("reason", "none given: streamer did not write this")
    yield "error", about.pop("error", "")
    taken = f", timestamp {_moment(letter.taken_ms)}" if letter.taken_ms is not None else ""
    yield "origin", logs.escape(letter.origin) + taken
    for name in ("topic", "partition", "offset", "timestamp"):
        about.pop(name, None)
    if letter.cut:
        yield "cut", f"the letter does not hold {' and '.join(letter.cut)} whole"
    yield from about.items()  # group, version; bytes and sha256 of what is cut
    yield "key", "none" if letter.key is None else in_a_line(letter.key, 1000)
    for name, content in letter.headers[:_HEADERS]:
        yield "header", f"{logs.escape(name[:1000])}: {in_a_line(content, 1000)}"
    if len(letter.headers) > _HEADERS:
        yield "header", f"and {len(letter.headers) - _HEADERS} more (--json shows all)"


def _value(value: bytes | None) -> Iterator[str]:
    from streamer.offline.dead_letters import as_text

    if value is None:
        yield f"{'value':<10} none"
        return
    text = as_text(value, _SHOWN)
    most = _DUMPED if text is None else _SHOWN
    more = f", the first {most} here (--json shows all)" if len(value) > most else ""
    yield f"{'value':<10} {len(value)} bytes{'' if text is not None else ' that are not text'}{more}"
    if text is not None:
        yield from (f"    {logs.escape(line)}" for line in text.split("\n"))
        return
    for start in range(0, min(len(value), _DUMPED), 16):
        some = value[start : start + 16]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in some)
        yield f"    {start:06x}  {some.hex(' '):<47}  {letters}"


def _whole(letter: DeadLetter) -> dict[str, Any]:
    return {
        "partition": letter.place.partition,
        "offset": letter.place.offset,
        "written": _moment(letter.written_ms),
        "about": dict(letter.about),
        "cut": list(letter.cut),
        **_content("key", letter.key),
        "headers": [{"name": name, **_content("content", content)} for name, content in letter.headers],
        **_content("value", letter.value),
    }


def _content(name: str, content: bytes | None) -> dict[str, str | None]:
    """Text as it is, which JSON escapes; anything else in base64."""
    try:
        return {name: None if content is None else content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content or b"").decode()}


def _replay(options: Namespace, settings: config.Settings) -> int:
    from streamer.connectors.kafka import connect_producer
    from streamer.connectors.kafka.probe import Needs, require
    from streamer.offline.dead_letters import replay

    kafka = settings.kafka
    if not options.yes:
        found = replay(_letters(options, settings), settings, None)
        print(f"{found.letters} dead letter(s), {found.size} bytes, would be sent to {kafka.topic}")
        code = _refused(found, "would not be sent")
        if found.letters:
            print("nothing is sent yet: add --yes")
        return code
    require(kafka, Needs(writes=(kafka.topic,)))
    producer = connect_producer(kafka, settings.limits)
    try:
        found = replay(_letters(options, settings), settings, producer)
    finally:
        producer.close()
    print(f"{found.acknowledged} dead letter(s), {found.size} bytes, sent to {kafka.topic} and acknowledged")
    return _refused(found, "not sent")


def _refused(found: Replayed, words: str) -> int:
    for why, (count, first) in found.refused.items():
        print(f"{count} {words} (the first is {first}): {why}")
    return EXIT_DATA if found.refused and not found.letters else EXIT_OK


def _letters(options: Namespace, settings: config.Settings) -> Iterator[DeadLetter]:
    """Those the options choose."""
    from streamer.connectors.kafka.probe import Needs, require
    from streamer.offline.dead_letters import Choice, Place, read
    from streamer.offline.progress import progress

    require(settings.kafka, Needs(reads=(settings.kafka.dlq_topic,)))
    since = getattr(options, "since", None)
    choice = Choice(
        frozenset(getattr(options, "reason", None) or ()),
        None if since is None else round(since * 1000),
        tuple(Place(*place) for place in getattr(options, "places", ())),
    )
    return read(settings, choice, progress)


def _moment(time_ms: int | None) -> str:
    """In UTC; a broker passes on whatever number a producer put there."""
    if time_ms is None or not 0 < time_ms < 253_402_300_800_000:
        return "at an unknown time"
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
