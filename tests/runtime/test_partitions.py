"""Where reading of a partition begins, and whose state is restored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.detector import Detector
from models.errors import ArtifactError
from streamer.connectors.kafka import Commit, OffsetReset
from streamer.core.outcome import Outcome
from streamer.core.pipeline import Pipeline
from streamer.errors import BrokerError, StateUnavailable
from streamer.observability.metrics import Metrics
from streamer.runtime.model_watch import ModelWatch
from streamer.runtime.one_bundle import OneBundle
from streamer.runtime.partitions import Partitions
from streamer.runtime.poison import POISONED_AFTER, Poison
from streamer.runtime.positions import Position, Positions
from streamer.runtime.readiness import Anew
from streamer.runtime.state.keeper import StateKeeper
from streamer.runtime.state.local import LocalStore
from streamer.runtime.state.pointer import Pointer, read_note
from streamer.runtime.state.snapshots import Codec, Snapshot
from streamer.runtime.status import Status
from tests import tiny
from tests.tiny import START_NS, VERSION

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


@pytest.mark.parametrize("there", [True, False])
def test_the_bundle_that_snapshots_were_written_with_is_loaded_once_for_all_partitions(
    tiny_detector: Detector, tmp_path: Path, there: bool
) -> None:
    keeper = keeper_in(tmp_path)
    states = {p: (name,) for p, name in saved(keeper, tiny_detector, range(4)).items()}
    bundles = Bundles({VERSION: tiny_detector} if there else {})
    bundles.now = NEWER
    pipeline, positions = new_pipeline(tiny_detector, NEWER), Positions()
    offsets = Offsets(dict.fromkeys(range(4), 40), states=states)

    partitions_of(pipeline, keeper, offsets, positions, bundles=bundles).assigned(range(4))

    assert bundles.loaded == [VERSION]
    assert len(pipeline.keys.held()) == (4 if there else 0)
    # Without it, state is rebuilt from the records before the offset.
    if there:
        assert positions == {p: Position(40, 40, 40, 40, states[p]) for p in range(4)}
    else:
        assert positions == {p: Position(0, 40, -1, 40) for p in range(4)}


def test_the_broker_is_asked_as_often_for_many_partitions_as_for_one(tiny_detector: Detector, tmp_path: Path) -> None:
    many, one = Offsets({}), Offsets({})

    partitions_of(new_pipeline(tiny_detector), keeper_in(tmp_path), many, {}).assigned(range(200))
    partitions_of(new_pipeline(tiny_detector), keeper_in(tmp_path), one, {}).assigned([0])

    assert many.asked == one.asked


def test_a_bundle_in_use_is_not_loaded_again(tiny_detector: Detector, tmp_path: Path) -> None:
    keeper, bundles = keeper_in(tmp_path), Bundles({})
    offsets = Offsets({0: 40}, states={0: (saved(keeper, tiny_detector, [0])[0],)})
    pipeline = new_pipeline(tiny_detector)

    partitions_of(pipeline, keeper, offsets, {}, bundles=bundles).assigned([0])

    assert bundles.loaded == []
    assert offsets.sought == {0: 40}
    assert np.array_equal(pipeline.keys.held(), [0])


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_snapshot_gives_way_to_the_one_before_and_after_that_the_loss_is_told(
    tiny_detector: Detector, tmp_path: Path, damaged: int
) -> None:
    keeper, metrics = keeper_in(tmp_path), Metrics(CollectorRegistry())
    before, newest = (saved(keeper, tiny_detector, [0], offset=offset)[0] for offset in (30, 40))
    for path in tmp_path.rglob("*.snapshot"):
        if path.stem in (newest, before)[:damaged]:
            path.write_bytes(path.read_bytes()[:-1])
    pipeline, positions = new_pipeline(tiny_detector), Positions()
    offsets = Offsets({0: 40}, states={0: (newest, before)})

    partitions_of(pipeline, keeper, offsets, positions, metrics=metrics).assigned([0])

    lost = damaged == 2
    assert (positions[0].next_offset, positions[0].publish_from) == (0 if lost else 30, 40)
    assert positions[0].states == (() if lost else (before,))
    assert metrics.registry.get_sample_value("streamer_cold_starts_total") == lost


def test_a_snapshot_that_no_commit_names_is_never_used(tiny_detector: Detector, tmp_path: Path) -> None:
    """A crash before the commit left it, or a replica put out of the group; or the group was moved by hand."""
    keeper = keeper_in(tmp_path)
    saved(keeper, tiny_detector, [0])
    pipeline, positions = new_pipeline(tiny_detector), Positions()

    partitions_of(pipeline, keeper, Offsets({0: 10}), positions).assigned([0])

    assert (positions[0].next_offset, positions[0].publish_from) == (0, 10)
    assert len(pipeline.keys.held()) == 0


def test_an_offset_of_an_earlier_topic_of_the_same_name_is_not_gone_on_from(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    keeper, metrics = keeper_in(tmp_path), Metrics(CollectorRegistry())
    offsets = Offsets({0: 40}, states={0: (saved(keeper, tiny_detector, [0])[0],)}, topic_id="old")
    pipeline, positions = new_pipeline(tiny_detector), Positions()

    partitions_of(pipeline, keeper, offsets, positions, metrics=metrics, topic_id="new").assigned([0])

    assert (positions[0].next_offset, positions[0].publish_from) == (0, 0)
    assert len(pipeline.keys.held()) == 0
    assert metrics.registry.get_sample_value("streamer_offset_resets_total") == 1


def test_an_offset_behind_the_begin_of_an_open_transaction_is_gone_on_from(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    # Committed while kafka.isolation_level was read_uncommitted; now only what is before 35 can be read.
    keeper, metrics, positions = keeper_in(tmp_path), Metrics(CollectorRegistry()), Positions()
    states = {0: (saved(keeper, tiny_detector, [0])[0],)}
    offsets = Offsets({0: 40}, end=35, states=states, in_transactions=6)
    pipeline = new_pipeline(tiny_detector)

    partitions_of(pipeline, keeper, offsets, positions, metrics=metrics).assigned([0])

    assert (positions[0].next_offset, positions[0].publish_from) == (40, 40)
    assert len(pipeline.keys.held()) == 1
    assert metrics.registry.get_sample_value("streamer_offset_resets_total") == 0


@pytest.mark.parametrize(("others", "begin"), [({}, 100), ({1: 50}, 0)])
def test_a_partition_added_to_a_group_that_started_at_the_latest_record_is_read_from_its_first(
    tiny_detector: Detector, tmp_path: Path, others: dict[int, int], begin: int
) -> None:
    positions = Positions()
    settings = tiny.settings(kafka={"start": "latest"})

    partitions_of(
        new_pipeline(tiny_detector), keeper_in(tmp_path), Offsets(others), positions, settings=settings
    ).assigned([0])

    assert (positions[0].next_offset, positions[0].publish_from) == (begin, begin)


def test_a_replica_killed_before_its_first_checkpoint_goes_on_from_the_latest_record_of_then(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    """Not from the end of now, which skips records, nor from the first one, as in a partition added since."""
    settings, offsets, positions = tiny.settings(kafka={"start": "latest"}), Offsets({}), Positions()
    partitions_of(new_pipeline(tiny_detector), keeper_in(tmp_path), offsets, Positions(), settings=settings).assigned(
        [0, 1]
    )
    offsets.end = 150

    partitions_of(new_pipeline(tiny_detector), keeper_in(tmp_path), offsets, positions, settings=settings).assigned(
        [0, 1]
    )

    assert [positions[partition].publish_from for partition in (0, 1)] == [100, 100]


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
    positions = Positions()

    partitions_of(new_pipeline(tiny_detector), keeper_in(tmp_path), offsets, positions).assigned([0])

    assert (positions[0].next_offset, positions[0].publish_from) == (begin, publish_from)
    assert offsets.sought == {0: begin}


@pytest.mark.parametrize(("topic", "publish_from"), [("readings", 70), ("elsewhere", 0)])
def test_a_new_group_publishes_from_behind_what_its_bundle_was_trained_on(
    tiny_detector: Detector, tmp_path: Path, topic: str, publish_from: int
) -> None:
    bundles, offsets = Bundles({}), Offsets({})
    bundles.trained_on = {"topic": topic, "partitions": {"0": 70}}
    positions = Positions()

    partitions_of(new_pipeline(tiny_detector), keeper_in(tmp_path), offsets, positions, bundles=bundles).assigned([0])

    assert positions[0].publish_from == publish_from
    assert offsets.sought == {0: 0}  # what it was trained on rebuilds state in silence


class Unreadable(LocalStore):
    """Nothing may be read from it."""

    def read(self, partition: int, name: str) -> bytes:
        raise AssertionError(f"partition {partition} was read again")


@pytest.mark.parametrize("gone_on", [False, True])
def test_a_partition_that_comes_back_at_once_keeps_its_state_unless_another_has_gone_on_with_it(
    tiny_detector: Detector, tmp_path: Path, gone_on: bool
) -> None:
    keeper = StateKeeper(Unreadable(tmp_path, "readings", "g"), Codec("readings", "s1"))
    pipeline, positions, offsets = new_pipeline(tiny_detector), Positions(), Offsets({})
    partitions = partitions_of(pipeline, keeper, offsets, positions)
    partitions.assigned([0, 1])
    for partition in (0, 1):
        code = pipeline.keys.add(f"s{partition}")
        pipeline.process(tiny.readings([code], [START_NS], partitions=[partition]))
        positions[partition].next_offset = 1

    partitions.revoked([0, 1])
    during = dict(positions)
    if gone_on:
        offsets.commits[0] = Commit(90, "")
    partitions.assigned([0])

    assert during == {}
    assert [pipeline.keys.names[code] for code in pipeline.keys.held()] == ([] if gone_on else ["s0"])
    assert positions[0].publish_from == (90 if gone_on else 0)
    assert offsets.sought[0] == (0 if gone_on else 1)


def test_partitions_that_another_member_got_are_forgotten_also_when_this_one_gets_none(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    pipeline, positions = new_pipeline(tiny_detector), Positions()
    partitions = partitions_of(pipeline, keeper_in(tmp_path), Offsets({}), positions)
    partitions.assigned([0])
    pipeline.process(tiny.readings([pipeline.keys.add("s0")], [START_NS], partitions=[0]))

    partitions.revoked([0])
    partitions.assigned([])

    assert len(pipeline.keys.held()) == 0


def with_an_open_incident(keeper: StateKeeper, detector: Detector, topic_id: str | None = None) -> tuple[str, Pipeline]:
    """The name of a snapshot of partition 0 at offset 40, in which the incident of a stream is open."""
    pipeline = new_pipeline(detector)
    values = tiny.wave(40)
    values[30:, 1] += 8
    times = [tiny.START_NS + i * tiny.MINUTE_NS for i in range(40)]
    pipeline.process(tiny.readings([pipeline.keys.add("a")] * 40, times, values))
    assert pipeline.incidents.open_count == 1
    return keeper.write(0, Snapshot(40, pipeline.export_partition(0), topic_id)), pipeline


def test_open_incidents_resolve_when_retention_took_records_between_snapshot_and_commit(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    keeper, told, positions = keeper_in(tmp_path), list[Outcome](), Positions()
    name, _ = with_an_open_incident(keeper, tiny_detector)
    pipeline = new_pipeline(tiny_detector)
    offsets = Offsets({0: 80}, end=200, states={0: (name,)}, first=60)

    partitions_of(pipeline, keeper, offsets, positions, publish=told.append).assigned([0])

    assert [(a.event, a.stream, a.reason) for outcome in told for a in outcome.alerts] == [
        ("resolve", "a", "records_lost")
    ]
    assert told[0].triggers == [(0, 80)]
    assert offsets.sought[0] >= 60
    assert positions[0].publish_from == 80
    assert len(pipeline.keys.held()) == 0


@pytest.mark.parametrize("running", [True, False])
def test_open_incidents_resolve_when_records_are_lost(tiny_detector: Detector, tmp_path: Path, running: bool) -> None:
    keeper, told, positions = keeper_in(tmp_path), list[Outcome](), Positions()
    name, pipeline = with_an_open_incident(keeper, tiny_detector)
    if not running:
        pipeline = new_pipeline(tiny_detector)
    offsets = Offsets({0: 40}, end=200, states={0: (name,)}, first=0 if running else 60)
    partitions = partitions_of(pipeline, keeper, offsets, positions, publish=told.append)

    if running:
        positions[0] = Position(40, 40, 40, 40)
        partitions.offset_reset(OffsetReset(0, wanted=40, restarted_at=60, lost=20))
    else:
        partitions.assigned([0])

    assert [(a.event, a.stream, a.reason) for outcome in told for a in outcome.alerts] == [
        ("resolve", "a", "records_lost")
    ]
    assert told[0].triggers == [(0, 60)]
    assert positions[0].publish_from == 60
    assert pipeline.incidents.open_count == 0
    assert len(pipeline.keys.held()) == 0


def test_how_many_partitions_the_topic_has_is_shown_beside_how_many_are_held_here(
    tmp_path: Path, tiny_detector: Detector
) -> None:
    metrics = Metrics(CollectorRegistry())
    partitions = partitions_of(
        new_pipeline(tiny_detector), keeper_in(tmp_path), Offsets({0: 10, 1: 10}), Positions(), metrics=metrics
    )

    def shown() -> list[float | None]:
        return [
            metrics.registry.get_sample_value(f"streamer_{name}")
            for name in ("partitions_assigned", "topic_partitions")
        ]

    partitions.assigned([0, 1])
    held = shown()
    partitions.drop_all()  # the connection is lost

    assert held == [2, 4]
    assert shown() == [0, 4]


def begun(
    detector: Detector, keeper: StateKeeper, offsets: Offsets, **others: Any
) -> tuple[list[tuple[str, str, str | None]], Positions]:
    """What a new replica tells when it is given partition 0, and where it stands then."""
    told, positions = list[Outcome](), Positions()
    partitions_of(new_pipeline(detector), keeper, offsets, positions, publish=told.append, **others).assigned([0])
    return [(a.alert_id, a.incident_id, a.reason) for outcome in told for a in outcome.alerts], positions


@pytest.mark.parametrize("start", ["earliest", "latest"])
@pytest.mark.parametrize("forgotten", [True, False])
def test_what_was_open_in_a_topic_made_again_ends_with_whoever_begins_the_partition_until_it_has_committed(
    tiny_detector: Detector, tmp_path: Path, start: str, forgotten: bool
) -> None:
    """The broker may have forgotten the group's commit with the topic, or not; the replica may be killed."""
    keeper = keeper_in(tmp_path)
    name, pipeline = with_an_open_incident(keeper, tiny_detector, "old")
    (opened,) = {a.incident_id for a in pipeline.lose_records(0, 0).alerts}
    settings = tiny.settings(kafka={"start": start})

    def offsets() -> Offsets:
        return Offsets({} if forgotten else {0: 40}, end=100, states={0: (name,)}, topic_id="old")

    first, positions = begun(tiny_detector, keeper, offsets(), settings=settings, topic_id="new")
    again, _ = begun(tiny_detector, keeper, offsets(), settings=settings, topic_id="new")

    assert [(incident, reason) for _, incident, reason in first] == [(opened, "records_lost")]
    assert again == first
    assert (positions[0].next_offset, positions[0].publish_from) == (0, 0)
    committed = keeper.write(0, Snapshot(7, new_pipeline(tiny_detector).export_partition(0), "new"))
    assert begun(tiny_detector, keeper, offsets(), settings=settings, topic_id="new")[0] == []
    keeper.store.forget(0, [committed], positions[0].left_behind)
    assert keeper.store.names(0) == [committed]


@pytest.mark.parametrize("written_in", ["new", None])
def test_incidents_of_the_topic_of_now_do_not_end_because_the_groups_offsets_are_gone(
    tiny_detector: Detector, tmp_path: Path, written_in: str | None
) -> None:
    keeper = keeper_in(tmp_path)
    with_an_open_incident(keeper, tiny_detector, written_in)

    told, _ = begun(tiny_detector, keeper, Offsets({}), topic_id="new")

    assert told == []


@pytest.mark.parametrize("seen", ["when partitions are assigned", "when an offset is not there"])
def test_a_topic_made_again_ends_the_connection_and_its_incidents_end_once(
    tiny_detector: Detector, tmp_path: Path, seen: str
) -> None:
    keeper, told, metrics = keeper_in(tmp_path), list[Outcome](), Metrics(CollectorRegistry())
    _, pipeline = with_an_open_incident(keeper, tiny_detector, "old")
    positions, offsets, now = Positions({0: Position(41, 40, 40, 40)}), Offsets({0: 40}), ["old"]
    partitions = partitions_of(
        pipeline, keeper, offsets, positions, publish=told.append, metrics=metrics, topic_id="old",
        ask_topic_id=lambda: now[0],
    )  # fmt: skip

    now[0] = "new"
    act: Any = partitions.assigned if seen == "when partitions are assigned" else partitions.offset_reset
    with pytest.raises(Anew, match="was made again"):
        act([0, 1] if act == partitions.assigned else OffsetReset(0, wanted=41, restarted_at=0, lost=0))

    assert positions == {}
    assert [a.reason for outcome in told for a in outcome.alerts] == ["records_lost"]
    assert metrics.registry.get_sample_value("streamer_topics_recreated_total") == 1
    offsets.commits.clear()
    assert begun(tiny_detector, keeper, offsets, topic_id="new")[0] == []


def test_a_store_that_does_not_answer_is_asked_again_and_not_taken_for_state_that_is_gone(
    tmp_path: Path, tiny_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(partition: int, name: str) -> bytes:
        raise StateUnavailable("the store is away")

    keeper, metrics = keeper_in(tmp_path), Metrics(CollectorRegistry())
    monkeypatch.setattr(keeper.store, "read", away)
    pipeline = Pipeline(tiny.settings().pipeline_options(), tiny_detector, VERSION)
    offsets, positions = Offsets({0: 10}, states={0: ("some-name",)}), Positions()
    partitions = partitions_of(pipeline, keeper, offsets, positions, metrics=metrics)

    with pytest.raises(BrokerError, match="the store is away"):  # the connection is made again, and it is asked again
        partitions.assigned([0])

    assert positions == {}
    assert metrics.registry.get_sample_value("streamer_cold_starts_total") == 0


@pytest.mark.parametrize("moved", ["by a person", "by retention", "as the topic was remade"])
def test_a_partition_moved_past_the_batch_that_cannot_be_read_is_read_on(
    tmp_path: Path, tiny_detector: Detector, moved: str
) -> None:
    metrics, offsets, poison = Metrics(CollectorRegistry()), Offsets({0: 10, 1: 10}), Poison({(0, 10): POISONED_AFTER})
    partitions = partitions_of(
        new_pipeline(tiny_detector), keeper_in(tmp_path), offsets, Positions(), metrics=metrics, poison=poison
    )  # fmt: skip

    def poisoned() -> float | None:
        return metrics.registry.get_sample_value("streamer_partitions_poisoned")

    partitions.assigned([0, 1])
    before, waited_for = offsets.paused, poisoned()
    partitions.revoked([0, 1])
    away = poisoned()
    offsets.paused = []
    if moved == "by a person":
        offsets.commits[0] = Commit(2000, "")
        offsets.end = 3000
    elif moved == "by retention":
        offsets.first, offsets.end = 50, 60
    else:
        partitions.assigned([0, 1])
        partitions.offset_reset(OffsetReset(0, 10, 0, lost=0))
        offsets.paused, offsets.commits[0] = [], Commit(0, "")
    partitions.assigned([0, 1])

    assert (before, waited_for, away) == ([0], 1, 0)
    assert (offsets.paused, poisoned()) == ([], 0)


class Away(LocalStore):
    """Does not answer."""

    def read(self, partition: int, name: str) -> bytes:
        raise StateUnavailable("no answer")


def test_a_store_that_does_not_answer_leaves_nothing_that_leaving_the_group_could_commit(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    """The group's offset is outside the log, so there is a place to begin; what was open has yet to be resolved."""
    keeper = StateKeeper(Away(tmp_path, "readings", "g"), Codec("readings", "s1"))
    positions, offsets = Positions(), Offsets({0: 200}, end=100, states={0: ("s200",)})
    partitions = partitions_of(new_pipeline(tiny_detector), keeper, offsets, positions)

    with pytest.raises(StateUnavailable):
        partitions.assigned([0])

    assert positions == {}


def test_a_newer_bundle_is_taken_into_use_before_partitions_that_another_may_have_scored_with_it(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    keeper = keeper_in(tmp_path)
    offsets = Offsets({0: 40, 1: 40}, states={p: (name,) for p, name in saved(keeper, tiny_detector, [0, 1]).items()})
    pipeline, positions = new_pipeline(tiny_detector), Positions()
    bundles = Bundles({VERSION: tiny_detector, NEWER: tiny_detector})
    partitions = partitions_of(pipeline, keeper, offsets, positions, bundles=bundles)
    partitions.assigned([0])
    before, bundles.now = pipeline.scorer.version, NEWER
    partitions.revoked([0])
    partitions.assigned([0, 1])

    assert (before, pipeline.scorer.version) == (VERSION, NEWER)
    assert {p: each.next_offset for p, each in positions.items()} == {0: 40, 1: 40}


def begun_with(
    detector: Detector,
    directory: Path,
    told_with: dict[int, str],
    *,
    held: Sequence[str] = (VERSION, NEWER),
    poison: Poison | None = None,
    end: int = 100,
    damaged: bool = False,
    bundles: Bundles | None = None,
    checkpoints: Saves | None = None,
    written_with: str = VERSION,
) -> tuple[Partitions, Any, Pipeline, Positions, Offsets]:
    """A process with the newer bundle that begins partitions of which 60 records since the commit were read."""
    keeper, positions = keeper_in(directory), Positions()
    offsets = Offsets(dict.fromkeys(told_with, 40), end=end)
    for partition, name in saved(keeper, detector, list(told_with), version=written_with).items():
        if damaged:
            next(directory.rglob(f"{name}*")).write_bytes(b"damaged")
        offsets.commits[partition] = Commit(40, Pointer((name,), bundle=told_with[partition]).note())
    pipeline, metrics = new_pipeline(detector, NEWER), Metrics(CollectorRegistry())
    bundles = bundles or Bundles(dict.fromkeys(held, detector))
    bundles.now = NEWER
    checkpoints = checkpoints or Saves(offsets, keeper, pipeline)
    checkpoints.positions, checkpoints.offsets = positions, offsets
    parts: Any = {"consumer": offsets, "checkpoints": checkpoints, "poison": Poison() if poison is None else poison}
    watch = ModelWatch(pipeline, cast(Any, bundles), metrics)
    one_bundle = OneBundle(
        positions, pipeline=pipeline, watch=watch, again=lambda turn: partitions.begin_again(turn), **parts
    )
    partitions = partitions_of(
        pipeline,
        keeper,
        offsets,
        positions,
        bundles=bundles,
        metrics=metrics,
        poison=parts["poison"],
        one_bundle=one_bundle,
    )
    partitions.assigned(list(told_with))
    return partitions, one_bundle, pipeline, positions, offsets


def test_what_may_have_been_told_already_is_told_again_with_the_bundle_of_then_and_the_newest_comes_after_it(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    _, bundle, pipeline, positions, offsets = begun_with(tiny_detector, tmp_path, {0: VERSION, 1: VERSION})
    versions = [pipeline.scorer.version]
    for partition in (0, 1):
        assert bundle.named()
        positions[partition].next_offset = offsets.end
        bundle.look()
        versions.append(pipeline.scorer.version)
    bundle.named()

    assert versions == [VERSION, VERSION, NEWER]
    assert [Pointer(("s100",), bundle=NEWER).note()] * 2 == [commit.note for commit in offsets.commits.values()]
    assert {commit.offset for commit in offsets.commits.values()} == {100}


def test_partitions_told_with_different_bundles_take_turns(tiny_detector: Detector, tmp_path: Path) -> None:
    _, bundle, pipeline, positions, offsets = begun_with(tiny_detector, tmp_path, {0: VERSION, 1: NEWER})
    turns = [(pipeline.scorer.version, offsets.paused)]
    for partition in (1, 0):
        bundle.named()
        positions[partition].next_offset = offsets.end
        bundle.look()
        turns.append((pipeline.scorer.version, offsets.paused))
    bundle.look()

    assert turns == [(NEWER, [0]), (VERSION, [1]), (NEWER, [])]
    assert pipeline.scorer.version == NEWER


def test_a_partition_whose_turn_has_come_goes_on_with_all_that_its_bundle_had_learned(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    _, bundle, pipeline, positions, offsets = begun_with(tiny_detector, tmp_path, {0: VERSION, 1: NEWER})
    (name,) = read_note(offsets.commits[0].note).states
    kept = keeper_in(tmp_path).read(0, name).state
    bundle.named()
    positions[1].next_offset = offsets.end
    bundle.look()
    state = pipeline.export_partition(0)

    assert pipeline.scorer.version == VERSION
    assert kept.columns["adaptation.windows"].any()
    assert {
        column for column in kept.columns if not np.array_equal(kept.columns[column], state.columns[column])
    } == set()
    assert (offsets.sought[0], positions[0].next_offset, offsets.paused) == (40, 40, [1])


@pytest.mark.parametrize("when", ["held when the others came", "begun with the others", "a rebalance in between"])
def test_a_partition_that_needs_no_bundle_keeps_what_it_learned_while_an_older_one_is_in_use_for_others(
    tiny_detector: Detector, tmp_path: Path, when: str
) -> None:
    """Read to its end and committed, partition 1 waits; with the older bundle its streams would learn anew."""
    partitions, bundle, pipeline, positions, offsets = begun_with(
        tiny_detector, tmp_path, {1: NEWER}, end=40, written_with=NEWER
    )
    keeper = keeper_in(tmp_path)
    (name,) = saved(keeper, tiny_detector, [0]).values()
    commit, end = Commit(40, Pointer((name,), bundle=VERSION).note()), 100
    learned = pipeline.export_partition(1).columns
    if when == "begun with the others":
        partitions.revoked([1])
    offsets.commits[0], offsets.end = commit, end
    partitions.assigned([0, 1] if when == "begun with the others" else [0])
    bundle.look()
    if when == "a rebalance in between":
        partitions.revoked([0, 1])
        offsets.paused = []
        partitions.assigned([0, 1])
    turn = pipeline.scorer.version, offsets.paused
    positions[0].next_offset = end
    bundle.look()
    bundle.look()
    state = pipeline.export_partition(1).columns

    assert turn == (VERSION, [1])
    assert (pipeline.scorer.version, offsets.paused, positions[1].next_offset) == (NEWER, [], 40)
    assert learned["adaptation.windows"].any()
    assert {column for column in learned if not np.array_equal(learned[column], state[column])} == set()


def test_a_checkpoint_that_takes_long_does_not_keep_the_next_bundle_out(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    """A bucket takes 9 s for 100,000 streams."""
    checkpoints = Saves(Offsets({}), keeper_in(tmp_path), new_pipeline(tiny_detector))
    _, bundle, pipeline, positions, offsets = begun_with(
        tiny_detector, tmp_path, {0: VERSION, 1: NEWER}, checkpoints=checkpoints
    )
    positions[1].next_offset, checkpoints.write_s = offsets.end, 9.0
    bundle.look()

    assert (pipeline.scorer.version, offsets.paused) == (VERSION, [1])


def test_a_bundle_that_is_gone_is_not_waited_for(tiny_detector: Detector, tmp_path: Path) -> None:
    _, alone, pipeline, _, offsets = begun_with(tiny_detector, tmp_path / "a", {0: VERSION}, held=[NEWER])
    alone.look()
    begun = pipeline.scorer.version, offsets.paused, alone.named()
    _, bundle, pipeline, positions, offsets = begun_with(
        tiny_detector, tmp_path / "b", {0: VERSION, 1: NEWER}, held=[NEWER]
    )
    positions[1].next_offset = offsets.end
    bundle.look()

    assert begun == (NEWER, [], True)
    assert (pipeline.scorer.version, offsets.paused) == (NEWER, [])


def test_a_bundle_that_was_missing_once_is_used_where_it_is_needed_when_it_is_there(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    bundles = Bundles({NEWER: tiny_detector})
    partitions, bundle, pipeline, _, _ = begun_with(tiny_detector, tmp_path, {0: VERSION}, bundles=bundles)
    missing = pipeline.scorer.version
    bundles.held = {NEWER: tiny_detector, VERSION: tiny_detector}  # copied to this replica after others
    partitions.revoked([0])
    partitions.assigned([0])

    assert (missing, pipeline.scorer.version) == (NEWER, VERSION)
    assert bundle.named()


def test_a_partition_that_cannot_be_read_keeps_the_bundle_that_told_what_lies_before_the_bad_batch(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    poison = Poison({(0, 60): POISONED_AFTER})
    _, bundle, pipeline, positions, offsets = begun_with(tiny_detector, tmp_path, {0: VERSION, 1: NEWER}, poison=poison)
    bundle.named()
    positions[1].next_offset = offsets.end
    bundle.look()
    bundle.named()

    assert pipeline.scorer.version == NEWER
    # A new process reads on up to 60, which has been told.
    assert read_note(offsets.commits[0].note).bundle == VERSION


def test_where_all_is_committed_no_bundle_is_waited_for_though_state_must_be_rebuilt(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    _, _, pipeline, positions, offsets = begun_with(tiny_detector, tmp_path, {0: VERSION}, end=40, damaged=True)

    assert (positions[0].next_offset, positions[0].publish_from) == (0, 40)
    assert (pipeline.scorer.version, offsets.paused) == (NEWER, [])


def test_a_rebalance_in_between_does_not_let_the_newest_bundle_in(tiny_detector: Detector, tmp_path: Path) -> None:
    partitions, bundle, pipeline, positions, offsets = begun_with(tiny_detector, tmp_path, {0: VERSION})
    bundle.named()
    positions[0].next_offset = 70
    partitions.revoked([0])
    partitions.assigned([0])
    in_between = pipeline.scorer.version, read_note(offsets.commits[0].note).bundle
    positions[0].next_offset = 100
    partitions.revoked([0])
    given_back = read_note(offsets.commits[0].note).bundle
    partitions.assigned([0])

    assert in_between == (VERSION, VERSION)
    assert given_back is None  # nothing is told behind it
    assert pipeline.scorer.version == NEWER


def test_a_member_that_slept_while_its_successor_went_on_does_not_begin_without_state(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    """The snapshots that the commit named when it was asked have been superseded, and removed."""
    offsets, positions, metrics = (
        Offsets({0: 40}, states={0: ("s40", "s30")}),
        Positions(),
        Metrics(CollectorRegistry()),
    )

    class Asleep(LocalStore):
        def read(self, partition: int, name: str) -> bytes:
            offsets.commits[0] = Commit(90, Pointer(("s90", "s80")).note())
            return super().read(partition, name)

    keeper = StateKeeper(Asleep(tmp_path, "readings", "g"), Codec("readings", "s1"))

    with pytest.raises(BrokerError, match="another member has gone on with it"):
        partitions_of(new_pipeline(tiny_detector), keeper, offsets, positions, metrics=metrics).assigned([0])

    assert positions == {}
    assert metrics.registry.get_sample_value("streamer_cold_starts_total") == 0
