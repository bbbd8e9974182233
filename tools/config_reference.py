"""Writes the README's configuration reference from the settings in streamer/config.

    python tools/config_reference.py           rewrites the block in README.md
    python tools/config_reference.py --check   exits 1 if it is not up to date

Names, kinds and defaults come from the settings themselves, the words from the comment
beside each field.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from streamer import config
from streamer.config.section import seconds
from streamer.core.durations import duration_text

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- configuration reference -->\n", "<!-- end of configuration reference -->\n"


def reference() -> str:
    """The whole reference as Markdown."""
    parts = []
    for name, section in config.Settings.model_fields.items():
        kind: Any = section.annotation
        parts += [f"**`{name}`**: {_first_line(kind)}\n", "| key | default | what |", "|---|---|---|"]
        comments = _comments(kind)
        for key, field in kind.model_fields.items():
            parts.append(f"| `{key}` | {_default(field)} | {_what(field, comments.get(key, ''))} |")
        parts.append("")
    return "\n".join(parts)


def updated(text: str) -> str:
    """The README with the reference of today."""
    head, begin, rest = text.partition(BEGIN)
    if not begin:
        raise SystemExit(f"{README}: wanted a line {BEGIN.strip()!r}")
    tail = rest.partition(END)[2] if END in rest else rest
    return head + BEGIN + reference() + "\n" + END + tail


def _first_line(kind: type) -> str:
    return (inspect.getdoc(kind) or "").splitlines()[0].rstrip(".") + "."


def _comments(kind: type) -> dict[str, str]:
    pattern = re.compile(r"^    (\w+): .*?  # (.+)$", re.MULTILINE)
    return {found[1]: found[2] for found in pattern.finditer(inspect.getsource(kind))}


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "(required)"
    if field.default is None or field.default == {}:
        return "none"
    if any(getattr(part, "func", None) is seconds for part in field.metadata):
        return f"`{duration_text(field.default)}`"
    if isinstance(field.default, tuple):
        return f"`{', '.join(field.default)}`" if field.default else "none"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f"`{field.default}`"


def _what(field: FieldInfo, comment: str) -> str:
    choices = getattr(field.annotation, "__args__", ())
    words = [f"`{choice}`" for choice in choices if isinstance(choice, str)]
    text = comment.replace("|", "\\|")
    if len(words) > 1:
        text = f"{', '.join(words)}{'; ' if text else ''}{text}"
    return text


def main() -> int:
    text = README.read_text(encoding="utf-8")
    if "--check" in sys.argv[1:]:
        return 0 if updated(text) == text else 1
    README.write_text(updated(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
