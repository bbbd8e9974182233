"""Where reading of a partition begins, and whose state is restored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.detector import Detector
from models.errors import ArtifactError
from streamer.core.pipeline import Pipeline
from streamer.observability.metrics import Metrics
from streamer.runtime.partitions import Partitions, Poison
from streamer.runtime.positions import Position, Positions
from streamer.runtime.snapshots import Snapshot, SnapshotStore
from streamer.runtime.status import Status
from tests import tiny
from tests.tiny import VERSION

NEWER = "20260202T030405Z-5e6f7a8b"


class Offsets:
    """Stands where the consumer is: the group's offsets and what the log holds."""

    def __init__(self, committed: dict[int, int], end: int = 100) -> None:
        self.offsets, self.end = committed, end
        self.sought: dict[int, int] = {}

    def committed(self, partition: int) -> int | None:
        return self.offsets.get(partition)

    def bounds(self, partition: int) -> tuple[int, int]:
        return 0, self.end

    def seek(self, partition: int, offset: int) -> None:
        self.sought[partition] = offset


class Bundles:
    """Stands where the registry is, and counts what is loaded from it."""

    def __init__(self, held: Mapping[str, Detector]) -> None:
        self.held, self.loaded = held, list[str]()
        self.trained_on: dict[str, Any] | None = None

    def load(self, version: str) -> tuple[Detector, dict[str, Any]]:
        self.loaded.append(version)
        if version not in self.held:
            raise ArtifactError(f"no bundle {version}")
        return self.held[version], {}

    def manifest(self, version: str) -> dict[str, Any]:
        return {"trained_on": self.trained_on}


def partitions_of(
    pipeline: Pipeline, store: SnapshotStore, bundles: Bundles, offsets: Offsets, positions: Positions
) -> Partitions:
    made: Any = Partitions
    metrics = Metrics(CollectorRegistry())
    return made(  # type: ignore[no-any-return]
        positions,
        settings=tiny.settings(),
        pipeline=pipeline,
        store=store,
        models=bundles,
        consumer=offsets,
        checkpoints=None,
        poison=Poison(),
        metrics=metrics,
        status=Status(metrics, lambda: 0.0),
    )


def saved(
    store: SnapshotStore, detector: Detector, partitions: Sequence[int], *, offset: int = 40, committed: int = 40
) -> None:
    """Snapshots of partitions with one stream each, written with `VERSION`."""
    pipeline = Pipeline(tiny.settings().pipeline_options(), detector, VERSION)
    for partition in partitions:
        code = pipeline.keys.add(f"s{partition}")
        times = [tiny.START_NS + i * tiny.MINUTE_NS for i in range(offset)]
        pipeline.process(tiny.readings([code] * offset, times, tiny.wave(offset), partitions=[partition] * offset))
        store.write(partition, Snapshot(offset, pipeline.export_partition(partition), committed=committed))


@pytest.mark.parametrize("there", [True, False])
def test_the_bundle_that_snapshots_were_written_with_is_loaded_once_for_all_partitions(
    tiny_detector: Detector, tmp_path: Path, there: bool
) -> None:
    store = SnapshotStore(tmp_path, "readings", "s1")
    saved(store, tiny_detector, range(4))
    bundles = Bundles({VERSION: tiny_detector} if there else {})
    pipeline = Pipeline(tiny.settings().pipeline_options(), tiny_detector, NEWER)
    positions: Positions = {}

    partitions_of(pipeline, store, bundles, Offsets(dict.fromkeys(range(4), 40)), positions).assigned(range(4))

    assert bundles.loaded == [VERSION]
    assert len(pipeline.keys.held()) == (4 if there else 0)
    # Without it, state is rebuilt from the records before the offset.
    assert positions == {p: Position(40 if there else 0, 40, 40 if there else -1, 40) for p in range(4)}


def test_a_bundle_in_use_is_not_loaded_again(tiny_detector: Detector, tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, "readings", "s1")
    saved(store, tiny_detector, [0])
    bundles, offsets = Bundles({}), Offsets({0: 40})
    pipeline = Pipeline(tiny.settings().pipeline_options(), tiny_detector, VERSION)

    partitions_of(pipeline, store, bundles, offsets, {}).assigned([0])

    assert bundles.loaded == []
    assert offsets.sought == {0: 40}
    assert np.array_equal(pipeline.keys.held(), [0])


@pytest.mark.parametrize(("acknowledged", "begin"), [(True, 0), (False, 40)])
def test_a_group_back_where_its_newest_snapshot_found_it_was_moved_unless_the_commit_never_came(
    tiny_detector: Detector, tmp_path: Path, acknowledged: bool, begin: int
) -> None:
    store = SnapshotStore(tmp_path, "readings", "s1")
    saved(store, tiny_detector, [0], committed=0)
    if acknowledged:
        store.acknowledge(0, 40)
    pipeline, positions = Pipeline(tiny.settings().pipeline_options(), tiny_detector, VERSION), Positions()

    partitions_of(pipeline, store, Bundles({}), Offsets({0: 0}), positions).assigned([0])

    # Moved back by hand, all is read and told again; after a crash before the commit nothing is told twice.
    assert (positions[0].next_offset, positions[0].publish_from) == (begin, begin)


@pytest.mark.parametrize(
    ("committed", "end", "begin", "publish_from"),
    [
        (None, 100, 0, 0),  # a group without an offset, and start: earliest
        (60, 100, 0, 60),  # what went before is read again in silence
        (200, 100, 0, 0),  # the log was cut
    ],
)
def test_without_a_snapshot_state_is_rebuilt_from_what_went_before(
    tiny_detector: Detector, tmp_path: Path, committed: int | None, end: int, begin: int, publish_from: int
) -> None:
    offsets = Offsets({} if committed is None else {0: committed}, end)
    pipeline, positions = Pipeline(tiny.settings().pipeline_options(), tiny_detector, VERSION), Positions()

    partitions_of(pipeline, SnapshotStore(tmp_path, "readings", "s1"), Bundles({}), offsets, positions).assigned([0])

    assert (positions[0].next_offset, positions[0].publish_from) == (begin, publish_from)
    assert offsets.sought == {0: begin}


@pytest.mark.parametrize(("topic", "publish_from"), [("readings", 70), ("elsewhere", 0)])
def test_a_new_group_publishes_from_behind_what_its_bundle_was_trained_on(
    tiny_detector: Detector, tmp_path: Path, topic: str, publish_from: int
) -> None:
    bundles, offsets = Bundles({}), Offsets({})
    bundles.trained_on = {"topic": topic, "partitions": {"0": 70}}
    pipeline, positions = Pipeline(tiny.settings().pipeline_options(), tiny_detector, VERSION), Positions()

    partitions_of(pipeline, SnapshotStore(tmp_path, "readings", "s1"), bundles, offsets, positions).assigned([0])

    assert positions[0].publish_from == publish_from
    assert offsets.sought == {0: 0}  # what it was trained on rebuilds state in silence
