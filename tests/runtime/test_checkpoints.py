"""A checkpoint is flush, snapshot, commit, in this order; a step that fails stops the sequence."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from models.detector import Detector
from streamer.core.pipeline import Pipeline
from streamer.errors import CommitFailed, DeliveryFailed
from streamer.observability.metrics import Metrics
from streamer.runtime.checkpoints import Checkpoints
from streamer.runtime.positions import Position, Positions
from streamer.runtime.snapshots import SnapshotStore
from streamer.runtime.status import Status
from tests import tiny
from tests.tiny import VERSION


class Broker:
    """Stands where sinks and consumer are; notes what was asked, and which snapshot was on disk then."""

    pending = 0

    def __init__(self, store: SnapshotStore, fails: str = "") -> None:
        self.store, self.fails = store, fails
        self.calls: list[tuple[str, int | None]] = []

    def flush(self, timeout_s: float) -> None:
        self._note("flush")
        if self.fails == "flush":
            raise DeliveryFailed("refused")

    def commit(self, offsets: Mapping[int, int]) -> None:
        self._note(f"commit {dict(offsets)}")
        if self.fails == "commit":
            raise CommitFailed("another owner")

    def _note(self, call: str) -> None:
        snapshot, _ = self.store.read(0)
        self.calls.append((call, None if snapshot is None else snapshot.offset))


def made(detector: Detector, store: SnapshotStore, broker: Broker, positions: Positions) -> tuple[Checkpoints, Metrics]:
    metrics = Metrics(CollectorRegistry())
    ours: Any = broker
    return Checkpoints(
        positions,
        pipeline=Pipeline(tiny.settings().pipeline_options(), detector, VERSION),
        sinks=ours,
        store=store,
        consumer=ours,
        metrics=metrics,
        status=Status(metrics, lambda: 0.0),
        stop=threading.Event(),
        clock=lambda: 0.0,
    ), metrics


def counted(metrics: Metrics, name: str) -> float:
    return metrics.registry.get_sample_value(f"streamer_{name}_total") or 0.0


def test_alerts_are_acknowledged_before_the_snapshot_and_the_snapshot_is_on_disk_before_the_commit(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    store = SnapshotStore(tmp_path, "readings", "s1")
    broker, positions = Broker(store), {0: Position(7, 0, 0, 0)}
    checkpoints, metrics = made(tiny_detector, store, broker, positions)

    done = checkpoints.take([0], timeout_s=1.0)

    assert done
    assert broker.calls == [("flush", None), ("commit {0: 7}", 7)]
    assert positions == {0: Position(7, 0, saved_offset=7, committed=7)}
    assert counted(metrics, "checkpoints") == 1


@pytest.mark.parametrize(
    ("fails", "calls"),
    [
        ("flush", [("flush", None)]),
        ("snapshot", [("flush", None)]),
        ("commit", [("flush", None), ("commit {0: 7}", 7)]),
    ],
)
def test_a_step_that_fails_stops_the_sequence_and_the_next_checkpoint_tries_again(
    tiny_detector: Detector, tmp_path: Path, fails: str, calls: list[tuple[str, int | None]]
) -> None:
    (tmp_path / "file").touch()
    store = SnapshotStore(tmp_path / ("file" if fails == "snapshot" else "state"), "readings", "s1")
    broker, positions = Broker(store, fails), {0: Position(7, 0, 0, 0)}
    checkpoints, metrics = made(tiny_detector, store, broker, positions)

    done = checkpoints.take([0], timeout_s=1.0)

    assert not done
    assert broker.calls == calls
    assert positions == {0: Position(7, 0, saved_offset=0, committed=0)}
    assert counted(metrics, "checkpoint_failures") == 1


def test_while_a_partition_catches_up_on_its_past_the_commit_stays_where_it_is(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    store = SnapshotStore(tmp_path, "readings", "s1")
    broker, positions = Broker(store), {0: Position(7, publish_from=20, saved_offset=-1, committed=20)}
    checkpoints, _ = made(tiny_detector, store, broker, positions)

    checkpoints.take([0], timeout_s=1.0)

    assert broker.calls == [("flush", None), ("commit {0: 20}", 7)]


def test_a_partition_without_new_records_is_not_saved_again(tiny_detector: Detector, tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, "readings", "s1")
    broker = Broker(store)
    checkpoints, _ = made(tiny_detector, store, broker, {0: Position(7, 0, saved_offset=7, committed=7)})

    checkpoints.take([0], timeout_s=1.0)

    assert broker.calls == [("flush", None)]
