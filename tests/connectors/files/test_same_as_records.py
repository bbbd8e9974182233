"""Readings of a file are those that the daemon reads from records with the same values: times, and their order."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest

from streamer.config import RecordsConfig, Settings
from streamer.connectors import files as datafiles
from streamer.connectors.files import DataSet
from streamer.core.keyed_state import KeyedState
from streamer.core.readings import Readings
from streamer.formats import decoder_of
from streamer.offline.replay import encode
from tests.messages import batch

MIDNIGHT_NS = 1_704_067_200_000_000_000
SECONDS = st.floats(1.6e9, 1.8e9) | st.integers(1_600_000_000, 1_800_000_000).map(float)


def settings(unit: str) -> Settings:
    return Settings.model_validate({"records": {"features": ["a", "b"], "timestamp_unit": unit}})


def live(records: RecordsConfig, messages: Sequence[bytes]) -> Readings:
    """What the daemon reads."""
    decoded = decoder_of(records.format_options(), KeyedState()).decode(batch(messages))
    assert not decoded.rejects
    return decoded.readings


@hypothesis.given(st.lists(SECONDS, min_size=1, max_size=8))
def test_seconds_are_the_same_time_in_a_record_and_in_a_file(seconds: list[float]) -> None:
    records = settings("s").records
    wanted = live(records, [b'{"timestamp": %a, "stream": "x", "a": 1, "b": 2}' % each for each in seconds])

    with tempfile.TemporaryDirectory() as folder:
        csv, parquet = Path(folder) / "f.csv", Path(folder) / "f.parquet"
        csv.write_text("timestamp,a,b\n" + "".join(f"{each!r},1,2\n" for each in seconds))
        pd.DataFrame({"timestamp": seconds, "a": 1, "b": 2}).to_parquet(parquet)
        found = [datafiles.load([path], records).time_ns.tolist() for path in (csv, parquet)]

    assert found == [wanted.time_ns.tolist()] * 2


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "iso8601"])
def test_a_replay_sends_the_times_that_a_backtest_reads(tmp_path: Path, unit: str) -> None:
    stamps = pd.to_datetime(MIDNIGHT_NS + np.sort(np.random.default_rng(0).integers(0, 10**15, 200)), utc=True)
    pd.DataFrame({"timestamp": stamps, "stream": "x", "a": 1, "b": 2}).to_parquet(tmp_path / "f.parquet")
    data = datafiles.load([tmp_path / "f.parquet"], settings(unit).records)

    sent = live(settings(unit).records, [value for _, value in encode(data, settings(unit))])

    assert sent.time_ns.tolist() == data.time_ns.tolist()


def test_streams_that_stand_one_after_another_are_sent_merged_by_time() -> None:
    stream, time_ns = np.array([0, 0, 0, 0, 1, 1, 1]), np.array([10, 20, 15, 30, 5, 20, 40])
    some = DataSet(["a", "b"], stream, time_ns, np.zeros((7, 2)))

    # The third reading of `a` is late, and stays so.
    assert some.sending_order().tolist() == [4, 0, 1, 2, 5, 3, 6]
    assert [part.offset.tolist() for part in some.batches(4)] == [[4, 0, 1, 2], [5, 3, 6]]
