"""What is wrong with a setting, in one sentence: key, wanted, got, where from.

No word of the library that checks the settings reaches the user, and no secret.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from streamer.config.schema import SECRET_KEYS, Settings


def explain(fault: Any, path: Path | None, sources: dict[str, str]) -> str:
    """One sentence from one pydantic fault; never prints the value of a secret."""
    keys = [str(part) for part in fault["loc"]]
    name = ".".join(keys) or "settings"
    source = _source(keys, path, sources)
    if fault["type"] == "missing":
        return f"{name}: wanted a value; got nothing in {source}"
    if fault["type"] == "extra_forbidden":
        return f"{name}: no such setting (from {source}); see the configuration reference in the README"
    wanted = fault["msg"].removeprefix("Value error, ").replace("Input should be", "wanted")
    got = fault["input"]
    if tuple(keys[:2]) in SECRET_KEYS or isinstance(got, (dict, BaseModel)):
        return f"{name}: {wanted} (from {source})"
    # A whole section that is no mapping may hold a secret: only its kind is said.
    said = repr(got) if len(keys) > 1 else f"a {type(got).__name__}"
    return f"{name}: {wanted}; got {said} from {source}"


def _source(keys: list[str], path: Path | None, sources: dict[str, str]) -> str:
    """Where a setting came from; for a rule over a whole section, every place that set a part of it."""
    if len(keys) > 1 and ".".join(keys[:2]) in sources:
        return sources[".".join(keys[:2])]
    variables = [] if len(keys) > 1 else sorted(v for k, v in sources.items() if k.split(".")[0] == keys[0])
    if keys and keys[0] not in Settings.model_fields and variables:
        return ", ".join(variables)
    return ", ".join([str(path) if path else "the defaults", *variables])
