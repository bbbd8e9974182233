"""Where reading of a partition begins, and whose state is restored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.detector import Detector
from streamer.connectors.kafka import Commit, OffsetReset
from streamer.core.pipeline import Pipeline
from streamer.errors import BrokerError, StateUnavailable
from streamer.observability.metrics import Metrics
from streamer.runtime.poison import POISONED_AFTER, Poison
from streamer.runtime.positions import Position, Positions
from streamer.runtime.state.keeper import StateKeeper
from streamer.runtime.state.local import LocalStore
from streamer.runtime.state.pointer import Pointer
from streamer.runtime.state.snapshots import Codec
from tests import tiny
from tests.runtime.stand_ins import NEWER, Bundles, Offsets, keeper_in, new_pipeline, partitions_of, saved
from tests.tiny import START_NS, VERSION


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
