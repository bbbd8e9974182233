"""The schema of alerts that docs/ publishes is that of the messages sent. Those of a daemon: `e2e.harness`."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import jsonschema
import pytest

from models.detector import Detector
from streamer.core.pipeline import Pipeline
from tests import alert_schema, tiny
from tests.core.test_pipeline import WHOLE, pipeline
from tests.core.test_rules_in_pipeline import SETTINGS
from tests.core.test_rules_in_pipeline import WHOLE as QUOTES
from tools.alert_schema import PATH, text

PAGE = Path(__file__).parent.parent.parent / "docs" / "alerts.md"


def test_the_schema_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == text(), "run PYTHONPATH=. python tools/alert_schema.py"
    jsonschema.Draft202012Validator.check_schema(alert_schema.SCHEMA)


def test_alerts_of_every_kind_are_what_the_schema_says(tiny_detector: Detector) -> None:
    books = Pipeline(SETTINGS.pipeline_options(), tiny_detector, tiny.VERSION)
    for name in ("AIG", "BAC"):
        books.keys.add(name)
    sent = [*pipeline(tiny_detector).process(WHOLE).alerts, *books.process(QUOTES).alerts]
    sent += books.lose_records(0, 9).alerts

    checked = [alert_schema.check(json.loads(alert.encode())) for alert in sent]

    kinds = Counter(message["kind"] for message in checked)
    assert kinds.keys() == {"anomaly", "silence", "crossed_book", "power_of_ten", "sequence_gap"}
    assert {message["event"] for message in checked} == {"open", "update", "resolve"}
    anomalies = [message for message in checked if message["kind"] == "anomaly"]
    assert any(message["span"] for message in anomalies)
    assert any(message["rarity"] for message in anomalies)
    assert all(feature["lower"] is not None for message in anomalies for feature in message["features"])


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("alert_id", "7"), ("severity", "bad"), ("time", "yesterday"), ("onset", "2026-01-01"), ("schema", 1),
     ("span", {"begin": "2026-01-01T00:00:00Z"}), ("reason", "bored"), ("filled", 2)],
)  # fmt: skip
def test_the_schema_tells_other_messages_apart(tiny_detector: Detector, name: str, wrong: object) -> None:
    message = json.loads(pipeline(tiny_detector).process(WHOLE).alerts[0].encode())

    with pytest.raises(jsonschema.ValidationError):
        alert_schema.check({**message, name: wrong})


def test_the_page_explains_every_field_and_its_example_is_an_alert() -> None:
    page = PAGE.read_text(encoding="utf-8")

    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    alert_schema.check(json.loads(example))
    definitions = alert_schema.SCHEMA["$defs"]
    named = {*alert_schema.SCHEMA["properties"], *(f for part in definitions.values() for f in part["properties"])}
    assert sorted(name for name in named if f"`{name}`" not in page) == []
