"""What is left of a message that its topic does not take, because it is too large.

Each function gives the message again in a shorter form, or as several, until the topic takes it; nothing: it cannot be
made any shorter. Pure. Not inside: noticing that a message is too large (`kafka.outbox`).
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import msgspec

from streamer.connectors.kafka.interface import Parts
from streamer.core.alerts import Alert

EXCERPT_BYTES = 1024  # of a value or a key
DLQ_PREFIX = "streamer.dlq."

_FEATURES = 5  # of an alert, largest share first
_ERROR_BYTES = 100


def cut_dead_letter(parts: Parts) -> list[Parts]:
    """First the value goes but for its beginning, then the producer's headers, then the key, then the rest."""
    key, value, headers = parts.key, parts.value, parts.headers
    own = [(name, content) for name, content in headers if name.startswith(DLQ_PREFIX)]
    known = {name for name, _ in own}
    if value is not None and len(value) > EXCERPT_BYTES:
        return [Parts(key, value[:EXCERPT_BYTES], [*headers, *about_value(value, known)])]
    if len(own) < len(headers):
        size = sum(len(name.encode()) + len(content) for name, content in headers if not name.startswith(DLQ_PREFIX))
        return [Parts(key, value, [*own, (f"{DLQ_PREFIX}header_bytes", str(size).encode())])]
    if key is not None and len(key) > EXCERPT_BYTES:
        return [Parts(key[:EXCERPT_BYTES], value, [*own, (f"{DLQ_PREFIX}key_bytes", str(len(key)).encode())])]
    if value or key:
        return [Parts(None, b"", [*own, *about_value(value or b"", known)])]
    short = [(name, content[:_ERROR_BYTES]) for name, content in own]
    return [] if short == own else [Parts(key, value, short)]


def about_value(value: bytes, known: set[str]) -> list[tuple[str, bytes]]:
    """Headers of a dead letter whose value is cut; those it has say more."""
    about = {"bytes": str(len(value)), "sha256": hashlib.sha256(value).hexdigest()}
    return [(DLQ_PREFIX + name, text.encode()) for name, text in about.items() if DLQ_PREFIX + name not in known]


def cut_alert(parts: Parts) -> list[Parts]:
    """The features with the largest shares stay, then none."""
    alert = msgspec.json.decode(parts.value or b"", type=Alert)
    if not alert.features and not alert.details:
        return []
    kept = alert.features[:_FEATURES] if len(alert.features) > _FEATURES else []
    short = msgspec.structs.replace(alert, features=kept, details=alert.details if kept else {})
    return [dataclasses.replace(parts, value=short.encode())]


def split_scores(parts: Parts) -> list[Parts]:
    """Two messages with half of the rows each."""
    message: dict[str, Any] = msgspec.json.decode(parts.value or b"")
    rows = len(message["stream"])
    return [
        dataclasses.replace(
            parts,
            value=msgspec.json.encode(
                {name: column[some] if isinstance(column, list) else column for name, column in message.items()}
            ),
        )
        for some in (slice(rows // 2), slice(rows // 2, None))
        if rows > 1
    ]
