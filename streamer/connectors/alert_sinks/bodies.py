"""Bodies of webhooks: an alert as JSON, in the shape a Jinja template gives it.

Every `{{ expression }}` is written as a JSON value, quotes included, so that no name or sentence can end a string or
add a field; what comes out must be one JSON value. Templates run in Jinja's sandbox and see nothing but the alert and
what is handed to them. Not inside: sending (`webhook`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from jinja2.sandbox import ImmutableSandboxedEnvironment

from streamer.core.alerts import Alert
from streamer.errors import ConfigError

MAX_BODY = MAX_TEMPLATE = 100_000  # characters
PRESETS = Path(__file__).parent


class BodyError(Exception):
    """A template does not make one JSON value of an alert."""


class Bodies:
    """One template.

    Args:
        source: Of the template.
        about: What it is given besides the alert.

    Raises:
        BodyError: It is not a template.
    """

    def __init__(self, source: str, about: Mapping[str, Any]) -> None:
        environment = ImmutableSandboxedEnvironment(
            undefined=jinja2.StrictUndefined, finalize=_as_json, autoescape=False, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters |= {"slack": _for_slack, "cut": _cut, "tojson": _as_json}
        self._about = about
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise BodyError(_said(error)) from None

    def body(self, alert: Alert, **more: Any) -> bytes:
        """The JSON of one alert.

        Raises:
            BodyError: What came out is no JSON, or too long.
        """
        pieces, length = [], 0
        try:
            for piece in self._template.generate(alert=msgspec.to_builtins(alert), **self._about, **more):
                length += len(piece)
                if length > MAX_BODY:
                    raise BodyError(f"it makes more than {MAX_BODY:,} characters")
                pieces.append(piece)
        except (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise BodyError(_said(error)) from None
        try:
            return msgspec.json.encode(msgspec.json.decode("".join(pieces)))
        except msgspec.DecodeError as error:
            hint = "every {{ expression }} is written as a JSON value, with its quotes"
            raise BodyError(f"what it makes is not JSON ({error}); {hint}") from None


def source_of(preset: str | None, template_file: Path | None) -> str:
    """The text of a template.

    Raises:
        ConfigError: It cannot be read.
    """
    path = template_file if template_file is not None else PRESETS / f"{preset}.json.j2"
    try:
        with path.open(encoding="utf-8") as file:
            source = file.read(MAX_TEMPLATE + 1)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"template_file: wanted a readable file; {path}: {why}") from None
    if len(source) > MAX_TEMPLATE:
        raise ConfigError(f"template_file: wanted at most {MAX_TEMPLATE:,} characters; {path} has more")
    return source


class _Json(str):
    """JSON already."""


def _as_json(value: Any) -> str:
    if isinstance(value, _Json):
        return value
    if isinstance(value, jinja2.Undefined):
        str(value)  # raises, and names it
    return _Json(msgspec.json.encode(value).decode())


def _cut(value: Any, most: int) -> str:
    return str(value)[:most]


def _for_slack(value: Any, most: int) -> str:
    """Text as Slack wants it, at most so long; no entity is cut in two.

    >>> _for_slack("<!channel> & co", 20)
    '&lt;!channel&gt; '
    """
    parts, room = [], most
    for character in str(value):
        part = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}.get(character, character)
        room -= len(part)
        if room < 0:
            break
        parts.append(part)
    return "".join(parts)


def _said(error: Exception) -> str:
    where = f" in line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
    return f"{type(error).__name__}{where}: {str(error)[:200]}"
