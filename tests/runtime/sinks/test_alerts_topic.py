"""Reading the alerts topic back: what is damaged on it keeps a sink from nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from streamer.connectors.kafka import PoisonedBatch, RecordBatch
from streamer.runtime.sinks import alerts_topic
from streamer.runtime.sinks.alerts_topic import KafkaAlertsTopic
from tests import tiny
from tests.alert_logs import Log


class Reader:
    """Of a log in which some records are damaged; after one of these it is of no further use."""

    def __init__(self, log: Log, damaged: set[tuple[int, int]], nowhere: bool) -> None:
        self._reader, self._damaged, self._nowhere = log.connect("alerts"), damaged, nowhere

    def bounds(self, among: list[int]) -> dict[int, tuple[int, int]]:
        assert self._reader is not None
        return self._reader.bounds(among)

    def offsets_at(self, time_ms: int) -> dict[int, int] | None:
        return None

    def read(self, ranges: Mapping[int, tuple[int, int]]) -> Iterator[RecordBatch]:
        assert self._reader is not None
        for batch in self._reader.read(ranges):
            where = batch.partition, int(batch.offsets[0])
            if where in self._damaged:
                raise PoisonedBatch("damaged", partition=-1 if self._nowhere else where[0], offset=where[1])
            yield batch

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("damaged", "nowhere", "found"),
    [
        ({(0, 1)}, False, {(0, 0), (0, 2), (0, 3), (1, 0), (1, 1)}),
        ({(0, 0), (0, 3), (1, 0)}, False, {(0, 1), (0, 2), (1, 1)}),
        ({(0, n) for n in range(1000)}, False, {(1, 0), (1, 1)}),
        ({(0, 1)}, True, {(0, 0)}),
    ],
)
def test_damaged_records_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, damaged: set[tuple[int, int]], nowhere: bool, found: set[tuple[int, int]]
) -> None:
    log, readers = Log(batch=1), list[Reader]()

    def connect(*_: Any) -> Reader:
        reader = Reader(log, damaged, nowhere)
        readers.append(reader)
        return reader

    log.write("alerts", *[b"x"] * (4 if len(damaged) < 100 else 1000), partition=0)
    log.write("alerts", b"y", b"y", partition=1)
    monkeypatch.setattr(alerts_topic, "connect_range_reader", connect)
    topic = KafkaAlertsTopic(tiny.settings().kafka, "ops")

    batches = list(topic.back({0: len(log.topics["alerts"][0]), 1: 2}, since_s=0.0))

    assert {(batch.partition, int(batch.offsets[0])) for batch in batches} == found
    assert len(readers) < 30
