"""Stand-ins for what partitions need: the group's offsets, checkpoints, the registry of bundles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from prometheus_client import CollectorRegistry

from models.detector import Detector
from models.errors import ArtifactError
from streamer.connectors.kafka import Commit
from streamer.core.pipeline import Pipeline
from streamer.observability.metrics import Metrics
from streamer.runtime.model_watch import ModelWatch
from streamer.runtime.one_bundle import OneBundle
from streamer.runtime.partitions import Partitions
from streamer.runtime.poison import Poison
from streamer.runtime.positions import Position, Positions
from streamer.runtime.state.keeper import StateKeeper
from streamer.runtime.state.local import LocalStore
from streamer.runtime.state.pointer import Pointer
from streamer.runtime.state.snapshots import Codec, Snapshot
from streamer.runtime.status import Status
from tests import tiny
from tests.tiny import VERSION

NEWER = "20260202T030405Z-5e6f7a8b"


class Offsets:
    """Stands where the consumer is: the group's offsets and what the log holds."""

    def __init__(
        self, committed: dict[int, int], end: int = 100, states: Mapping[int, tuple[str, ...]] | None = None,
        topic_id: str | None = None, first: int = 0, in_transactions: int = 0,
    ) -> None:  # fmt: skip
        states = states or {}
        notes = {p: Pointer(states.get(p, ()), topic_id).note() for p in committed}
        self.commits, self.end = {p: Commit(offset, notes[p]) for p, offset in committed.items()}, end
        self.sought: dict[int, int] = {}
        self.asked = 0  # questions that wait for an answer of the broker
        self.paused: list[int] = []
        self.partitions, self.first, self.in_transactions = 4, first, in_transactions

    def committed(self, partitions: Sequence[int]) -> dict[int, Commit]:
        self.asked += 1
        return {partition: self.commits[partition] for partition in partitions if partition in self.commits}

    def partition_count(self, *, wait: bool = False) -> int:
        return self.partitions

    def has_committed(self) -> bool:
        return bool(self.commits)

    def bounds(self, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        self.asked += 1
        return dict.fromkeys(partitions, (self.first, self.end))

    def log_end(self, partition: int) -> int:
        return self.end + self.in_transactions

    def seek(self, partition: int, offset: int) -> None:
        self.sought[partition] = offset

    def pause(self, partitions: Sequence[int]) -> None:
        self.paused = list(partitions)

    def resume(self, partitions: Sequence[int]) -> None:
        self.paused = [partition for partition in self.paused if partition not in partitions]


class Saves:
    """Stands where checkpoints are taken: each succeeds at once."""

    def __init__(self, offsets: Offsets, keeper: StateKeeper, pipeline: Pipeline) -> None:
        self.offsets, self.keeper, self.pipeline, self.positions = offsets, keeper, pipeline, Positions()
        self.write_s = 0.0

    def take(self, partitions: Sequence[int], *, timeout_s: float) -> bool:
        if timeout_s < 2 * self.write_s:  # the one underway, and this one
            return False
        for partition in partitions:
            position = self.positions[partition]
            if position.saved_offset == position.next_offset:
                continue
            position.saved_offset = position.committed = position.next_offset
            position.states = (f"s{position.next_offset}",)
            self.offsets.commits[partition] = self._commit(position)
        return True

    def leave(self, partitions: Sequence[int], *, timeout_s: float) -> bool:
        done = self.take(partitions, timeout_s=timeout_s)
        return self.name([partition for partition in partitions if self.positions[partition].clean], None) and done

    def name(self, partitions: Sequence[int], bundle: str | None) -> bool:
        for partition in partitions:
            self.positions[partition].bundle = bundle
            self.offsets.commits[partition] = self._commit(self.positions[partition])
        return True

    def keep(self, offsets: Mapping[int, int], *, timeout_s: float) -> bool:
        for partition, offset in offsets.items():
            self.keeper.write(partition, Snapshot(offset, self.pipeline.export_partition(partition), "old"))
        return True

    def commit_of(self, position: Position) -> Commit | None:
        return None if position.committed is None else self._commit(position)

    def _commit(self, position: Position) -> Commit:
        assert position.committed is not None
        return Commit(position.committed, Pointer(position.states, bundle=position.bundle).note())


class Bundles:
    """Stands where the registry is, and counts what is loaded from it."""

    def __init__(self, held: Mapping[str, Detector]) -> None:
        self.held, self.loaded, self.now = held, list[str](), VERSION
        self.trained_on: dict[str, Any] | None = None

    def load(self, version: str) -> tuple[Detector, dict[str, Any]]:
        self.loaded.append(version)
        if version not in self.held:
            raise ArtifactError(f"no bundle {version}")
        return self.held[version], {}

    def current(self) -> str:
        return self.now

    def manifest(self, version: str) -> dict[str, Any]:
        return {"trained_on": self.trained_on}


def keeper_in(directory: Path) -> StateKeeper:
    return StateKeeper(LocalStore(directory, "readings", "g"), Codec("readings", "s1"))


def partitions_of(
    pipeline: Pipeline,
    keeper: StateKeeper,
    offsets: Offsets,
    positions: Positions,
    *,
    bundles: Bundles | None = None,
    metrics: Metrics | None = None,
    **others: Any,
) -> Partitions:
    made: Any = Partitions
    metrics = metrics or Metrics(CollectorRegistry())
    checkpoints = Saves(offsets, keeper, pipeline)
    checkpoints.positions = positions
    bundles = bundles or Bundles({})
    options: dict[str, Any] = {
        "settings": tiny.settings(), "publish": lambda outcome: None, "poison": Poison(), **others,
    }  # fmt: skip
    parts: Any = {"consumer": offsets, "checkpoints": checkpoints, "poison": options["poison"]}
    watch = ModelWatch(pipeline, cast(Any, bundles), metrics)
    options.setdefault("one_bundle", OneBundle(positions, pipeline=pipeline, watch=watch, **parts))
    return made(  # type: ignore[no-any-return]
        positions,
        pipeline=pipeline,
        keeper=keeper,
        models=bundles,
        consumer=offsets,
        checkpoints=checkpoints,
        metrics=metrics,
        status=Status(metrics, lambda: 0.0),
        **options,
    )


def new_pipeline(detector: Detector, version: str = VERSION) -> Pipeline:
    return Pipeline(tiny.settings().pipeline_options(), detector, version)


def saved(
    keeper: StateKeeper, detector: Detector, partitions: Sequence[int], *, offset: int = 40, version: str = VERSION
) -> dict[int, str]:
    """Names of snapshots of partitions with one stream each, written with a bundle."""
    pipeline, names = new_pipeline(detector, version), {}
    for partition in partitions:
        code = pipeline.keys.add(f"s{partition}")
        times = [tiny.START_NS + i * tiny.MINUTE_NS for i in range(offset)]
        pipeline.process(tiny.readings([code] * offset, times, tiny.wave(offset), partitions=[partition] * offset))
        names[partition] = keeper.write(partition, Snapshot(offset, pipeline.export_partition(partition)))
    return names
