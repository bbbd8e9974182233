"""Streams have one home: names, codes and columns come, grow, travel and go together."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.columns import Columns
from streamer.core.keyed_state import ExportedState, KeyedState

SCHEMA = {"n": (np.int64, (), -1), "pair": (np.float32, (2,), 0.5)}


def keyed(names: str) -> tuple[KeyedState, Columns]:
    """Streams of one letter each, with a station that numbers them."""
    state = KeyedState(names)
    columns = state.register("numbers", SCHEMA)
    columns["n"][:] = np.arange(len(names))
    return state, columns


@given(st.lists(st.integers(1, 200), max_size=10))
def test_columns_grow_and_keep_their_rows(reaches: list[int]) -> None:
    some, highest = Columns(SCHEMA), 0
    for rows in reaches:
        some.reach(rows)
        for row in range(highest, rows):
            assert some["n"][row] == -1
            some["n"][row] = row
        highest = max(highest, rows)

        assert some.rows == len(some["pair"]) == highest
        assert some["n"].tolist() == list(range(highest))


def test_a_name_keeps_its_code_until_it_is_forgotten() -> None:
    state, columns = keyed("abc")

    state.forget(np.array([1]))

    assert state.codes == {"a": 0, "c": 2}
    assert columns["n"].tolist() == [0, -1, 2]
    assert state.add("c") == 2
    assert state.add("new") == 1, "the free code is used again"
    assert len(state) == 3


@given(st.lists(st.integers(0, 30), max_size=200))
def test_streams_that_come_and_go_take_no_more_rows_than_were_there_at_once(steps: list[int]) -> None:
    state = KeyedState()
    columns = state.register("numbers", SCHEMA)
    most = 0
    for step in steps:
        name = f"stream {step}"
        if name in state.codes:
            state.forget(np.array([state.codes[name]]))
        else:
            state.add(name)
            state.reach(np.empty(0, np.int64))
        most = max(most, len(state))

        assert len(state.names) <= most
        assert columns.rows <= most
        assert {state.names[code]: code for code in state.codes.values()} == state.codes


def test_a_partition_is_forgotten_with_all_that_is_kept_of_it() -> None:
    state, columns = keyed("abcd")
    sparse = state.register_sparse("notes", str, str)
    clocks = state.register_partitions("clock")
    state.assign(np.array([0, 2]), 0)
    state.assign(np.array([1, 3]), 7)
    sparse.update({0: "of a", 1: "of b"})
    clocks.update({0: 100, 7: 200})

    state.forget_partition(7)

    assert sorted(state.codes) == ["a", "c"]
    assert state.held().tolist() == [0, 2]
    assert columns["n"].tolist() == [0, -1, 2, -1]
    assert (sparse, clocks) == ({0: "of a"}, {0: 100})


def test_exported_streams_go_on_in_another_process_under_other_codes() -> None:
    here, numbers = keyed("abc")
    here.register_sparse("notes", str, str)[2] = "of c"
    here.register_partitions("clock")[4] = [1, 2]
    here.register("found again", {"n": (np.int64, (), 0)}, exported=False)["n"][:] = 5
    here.assign(np.arange(3), 4)
    there = KeyedState(["x", "c"])
    others = there.register("numbers", SCHEMA)
    notes, clock = there.register_sparse("notes", str, str), there.register_partitions("clock")
    unexported = there.register("found again", {"n": (np.int64, (), 0)}, exported=False)

    exported = here.export(np.array([2, 0]))
    there.restore(ExportedState(exported.columns, json.loads(json.dumps(exported.values))))

    assert there.codes == {"x": 0, "c": 1, "a": 2}
    assert others["n"].tolist() == [-1, 2, 0]
    assert there.partition.tolist() == [-1, 4, 4]
    assert (notes, clock) == ({1: "of c"}, {4: [1, 2]})
    assert unexported["n"].tolist() == [0, 0, 0]
    assert numbers["n"].tolist() == [0, 1, 2], "an export is a copy"


def test_what_was_exported_stays_as_it_was_while_the_stations_go_on() -> None:
    state, columns = keyed("ab")
    state.assign(np.array([0, 1]), 4)
    storms, notes = state.register_partitions("storms"), state.register_sparse("notes", msgspec.to_builtins, list)
    storms[4], notes[1] = [10, {"names": ["a"]}], [{"share": 1}]
    exported = state.export(np.array([0, 1]))
    before = json.dumps(exported.values)

    storms[4][0] += 1
    storms[4][1]["names"].append("b")
    notes[1][0]["share"] = 2
    columns["n"][:] = 7

    assert json.dumps(exported.values) == before
    assert exported.columns["numbers.n"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"numbers.n": np.zeros(1, np.int64)}, r"wanted columns \['n', 'pair'\]; got \['n'\]"),
        (
            {"numbers.n": np.zeros(1, np.int64), "numbers.pair": np.zeros((1, 3), np.float32)},
            r"column pair: wanted \(1, 2\); got \(1, 3\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing_behind(wrong: dict[str, np.ndarray], words: str) -> None:
    state, _ = keyed("")
    owner = {"keys.partition": np.zeros(1, np.int64)}

    with pytest.raises(ValueError, match=words):
        state.restore(ExportedState(owner | wrong, {"streams": ["a"], "sparse": {}, "partitions": {}}))

    assert (len(state), state.held().tolist()) == (0, [])


@pytest.mark.parametrize("names", [["a", "a"], [""], [3], "ab"])
def test_exported_names_are_distinct_texts(names: object) -> None:
    state = KeyedState()

    with pytest.raises(ValueError, match="distinct names"):
        state.restore(ExportedState({}, {"streams": names, "sparse": {}, "partitions": {}}))


def test_an_expired_stream_keeps_its_code_until_the_sweep() -> None:
    state, columns = keyed("ab")
    state.assign(np.array([0, 1]), 0)

    state.expire(np.array([0, 1]))
    state.assign(np.array([1]), 0)  # b came back before the sweep

    assert columns["n"].tolist() == [-1, -1]
    assert state.codes == {"a": 0, "b": 1}
    state.sweep()
    assert state.codes == {"b": 1}


def test_a_station_registered_again_begins_blank() -> None:
    state, _ = keyed("ab")

    again = state.register("numbers", {"n": (np.int64, (), 9)})

    assert again["n"].tolist() == [9, 9]
    assert sorted(state.export(np.array([0])).columns) == ["keys.partition", "numbers.n"]


def test_a_name_of_which_no_reading_was_taken_makes_room_with_the_next_sweep() -> None:
    state = KeyedState()
    used, unused = state.add("used"), state.add("unused")
    state.assign(np.array([used]), 0)

    state.sweep()

    assert list(state.codes) == ["used"]
    assert state.add("another") == unused
