"""Avro messages by schemas of a registry.

What reads them is C and trusts its schema: one that refers to itself lets a message nest until the process crashes, one
with items of no bytes lets a few bytes stand for any number of them. Such schemas are refused. Not inside: asking the
registry (`schema_registry`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from fastavro import parse_schema, schemaless_reader

from streamer.formats.rejects import MALFORMED, Refused


def avro_reader(schema_id: int, text: str, references: Sequence[str]) -> Callable[[bytes], Any]:
    """What reads messages of a schema.

    Args:
        schema_id: Its number, for what is said of bad messages.
        text: The schema.
        references: Schemas it is made of, those first that others are made of.

    Raises:
        Exception: It is no such thing, or not safe to read by.
    """
    named: dict[str, Any] = {}
    for one in references:
        parse_schema(json.loads(one), named_schemas=named)
    schema: Any = parse_schema(json.loads(text), named_schemas=named)
    _takes_bytes(schema, named, (), {})

    def read(value: bytes) -> Any:
        content = io.BytesIO(value)
        try:
            found = schemaless_reader(content, schema, None)
        except RecursionError:
            raise
        except EOFError:
            raise Refused(MALFORMED, f"the message ends before the last field of Avro schema {schema_id}") from None
        except Exception as error:  # fastavro raises what Python raises underneath: IndexError, ValueError, ...
            said = f": {error}" if str(error) else ""
            raise Refused(
                MALFORMED, f"the bytes are not what Avro schema {schema_id} says: {type(error).__name__}{said}"
            ) from None
        if content.tell() != len(value):
            rest = len(value) - content.tell()
            raise Refused(MALFORMED, f"{rest} bytes are left after what Avro schema {schema_id} says")
        return found

    return read


def _takes_bytes(schema: Any, named: dict[str, Any], inside: tuple[str, ...], known: dict[str, bool]) -> bool:
    """Whether a value takes a byte at least.

    Raises:
        ValueError: The schema refers to itself, or has an array whose items take none.
    """
    if isinstance(schema, list):
        for branch in schema:
            _takes_bytes(branch, named, inside, known)
        return True  # the number of the branch
    if isinstance(schema, str):
        if schema in inside:
            raise ValueError(f"{schema} refers to itself, so that messages could nest without end")
        if schema not in named:
            return schema != "null"
        return known[schema] if schema in known else _takes_bytes(named[schema], named, inside, known)
    kind = schema["type"]
    if kind in ("record", "error"):
        name = schema["name"]
        inner = (*inside, name)
        taken = [_takes_bytes(field["type"], named, inner, known) for field in schema["fields"]]  # all are looked at
        known[name] = any(taken)
        return known[name]
    if kind in ("array", "map"):
        if not _takes_bytes(schema["items" if kind == "array" else "values"], named, inside, known) and kind == "array":
            raise ValueError("it has an array whose items take no bytes, so that a message could hold any number")
        return True
    if kind == "fixed":
        return bool(schema["size"] > 0)
    return True if kind == "enum" else _takes_bytes(kind, named, inside, known)
