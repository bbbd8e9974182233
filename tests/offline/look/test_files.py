"""Samples of data files: what the header shows is not guessed again, compressed files are looked at too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamer.offline.look.files import sample_files
from streamer.offline.look.recognising import recognise
from tests.connectors.files.samples import PACK, write

# Every row has three commas as well as three semicolons.
GERMAN = "Zeit;Maschine;Temp;Fluss\n" + "".join(f"07.10.2013 08:00:{i:02d},688;press 1;71,25;3,5\n" for i in range(60))


@pytest.mark.parametrize("pack", sorted(PACK))
def test_a_decimal_comma_is_no_delimiter_where_the_header_has_another(tmp_path: Path, pack: str) -> None:
    found = recognise(sample_files([write(tmp_path / f"f.csv{pack}", GERMAN)]))

    assert (found.format, found.delimiter) == ("csv", ";")
    assert found.documents[0] == {
        "Zeit": "07.10.2013 08:00:00,688",
        "Maschine": "press 1",
        "Temp": "71,25",
        "Fluss": "3,5",
    }


def test_a_long_array_is_looked_at_item_by_item(tmp_path: Path) -> None:
    rows = [{"timestamp": i, "a": i, "pad": "x" * 2000} for i in range(1000)]

    found = recognise(sample_files([write(tmp_path / "f.json", json.dumps(rows, indent=1))]))

    assert found.format == "json"
    assert [document["a"] for document in found.documents[:3]] == [0, 1, 2]
