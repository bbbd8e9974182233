"""Windows lie within one stretch of a stream, and the newest of them are held out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import ShapeError, TrainingError
from models.fitting import learning
from models.fitting.learning import Learned
from models.fitting.training import TrainingOptions
from models.fitting.windows import runs_of, split
from models.network.architecture import Architecture
from streamer.core.keyed_state import KeyedState
from streamer.core.windows import Windower
from tests import tiny
from tests.tiny import FEATURES, LENGTH

ARCHITECTURE = Architecture(features=2, window=LENGTH, patch=4, hidden=4, latent=2)
OPTIONS = TrainingOptions(epochs=1, steps_per_epoch=1, batch_size=4)
Rows = NDArray[np.int64]


def learn(series: dict[str, NDArray[np.float32]], breaks: dict[str, Rows] | None = None) -> Learned:
    return learning.learn(series, FEATURES, ARCHITECTURE, options=OPTIONS, breaks=breaks)


def every(learned: Learned) -> list[int]:
    """First rows of all windows, seen and held out."""
    return sorted(np.concatenate([*learned.seen.newest(10_000), *learned.held_out.newest(10_000)]).tolist())


def test_no_window_straddles_a_break() -> None:
    breaks = {"a": np.array([60, 70, 130])}

    learned = learn({"a": tiny.wave(200), "b": tiny.wave(100, seed=1)}, breaks)

    # rows of a   0 .. 60 | 60 .. 70 | 70 .. 130 | 130 .. 200, then b: 200 .. 300
    wanted = [range(45), range(70, 115), range(130, 185), range(200, 285)]
    assert every(learned) == [start for part in wanted for start in part]


def test_the_newest_windows_are_held_out_however_many_breaks_there_are() -> None:
    learned = learn({"a": tiny.wave(200)}, {"a": np.array([60, 120, 190])})

    held_out = learned.held_out.newest(1000)[0]
    assert len(held_out) == pytest.approx(0.15 * len(every(learned)), abs=3)
    assert held_out.min() > learned.seen.newest(1000)[0].max()


def test_a_level_that_jumps_at_a_break_does_not_move_the_tables_of_windows_within() -> None:
    """Sessions of 60 readings, each on its own level: no window shows the step."""
    values = tiny.wave(600) + np.repeat(np.tile([0, 8], 5), 60)[:, None].astype(np.float32)

    learned = learn({"a": values}, {"a": np.arange(60, 600, 60)})

    cut = learned.readings.numpy()[np.array(every(learned))[:, None] + np.arange(LENGTH)]
    assert np.abs(np.diff(cut[:, :, 0], axis=1)).max() < 1.5


@pytest.mark.parametrize("breaks", [None, {}, {"a": np.array([], np.int64)}, {"unknown": np.array([5])}])
def test_without_breaks_all_rows_are_one_stretch(breaks: dict[str, Rows] | None) -> None:
    learned = learn({"a": tiny.wave(100)}, breaks)

    assert every(learned) == list(range(85))
    assert len(learned.held_out) == 15


def test_streams_whose_stretches_are_too_short_are_left_to_the_fleets_row() -> None:
    learned = learn({"broken": tiny.wave(150), "whole": tiny.wave(100)}, {"broken": np.arange(15, 150, 15)})

    assert learned.streams == ("whole",)


def test_when_every_stretch_is_too_short_the_error_says_how_long_the_longest_is() -> None:
    with pytest.raises(TrainingError, match=r"has 150, at most 15 of them without a gap.*shorter window.length"):
        learn({"a": tiny.wave(150)}, {"a": np.arange(15, 150, 15)})


@pytest.mark.parametrize("breaks", [[0], [100], [50, 50], [60, 50], [-1]])
def test_breaks_that_are_no_rows_of_the_stream_are_refused(breaks: list[int]) -> None:
    with pytest.raises(ShapeError, match="stream 'a': breaks must rise and lie between 1 and 99"):
        learn({"a": tiny.wave(100)}, {"a": np.array(breaks)})


rows_and_breaks = st.integers(1, 80).flatmap(
    lambda rows: st.tuples(st.just(rows), st.sets(st.integers(1, max(1, rows - 1)), max_size=6))
)


@given(rows_and_breaks, st.integers(1, 12))
def test_windows_are_those_the_daemon_closes(given: tuple[int, set[int]], length: int) -> None:
    rows, breaks = given[0], np.array(sorted(b for b in given[1] if b < given[0]), np.int64)
    fresh = np.zeros(rows, bool)
    fresh[breaks] = True

    begins, ends = runs_of(rows, breaks, length)

    closing = [
        row
        for windows in Windower(KeyedState(), length, 1, 1).push(
            np.zeros(rows, np.int64), np.zeros((rows, 1), np.float32), fresh
        )
        for row in windows.rows.tolist()
    ]
    ours = [start + length - 1 for begin, end in zip(begins, ends, strict=True) for start in range(begin, end)]
    assert ours == sorted(closing)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.data())
def test_a_split_keeps_every_window_once_and_in_order(sizes: list[int], data: st.DataObject) -> None:
    begins = np.cumsum([0, *sizes[:-1]]) + 3 * np.arange(len(sizes))  # rows between the runs
    ends = begins + sizes
    starts = [start for begin, end in zip(begins, ends, strict=True) for start in range(begin, end)]
    count = data.draw(st.integers(1, max(1, len(starts) - 1)))
    most = data.draw(st.integers(1, 20))

    seen, held_out = split([(begins, ends)], [count])

    assert held_out[np.arange(len(held_out))].tolist() == starts[-count:]
    assert seen[np.arange(len(seen))].tolist() == starts[:-count]
    assert held_out.newest(most)[0].tolist() == starts[-count:][-most:]
