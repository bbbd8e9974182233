"""Alerts as they lie in a topic, and a topic that is a list: for tests of the store of incidents."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from streamer.connectors.kafka import RecordBatch
from streamer.core.alerts import Alert, Attribution, iso
from streamer.core.events import ANOMALY, OPEN, RESOLVE, UPDATE, alert_id, incident_id, severity
from streamer.core.incident_life import Action
from tests import tiny

SEEN_MS = 1_700_000_000_000


def an_alert(event: str = OPEN, minute: int = 0, *, stream: str = "press-2", onset: int = 0, **changed: Any) -> Alert:
    """An alert about the incident of a stream that began at `onset`, minutes after `tiny.START_NS`."""
    onset_ns, at_ns = (tiny.START_NS + m * tiny.MINUTE_NS for m in (onset, minute))
    kind, peak = changed.get("kind", ANOMALY), changed.get("peak_score", 2.0)
    incident = incident_id("readings", stream, kind, onset_ns)
    plain: dict[str, Any] = {
        "alert_id": alert_id(incident, event, at_ns),
        "incident_id": incident,
        "event": event,
        "kind": kind,
        "severity": severity(peak),
        "stream": stream,
        "onset": iso(onset_ns),
        "time": iso(at_ns),
        "score": peak,
        "peak_score": peak,
        "features": []
        if event == RESOLVE
        else [Attribution("heat", 0.75, 80.5, 61.25, 58.0, 64.5), Attribution("current", 0.25, 1, 2)],
        "model_version": tiny.VERSION,
        "summary": f"{stream}: {event} after {minute} min",
        "dashboard": None,
        "reason": "quiet" if event == RESOLVE else None,
    }
    return Alert(**plain | changed)


def a_life(stream: str = "press-2", onset: int = 0) -> list[Alert]:
    """An incident from its beginning to its end."""
    return [
        an_alert(OPEN, onset + 3, stream=stream, onset=onset, peak_score=1.2),
        an_alert(UPDATE, onset + 5, stream=stream, onset=onset, peak_score=4.0),
        an_alert(RESOLVE, onset + 40, stream=stream, onset=onset, peak_score=4.0, score=0.5),
    ]


def an_action(
    incident: str, action: str, number: int, *, who: str = "anna", text: str = "", undoes: int | None = None
) -> Action:
    """The `number`th action of a test, at that minute."""
    time = iso(tiny.START_NS + number * tiny.MINUTE_NS)
    taken_back = None if undoes is None else f"{undoes:032x}"
    return Action(f"{number:032x}", incident, action, who, time, text, taken_back)


class Log:
    """Topics with one or more partitions; a reader of one is a `RangeReader`."""

    def __init__(self, *, batch: int = 1000) -> None:
        self.batch = batch
        self.topics: dict[str, dict[int, list[bytes | None]]] = {}
        self.first: dict[str, int] = {}
        self.broken: dict[str, Exception] = {}
        self.reads = 0  # records that were read
        self.most_reads: int | None = None  # then reading breaks off

    def write(self, topic: str, *messages: bytes | None, partition: int = 0) -> None:
        self.topics.setdefault(topic, {}).setdefault(partition, []).extend(messages)

    def connect(self, topic: str) -> Reader | None:
        if topic in self.broken:
            raise self.broken[topic]
        return Reader(self, topic) if topic in self.topics else None


class Reader:
    """Of one topic of a `Log`."""

    def __init__(self, log: Log, topic: str) -> None:
        self._log, self._topic = log, topic

    def bounds(self, among: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        first = self._log.first.get(self._topic, 0)
        return {number: (first, len(records)) for number, records in self._log.topics[self._topic].items()}

    def offsets_at(self, time_ms: int) -> dict[int, int] | None:
        return None

    def read(self, ranges: Mapping[int, tuple[int, int]]) -> Iterator[RecordBatch]:
        for partition, (begin, end) in ranges.items():
            for start in range(begin, end, self._log.batch):
                values = self._log.topics[self._topic][partition][start : min(end, start + self._log.batch)]
                self._log.reads += len(values)
                if self._log.most_reads is not None and self._log.reads > self._log.most_reads:
                    raise InterruptedError("killed")
                yield RecordBatch(
                    topic=self._topic,
                    partition=partition,
                    offsets=np.arange(start, start + len(values)),
                    timestamps_ms=np.full(len(values), SEEN_MS + start),
                    keys=[None] * len(values),
                    values=values,
                    headers=[[]] * len(values),
                )

    def close(self) -> None: ...
