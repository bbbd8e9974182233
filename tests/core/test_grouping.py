"""Groups keep every row once and in order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.grouping import group


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
