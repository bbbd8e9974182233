"""What operators are told of refused records: at once, by reason, with a sample, and never in a flood."""

from __future__ import annotations

import pytest

from streamer.formats.rejects import Reject
from streamer.runtime.refusals import EVERY_S, RefusalLog
from tests.messages import batch


def test_refused_records_are_warned_of_at_once_and_then_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 1_700_000_000.0
    refusals = RefusalLog("readings.dlq", lambda: now_s)
    some = batch([b"?"] * 3, first=17)

    refusals.add(some, [Reject(1, "schema", "field 'a' is missing")])
    refusals.tell()
    refusals.add(some, [Reject(0, "malformed", "not JSON"), Reject(2, "schema", "field 'b' is missing")])
    refusals.add(some, [Reject(0, "schema", "field 'a' is missing")])
    refusals.tell()
    early = [record.getMessage() for record in caplog.records]
    now_s += EVERY_S
    refusals.tell()
    now_s += EVERY_S
    refusals.tell()

    assert early == ["1 records sent to readings.dlq: 1 schema (e.g. readings[0]@18: field 'a' is missing)"]
    assert [record.getMessage() for record in caplog.records][1:] == [
        "3 records sent to readings.dlq: 2 schema (e.g. readings[0]@19: field 'b' is missing); "
        "1 malformed (e.g. readings[0]@17: not JSON)"
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_streams_beyond_the_limit_are_told_of_apart(caplog: pytest.LogCaptureFixture) -> None:
    refusals = RefusalLog("readings.dlq", lambda: 1_700_000_000.0)

    refusals.add(batch([b"?"]), [Reject(0, "stream_limit", "records.max_streams 2 are known already")])
    refusals.tell()

    assert [record.getMessage() for record in caplog.records] == [
        "1 records of streams beyond a limit, counted and not sent on, "
        "e.g. readings[0]@0: records.max_streams 2 are known already"
    ]
