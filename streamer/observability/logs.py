"""Log lines, as text for people or as JSON for machines, to standard error.

    text   14:03:07 INFO    open 1a2b3c4d: press-2 has been anomalous since ...
    json   {"time": ..., "level": "INFO", "logger": ..., "message": ..., "stream": "press-2", "incident_id": ...}

A caller names what a line is about with `extra={"stream": ..., "partition": ...}`; `FIELDS` are
the keys that JSON lines carry. Whatever a message holds, one log record is one line, and no
character in it can act on a terminal: stream names and client errors come from outside.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import deque
from datetime import UTC, datetime

from streamer.config import LogConfig

KAFKA_LINES, KAFKA_WITHIN_S = 5, 60.0  # lines of a client's own
FIELDS = (
    "event",
    "stream",
    "incident_id",
    "alert_id",
    "kind",
    "severity",
    "topic",
    "partition",
    "offset",
    "model_version",
)

# Control and format characters, separators other than the space, surrogates; `str.isprintable` knows them all.
_NOT_ASCII_PRINTABLE = re.compile(r"[^ -~]")


def escape(text: str) -> str:
    r"""Text with every character that is not printable written as JSON would.

    >>> escape("press 2\n12:00:00 INFO forged")
    'press 2\\n12:00:00 INFO forged'
    >>> escape("Öfen: 30 °C")
    'Öfen: 30 °C'
    """
    if text.isprintable():
        return text
    return _NOT_ASCII_PRINTABLE.sub(lambda found: _escaped(found[0]), text)


class TextFormatter(logging.Formatter):
    """Time, level and message; lines of a traceback are indented, so that none looks like a log line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return escape(super().formatMessage(record))

    def formatException(self, ei: object) -> str:
        return "\n".join(f"    {escape(line)}" for line in super().formatException(ei).split("\n"))  # type: ignore[arg-type]


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and those of `FIELDS` the caller named."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # All that is outside ASCII is inside a JSON string, where an escape means the same.
        return escape(json.dumps(line, ensure_ascii=False, default=_plain))


class AtMost(logging.Filter):
    """Lets few lines of a chatty library through: Kafka clients log hundreds of errors while a broker is away.

    What they mean is told by lines of our own, in metrics and at `/readyz`.
    """

    def __init__(self, logger: str, lines: int, within_s: float) -> None:
        super().__init__(logger)
        self._within_s = within_s
        self._shown_at: deque[float] = deque([-within_s] * lines, maxlen=lines)

    def filter(self, record: logging.LogRecord) -> bool:
        if not super().filter(record):
            return True  # of another logger
        if record.created - self._shown_at[0] < self._within_s:
            return False
        self._shown_at.append(record.created)
        return True


def configure(config: LogConfig) -> None:
    """Set up logging for the process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if config.format == "json" else TextFormatter())
    if config.level != "DEBUG":
        for client in ("kafka", "confluent_kafka"):
            handler.addFilter(AtMost(client, KAFKA_LINES, KAFKA_WITHIN_S))
    logging.basicConfig(level=config.level, handlers=[handler], force=True)
    # The clients say at WARNING what is ours to say, and at DEBUG what is secret.
    for noisy in ("kafka", "matplotlib", "PIL"):
        logging.getLogger(noisy).setLevel(logging.ERROR if noisy == "kafka" else logging.WARNING)


def _escaped(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


def _plain(value: object) -> object:
    """A JSON value for what JSON does not know: a numpy number, a path."""
    item = getattr(value, "item", None)
    return item() if callable(item) else str(value)
