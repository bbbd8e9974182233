"""However a file is written, its readings are the same."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest

from streamer.config import RecordsConfig
from streamer.connectors import files as datafiles
from streamer.connectors.files import DataSet, reading
from tests.connectors.files import samples

RECORDS = RecordsConfig(features=("a", "b"), sequence="seq")
START_NS = 1_381_104_000_000_000_000  # 2013-10-07
ROWS = st.lists(
    st.tuples(
        st.integers(0, 30 * 86_400_000_000),  # microseconds
        st.sampled_from(["x", "y z", "01", "NA", "ü;,|"]),
        st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-(2**40), 2**40).map(float),
        st.none() | st.floats(-1e9, 1e9),
        st.integers(0, 2**53),
    ),
    min_size=1,
    max_size=12,
)


def told(rows: Sequence[tuple[Any, ...]], date: str) -> list[dict[str, Any]]:
    """Rows as they are written; the last is the 25th of its month, so that day and month can be told apart."""
    rows = [*rows, (18 * 86_400_000_000, "x", 1.5, -2.25, 7)]
    return [
        {
            "timestamp": samples.DATES[date](pd.Timestamp(START_NS + us * 1000)),
            "stream": stream,
            "a": a,
            "b": b,
            "seq": sequence,
        }
        for us, stream, a, b, sequence in rows
    ]


def check(data: DataSet, rows: Sequence[tuple[Any, ...]]) -> None:
    rows = [*rows, (18 * 86_400_000_000, "x", 1.5, -2.25, 7)]
    assert [data.names[code] for code in data.stream] == [row[1] for row in rows]
    assert (data.time_ns - START_NS).tolist() == [row[0] * 1000 for row in rows]
    np.testing.assert_array_equal(data.values, [(row[2], np.nan if row[3] is None else row[3]) for row in rows])
    assert data.sequence is not None
    assert data.sequence.tolist() == [row[4] for row in rows]


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    ROWS,
    st.sampled_from([",", ";", "\t", "|", "~", "^"]),
    st.sampled_from([".", ","]),
    st.sampled_from(sorted(samples.DATES)),
    st.sampled_from(sorted(samples.PACK)),
    st.integers(1, 7),
)
def test_csv_is_the_same_in_any_dialect(
    rows: list[tuple[Any, ...]], delimiter: str, decimal: str, date: str, pack: str, at_once: int
) -> None:
    text = samples.csv(told(rows, date), delimiter=delimiter, decimal=decimal)

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_AT_ONCE", 2 * at_once)
        data = datafiles.load([samples.write(Path(folder) / f"f.csv{pack}", text)], RECORDS)

    check(data, rows)


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    ROWS,
    st.sampled_from(sorted(samples.DATES)),
    st.sampled_from(sorted(samples.PACK)),
    st.sampled_from([".jsonl", ".ndjson", ".json", ".array.json", ".pretty.json", ""]),
    st.integers(1, 7),
)
def test_json_is_the_same_in_lines_arrays_or_one_after_another(
    rows: list[tuple[Any, ...]], date: str, pack: str, suffix: str, at_once: int
) -> None:
    written = [
        row | {"timestamp": float(row["timestamp"]) if date == "epoch" else row["timestamp"]}
        for row in told(rows, date)
    ]
    if suffix == ".array.json":
        text = json.dumps(written)
    elif suffix == ".pretty.json":
        text = json.dumps(written, indent=4)
    else:
        text = samples.json_lines(written)

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_AT_ONCE", 2 * at_once)
        data = datafiles.load([samples.write(Path(folder) / f"f{suffix}{pack}", text)], RECORDS)

    check(data, rows)


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(ROWS, st.sampled_from(sorted(samples.DATES)))
def test_parquet_is_the_same_with_times_as_text(rows: list[tuple[Any, ...]], date: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pd.DataFrame(told(rows, date)).to_parquet(Path(folder) / "f.parquet")
        data = datafiles.load([Path(folder) / "f.parquet"], RECORDS)

    check(data, rows)
