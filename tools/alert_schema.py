"""Writes docs/alert.schema.json, the JSON Schema of an alert, from the message itself.

    python tools/alert_schema.py           writes the file
    python tools/alert_schema.py --check   exits 1 if it is not up to date

Names and kinds come from `streamer.core.alerts`, the words from the comment beside each field; what a kind alone does
not say (the values a word may have, which text is a time) is added here.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import msgspec

from streamer.core import events
from streamer.core.alerts import SCHEMA, Alert, Attribution, Rarity, Span

PATH = Path(__file__).parent.parent / "docs" / "alert.schema.json"

_ID = {"pattern": "^[0-9a-f]{32}$"}
_TIME = {"format": "date-time"}
_REASONS = (events.QUIET, events.EXPIRED, events.CORRECTED, events.MOVED, events.RECORDS_LOST)
_PART = {"minimum": 0, "maximum": 1}
MORE: dict[str, dict[str, dict[str, Any]]] = {
    "Alert": {
        "alert_id": _ID,
        "incident_id": _ID,
        "event": {"enum": [events.OPEN, events.UPDATE, events.RESOLVE]},
        "kind": {"enum": list(events.KINDS)},
        "severity": {"enum": ["info", "warning", "critical"]},
        "onset": _TIME,
        "time": _TIME,
        "score": {"minimum": 0},
        "peak_score": {"minimum": 0},
        "filled": _PART,
        "scope": {"enum": [events.STREAM, events.PARTITION, events.TOPIC]},
        "reason": {"enum": [*_REASONS, None]},
        "schema": {"const": SCHEMA},
    },
    "Attribution": {"share": _PART},
    "Span": {"begin": _TIME, "end": _TIME, "length_s": {"minimum": 0}},
    "Rarity": {"seconds": {"exclusiveMinimum": 0}},
}


def schema() -> dict[str, Any]:
    """The schema of the messages that this version writes."""
    made = msgspec.json.schema(Alert)
    definitions: dict[str, Any] = made["$defs"]
    for kind in (Alert, Attribution, Span, Rarity):
        name, words = kind.__name__, _comments(kind)
        fields = definitions[name]["properties"]
        for field, about in fields.items():
            if field not in words:
                raise SystemExit(f"{inspect.getsourcefile(kind)}: {name}.{field} has no comment that says what it is")
            fields[field] = {"description": words[field], **about, **MORE[name].get(field, {})}
            fields[field].pop("default", None)  # of earlier versions; every field is written
    alert = definitions.pop("Alert")
    alert["required"] = [*alert["required"], "schema"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Alert",
        "description": f"{alert.pop('description')} Version {SCHEMA}; fields may be added without a new one.",
        **{key: value for key, value in alert.items() if key != "title"},
        "$defs": dict(sorted(definitions.items())),
    }


def text() -> str:
    return json.dumps(schema(), indent=2) + "\n"


def _comments(kind: type) -> dict[str, str]:
    pattern = re.compile(r"^    (\w+): .*?  # (.+)$", re.MULTILINE)
    return {found[1]: found[2] for found in pattern.finditer(inspect.getsource(kind))}


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        if PATH.is_file() and PATH.read_text(encoding="utf-8") == text():
            return 0
        print(f"{PATH.name} is not up to date: run PYTHONPATH=. python tools/alert_schema.py", file=sys.stderr)
        return 1
    PATH.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
