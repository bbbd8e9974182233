"""A snapshot comes back as it was, or says why not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.detector import Detector
from streamer.core.keyed_state import ExportedState
from streamer.core.pipeline import Pipeline
from streamer.errors import StateError
from streamer.runtime.state import snapshots
from streamer.runtime.state.snapshots import Codec, Snapshot
from tests import tiny

CODEC = Codec("readings", "s1")


def snapshot(offset: int) -> Snapshot:
    columns = {
        "wide": np.arange(offset, dtype=np.float32).reshape(-1, 1),
        "flag": np.array([True, False]),
        "bits": np.array([2**63], np.uint64),
        "when": np.array([np.iinfo(np.int64).min]),
        "empty": np.empty((0, 3, 2), np.float32),
    }
    return Snapshot(offset, ExportedState(columns, {"streams": ["a", "é"], "clock": None, "nested": {"x": [1.5]}}))


WHOLE = b"".join(CODEC.encode(0, snapshot(50)))


def test_a_snapshot_comes_back_as_it_was() -> None:
    written = snapshot(5)

    found = CODEC.decode(3, b"".join(CODEC.encode(3, written)))

    assert (found.offset, found.state.values) == (5, written.state.values)
    assert set(found.state.columns) == set(written.state.columns)
    for name, column in written.state.columns.items():
        assert found.state.columns[name].dtype == column.dtype
        assert np.array_equal(found.state.columns[name], column)


def test_columns_read_back_can_be_written_to() -> None:
    found = CODEC.decode(0, WHOLE)

    found.state.columns["wide"][0] = 7

    assert found.state.columns["wide"][0, 0] == 7


def test_a_pipeline_goes_on_from_the_bytes(tiny_detector: Detector) -> None:
    made = [Pipeline(tiny.settings().pipeline_options(), tiny_detector, "v") for _ in range(2)]
    whole = tiny.fleet({0: tiny.wave(40), 1: tiny.wave(40, seed=1, level=10)})
    for one in made:
        one.keys.add("a")
        one.keys.add("b")
    made[0].process(whole.take(np.arange(50)))

    content = b"".join(CODEC.encode(0, Snapshot(50, made[0].export_partition(0))))
    made[1].restore(CODEC.decode(0, content).state)

    rest = whole.take(np.arange(50, 80))
    here, there = (some.process(rest).scores.score for some in made)
    assert np.array_equal(here, there, equal_nan=True)


@settings(max_examples=200)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_found(where: float, bit: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[int(where * len(damaged))] ^= 1 << bit

    with pytest.raises(StateError):
        CODEC.decode(0, bytes(damaged))


@settings(max_examples=100)
@given(keep=st.floats(0, 1, exclude_max=True))
def test_a_snapshot_cut_short_is_found(keep: float) -> None:
    with pytest.raises(StateError):
        CODEC.decode(0, WHOLE[: int(keep * len(WHOLE))])


@pytest.mark.parametrize(
    ("other", "partition", "why"),
    [
        (Codec("readings", "s2"), 0, "written with other settings"),
        (Codec("elsewhere", "s1"), 0, r"holds the state of readings\[0\]"),
        (CODEC, 1, r"holds the state of readings\[0\]"),
    ],
)
def test_a_snapshot_of_other_settings_or_another_partition_is_refused(other: Codec, partition: int, why: str) -> None:
    with pytest.raises(StateError, match=why):
        other.decode(partition, WHOLE)


def test_a_snapshot_of_another_format_says_that_another_version_wrote_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "FORMAT", 2)
        content = b"".join(CODEC.encode(0, snapshot(1)))

    with pytest.raises(StateError, match="written by another version of streamer, in format 2"):
        CODEC.decode(0, content)


def test_a_part_that_unpacks_to_more_than_it_says_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_MAX_BYTES", 100)

    with pytest.raises(StateError, match="damaged"):
        CODEC.decode(0, WHOLE)
