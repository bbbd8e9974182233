"""The published schema of alerts, for tests that have some: docs/alert.schema.json."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import jsonschema

from tools import alert_schema


def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


_formats = jsonschema.FormatChecker([])
_formats.checks("date-time", ValueError)(_is_time)
SCHEMA = alert_schema.schema()
_validator = jsonschema.Draft202012Validator(SCHEMA, format_checker=_formats)


def check(message: dict[str, Any]) -> dict[str, Any]:
    """An alert as sent, which must be what the schema says, every field of it.

    Raises:
        jsonschema.ValidationError: It is not.
    """
    _validator.validate(message)
    assert set(message) == set(SCHEMA["properties"])
    return message
