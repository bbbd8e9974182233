"""Groups keep every row once and in order; tables grow without losing what they hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.grouping import group
from streamer.core.keyed_state import Table


def table() -> Table:
    return Table({"n": (np.int64, (), -1), "pair": (np.float32, (2,), 0.5)})


@given(st.lists(st.integers(0, 6)))
def test_groups_part_the_rows_by_code_and_keep_their_order(codes: list[int]) -> None:
    groups = group(np.array(codes, np.int64))

    parts = {
        int(code): groups.order[begin : begin + count].tolist()
        for code, begin, count in zip(groups.codes, groups.begin, groups.count, strict=True)
    }
    assert parts == {code: [i for i, c in enumerate(codes) if c == code] for code in sorted(set(codes))}
    assert list(parts) == sorted(parts)
    assert groups.rank.tolist() == [i for count in groups.count for i in range(count)]
    assert groups.codes[groups.member].tolist() == sorted(codes)


@given(st.lists(st.integers(1, 200), max_size=10))
def test_a_table_grows_and_keeps_its_rows(reaches: list[int]) -> None:
    some, highest = table(), 0
    for rows in reaches:
        some.reach(rows)
        for row in range(highest, rows):
            assert some["n"][row] == -1
            some["n"][row] = row
        highest = max(highest, rows)

        assert some.rows == len(some["pair"]) == highest
        assert some["n"].tolist() == list(range(highest))


def test_what_is_taken_can_be_put_elsewhere() -> None:
    one, other = table(), table()
    one.reach(3)
    one["n"][:] = [10, 11, 12]
    one["pair"][2] = [7, 8]

    other.put(np.array([5, 0]), one.take(np.array([2, 1])))

    assert other["n"].tolist() == [11, -1, -1, -1, -1, 12]
    assert other["pair"][5].tolist() == [7, 8]


def test_what_is_taken_is_a_copy() -> None:
    some = table()
    taken = some.take(np.array([0]))

    taken["n"][0] = 99

    assert some["n"][0] == -1


def test_forgotten_rows_are_blank_and_unknown_ones_no_matter() -> None:
    some = table()
    some.reach(2)
    some["n"][:] = 5

    some.blank(np.array([1, 400]))

    assert some["n"].tolist() == [5, -1]


def test_columns_that_do_not_fit_are_refused() -> None:
    good = table().take(np.array([0]))

    for wrong in ({"n": good["n"]}, good | {"more": good["n"]}):
        with pytest.raises(ValueError, match=r"wanted columns \['n', 'pair'\]; got"):
            table().put(np.array([0]), wrong)
    with pytest.raises(ValueError, match=r"column pair: wanted \(1, 2\); got \(1, 3\)"):
        table().put(np.array([0]), good | {"pair": np.zeros((1, 3))})


def test_a_refused_put_changes_nothing() -> None:
    some = table()
    some.reach(1)

    with pytest.raises(ValueError, match="column pair"):
        some.put(np.array([0]), {"n": np.array([7]), "pair": np.zeros((1, 3))})

    assert some["n"].tolist() == [-1]
