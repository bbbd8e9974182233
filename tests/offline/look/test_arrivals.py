"""A topic that was filled at once, with times that nothing recognises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from streamer.config import KafkaConfig
from streamer.errors import DataError
from streamer.offline.look.choosing import Wanted
from streamer.offline.look.looking import Look, look
from streamer.offline.look.proposing import propose
from streamer.offline.look.sampling import Sample
from streamer.offline.look.writing import document
from tests.offline.look import topics

ROWS: list[dict[str, Any]] = [
    {"dev": row["device"], "v": row["temperature"], "when": f"11/01/26 {10 + i // 180}:{i // 3 % 60:02}"}
    for i, row in enumerate(topics.machines())
]


def filled_at_once(rows: list[dict[str, Any]]) -> Sample:
    whole = topics.sample(rows)
    messages = [replace(one, taken_ms=topics.START_S * 1000 + i // 8) for i, one in enumerate(whole.messages)]
    return replace(whole, messages=messages)


def written(seen: Look) -> str:
    return document(seen, propose(seen), KafkaConfig(), asked="")


def test_a_date_in_an_unknown_layout_stops_init_and_is_named() -> None:
    with pytest.raises(DataError) as stopped:
        written(look(filled_at_once(ROWS)))

    assert "no field is a time" in str(stopped.value)
    assert "when looks like a date ('11/01/26 10:00') in a layout other than ISO 8601" in str(stopped.value)
    assert "--timestamp FIELD and --timestamp-unit" in str(stopped.value)


def test_a_number_that_is_a_date_in_no_unit_is_named() -> None:
    rows = [{**row, "when": i * 0.5} for i, row in enumerate(ROWS)]

    with pytest.raises(DataError, match=r"when holds 0\.0, in no unit a date between 1990 and 2040"):
        written(look(filled_at_once(rows)))


def test_the_brokers_time_is_taken_of_a_topic_that_is_written_as_things_happen() -> None:
    assert "timestamp: '@kafka'" in written(look(topics.sample(ROWS)))


def test_the_brokers_time_is_taken_where_the_user_says_so() -> None:
    assert "timestamp: '@kafka'" in written(look(filled_at_once(ROWS), Wanted(timestamp="@kafka")))
