"""Log lines, as text or as JSON, to standard error."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import msgspec

from streamer.config import LogConfig


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def configure(config: LogConfig) -> None:
    """Set up logging for the process."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    handler.setFormatter(JsonFormatter() if config.format == "json" else text)
    logging.basicConfig(level=config.level, handlers=[handler], force=True)
    # The clients say at WARNING what is ours to say, and at DEBUG what is secret.
    for noisy in ("kafka", "matplotlib", "PIL"):
        logging.getLogger(noisy).setLevel(logging.ERROR if noisy == "kafka" else logging.WARNING)
