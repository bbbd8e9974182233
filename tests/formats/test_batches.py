"""What becomes of a message does not depend on which others came in the same poll, in any format."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.keyed_state import KeyedState
from streamer.formats import FormatOptions, decoder_of
from streamer.formats.rejects import REASONS
from tests.messages import batch

NOW_NS = 1_760_000_000_000_000_000
VALUES: list[Any] = [1, 2.5, 0, None, "1.5", "on", True, 1e39, [], {"a": 1}]
FIELDS = st.dictionaries(
    st.sampled_from(["stream", "t", "a", "b", "metric", "value", "n"]),
    st.sampled_from([*VALUES, "x", "y", "a", "b", 1_700_000_000, 9e18]),
    max_size=6,
)
GOOD = st.fixed_dictionaries(
    {"stream": st.sampled_from("xyz"), "t": st.integers(0, 10**9), "a": st.integers(-5, 5), "b": st.integers(-5, 5)},
    optional={"n": st.integers(0, 9), "metric": st.sampled_from(["a", "b", "c"]), "value": st.sampled_from(VALUES)},
)
READINGS = GOOD | FIELDS
ARRAYS = st.fixed_dictionaries(
    {"p": st.lists(READINGS | st.sampled_from(VALUES), max_size=4)},
    optional={"stream": st.sampled_from(["x", 5, None]), "t": st.sampled_from([7, "soon", None])},
)
SOME_ROWS = ["1,x,1,2", "2,y,3,", "3,x,on,1", "4,x", "", '5,"y",1,1', "1e3, x, 7, 8", "soon,x,1,1", '"']
SOME_LINES = ["m,stream=x a=1,b=2 5", "m,stream=y a=1 6", "o,q=1 z=3 7", "# no", "oops", "m a=1,b=2 8"]
ROWS = st.lists(st.sampled_from(SOME_ROWS), max_size=4).map("\n".join)
LINES = st.lists(st.sampled_from(SOME_LINES), max_size=4).map("\n".join)


def messages(format: str, several: bool) -> st.SearchStrategy[bytes | None]:
    if format in ("csv", "influx"):
        text = ROWS if format == "csv" else LINES
        return text.map(str.encode) | st.sampled_from([None, b"", b"\xff"])
    encode = msgspec.msgpack.encode if format == "msgpack" else lambda value: json.dumps(value).encode()
    odd: list[Any] = [None, b"", b"\xc1", b"{", b"5", b"[]", b"null"]
    return (ARRAYS if several else READINGS).map(encode) | st.sampled_from(odd)


LAYOUTS: list[dict[str, Any]] = [
    {},
    {"readings": "p"},
    {"metric": "metric"},
    {"readings": "p", "metric": "metric", "sequence": "n"},
    {"missing": "fill", "zero_is_missing": ("a",)},
    {"text_numbers": True, "stream": ("@key", "stream"), "sequence": "n"},
    {"timestamp": "@kafka", "exact": True, "readings": "p", "missing": "fill"},
    {"timestamp": "@header:at"},
]


@pytest.mark.parametrize("format", ["json", "msgpack", "csv", "influx"])
@given(data=st.data())
def test_any_split_of_messages_into_polls_gives_the_same(format: str, data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from(LAYOUTS))
    if format in ("csv", "influx"):
        layout = {key: value for key, value in layout.items() if key not in ("readings", "metric", "sequence")}
    options = FormatOptions(
        ("a", "b"),
        **{"timestamp": "timestamp" if format == "influx" else "t", "timestamp_unit": "s", "max_streams": 4}
        | ({"columns": ("t", "stream", "a", "b")} if format == "csv" else {})
        | layout,
        format=format,
        max_readings=3,
    )
    values = data.draw(st.lists(messages(format, "readings" in layout), max_size=8))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=3)))
    keys = [[b"k", None, b"\xff"][i % 3] for i in range(len(values))]
    headers = [[("at", [b"5", b"soon"][i % 2])] for i in range(len(values))]

    def decoded(bounds: list[int]) -> tuple[Any, ...]:
        streams, ignored = KeyedState(), 0
        rows: list[Any] = []
        rejects: list[Any] = []
        some = decoder_of(options, streams)
        for first, last in zip([0, *bounds], [*bounds, len(values)], strict=True):
            part = slice(first, last)
            made = some.decode(batch(values[part], keys[part], headers=headers[part], first=first, now_ns=NOW_NS))
            readings = made.readings
            assert (last - first) + made.extra == len(readings) + len(made.rejects) + made.ignored
            sequence = readings.sequence if readings.sequence is not None else np.zeros(len(readings))
            rows += zip(
                [streams.names[code] for code in readings.stream],
                readings.time_ns.tolist(),
                map(repr, readings.values.tolist()),
                readings.offset.tolist(),
                sequence.tolist(),
                strict=True,
            )
            rejects += [(first + reject.row, reject.reason, reject.detail) for reject in made.rejects]
            ignored += made.ignored
        return rows, rejects, ignored, streams.names

    whole = decoded([])

    assert decoded(cuts) == whole
    assert decoded(list(range(1, len(values)))) == whole
    assert {reason for _, reason, _ in whole[1]} <= set(REASONS)
    assert all(detail for *_, detail in whole[1])
