"""The shape of a JSON object, as a type that msgspec decodes into.

Inside: dotted field names to nested types, and where each field's value is found.
Not inside: what the values mean, and what becomes of messages that do not fit.
"""

from __future__ import annotations

from typing import Any

import msgspec

OPTIONAL = float | None


def build_struct(name: str, kinds: dict[str, Any]) -> tuple[type, dict[str, str]]:
    """A msgspec type for dotted field names, and the attribute path of each.

    A field that may be missing is None then, and so are all fields of an object that may be missing.

    Field names come from the configuration and may be no Python names, so attributes
    are numbered and the names are given to msgspec as aliases.
    """
    fields: list[Any] = []
    aliases: dict[str, str] = {}
    paths: dict[str, str] = {}
    groups: dict[str, dict[str, Any]] = {}
    for field, kind in kinds.items():
        head, dot, rest = field.partition(".")
        if dot:
            groups.setdefault(head, {})[rest] = kind
        else:
            attribute = f"f{len(fields)}"
            fields.append((attribute, kind, None) if kind is OPTIONAL else (attribute, kind))
            aliases[attribute] = field
            paths[field] = attribute
    for head, inside in groups.items():
        shape, inner = build_struct(f"{name}_{len(fields)}", inside)
        attribute = f"f{len(fields)}"
        optional = all(kind is OPTIONAL for kind in inside.values())
        fields.append((attribute, shape, msgspec.field(default_factory=shape)) if optional else (attribute, shape))
        aliases[attribute] = head
        paths |= {f"{head}.{rest}": f"{attribute}.{path}" for rest, path in inner.items()}
    # No cycles can arise from JSON, so the garbage collector need not track readings.
    return msgspec.defstruct(name, fields, rename=aliases, gc=False, kw_only=True), paths
