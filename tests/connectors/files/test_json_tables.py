"""JSON lines and JSON: messages in a file, of any shape that `records` can describe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.config import RecordsConfig
from streamer.connectors import files as datafiles
from streamer.connectors.files import json_tables
from streamer.errors import DataError
from tests.connectors.files.samples import write


def records(**changes: Any) -> RecordsConfig:
    return RecordsConfig.model_validate({"features": ["a", "b"], **changes})


def message(**changes: Any) -> str:
    return json.dumps({"timestamp": "2024-01-01", "stream": "x", "a": 1, "b": 2, **changes})


def test_fields_may_be_nested(tmp_path: Path) -> None:
    text = '{"meta": {"t": 1704067200, "who": {"id": 7}}, "v": {"a": 1, "b": 2.5}}\n'
    some = records(features=["v.a", "v.b"], stream="meta.who.id", timestamp="meta.t", timestamp_unit="s")

    data = datafiles.load([write(tmp_path / "f.jsonl", text)], some)

    assert (data.names, data.values.tolist()) == (["7"], [[1, 2.5]])
    assert data.time_ns.tolist() == [1_704_067_200_000_000_000]


@pytest.mark.parametrize("readings", ["batch.items", "@root"])
def test_readings_may_stand_in_an_array_with_fields_in_common(tmp_path: Path, readings: str) -> None:
    items = [{"timestamp": f"2024-01-0{i}", "a": i, "b": -i, "stream": "y" if i == 3 else "x"} for i in (1, 2, 3)]
    if readings == "@root":
        text = json.dumps(items) + "\n" + json.dumps(items[:1]) + "\n"
    else:
        for item in items[:2]:
            del item["stream"]
        text = "".join(json.dumps({"stream": "x", "batch": {"items": some}}) + "\n" for some in (items, items[:1]))

    data = datafiles.load([write(tmp_path / "f.jsonl", text)], records(readings=readings))

    assert [data.names[code] for code in data.stream] == ["x", "x", "y", "x"]
    assert data.values.tolist() == [[1, -1], [2, -2], [3, -3], [1, -1]]


def test_an_array_of_readings_may_be_the_whole_file(tmp_path: Path) -> None:
    path = write(tmp_path / "f.json", f"[{message()}, {message(a=3)}]")

    assert datafiles.load([path], records(readings="@root")).values.tolist() == [[1, 2], [3, 2]]


def test_a_field_may_be_absent_or_null(tmp_path: Path) -> None:
    text = f'{message(a=None)}\n\n{{"timestamp": "2024-01-02", "stream": "x", "b": 3}}\n{message(a=4)}\n'

    data = datafiles.load([write(tmp_path / "f.jsonl", text)], records())

    np.testing.assert_array_equal(data.values, [[np.nan, 2], [np.nan, 3], [4, 2]])


def test_a_big_array_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"timestamp": 1_704_067_200 + i, "a": i, "b": i / 7, "c": [{}, "]" * (i % 90)]} for i in range(500)]
    for indent in (None, 2):
        path = write(tmp_path / "f.json", json.dumps(rows, indent=indent))
        for size in (7, 100, 1 << 20):
            monkeypatch.setattr(json_tables, "_AT_ONCE", size)

            data = datafiles.load([path], records(timestamp_unit="s"))

            assert data.values.tolist() == [[row["a"], row["b"]] for row in rows]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("f.jsonl", f"{message()}\n{message()[:-3]}\n", "row 2: wanted one JSON message per line; "),
        ("f.jsonl", f"{message()}\n[1]\n", r"row 2: wanted a JSON object; got \[1\]"),
        ("f.jsonl", f"{message()}\n\n{message(a='1')}\n", "row 3: wanted numbers in 'a'; got '1'"),
        ("f.jsonl", f"{message()}\n{message(a=True)}\n", "row 2: wanted numbers in 'a'; got True"),
        ("f.jsonl", f"{message()}\n{message(stream=None)}\n", "row 2: wanted a stream in every row"),
        ("f.jsonl", f"{message()}\n{message(timestamp=[])}\n", r"row 2: wanted times in 'timestamp'; '\[\]' is not"),
        ("f.json", f"[{message()}, {message()}", "wanted a whole JSON array; it is cut off after row 2"),
        ("f.json", f"[{message()}, {message()} oops {message() * 100}]", "row 3: wanted JSON; Expecting value"),
        ("f.json", f"[{message()}, {message()[:30]}", "row 2: wanted JSON; "),
        ("f.jsonl", message().replace('"a"', '"A"'), r"wanted columns \['a'\]; it has .*; did you mean 'A'\?"),
    ],
)
def test_a_message_that_cannot_be_used_is_named_with_its_row(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(DataError, match=rf"{name}: {words}"):
        datafiles.load([write(tmp_path / name, text)], records())


def test_an_array_of_readings_that_is_none_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "f.jsonl", '{"stream": "x"}\n')

    with pytest.raises(DataError, match=r"row 1: wanted an array of readings in 'items' .*; got nothing"):
        datafiles.load([path], records(readings="items"))


def test_conditions_and_labels_are_read_from_messages_too(tmp_path: Path) -> None:
    text = "\n".join([message(part=1, bad=True), message(part="1", bad=0), message(part=2, bad=0)])

    data = datafiles.load([write(tmp_path / "f.jsonl", text)], records(), ["part=1"], labels="bad")

    assert data.label is not None
    assert data.label.tolist() == [True, False]
