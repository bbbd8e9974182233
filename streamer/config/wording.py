"""What is wrong with a setting, in one sentence: key, wanted, got, where from.

No word of the library that checks the settings reaches the user, and no secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from streamer.config.schema import Settings, is_secret
from streamer.formats.nearest import nearest

_FEATURES = "a list of field names, such as [temperature, vibration]"
_TOPIC = "a topic name: 1 to 249 of the characters A-Z a-z 0-9 . _ -"

# By kind of fault, as pydantic names it; what stands in braces comes with the fault.
_WANTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_type": "a whole number",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le}",
    "list_type": _FEATURES,
    "literal_error": "{expected}",
    "path_type": "a path",
    "string_pattern_mismatch": _TOPIC,
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "at least {min_length} character(s)",
    "string_type": "text",
    "too_long": "at most {max_length} entries",
    "too_short": _FEATURES,
    "tuple_type": _FEATURES,
}
_SECTION = ("dict_type", "model_attributes_type", "model_type")
_SCALARS = (bool, int, float)


def explain_all(faults: Sequence[Mapping[str, Any]], path: Path | None, sources: Mapping[str, str]) -> str:
    """One line for each fault.

    Args:
        faults: As pydantic lists them.
        path: The YAML file, if there is one.
        sources: Which environment variable each setting came from, by its dotted name.
    """
    lists = {fault["loc"][:-1] for fault in faults if fault["loc"] and isinstance(fault["loc"][-1], int)}
    # A list with bad entries is also said to be too short: it lacks those that were bad.
    real = [fault for fault in faults if not (fault["type"] == "too_short" and fault["loc"] in lists)]
    return "\n".join(_explain(fault, path, sources) for fault in real)


def _explain(fault: Mapping[str, Any], path: Path | None, sources: Mapping[str, str]) -> str:
    keys = [str(key) for key in fault["loc"]] or ["settings"]
    name = _dotted(keys)
    source, kind, got = _source(keys, path, sources), fault["type"], fault["input"]
    if kind == "missing" and len(keys) > 2:
        return f"{name}: wanted a value; got nothing from {source}"
    if kind == "missing":
        # Of the sections nothing but the features has no default, and the section may be missing as a whole.
        return f"records.features: wanted {_FEATURES}; got nothing from {source}"
    if kind in ("extra_forbidden", "invalid_key"):
        return f"{name}: no such {'setting' if len(keys) > 1 else 'section'}{_meant(keys)} (from {source})"
    if kind == "value_error":
        why = str(fault["ctx"]["error"])
        if not fault["loc"] and why.partition(".")[0] in Settings.model_fields:  # it names the setting itself
            return f"{why} (from {source})"
        return f"{name}: {why} (from {source})"
    if kind in _SECTION:
        # What stands there may hold a secret: only its kind is said.
        example = next(iter(_names(keys)), None) or next(iter(_names(keys[:1])))
        return f"{name}: wanted settings below it, such as `{example}: ...`; got {kind_of(got)} from {source}"
    wanted = _WANTED[kind].format(**fault.get("ctx", {})) if kind in _WANTED else fault["msg"]
    if wanted == _FEATURES and keys[0] == "notifications":
        wanted = "a list"
    if is_secret(keys) or isinstance(got, (dict, BaseModel)):
        return f"{name}: wanted {wanted} (from {source})"
    quotes = "; in YAML, text that looks like something else needs quotes" if _needs_quotes(kind, got) else ""
    return f"{name}: wanted {wanted}; got {_shown(got)} from {source}{quotes}"


def _dotted(keys: Sequence[str]) -> str:
    """A setting by its full name."""
    return ".".join(keys[:2]) + "".join(f"[{key}]" for key in keys[2:])


def _meant(keys: Sequence[str]) -> str:
    """The setting or section that was probably meant, else where to look."""
    *above, last = keys
    here = _names(above)
    close = nearest(last, here, cutoff=0.8)
    elsewhere = [f"{section}.{last}" for section in Settings.model_fields if last in _names([section])]
    if close is None and elsewhere:
        return f"; did you mean {' or '.join(elsewhere)}?"
    close = close or nearest(last, here)
    if close is not None:
        return f"; did you mean {'.'.join([*(key for key in above if not key.isdigit()), close])}?"
    if not above:
        return f"; the sections are {', '.join(here)}"
    return "; see the configuration reference in the README"


def _names(above: Sequence[str]) -> list[str]:
    """The keys that may stand below others."""
    section: type[BaseModel] = Settings
    for key in above:
        if key.isdigit():  # place in a list of such sections
            continue
        field = section.model_fields.get(key)
        inside = _section_in(field.annotation) if field is not None else None
        if inside is None:
            return []
        section = inside
    return list(section.model_fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a setting is, or may be."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)


def _needs_quotes(kind: str, got: object) -> bool:
    return kind in ("string_type", "path_type", "literal_error") and isinstance(got, _SCALARS)


def _shown(got: object) -> str:
    if got is None:
        return "nothing"
    text = str(got).lower() if isinstance(got, bool) else repr(got)
    return text if len(text) <= 80 else text[:80] + "..."


def kind_of(got: object) -> str:
    """What YAML made of something that is no section, without showing it."""
    return {str: "text", list: "a list", bool: "true or false", int: "a number", float: "a number"}.get(
        type(got), "something else"
    )


def _source(keys: list[str], path: Path | None, sources: Mapping[str, str]) -> str:
    """Where a setting came from; for a rule over a whole section, every place that set a part of it."""
    for known in (".".join(keys), ".".join(keys[:2])):
        if len(keys) > 1 and known in sources:
            return sources[known]
    variables = [] if len(keys) > 1 else sorted(v for k, v in sources.items() if k.split(".")[0] == keys[0])
    if keys and keys[0] not in Settings.model_fields and variables:
        return ", ".join(variables)
    return ", ".join([str(path) if path else "the environment", *variables])
